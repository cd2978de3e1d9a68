"""The sentences that a report opens with."""

from dataclasses import replace

import pytest

from gz_lightning.evaluation.record import Evaluation
from gz_lightning.report.opening import guessing, measured, opening, row_to_quote, three_accuracies
from gz_lightning.report.runs import Run


@pytest.fixture
def quoted(run: Run, evaluation: Evaluation) -> Run:
    """A run with an evaluation of known numbers: 9, 6 and 18 of 18 test galaxies right."""
    return replace(run, evaluation=replace(evaluation, settings={"epochs": 2, "test galaxies": 18}))


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_the_page_opens_with_what_the_images_teach(quoted: Run) -> None:
    assert plain(opening(quoted)) == (
        "Six images teach a fresh network to recognise 50 % of the test galaxies; all 6 training galaxies teach it 100 %; "
        "guessing gives 33 %."
    )
    assert guessing(quoted) == pytest.approx(100 / 3)
    assert plain(measured(quoted)).startswith("Mean of 2 networks on 18 test galaxies: 50.0 ± 0.0 % (spread), 95 % interval")


def test_without_an_evaluation_it_says_so(run: Run) -> None:
    bare = replace(run, evaluation=None)
    assert plain(opening(bare)) == "Six images; what they teach has not been measured yet, and guessing gives 33 %."
    assert measured(bare) == three_accuracies(bare) == ""


def test_the_row_whose_choices_were_made_on_validation_galaxies_is_quoted(run: Run, quoted: Run) -> None:
    row, only = row_to_quote(run), row_to_quote(quoted)
    assert row is not None
    assert only is not None
    assert (row["set"], only["set"]) == ("distilled, tuned", "distilled")


def test_the_three_accuracies_are_told_apart(run: Run) -> None:
    row = row_to_quote(run)
    assert row is not None
    text = three_accuracies(run)
    assert "while distilling, 1 network of 2 epochs with the learned step size recognised 50.0 % of the validation" in text
    assert "the highest of 2 such measurements" in text
    assert (
        f"with step size {row['step size']}, the best of those tried, recognise {row['val']:.1f} % of the validation" in text
    )
    assert f"and {row['test']:.1f} % of the test galaxies" in text
