"""Tables: what stands beside what."""

from pathlib import Path

import pytest
from PIL import Image

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.evaluation.record import Evaluation
from gz_lightning.evaluation.scores import label_robust_score
from gz_lightning.evaluation.tables import save_figures, tabulated
from tests.conftest import CLASS_NAMES
from tests.evaluation.conftest import outcome


def test_scores_beside_real_galaxies(evaluation: Evaluation) -> None:
    """Of 18 test galaxies 9, 6 and 18 are right with hard labels, three more with soft ones."""
    scores = evaluation.scores.set_index("set")
    assert scores["relative accuracy"].tolist() == pytest.approx([9 / 18, 6 / 18, 1])
    robust = scores["label-robust score"]
    assert robust["distilled"] == pytest.approx(label_robust_score(1, 9 / 18, 12 / 18, 9 / 18))
    assert robust[["random real", "full data"]].isna().all()
    table = evaluation.table.set_index("set")
    assert table["test"].tolist() == pytest.approx([50, 100 / 3, 100])
    assert table["soft"].tolist()[:2] == pytest.approx([200 / 3, 50])
    assert table["soft"].isna().tolist() == [False, False, True]
    assert scores["calibration error, soft"].isna().tolist() == [False, False, True]
    assert evaluation.confusion.to_numpy().sum() == 2 * 18
    assert evaluation.tried["labels"].tolist() == [
        "hard",
        "hard",
        "soft",
        "soft",
        "hard",
        "hard",
        "soft",
        "soft",
        "hard",
        "hard",
    ]
    assert evaluation.tried["accuracy"].tolist()[:2] == [25, 50]
    assert evaluation.architectures.loc["distilled", "AlexNet"] == 40


def test_without_real_galaxies_there_is_nothing_to_relate_to(toy: Galaxies) -> None:
    result = tabulated({"distilled": outcome("distilled", 9, toy)}, {}, {}, toy, {})
    assert not {"relative accuracy", "label-robust score"} & set(result.scores)
    assert "soft" not in result.table
    with_full = {name: outcome(name, 9, toy) for name in ("distilled", "full data")}
    scores = tabulated(with_full, {}, {}, toy, {}).scores
    assert scores["relative accuracy"].tolist() == [1, 1]
    assert "label-robust score" not in scores


def test_figures(evaluation: Evaluation, toy: Galaxies, tmp_path: Path) -> None:
    paths = save_figures(evaluation, {"distilled": toy.train.images[:6].float() / 255}, CLASS_NAMES, tmp_path)
    assert [path.name for path in paths] == ["leaves.png", "confusion.png"]
    for path in paths:
        with Image.open(path) as picture:
            assert min(picture.size) > 200
