"""The record of an evaluation: written, read again, and refused where it is damaged."""

import json
from pathlib import Path

import pandas as pd
import pytest

from gz_lightning.errors import InputError
from gz_lightning.evaluation.record import Evaluation, read_evaluation


def test_a_record_is_read_as_it_was_written(evaluation: Evaluation, tmp_path: Path) -> None:
    files = evaluation.write(tmp_path)
    names = ["accuracy.csv", "scores.csv", "confusion.csv", "choices.csv", "architectures.csv", "evaluation.json"]
    assert sorted(path.name for path in files) == sorted(names)
    read = read_evaluation(tmp_path / "evaluation.json")
    for name in ("table", "scores", "confusion", "tried", "architectures"):
        pd.testing.assert_frame_equal(getattr(read, name), getattr(evaluation, name))
    assert read.settings == evaluation.settings
    csv = pd.read_csv(tmp_path / "accuracy.csv", dtype={"step size": str})
    pd.testing.assert_frame_equal(csv, evaluation.table)
    assert "distilled" in str(read)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"data": [', '"data": ["x", '),
        ('"index": [', '"index": [["deep"], '),
        ('"spread"', '"spread", "spread"'),
        ('"distilled"', "1"),
        ('"protocol"', '"other"'),
    ],
)
def test_a_record_whose_tables_are_none_is_refused(evaluation: Evaluation, tmp_path: Path, before: str, after: str) -> None:
    evaluation.write(tmp_path)
    text = json.dumps(json.loads((tmp_path / "evaluation.json").read_text()))
    assert before in text
    (tmp_path / "evaluation.json").write_text(text.replace(before, after, 1))
    with pytest.raises(InputError, match="evaluation.json is no record of an evaluation or is damaged"):
        read_evaluation(tmp_path / "evaluation.json")


def test_a_count_that_is_text_or_a_record_without_end_is_refused(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.write(tmp_path)
    record = json.loads((tmp_path / "evaluation.json").read_text())
    record["confusion"]["data"][0][0] = "many"
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match="round in confusion is 'many'"):
        read_evaluation(path)
    path.write_text('{"format": ' * 5000)
    with pytest.raises(InputError, match="evaluation.json is no record of an evaluation or is damaged"):
        read_evaluation(path)


def test_a_record_of_another_version_is_refused(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.write(tmp_path)
    path = tmp_path / "evaluation.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 99'))
    with pytest.raises(InputError, match=r"is gz_lightning.evaluation version 99; this release .* reads"):
        read_evaluation(path)
