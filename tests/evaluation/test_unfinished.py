"""UnfinishedEvaluation: outcomes are read again only for what they were trained on."""

import shutil
from dataclasses import replace
from pathlib import Path

import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.evaluation.contenders import Candidate, Contender, Outcome
from gz_lightning.evaluation.unfinished import UnfinishedEvaluation
from gz_lightning.training.protocol import Protocol
from tests.evaluation.conftest import NETWORK, outcome, synthetic_set


def test_an_outcome_is_read_as_it_was_kept(toy: Galaxies, tmp_path: Path) -> None:
    unfinished, scored = UnfinishedEvaluation(tmp_path / "kept", toy.fingerprint, "cpu"), outcome("one", 5, toy)
    assert unfinished.find(scored.contender, NETWORK) is None
    unfinished.keep(scored, NETWORK)
    read = unfinished.find(scored.contender, NETWORK)
    assert read is not None
    assert read.chosen is scored.chosen
    assert read.tried == scored.tried
    for name in ("val", "test_logits", "hits"):
        assert torch.equal(getattr(read, name), getattr(scored, name))
    other_images = [replace(one, sets=[(one.sets[0][0] + 1, one.sets[0][1])]) for one in scored.contender.candidates]
    for other in (
        replace(scored.contender, training=Protocol(epochs=7)),
        replace(scored.contender, candidates=other_images),
        replace(scored.contender, networks=3),
    ):
        assert unfinished.find(other, NETWORK) is None
    assert unfinished.find(scored.contender, {**NETWORK, "width": 4}) is None
    assert UnfinishedEvaluation(tmp_path / "kept", "others", "cpu").find(scored.contender, NETWORK) is None
    unfinished.remove()
    assert unfinished.find(scored.contender, NETWORK) is None


def test_a_kept_outcome_under_another_ones_name_is_made_again(toy: Galaxies, tmp_path: Path) -> None:
    made = synthetic_set(toy)
    one = Contender("one", [Candidate([(made.images, made.labels)], [0.01])], Protocol(epochs=1), 1)
    two, kept = replace(one, name="two"), UnfinishedEvaluation(tmp_path / "kept", toy.fingerprint, "cpu")
    for contender in (one, two):
        hits = torch.ones(1, 1, 4, dtype=torch.bool)
        kept.keep(Outcome(contender, contender.candidates[0], [], torch.ones(1, 1), torch.zeros(1, 4, 3), hits), NETWORK)
        assert kept.find(contender, NETWORK) is not None
    first, second = sorted((tmp_path / "kept").iterdir())
    shutil.copy(first, second)
    assert [kept.find(contender, NETWORK) is None for contender in (one, two)].count(True) == 1
    torch.save({"weights": torch.zeros(3)}, first)
    assert all(kept.find(contender, NETWORK) is None for contender in (one, two))
