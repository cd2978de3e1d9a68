"""The words of the page."""

from gz_lightning.report import words
from gz_lightning.sets.coresets import CORESETS


def test_every_baseline_of_the_package_has_a_line() -> None:
    assert {*CORESETS, "full data", "distilled", "distilled, tuned", "guessing"} <= set(words.WORTH)


def test_every_word_is_said_in_a_sentence() -> None:
    tables = (words.IMAGES, words.LEARNED, words.SEEN, words.WORTH, words.SCORES, words.MAKING)
    for word, meaning in ((word, meaning) for table in tables for word, meaning in table.items()):
        assert meaning.endswith("."), word
        assert len(meaning) > 15, word


def test_only_words_that_are_used_are_explained() -> None:
    assert [word for word, _ in words.words_for(words.WORTH, ["herding", "brightest", "test"])] == ["herding", "test"]
    assert words.words_for(words.MAKING) == list(words.MAKING.items())
