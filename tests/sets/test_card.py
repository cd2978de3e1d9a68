"""The card beside an exported set."""

import yaml

from gz_lightning.sets.card import accuracy_lines, card, cut_off_line
from gz_lightning.sets.description import describe
from gz_lightning.sets.formats import FORMATS, UNTOLD
from tests.sets.test_pictures import made

ROW = {
    "set": "distilled, tuned",
    "protocol": "validated",
    "step size": "0.03",
    "networks": 5,
    "test": 64.83,
    "low": 60,
    "high": 69.1,
}
TOLD = {
    "accuracy": {"test_galaxies": 496, "epochs": 1000, "rows": [ROW]},
    "licence": "CC BY 4.0, as listed.",
    "licence_id": "cc-by-4.0",
    "citation": ["Willett et al. 2013"],
}


def test_a_card_says_what_there_is() -> None:
    synthetic = made(3)
    for name in FORMATS:
        text = card(describe(synthetic, name, synthetic.images, TOLD))
        assert "# 6 distilled images of 3 classes of galaxies" in text
        assert "64.8 % of 496 test galaxies are classified correctly (95 % interval 60.0 to 69.1; 5 fresh networks" in text
        assert "| 1 | k leaf | 2 |" in text
        assert "Step size 0.01;" in text
        assert "CC BY 4.0, as listed." in text
        assert "- Willett et al. 2013" in text
        assert text.startswith("---\nlicense: cc-by-4.0") == (name == "huggingface")


def test_the_lines_of_two_protocols_are_told_apart() -> None:
    told = {"test_galaxies": 496, "epochs": 1000, "rows": [{**ROW, "protocol": "mtt", "step size": "0.01"}, ROW]}
    mtt, validated = accuracy_lines({"accuracy": told})
    assert mtt.startswith("With the learned step size 0.01 (protocol mtt): 64.8 % of")
    assert validated.startswith("With step size 0.03, chosen on validation galaxies (protocol validated): 64.8 % of")


def test_what_is_not_known_is_said() -> None:
    synthetic = made(3)
    synthetic.step_sizes = synthetic.step_sizes[:0]
    text = card(describe(synthetic, "pt", synthetic.images, UNTOLD))
    assert "It has not been evaluated on test galaxies." in text
    assert "Step size unknown;" in text


def test_the_hub_reads_the_front_matter() -> None:
    synthetic = made(3)
    text = card(describe(synthetic, "huggingface", synthetic.images, UNTOLD))
    told = yaml.safe_load(text.split("---\n")[1])
    assert told["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    assert told["size_categories"] == ["n<1K"]
    assert "license" not in told


def test_what_is_cut_off() -> None:
    synthetic = made(3)
    lines = {name: cut_off_line(describe(synthetic, name, synthetic.images, UNTOLD)) for name in FORMATS}
    share = f"{100 * synthetic.cut_off:.1f} % of the pixel values lie below 0 or above 255, which a PNG cuts off"
    assert lines["folder"].startswith(f"{share}: a network learns less")
    assert lines["tiff"] == f"Nothing is cut off here ({share})."
    assert lines["huggingface"] == f"Nothing is cut off in `pixels` ({share})."
