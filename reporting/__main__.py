"""Write one HTML page about a run: its data, training, scores and mistakes.

    python -m reporting                                      outputs/default/report/index.html
    python -m reporting --run-dir outputs/first --language en

The page is one file that opens without a network. Sections whose files are missing say so. The page contains small
photos of people: give it only to those who may see them.
"""

import argparse
import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from core import files
from core.cli import add_trained_run, command_parser, positive_int, run_cli, working
from core.languages import CHOICES
from reporting.i18n import INSTALL_GRADCAM, translator_for
from storage.run_dir import trained_run

if TYPE_CHECKING:
    from reporting.gradcam import HeatMaps


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    args.run_dir = trained_run(args.run_dir)
    # Imported here: --help and a mistyped flag need not wait for scipy.
    from reporting.load import gather
    from reporting.page import render

    heat_maps = _heat_maps(wanted=args.heat)
    with working("writing the page"):
        data = gather(args.run_dir, args.truth)
        page = render(data, translator_for(args.language), mistakes=args.mistakes, heat_maps=heat_maps)
    path = args.run_dir / "report" / "index.html"
    files.remove_stale(path.parent)
    files.write_text(path, page)
    print(f"{path}: {len(page.encode()) / 1e6:.1f} MB, opens in any browser")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    add_trained_run(parser)
    parser.add_argument("--language", choices=CHOICES, default="both", help="both puts a switch on the page")
    parser.add_argument("--mistakes", type=positive_int, default=8, help="wrong predictions shown per task")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="eval labels: a CSV with ImageID and ans")
    parser.add_argument(
        "--heat", action=argparse.BooleanOptionalAction, default=True, help="Grad-CAM heat over the mistakes"
    )
    return parser.parse_args(argv)


def _heat_maps(*, wanted: bool) -> "HeatMaps | None":
    if not wanted:
        return None
    if importlib.util.find_spec("pytorch_grad_cam") is None:
        print(f"no heat over the mistakes: the package grad-cam is not installed ({INSTALL_GRADCAM})")
        return None
    # grad-cam brings matplotlib, which at its import writes a list of fonts, by default into the home folder.
    with TemporaryDirectory() as folder, _default_variable("MPLCONFIGDIR", folder):
        # Imported here: torch takes seconds, and a page without heat does not need it.
        from reporting.gradcam import HeatMaps

    return HeatMaps()


@contextmanager
def _default_variable(name: str, value: str) -> Iterator[None]:
    """Set a variable of the environment for the block, unless the user has set it."""
    is_new = name not in os.environ
    os.environ.setdefault(name, value)
    try:
        yield
    finally:
        if is_new:
            del os.environ[name]


if __name__ == "__main__":
    run_cli(main)
