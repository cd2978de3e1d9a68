"""Settings: what a signature says is what is let through."""

from pathlib import Path
from typing import Literal

import pytest

from gz_lightning.errors import InputError
from gz_lightning.settings import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Share,
    check_name,
    check_settings,
    checked,
)


def command(
    output: Path,
    number: PositiveInt = 1,
    first: NonNegativeInt = 0,
    rate: PositiveFloat | list[PositiveFloat] | None = None,
    decay: NonNegativeFloat = 0.0,
    share: Share = 0.5,
    kind: Literal["hard", "votes"] = "hard",
    fast: bool = False,
    name: str | None = None,
) -> str:
    return f"{output} {number}"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("number", 0, "--number must be a whole number >= 1, not 0"),
        ("number", 1.0, "--number must be a whole number >= 1, not 1.0"),
        ("number", True, "--number must be a whole number >= 1, not True"),
        ("number", None, "--number must be a whole number >= 1, not null"),
        ("first", -1, "--first must be a whole number >= 0, not -1"),
        ("rate", 0.0, "--rate must be a number > 0 or a list of which every item is a number > 0 or null, not 0.0"),
        ("rate", [0.1, float("nan")], r"--rate must be .*, not \[0.1, nan\]"),
        ("decay", float("inf"), "--decay must be a number >= 0, not inf"),
        ("decay", -0.1, "--decay must be a number >= 0, not -0.1"),
        ("share", 1.5, "--share must be a number >= 0 and <= 1, not 1.5"),
        ("kind", "soft", "--kind must be one of hard, votes, not 'soft'"),
        ("fast", 1, "--fast must be true or false, not 1"),
        ("name", 3, "--name must be text or null, not 3"),
        ("output", 3, "--output must be a path, not 3"),
    ],
)
def test_a_wrong_value_is_said_in_one_line(name: str, value: object, said: str) -> None:
    with pytest.raises(InputError, match=f"^{said}$"):
        check_settings(command, {name: value})


def test_right_values_pass() -> None:
    settings = {"output": "a.h5", "number": 3, "rate": [1, 0.5], "decay": 0, "share": 1, "kind": "votes", "other": object()}
    check_settings(command, settings)
    check_settings(command, {"rate": None, "name": None})


def test_a_checked_command_refuses_before_it_runs() -> None:
    run = checked(command)
    assert run(Path("a"), number=2) == "a 2"
    with pytest.raises(InputError, match="--number must be a whole number >= 1, not -2"):
        run(Path("a"), number=-2)


def test_a_long_value_is_cut() -> None:
    with pytest.raises(InputError) as error:
        check_settings(command, {"kind": "x" * 1000})
    assert len(str(error.value)) < 200


def test_a_name_that_a_table_lacks() -> None:
    check_name("--model.unroll", "full", {"full": 1})
    with pytest.raises(InputError, match="--model.unroll must be one of adjoint, full, not 'fast'"):
        check_name("--model.unroll", "fast", ["adjoint", "full"])
