"""The file of an expert: precisions, sizes, and what is lost."""

from pathlib import Path

import pytest
import torch

from gz_lightning.errors import InputError
from gz_lightning.experts.expert_file import METRICS, Recipe, file_of, loss_of_precision, write_expert
from gz_lightning.experts.inspection import check, info
from gz_lightning.experts.trajectories import TrajectoryStore

RECIPE = Recipe({"name": "ConvNet", "num_classes": 3, "resolution": 16, "width": 4}, "abc", {"lr": 0.1})
ONES = {name: [0.25, 0.75] for name in METRICS}


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize(("precision", "bits"), [("float32", 24), ("float16", 11), ("bfloat16", 8)])
def test_precision(precision: str, bits: int, compression: str, tmp_path: Path) -> None:
    rows = torch.randn(3, 5000)
    write_expert(tmp_path, 0, rows, ONES, RECIPE, precision, compression)
    found = TrajectoryStore(tmp_path).trajectory(0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, rows, rtol=2.0**-bits, atol=1e-7)
    assert found.equal(rows) == (precision == "float32")
    assert TrajectoryStore(tmp_path).parameters(0, 2).equal(found[2])
    assert check(tmp_path).endswith("all whole")
    assert precision in info(tmp_path)


def test_half_the_bytes(tmp_path: Path) -> None:
    sizes = {}
    for precision in ("float32", "bfloat16"):
        write_expert(tmp_path / precision, 0, torch.randn(5, 100_000), {n: [0.0] * 4 for n in METRICS}, RECIPE, precision)
        sizes[precision] = file_of(tmp_path / precision, 0).stat().st_size
    assert sizes["bfloat16"] < 0.51 * sizes["float32"]


def test_loss_of_precision_is_relative_to_the_way_of_an_epoch() -> None:
    exact = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.5]])
    assert loss_of_precision(exact, exact) == 0
    kept = exact + torch.tensor([[0.0, 0.0], [0.01, 0.0], [0.0, 0.02]])
    assert loss_of_precision(exact, kept) == pytest.approx(0.04)


def test_what_float16_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"parameters of expert 7 reach 1e\+05, too large for float16"):
        write_expert(tmp_path, 7, torch.full((3, 4), 1e5), ONES, RECIPE, "float16")
    assert not list(tmp_path.iterdir())
