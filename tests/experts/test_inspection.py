"""What is said of a store, and of damage in it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch

from gz_lightning.cli import main
from gz_lightning.errors import InputError
from gz_lightning.experts import expert_file, inspection
from gz_lightning.experts.expert_file import METRICS, Recipe, file_of, write_expert
from gz_lightning.experts.inspection import check, damage
from tests.storage.test_hdf5 import written_by_another

RECIPE = Recipe({"name": "ConvNet", "num_classes": 3, "resolution": 16, "width": 4}, "abc", {"lr": 0.1})
ONES = {name: [0.25, 0.75] for name in METRICS}


def test_check_names_what_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = torch.randn(3, 5000)
    for expert in range(4):
        write_expert(tmp_path, expert, rows + expert, ONES, RECIPE)
    content = bytearray(file_of(tmp_path, 1).read_bytes())
    content[content.find((rows[2] + 1).numpy().tobytes()) + 4444] ^= 1
    file_of(tmp_path, 1).write_bytes(content)
    file_of(tmp_path, 2).write_bytes(file_of(tmp_path, 2).read_bytes()[:3000])
    with pytest.raises(SystemExit, match="2"):
        main(["trajectories", "check", str(tmp_path)])
    said = capsys.readouterr().err.replace("\n", " ")
    assert "expert_0001.h5: the parameters of epoch 2 are damaged" in said
    assert "2 of 4 experts" in said
    assert "(expert_0001.h5, expert_0002.h5); delete these files and run 'gz-lightning fit' again" in said
    assert damage(file_of(tmp_path, 0)) == ""
    with pytest.raises(InputError, match="no experts in"):
        check(tmp_path / "nowhere")


def test_check_reads_every_epoch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_expert(tmp_path, 0, torch.randn(3, 50), ONES, RECIPE)
    read = list[object]()
    for module in (inspection, expert_file):

        def values(dataset: h5py.Dataset, index: object = ..., reader: Callable[..., Any] = module.read_values) -> Any:
            read.append(index)
            return reader(dataset, index)

        monkeypatch.setattr(module, "read_values", values)
    assert damage(file_of(tmp_path, 0)) == ""
    assert read == [0, 1, 2]


def test_what_cannot_be_read_now_is_not_called_damaged(tmp_path: Path) -> None:
    for expert in range(3):
        write_expert(tmp_path, expert, torch.randn(3, 50), ONES, RECIPE)
    with written_by_another(file_of(tmp_path, 0)):
        with pytest.raises(InputError) as refused:
            check(tmp_path)
        assert str(refused.value) == (
            f"1 of 3 experts in {tmp_path} could not be checked (expert_0000.h5): {file_of(tmp_path, 0)} is being written "
            "by another process; wait for it, and run again"
        )
        file_of(tmp_path, 1).write_bytes(file_of(tmp_path, 1).read_bytes()[:3000])
        with pytest.raises(InputError, match=r"^1 of 3 .* damaged \(expert_0001.h5\); delete .*\. 1 of 3 .* not be checked"):
            check(tmp_path)


def test_info_and_its_figure(toy_experts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["trajectories", "info", str(toy_experts), "--figure", str(tmp_path / "curves.png")])
    said = capsys.readouterr().out
    assert "2 experts of 4 epochs" in said
    assert "width 8" in said
    assert "validation accuracy" in said
    assert (tmp_path / "curves.png").stat().st_size > 1000
