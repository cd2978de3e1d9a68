"""Files of torch.save: what is written, what is refused, and that no code of a file runs."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from gz_lightning.errors import Damaged, InputError
from gz_lightning.storage import tensors
from gz_lightning.storage.tensors import content_digest, load_signed, load_tensors, plain, save_signed, save_tensors

CONTENT = {"a": torch.arange(6.0).reshape(2, 3), "b": [1, "two", None, (3.0, True)], "c": {"d": torch.tensor(7)}}


def equal(left: Any, right: Any) -> bool:
    return content_digest(left) == content_digest(right)


@pytest.mark.parametrize("mapped", [False, True])
def test_there_and_back(tmp_path: Path, mapped: bool) -> None:
    save_tensors(CONTENT, tmp_path / "a.pt")
    assert equal(load_tensors(tmp_path / "a.pt", mapped), CONTENT)
    save_signed(CONTENT, tmp_path / "b.pt")
    assert equal(load_signed(tmp_path / "b.pt"), CONTENT)


def test_the_digest_tells_contents_apart() -> None:
    others: list[Any] = [{**CONTENT, "a": CONTENT["a"].double()}, {**CONTENT, "b": [1, "two"]}, {**CONTENT, "e": None}]  # type: ignore[attr-defined]
    others += [{**CONTENT, "a": torch.arange(6.0).reshape(3, 2)}, list(CONTENT.items())]
    assert len({content_digest(content) for content in [CONTENT, *others]}) == 6
    with pytest.raises(Damaged, match="it holds a set"):
        content_digest({"a": {1}})
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(Damaged, match="without end"):
        content_digest(endless)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({**CONTENT, tensors.SIGNATURE: "0" * 64}, path)
    with pytest.raises(InputError, match=r"a.pt is damaged: its content does not match its checksum"):
        load_signed(path)
    torch.save(CONTENT, path)
    with pytest.raises(InputError, match=r"a.pt has no checksum of its content"):
        load_signed(path)
    whole = path.read_bytes()
    for damaged in (whole[:100], whole[: len(whole) // 2], b"", b"text", whole.replace(b"two", b"tow")):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"a.pt is no file of PyTorch tensors alone, or is damaged"):
            load_tensors(path)


class Evil:
    """Its unpickling would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return (open, (self.path, "w"))


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_no_code_of_a_file_runs(tmp_path: Path, save: Any) -> None:
    save(Evil(tmp_path / "canary"), tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"a.pt is no file of PyTorch tensors alone"):
        load_tensors(tmp_path / "a.pt")
    assert not (tmp_path / "canary").exists()


def test_a_tensor_that_claims_more_than_is_there_is_not_plain() -> None:
    assert plain(torch.zeros(3))
    others = (torch.zeros(1).expand(2**38), torch.zeros(2, dtype=torch.complex64), torch.empty(3, device="meta"))
    assert not any(plain(tensor) for tensor in (*others, torch.zeros(3).to_sparse()))


def test_a_bug_in_the_checks_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_signed(CONTENT, tmp_path / "a.pt")
    monkeypatch.setattr(tensors, "MOST_NODES", None)
    with pytest.raises(TypeError):
        load_signed(tmp_path / "a.pt")


def test_the_digest_of_an_empty_tensor_does_not_depend_on_its_layout() -> None:
    odd = torch.as_strided(torch.empty(1), (0,), (0,))
    assert content_digest([odd]) == content_digest([torch.empty(0)])
