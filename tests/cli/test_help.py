"""The help of fit and distill: what most runs need first, the rest by part."""

import re

import pytest

from gz_lightning.cli.declarations import declaration
from gz_lightning.cli.help import DATA, FIRST, MODULES, help_of


def flags(text: str) -> list[str]:
    return [line.split()[0].rstrip(",") for line in text.splitlines() if line.startswith("  --")]


@pytest.mark.parametrize("command", ["fit", "distill"])
def test_help_shows_some_fifteen_settings_and_says_where_the_others_are(command: str) -> None:
    text = help_of(command, ["--help"])
    assert text is not None
    shown = flags(text)
    run = ["--run_dir", "--ckpt_path", "--dry_run", "--wandb"]
    assert sorted(shown) == sorted([*(f"--{name}" for name in FIRST[command]), *run])
    assert 14 <= len(shown) <= 18
    assert len(text.splitlines()) < 110
    end = " ".join(text.splitlines()[-6:])
    for more in ("--model.help", "--data.help", "--trainer.help"):
        assert more in end
    assert ":class:" not in text
    assert "``" not in text
    assert not {"theta", "TrajectoryStore", "Ensemble", "DDP", "GalaxyZoo2DataModule"} & set(re.findall(r"\w+", text))
    assert "gz_lightning." not in text


@pytest.mark.parametrize(("part", "place"), [("model", MODULES["distill"]), ("data", DATA)])
def test_the_help_of_a_part_shows_all_of_it(part: str, place: str) -> None:
    text = help_of("distill", [f"--{part}.help"])
    assert text is not None
    settings = [name for name in declaration(place).__init__.__annotations__ if name != "return"]
    assert flags(text) == [f"--{part}", *(f"--{part}.{name}" for name in settings)]


def test_what_asks_for_no_help_gets_none() -> None:
    assert help_of("fit", ["--model.width", "8"]) is None
    assert help_of("fit", ["--trainer.help"]) is None


def test_a_range_is_part_of_the_type() -> None:
    text = help_of("distill", ["--model.help"])
    assert text is not None
    assert "Images per class. (type: int >= 1, default: 1)" in " ".join(text.split())
