"""Contenders: what is chosen and scored, against the plain loop over networks."""

from pathlib import Path

import pytest
import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.evaluation.contenders import Candidate, Contender, compete
from gz_lightning.evaluation.evaluate import evaluate
from gz_lightning.randomness import derived_seed
from gz_lightning.training.fresh import predictions, train_network
from gz_lightning.training.protocol import Protocol
from tests.evaluation.conftest import NETWORK, synthetic_set

CPU = torch.device("cpu")


@pytest.mark.parametrize("protocol", ["mtt", "validated"])
def test_the_choice_is_that_of_the_plain_loop(toy: Galaxies, protocol: str) -> None:
    """Two candidates of two draws each: under mtt the best on test galaxies, else on validation galaxies."""
    pairs = [[(one.images, one.labels)] * 2 for one in (synthetic_set(toy, 2), synthetic_set(toy, 4))]
    candidates = [Candidate(pairs[0], [0.001], "small"), Candidate(pairs[1], [0.05], "large")]
    contender = Contender("one", candidates, Protocol(epochs=4, augmentation="none", seed=3), 2, protocol, choosing=3)
    ticks: list[float] = []
    outcome = compete(contender, NETWORK, toy, CPU, ticks.append)

    def hits(candidate: Candidate, networks: int, split: str) -> torch.Tensor:
        rows = []
        for draw, (images, labels) in enumerate(candidate.sets):
            for i in range(networks):
                training = Protocol(epochs=4, augmentation="none", seed=derived_seed(3, "draw", draw, i))
                model = train_network(images, labels, NETWORK, candidate.step_sizes, training)
                galaxies = getattr(toy, split)
                rows.append(predictions(model, galaxies, toy, CPU) == galaxies.labels)
        return torch.stack(rows).view(len(candidate.sets), networks, -1)

    split = "test" if protocol == "mtt" else "val"  # 3 judges of 2 draws are 2 networks for each
    means = [float(hits(candidate, 2, split).double().mean()) for candidate in candidates]
    assert outcome.tried == [("small", "0.001", means[0]), ("large", "0.05", means[1])]
    assert means[0] != means[1]
    assert outcome.chosen is candidates[means.index(max(means))]
    assert torch.equal(outcome.hits, hits(outcome.chosen, 2, "test"))
    torch.testing.assert_close(outcome.val, hits(outcome.chosen, 2, "val").float().mean(2))
    assert round(sum(ticks), 6) == contender.trainings == (8 if protocol == "mtt" else 12)
    row = outcome.row()
    assert row["test"] == pytest.approx(100 * float(outcome.hits.double().mean()))
    assert (row["images"], row["networks"], row["protocol"]) == (12, 4, protocol)


def test_where_there_is_no_choice_nothing_is_tried(toy: Galaxies) -> None:
    one = synthetic_set(toy)
    contender = Contender("one", [Candidate([(one.images, one.labels)], [0.02, 0.01])], Protocol(epochs=2), 1)
    outcome = compete(contender, NETWORK, toy, CPU)
    assert outcome.tried == []
    assert outcome.chosen.step_size == "0.02 .. 0.01"
    assert contender.trainings == 1


def test_of_several_sets_mtt_takes_the_best_on_test_galaxies(toy: Galaxies, toy_path: Path, tmp_path: Path) -> None:
    """And ours the best on validation galaxies; both say what they chose from."""
    good = synthetic_set(toy, ipc=3)
    good.save(tmp_path / "good.h5")
    synthetic_set(toy, ipc=3, labels=(good.labels + 1) % 3).save(tmp_path / "bad.h5")
    result = evaluate(tmp_path, toy_path, num_eval=1, epochs=30, draws=1, step_sizes=[0.02], full_epochs=0, baselines=[])
    tried = result.tried.set_index(["set", "candidate", "step size"])["accuracy"]
    assert len(tried) == 2 + 4  # two learned step sizes; those, and each set with the one that is given
    assert tried["distilled", "good.h5", "0.02"].item() == result.table["test"][0]
    assert tried["distilled", "bad.h5", "0.02"].item() < result.table["test"][0]
    assert result.table["step size"].tolist() == ["0.02", "0.02"]
    assert "choices.csv" in {path.name for path in result.files}


def test_networks_that_diverge_are_named_and_not_chosen(toy: Galaxies, capsys: pytest.CaptureFixture[str]) -> None:
    """The answers of such a network can be right by chance."""
    one = synthetic_set(toy)
    candidates = [Candidate([(one.images, one.labels)], [alpha], "set.h5") for alpha in (0.01, 1e30)]
    outcome = compete(Contender("distilled", candidates, Protocol(epochs=3), 2), NETWORK, toy, CPU)
    assert "distilled (set.h5), step size 1e+30: 3 of 3 networks diverged" in capsys.readouterr().err
    assert outcome.chosen is candidates[0]
