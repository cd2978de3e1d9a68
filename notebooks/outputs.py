"""Run notebooks and store their outputs: what a reader on the web sees.

    python notebooks/outputs.py 01 05        # these two; without names, all
    python notebooks/outputs.py --bare 01    # take outputs away

Pictures of many colours are stored as JPEG, at most 800 pixels wide; progress bars, warnings and paths of this machine are
left out. Notebook 05 reads ``runs/ipc1`` below ``--folder`` if there is one.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).parent
WIDTH, MOST_OF_PNG = 800, 30_000


def small(picture: str) -> tuple[str, str]:
    """A PNG, in base 64 as notebooks hold it, made smaller: kind and content."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    image.thumbnail((WIDTH, 10 * WIDTH), Image.Resampling.LANCZOS)
    for kind, settings in (("png", {"optimize": True}), ("jpeg", {"quality": 85, "optimize": True})):
        file = io.BytesIO()
        image.save(file, kind, **settings)
        if file.tell() < MOST_OF_PNG:
            break
    return f"image/{kind}", base64.b64encode(file.getvalue()).decode()


def kept(outputs: list[Any], temporary: str) -> list[Any]:
    """The outputs that are stored: printed text, tables and pictures."""
    found = []
    for output in outputs:
        if output.output_type == "stream" and output.name == "stdout":
            output.text = plain(output.text, temporary)
        elif output.output_type in ("execute_result", "display_data"):
            if output.output_type == "display_data" and "image/png" not in output.data:
                continue  # a progress bar
            data = {kind: plain(value, temporary) for kind, value in output.data.items() if kind != "image/png"}
            if "image/png" in output.data:
                kind, content = small(output.data["image/png"])
                data[kind] = content
            output.data = data
        else:
            continue
        found.append(output)
    return found


def plain(text: str, temporary: str) -> str:
    """Text without the name of the temporary folder, which is another each time."""
    return re.sub(rf"{re.escape(temporary)}/tmp\w+", "FOLDER", text)


def run(path: Path, folder: Path) -> None:
    """Run a notebook in a folder and store it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["TMPDIR"] = temporary
        NotebookClient(
            notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times
        if cell.cell_type == "code":
            cell.outputs = kept(cell.outputs, temporary)
    store(notebook, path)


def store(notebook: Any, path: Path) -> None:
    """Write a notebook as it is kept in the repository."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, path)


def bare(path: Path) -> None:
    """Take the outputs of a notebook away."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    store(notebook, path)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("numbers", nargs="*", help="such as 01; default: all")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="where they are run")
    parser.add_argument("--bare", action="store_true", help="take outputs away instead")
    given = parser.parse_args()
    for path in sorted(HERE.glob("*.ipynb")):
        if not given.numbers or path.name[:2] in given.numbers:
            bare(path) if given.bare else run(path, given.folder)
            print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
