"""Occlusion maps: beside the method written out plainly, pixel by pixel."""

import math

import pytest
import torch
from torch import nn

from gz_lightning.evaluation.occlusion import corners, log_odds, occlusion_maps, patch_of


class Linear(nn.Module):
    """Logits of the whole image."""

    def __init__(self, resolution: int, classes: int, seed: int) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(classes, 3, resolution, resolution, generator=draws) / resolution)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Of each leaf one."""
        return torch.einsum("nchw,kchw->nk", images, self.weight)


def plainly(models: list[Linear], image: torch.Tensor, label: int, patch: int) -> tuple[float, list[list[float]]]:
    """Zeiler & Fergus 2014: cover a square, note the fall, for every place where it fits; mean of the places at a pixel."""

    def probability(model: Linear, shown: torch.Tensor) -> float:
        scores = [math.exp(float((shown * weight).sum())) for weight in model.weight.detach()]
        return scores[label] / sum(scores)

    def odds(shown: torch.Tensor) -> float:
        shares = [probability(model, shown) for model in models]
        return sum(math.log(share / (1 - share)) for share in shares) / len(shares)

    side, step = image.shape[-1], max(patch // 3, 1)
    starts = [start for start in range(side - patch + 1) if start % step == 0 or start == side - patch]
    falls: list[list[list[float]]] = [[[] for _ in range(side)] for _ in range(side)]
    for top in starts:
        for left in starts:
            covered = image.clone()
            for row in range(top, top + patch):
                for column in range(left, left + patch):
                    covered[:, row, column] = 0.0
            for row in range(top, top + patch):
                for column in range(left, left + patch):
                    falls[row][column].append(odds(image) - odds(covered))
    whole = sum(probability(model, image) for model in models) / len(models)
    return whole, [[sum(values) / len(values) for values in row] for row in falls]


@pytest.mark.parametrize(("side", "patch"), [(8, 3), (11, 6), (5, 5)])
def test_maps_are_those_of_the_method_written_out(side: int, patch: int) -> None:
    models = [Linear(side, 3, seed).double() for seed in range(2)]
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    labels = torch.tensor([2, 0])
    for (whole, found), image, label in zip(
        occlusion_maps(models, images, labels, patch), images, labels.tolist(), strict=True
    ):
        expected, falls = plainly(models, image, label, patch)
        assert whole == pytest.approx(expected, abs=1e-12)
        torch.testing.assert_close(found, torch.tensor(falls, dtype=torch.float64), atol=1e-10, rtol=0)


def test_the_map_points_at_what_is_needed() -> None:
    model = Linear(10, 2, 0)
    with torch.no_grad():
        model.weight.zero_()
        model.weight[1, :, 2, 7] = 1.0  # the leaf is told by one pixel
    ((_, found),) = occlusion_maps([model], torch.ones(1, 3, 10, 10), torch.tensor([1]), 3)
    assert found[2, 7] == found.max() == pytest.approx(3.0)
    assert found[8, 1] == found[0, 0] == 0


@pytest.mark.parametrize("resolution", [8, 16, 31, 32, 128])
def test_patches_cover_every_pixel_and_stay_inside(resolution: int) -> None:
    patch = patch_of(resolution)
    seen = torch.zeros(resolution, resolution)
    for row, column in corners(resolution, patch):
        assert 0 <= row <= resolution - patch
        assert 0 <= column <= resolution - patch
        seen[row : row + patch, column : column + patch] += 1
    assert bool((seen > 0).all())


def test_log_odds_stay_finite_where_a_network_is_sure() -> None:
    assert log_odds(torch.tensor([[800.0, 0.0, 0.0]]), 0).item() == pytest.approx(800 - math.log(2))
