"""A run folder: what is read, what may be missing, and what is refused."""

import shutil
from pathlib import Path

import pytest

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from gz_lightning.report.runs import nearest_galaxies, read_run
from tests.evaluation.conftest import synthetic_set


def test_a_run_with_all_that_belongs_to_it(evaluated: Path, toy: Galaxies, toy_experts: Path) -> None:
    run = read_run(evaluated)
    assert run.name == "a & b"
    assert run.synthetic.iteration == 7
    assert run.metrics["step"].tolist() == [0, 9, 19, 20]  # the empty log of a second start is passed over
    assert run.galaxies is not None
    assert run.galaxies.fingerprint == toy.fingerprint
    assert run.experts is not None
    assert run.experts.folder == toy_experts
    assert run.evaluation is not None
    assert run.evaluation.settings["num_eval"] == 1
    assert run.remarks == ()


def test_galaxies_in_memory_are_taken_as_they_are(evaluated: Path, toy: Galaxies) -> None:
    assert read_run(evaluated, data=toy).galaxies is toy


def test_a_later_start_counts(tmp_path: Path, toy: Galaxies) -> None:
    synthetic_set(toy).save(tmp_path / "best.h5")
    for version, text in ((0, "step,loss\n1,0.9\n2,0.8\n"), (2, "step,loss\n2,0.7\n"), (10, "step,loss\n3,0.6\n2,0.5\n")):
        (tmp_path / "logs" / f"version_{version}").mkdir(parents=True)
        (tmp_path / "logs" / f"version_{version}" / "metrics.csv").write_text(text)
    assert read_run(tmp_path).metrics["loss"].tolist() == [0.9, 0.5, 0.6]


def test_refusals(evaluated: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no run folder of 'gz-lightning distill': there is no best.h5"):
        read_run(tmp_path)
    with pytest.raises(InputError, match="there is no file none.h5"):
        read_run(evaluated, data="none.h5")
    with pytest.raises(InputError, match="there are no experts in"):
        read_run(evaluated, experts=tmp_path)


def test_nearest_galaxies_are_found_turned(toy: Galaxies) -> None:
    pixels = toy.standardise(toy.train.images)[[3, 40]]
    assert nearest_galaxies(pixels.rot90(1, (2, 3)).transpose(2, 3), toy).tolist() == [3, 40]


def test_logs_and_settings_that_are_none(evaluated: Path, tmp_path: Path) -> None:
    """Settings are refused or left out; of a log that never ends nothing is read, and numbers alone are drawn."""
    run = tmp_path / "run"
    shutil.copytree(evaluated, run)
    for settings in run.glob("logs/version_*/config.yaml"):
        settings.write_text("data: .inf\n")
    log = run / "logs" / "version_0" / "metrics.csv"
    assert read_run(run).galaxies is None
    odd = run / "logs" / "version_²" / "metrics.csv"  # a digit to Python, but no number
    odd.parent.mkdir()
    odd.write_text("")
    log.write_text("step,loss\n0,inf\n1,0.5\n2,1e308\n3,-3.41e38\n4,3.4e38\n")
    assert read_run(run).metrics["loss"].isna().tolist() == [True, False, True, True, False]
    log.write_text("step,loss\n0,many\n")
    with pytest.raises(InputError, match="metrics.csv cannot be read as a table .*; delete it to do without"):
        read_run(run)
    log.unlink()
    log.symlink_to("/dev/zero")
    with pytest.raises(InputError, match="metrics.csv cannot be read as a table .*there is no file"):
        read_run(run)
