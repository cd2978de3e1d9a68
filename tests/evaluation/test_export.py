"""A run with all that is known of it: which set, its accuracy, licence and citation."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.data.origin import SIMULATED, UNKNOWN
from gz_lightning.data.prepare import prepare
from gz_lightning.errors import InputError
from gz_lightning.evaluation.evaluate import evaluate
from gz_lightning.evaluation.export import Exported, export_run
from gz_lightning.evaluation.record import read_evaluation
from gz_lightning.sets.card import METHOD
from gz_lightning.sets.sources import read_sets
from tests.evaluation.conftest import synthetic_set

SMALL: dict[str, Any] = {"num_eval": 2, "epochs": 3, "step_sizes": [0.05], "full_epochs": 0, "baselines": []}


def exported(run: Path, to: str = "npz", **settings: Any) -> Exported:
    return export_run(run, to, **{"output": None, "data": None, "licence": None, **settings})


def test_a_run_that_was_not_evaluated(toy: Galaxies, tmp_path: Path) -> None:
    synthetic_set(toy).save(tmp_path / "best.h5")
    result = exported(tmp_path)
    assert result.path == tmp_path / "best.npz"
    assert result.description["accuracy"] is None
    assert result.description["licence"] == UNKNOWN.licence
    assert result.description["citation"] == [*METHOD, *UNKNOWN.citation]
    assert "\nlicence unknown: that of the galaxies which the images are made of. Ask for it" in str(result)
    assert "\nlicence: MIT\n" in str(exported(tmp_path, "pt", licence="MIT"))
    assert "without an accuracy on test galaxies: gz-lightning evaluate --synthetic" in str(result)
    assert "name the packed galaxies with --data, or their licence with --licence" in str(result)
    assert str(result).endswith(f"written: {tmp_path / 'best.npz'}")
    (found,) = read_sets(result.path, toy).values()
    assert torch.equal(found.images, synthetic_set(toy).images)


def test_the_accuracy_goes_with_the_set_that_was_scored(toy: Galaxies, tmp_path: Path) -> None:
    synthetic_set(toy).save(tmp_path / "best.h5")
    synthetic_set(toy, step_sizes=torch.tensor([0.03])).save(tmp_path / "last.h5")
    evaluate(tmp_path, toy, **SMALL)
    path = tmp_path / "evaluation" / "evaluation.json"
    record = json.loads(path.read_text())
    for row in record["table"]["data"]:
        row[record["table"]["columns"].index("file")] = "last.h5"
    path.write_text(json.dumps(record))
    table = read_evaluation(path).table
    result = exported(tmp_path, "folder")
    assert result.source.name == result.description["made_from"] == "last.h5"
    rows = result.description["accuracy"]["rows"]
    assert [row["protocol"] for row in rows] == ["mtt", "validated"]
    for name in ("test", "low", "high", "networks", "step size"):
        assert [row[name] for row in rows] == table[name].tolist()
    described = json.loads((result.path / "set.json").read_text())["accuracy"]
    assert (described["test_galaxies"], described["epochs"]) == (18, 3)
    assert described["rows"] == rows
    card = (result.path / "README.md").read_text()
    assert f"{rows[-1]['test']:.1f} % of 18 test galaxies are classified correctly" in card
    other = exported(tmp_path / "best.h5", output=tmp_path / "other.npz")
    assert other.description["accuracy"] is None
    assert "without an accuracy, as the evaluation chose another set of the run" in str(other)


def test_an_evaluation_of_another_set_is_left_out(toy: Galaxies, tmp_path: Path) -> None:
    synthetic_set(toy).save(tmp_path / "best.h5")
    evaluate(tmp_path / "best.h5", toy, **SMALL)
    assert exported(tmp_path / "best.h5", output=tmp_path / "a.npz").description["accuracy"] is not None
    synthetic_set(toy, images=synthetic_set(toy).images.flip(3)).save(tmp_path / "best.h5")
    result = exported(tmp_path, output=tmp_path / "b.npz")
    assert result.description["accuracy"] is None
    assert "without an accuracy, as the evaluation beside it is of another set" in str(result)


def test_licence_and_citation_of_the_galaxies(toy: Galaxies, tmp_path: Path) -> None:
    prepare(tmp_path / "simulated.h5", tree="coarse5", per_class=5, resolution=16)
    simulated = Galaxies(tmp_path / "simulated.h5")
    replace(synthetic_set(toy), data=simulated.fingerprint).save(tmp_path / "best.h5")
    told = exported(tmp_path, data=tmp_path / "simulated.h5").description
    assert told["licence"] == SIMULATED.licence
    assert told["citation"] == list(METHOD)
    told = exported(tmp_path, output=tmp_path / "given.npz", licence="CC-BY-4.0").description
    assert (told["licence"], told["licence_id"]) == ("CC-BY-4.0", "cc-by-4.0")
    told = exported(tmp_path, output=tmp_path / "words.npz", licence="ask the authors").description
    assert (told["licence"], told["licence_id"]) == ("ask the authors", "other")
    with pytest.raises(InputError, match=r"toy.h5 are not the galaxies that the set was distilled from"):
        exported(tmp_path, data=toy.path)


def test_what_cannot_be_exported(toy: Galaxies, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no run folder of 'gz-lightning distill': there is no best.h5"):
        exported(tmp_path)
    with pytest.raises(InputError, match="none.h5"):
        exported(tmp_path / "none.h5")
    synthetic_set(toy).save(tmp_path / "best.h5")
    with pytest.raises(InputError, match=r"--output is a file that ends in .npz, not .*set"):
        exported(tmp_path, output=tmp_path / "set")
