"""Wheel and sdist hold what they should and no more. They are built as pip builds them, without a network."""

import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling import build

ROOT = Path(__file__).parents[1]
PACKAGE = {
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "gz_lightning").rglob("*")
    if path.is_file() and path.suffix in (".py", ".typed", ".j2", ".yaml")
}


def test_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with zipfile.ZipFile(tmp_path / build.build_wheel(str(tmp_path))) as wheel:
        names = set(wheel.namelist())
        about = {name.split("/", 1)[1] for name in names if ".dist-info/" in name}
        metadata = next(wheel.read(name).decode() for name in names if name.endswith("/METADATA"))
    assert {name for name in names if ".dist-info/" not in name} == PACKAGE
    assert {"gz_lightning/py.typed", "gz_lightning/report/page.html.j2", "gz_lightning/data/schemas/gz2.yaml"} <= PACKAGE
    assert about == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    assert "Requires-Python: >=3.11" in metadata


def test_sdist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with tarfile.open(tmp_path / build.build_sdist(str(tmp_path))) as sdist:
        names = {name.split("/", 1)[1] for name in sdist.getnames()}
    folders = {name.split("/")[0] for name in names if "/" in name}
    assert folders == {"gz_lightning", "benchmarks", "configs", "docs", "notebooks", "tests"}
    assert names >= PACKAGE | {
        "README.md",
        "LICENSE",
        "CONTRIBUTING.md",
        "Makefile",
        "constraints.txt",
        "docs/first_look.png",
    }
    assert not [name for name in names if name.endswith((".h5", ".ckpt", ".pyc")) or "ipynb_checkpoints" in name]
