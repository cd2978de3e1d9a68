"""A bug behind a reader shows its traceback and ends with exit status 1; a damaged file ends in one line with status 2."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gz_lightning.cli import main
from tests.hostile.fuzz.originals import DISTILL, EVALUATE, FIT, Originals, make_originals

DATA = ["--data.path", "galaxies.h5", "--data.batch_size", "8"]
PREPARE = ["prepare", "--output", "out.h5", "--images", "images", "--resolution", "8", "--workers", "1"]
MAPPED = ["--tree", "coarse5", "--mapping", "tables/mapping.csv"]
BY_ID = ["--tree", "coarse5", "--images", "by_id"]
MORE = ["--model.trajectories", "experts", "--model.iterations", "4", "--run_dir", "again"]
IMPORT = ["trajectories", "import", "buffers", "galaxies.h5", "store"]


@dataclass(frozen=True)
class Reader:
    """A kind of file: a command that reads it, and a place in our code behind its reader where a bug is planted."""

    file: str
    command: Sequence[str]
    bug: str
    error: type[Exception] = AttributeError


READERS = {
    "packed file": Reader("galaxies.h5", ["fit", *DATA, *FIT], "gz_lightning.data.galaxies.check_class_names", KeyError),
    "pixels": Reader("galaxies.h5", ["fit", *DATA, *FIT], "gz_lightning.data.galaxies.row_digest", TypeError),
    "trajectory": Reader(
        "experts/expert_0000.h5",
        ["trajectories", "info", "experts"],
        "gz_lightning.experts.expert_file.Recipe.__init__",
        TypeError,
    ),
    "network of a trajectory": Reader(
        "experts/expert_0000.h5",
        ["trajectories", "export", "experts", "exported"],
        "gz_lightning.networks.convnet.ConvNet.__init__",
        TypeError,
    ),
    "synthetic set": Reader(
        "run/best.h5", ["report", "run"], "gz_lightning.sets.synthetic.SyntheticSet.__init__", TypeError
    ),
    "evaluation record": Reader(
        "run/evaluation/evaluation.json", ["report", "run"], "gz_lightning.evaluation.record.Evaluation.__init__", TypeError
    ),
    "cells of an evaluation": Reader(
        "run/evaluation/evaluation.json", ["report", "run"], "gz_lightning.evaluation.record._is_cell", KeyError
    ),
    "run folder": Reader(
        "run/logs/version_0/metrics.csv", ["report", "run"], "gz_lightning.report.runs.Run.__init__", TypeError
    ),
    "log": Reader("run/logs/version_0/metrics.csv", ["report", "run"], "gz_lightning.report.runs.read_text", ValueError),
    "tensors": Reader("buffers/replay_buffer_0.pt", IMPORT, "gz_lightning.storage.tensors._check_archive", KeyError),
    "checkpoint": Reader(
        "distill.ckpt",
        ["distill", *DATA, *DISTILL, *MORE, "--ckpt_path", "distill.ckpt"],
        "gz_lightning.storage.tensors.content_digest",
        ValueError,
    ),
    "CSV": Reader(
        "tables/hart16.csv", [*PREPARE, *MAPPED, "--table", "tables/hart16.csv"], "gz_lightning.data.votes._fractions"
    ),
    "compressed CSV": Reader(
        "tables/hart16.csv.gz",
        [*PREPARE, *MAPPED, "--table", "tables/hart16.csv.gz"],
        "gz_lightning.data.votes._fractions",
        ValueError,
    ),
    "FITS": Reader(
        "tables/sdss.fits", [*PREPARE, *MAPPED, "--table", "tables/sdss.fits"], "gz_lightning.data.tables._check_once"
    ),
    "Parquet": Reader(
        "tables/datasets.parquet",
        [*PREPARE, *BY_ID, "--table", "tables/datasets.parquet"],
        "gz_lightning.data.tables._check_once",
        KeyError,
    ),
    "image": Reader(
        "images/100.jpg",
        [*PREPARE, *MAPPED, "--table", "tables/hart16.csv", "--strict", "true"],
        "gz_lightning.data.cutouts.area_resize",
        TypeError,
    ),
    "folder of pictures": Reader(
        "pictures/00_round/00000.png",
        ["evaluate", *EVALUATE, "--synthetic", "pictures", "--data", "galaxies.h5", "--network", "ConvNetD1W4"],
        "gz_lightning.sets.sources.SyntheticSet.__init__",
        TypeError,
    ),
    "published pair": Reader(
        "pair/images_best.pt",
        ["evaluate", *EVALUATE, "--synthetic", "pair/images_best.pt", "--data", "galaxies.h5"],
        "gz_lightning.sets.sources.plain",
    ),
    "tree": Reader(
        "tree.yaml",
        [*PREPARE, "--tree", "tree.yaml", "--mapping", "tables/mapping.csv", "--table", "tables/hart16.csv"],
        "gz_lightning.storage.text._check_values",
        KeyError,
    ),
    "config": Reader(
        "configs/fit.yaml", ["fit", *DATA, *FIT, "--config", "configs/fit.yaml"], "gz_lightning.cli.parser.read_yaml"
    ),
    "module of a config": Reader(
        "configs/fit.yaml",
        ["fit", *DATA, *FIT, "--config", "configs/fit.yaml"],
        "gz_lightning.experts.module.ExpertModule.save_hyperparameters",
    ),
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Originals:
    """Small valid files of every kind."""
    return make_originals(tmp_path_factory.mktemp("walls") / "files")


@pytest.fixture
def folder(originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a copy of them."""
    shutil.copytree(originals.folder, tmp_path / "files")
    monkeypatch.chdir(tmp_path / "files")
    return tmp_path / "files"


def ended(command: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[Any, list[str]]:
    """Exit status of a command and the lines that it wrote to standard error."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(command)
    return end.value.code, capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("name", READERS)
def test_a_bug_behind_a_reader_shows_its_traceback(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = READERS[name]

    def renamed(*args: Any, **kwargs: Any) -> Any:
        raise reader.error("a planted bug")

    monkeypatch.setattr(reader.bug, renamed)
    status, lines = ended(reader.command, capsys)
    assert "Traceback (most recent call last):" in lines
    assert any(", in renamed" in line for line in lines)
    assert lines[-1].startswith(f"gz-lightning {reader.command[0]}: this is a bug of gz_lightning, please report it: ")
    assert reader.error.__name__ in lines[-1]
    assert status == 1


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_ends_in_one_line(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reader = READERS[name]
    path = Path(reader.file)
    path.write_bytes(b"\x89\0[{" + path.read_bytes()[: path.stat().st_size // 2])
    status, lines = ended(reader.command, capsys)
    assert not any("Traceback" in line for line in lines)
    said = [line for line in lines if line.startswith(f"gz-lightning {reader.command[0]}: ")]
    assert said == lines[-1:]
    assert path.name in said[0]
    assert status == 2
