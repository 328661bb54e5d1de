"""The notebook runs from top to bottom in a kernel of its own, shows pictures, and is kept without outputs."""

import json
from pathlib import Path

import pytest

from serving.loading import STARTER
from serving.model_folder import is_model_folder

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "first_steps.ipynb"
MOST_BYTES = 2_000_000


def test_it_is_kept_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert not any(line.lstrip().startswith(("!", "%")) for cell in code for line in cell["source"])


@pytest.mark.skipif(not is_model_folder(STARTER), reason="this checkout has no starter model")
def test_it_runs_and_shows_pictures_and_tables(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": NOTEBOOK.parent}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert {"image/png", "text/html"} <= kinds
    said = "".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs)
    assert "model starter" in said
    assert "faces\n" in said
    assert sum(len(str(output)) for output in outputs) < MOST_BYTES
