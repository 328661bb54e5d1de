"""learning_curve.csv of a run folder: scores out of fold by the number of people that were learned from."""

from pathlib import Path

import pandas as pd

from core import files
from core.cli import UserError

CURVE = "learning_curve.csv"
CURVE_COLUMNS = (
    *("task", "people", "accuracy_value", "accuracy_low", "accuracy_high"),
    *("macro_f1_value", "macro_f1_low", "macro_f1_high"),
)
MADE_OF = ("data_hash", "folds_hash")
"""More columns: of photos with labels, and of folds, as in config.json of the folds that were measured."""


def read_curve(run_dir: Path) -> pd.DataFrame | None:
    """Read the table, with numbers; None if there is none. UserError for a damaged one.

    MADE_OF are empty in a table of an earlier version.
    """
    path = run_dir / CURVE
    if not path.exists():
        return None
    found = files.read_csv(path, CURVE_COLUMNS)
    found = found.reindex(columns=[*CURVE_COLUMNS, *MADE_OF], fill_value="")
    try:
        return found.astype({name: int if name == "people" else float for name in CURVE_COLUMNS[1:]})
    except ValueError as error:
        raise UserError(f"{path}: {error}; python -m tools.learning_curve makes it anew") from error
