"""Tables of the page: per cent, guessing, and values instead of 'default'."""

from dataclasses import replace

import pandas as pd

from gz_lightning.report.runs import Run
from gz_lightning.report.tables import accuracy_table, facts, other_tables, scores_tables, settings_table
from gz_lightning.sets.synthetic import USED


def test_accuracy_ends_with_guessing(run: Run) -> None:
    assert run.evaluation is not None
    table = accuracy_table(run, run.evaluation.table)
    assert table.wide
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert [row[0] for row in table.rows][-2:] == ["full data", "guessing"]
    assert table.rows[-1][6:8] == ["33.3", "33.3"]


def test_scores_are_per_cent_with_a_row_for_each_leaf() -> None:
    scores = pd.DataFrame({"set": ["a", "b"], "accuracy": [0.5, 1.0], "recall: round": [0.25, None]})
    tables = scores_tables("run", scores)
    assert tables["scores"].rows == [["a", "50.0"], ["b", "100.0"]]
    assert (tables["recalls"].columns, tables["recalls"].rows) == (["leaf", "a", "b"], [["round", "25.0", "none"]])
    assert not tables["scores"].wide
    assert scores_tables("run", pd.DataFrame())["scores"].rows == []


def test_settings_that_were_left_out_show_what_was_used(run: Run) -> None:
    rows = {row[0]: list(row[1:]) for row in settings_table(run).rows}
    assert rows["expert_epochs"] == ["1", "by default"]
    assert rows["lr_img"] == ["0.003", "by default"]
    assert rows["network"] == ["ConvNet", "by default"]
    assert "batch_real" not in rows  # of a finish, which the run does not have
    assert rows["syn_steps"] == ["3", ""]
    assert "/" not in rows["trajectories"][0]
    assert USED not in rows
    unknown = replace(run, synthetic=replace(run.synthetic, configuration={"augmentation": None, "ipc": 1, USED: 3}))
    assert settings_table(unknown).rows == [["augmentation", "galaxy", "by default"], ["ipc", "1", ""]]


def test_facts_and_other_tables(run: Run) -> None:
    values = {row[0]: row[1] for row in facts(run).rows}
    assert values["validation accuracy while distilling"] == "50.0 %"
    assert set(other_tables(run)) == {"architectures", "tried"}
    assert other_tables(replace(run, evaluation=None)) == {}
