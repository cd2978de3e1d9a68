"""Networks trained on a set once more: as its evaluation trained them, and what they look at and mistake."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from gz_lightning.evaluation.scores import confusion
from gz_lightning.report import students as module
from gz_lightning.report.runs import Run
from gz_lightning.report.students import LOOKED_AT, students
from gz_lightning.training.fresh import logits


def test_the_networks_are_those_of_the_evaluation(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def kept(*args: Any) -> torch.Tensor:
        seen.append(logits(*args))
        return seen[-1]

    monkeypatch.setattr(module, "logits", kept)
    remarks: list[str] = []
    found = students(run, 1, remarks)
    assert found is not None
    assert remarks == []
    assert run.evaluation is not None
    assert run.galaxies is not None
    assert torch.equal(found.counts, torch.tensor(run.evaluation.confusion.to_numpy()))
    assert torch.equal(confusion(torch.stack(seen), run.galaxies.test.labels), found.counts)
    assert found.trained == "1 network trained for 2 epochs on the distilled images alone"


def test_maps_are_of_galaxies_that_are_recognised(toy: Galaxies) -> None:
    labels = toy.test.labels
    shares = torch.eye(3)[labels]
    first = toy.test.of_class(1)[0]
    shares[first] = torch.tensor([1.0, 0.0, 0.0])  # not recognised
    chosen = module._looked_at(shares, toy).tolist()
    assert len(chosen) == 3 * LOOKED_AT
    assert int(first) not in chosen
    assert chosen[:LOOKED_AT] == toy.test.of_class(0)[:LOOKED_AT].tolist()
    assert module._looked_at(torch.zeros(len(labels), 3), toy)[LOOKED_AT] == first  # too few: others follow


def test_the_leaf_that_is_mistaken_most_and_the_surest_galaxies(toy: Galaxies) -> None:
    labels = toy.test.labels
    shares = 0.9 * torch.eye(3)[labels]
    places = toy.test.of_class(0)[:2]
    shares[places[0]], shares[places[1]] = torch.tensor([0.0, 0.7, 0.3]), torch.tensor([0.0, 0.8, 0.2])
    cards = module._mistaken(shares, confusion(shares[None], labels), toy)
    (card,) = cards
    assert card.title == f"{toy.class_names[0]}, taken for {toy.class_names[1]}"
    number = len(toy.test.of_class(0))
    assert card.note == f"{100 * 2 / number:.0f} % of its test galaxies"
    ids = [toy.test.object_ids[int(place)] for place in places]
    assert [caption for _, caption in card.rows[0]] == [f"{ids[1]}: 80 %", f"{ids[0]}: 70 %"]


def test_what_cannot_be_trained_is_said(run: Run) -> None:
    without = "Without occlusion maps and mistaken galaxies: "
    bare = replace(run, evaluation=None)
    for changed, networks, reason in (
        (run, 0, "--networks is 0"),
        (replace(run, galaxies=None), 1, "there are no galaxies"),
        (replace(bare, synthetic=replace(run.synthetic, step_sizes=torch.empty(0))), 1, "the set has no step size"),
        (replace(bare, synthetic=replace(run.synthetic, network={"name": "own.Network"})), 1, ""),
        (replace(bare, synthetic=replace(run.synthetic, step_sizes=torch.tensor([1e30]))), 1, "networks diverged"),
    ):
        remarks: list[str] = []
        assert students(changed, networks, remarks) is None
        assert remarks[0].startswith(without + reason)


@pytest.mark.parametrize("settings", [{"epochs": 10**9}, {"epochs": "2"}, {"seed": "a"}, {"symmetries": 3}])
def test_settings_that_cannot_be_right_are_refused(run: Run, settings: dict[str, Any]) -> None:
    assert run.evaluation is not None
    damaged = replace(run, evaluation=replace(run.evaluation, settings={**run.evaluation.settings, **settings}))
    with pytest.raises(InputError, match="damaged|symmetries"):
        students(damaged, 1, [])
