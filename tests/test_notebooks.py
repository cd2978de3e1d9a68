"""Every notebook is run, made small by GZ_QUICK, and shows pictures."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

MOST_BYTES, MOST_OF_ALL = 600_000, 2_000_000
"""Of a notebook with its outputs, and of all: they are in every clone."""
NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in (("GZ_QUICK", "1"), ("OMP_NUM_THREADS", "1"), ("TMPDIR", tmp_path), ("IPYTHONDIR", tmp_path)):
        monkeypatch.setenv(name, str(value))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("image/png" in data for data in shown)
    assert not [data for data in shown if data.get("text/plain", "").startswith("<Figure") and "image/png" not in data]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_takes_real_galaxies_by_one_variable(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert notebook.cells[0].cell_type == "markdown"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert sum(line.startswith("DATA = None  # ") for line in code[0].source.splitlines()) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_stored_outputs_are_small_and_of_no_machine(path: Path) -> None:
    """Text, tables and pictures of one run from top to bottom, as notebooks/outputs.py stores them, or nothing."""
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    outputs = [output for cell in code for output in cell.outputs]
    assert path.stat().st_size < MOST_BYTES
    if not outputs:
        assert not any(cell.execution_count for cell in code)
        return
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run from top to bottom"
    assert any(kind.startswith("image/") for output in outputs for kind in output.get("data", {}))
    for output in outputs:
        assert output.output_type in ("stream", "execute_result", "display_data"), "an error"
        assert output.get("name", "stdout") == "stdout", "warnings and progress bars"
        texts = [output.get("text", ""), *(text for kind, text in output.get("data", {}).items() if kind[:6] != "image/")]
        for text in texts:
            assert not re.search(r"/(home|Users|root|tmp|var|work|mnt|opt)/|[A-Z]:\\\\", text), text
            assert "Warning" not in text


def test_all_stored_outputs_are_small() -> None:
    assert sum(path.stat().st_size for path in NOTEBOOKS) < MOST_OF_ALL


def test_the_notebooks_are_numbered() -> None:
    assert [path.name[:3] for path in NOTEBOOKS] == [f"{number:02d}_" for number in range(1, len(NOTEBOOKS) + 1)]
