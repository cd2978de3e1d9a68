"""Text, JSON and YAML within limits."""

from pathlib import Path

import numpy as np
import pytest

from gz_lightning.errors import Damaged, InputError
from gz_lightning.storage import text
from gz_lightning.storage.text import check_keys, checked_json, naming_file, read_text, read_yaml, short


def test_json_of_a_kind() -> None:
    assert checked_json('{"a": 1}', "it", dict) == {"a": 1}
    for words, kind, message in (
        ("[1]", list, r"it holds \[1\]"),
        ("[]", dict, "it holds"),
        ("{", dict, "it is no JSON"),
        ("[" * 10**5, list, "it holds brackets within brackets"),
    ):
        with pytest.raises(Damaged, match=message):
            checked_json(words, "it", kind)


def test_text_is_read_up_to_a_size(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("größe", encoding="utf-8")
    assert read_text(path) == "größe"
    with pytest.raises(InputError, match="has 7 bytes, more than such a file ever has"):
        read_text(path, most=6)
    path.write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"a.txt cannot be read: 'utf-8' codec"):
        read_text(path)
    with pytest.raises(InputError, match="there is no file none"):
        read_text("none")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1\nb: 2\na: 3", "the key 'a' is given twice, in lines 1 and 3; remove one"),
        ("a: {b: 1, c: 2, b: 1}", "the key 'b' is given twice, in line 1"),
        ("- x\n- a: [{1: 2,\n  1: 3}]", "the key '1' is given twice, in lines 2 and 3"),
        ('{"a": 1, a: 2}', "the key 'a' is given twice"),
        ("a: b: c", "mapping values are not allowed here"),
        ("[" * 5000, "brackets within brackets"),
        ("&a [*a]", "its values refer to each other without end"),
        ("a: 2023-99-99", "month must be in 1..12"),
        ("? [a]\n: 1", "unhashable"),
        ('a: "\\ud800"', "half of a surrogate pair"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
    ],
)
def test_yaml_that_goes_wrong(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(InputError, match=rf"a.yaml cannot be read: .*{message}"):
        read_yaml(tmp_path / "a.yaml")


def test_keys_that_differ_and_merged_keys_pass(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: &b {x: 1, y: 2}\na: {<<: *b, x: 3}\nc: {x: 1, '1': 2, 1: 3}")
    assert read_yaml(tmp_path / "a.yaml")["a"] == {"x": 3, "y": 2}


def test_dots_in_keys_mean_something_in_settings_alone(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: {b: 1}\na.b: 2")
    assert read_yaml(tmp_path / "a.yaml") == {"a": {"b": 1}, "a.b": 2}
    check_keys("a.b: 1\na.c: 2\nab: 3\nx: {a: 1}\n1: 2\n.a: 3\na..b: 4", dotted=True)
    with pytest.raises(Damaged, match=r"'a\.b' is given in two ways, as 'a\.b\.c' in line 1 and as 'a\.b' in line 2"):
        check_keys("- {a.b.c: 1,\n   a.b: 2}", dotted=True)


def test_a_bug_in_the_checks_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text("a: 1")
    assert read_yaml(tmp_path / "a.yaml") == {"a": 1}
    monkeypatch.setattr(text, "MOST_NODES", None)
    with pytest.raises(TypeError):
        read_yaml(tmp_path / "a.yaml")


def test_messages_name_the_file_and_stay_short() -> None:
    with pytest.raises(InputError, match="a.h5: no such leaf"), naming_file("a.h5"):
        raise InputError("no such leaf")
    assert short(np.float64(5)) == "5.0"  # not as numpy writes it
    assert short(np.array([1, 2])) == "[1, 2]"
    assert short(np.zeros((40, 2))) == "a list of 40"
    endless: list[object] = []
    endless += [endless] * 5
    for value in ("x" * 1000, 10**5000, endless, [[1] * 1000], {"a": {"b": endless}}):
        assert len(short(value)) <= 80
