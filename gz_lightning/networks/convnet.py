"""The ConvNet of the dataset-distillation literature (Gidaris & Komodakis 2018, as in Zhao et al. 2021).

Shapes: N images, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import nn

from gz_lightning.errors import InputError
from gz_lightning.settings import Range, check_settings

NormName = Literal["instance", "group", "layer", "none"]
PoolingName = Literal["avg", "max", "none"]
Size = Annotated[int, Range(least=1, most=2**14)]
"""A width, side or number of classes; with the largest the number of parameters still fits 64 bits."""
Depth = Annotated[int, Range(least=1, most=100)]
"""The published networks have three or four blocks."""


def _norm(norm: NormName, channels: int) -> nn.Module:
    # Instance and layer norm are group norms, which keep no running statistics: an unrolled step stays a pure function.
    groups = {"instance": channels, "group": 4, "layer": 1}
    return nn.Identity() if norm == "none" else nn.GroupNorm(groups[norm], channels)


def _pooling(pooling: PoolingName) -> nn.Module:
    return {"avg": nn.AvgPool2d(2), "max": nn.MaxPool2d(2), "none": nn.Identity()}[pooling]


class ConvNet(nn.Sequential):
    """``depth`` blocks of [3x3 convolution, norm, ReLU, 2x2 pooling], then one linear layer.

    With width 128, depth 3, instance norm and average pooling it is ConvNetD3, the network of the published results
    (594,441 parameters at 128 px with nine classes). Initialised as PyTorch does by default.

    Args:
        num_classes: K.
        resolution: H = W in pixels.
        channels: C.
        width: Channels of every block.
        depth: Number of blocks. With pooling each halves the side, so 2**depth may not exceed ``resolution``.
        norm: ``instance``, ``group`` (four groups), ``layer`` or ``none``. Batch norm is not offered: its running
            statistics are no function of the parameters, which an unroll needs.
        pooling: ``avg``, ``max`` or ``none``.

    Shape:
        (N, C, H, W) -> (N, K).

    Raises:
        InputError: If an argument is out of its range.

    Example:
        >>> sum(p.numel() for p in ConvNet(num_classes=9, resolution=128).parameters())
        594441
    """

    def __init__(
        self,
        num_classes: Size,
        resolution: Size,
        channels: Size = 3,
        width: Size = 128,
        depth: Depth = 3,
        norm: NormName = "instance",
        pooling: PoolingName = "avg",
    ) -> None:
        settings = {"num_classes": num_classes, "resolution": resolution, "channels": channels, "width": width}
        check_settings(ConvNet.__init__, {**settings, "depth": depth, "norm": norm, "pooling": pooling}, flag="")
        if norm == "group" and width % 4:
            raise InputError(f"width must be a multiple of 4 with group norm, not {width}")
        side = resolution if pooling == "none" else resolution // 2**depth
        if side < 1:
            raise InputError(
                f"{depth} poolings leave nothing of {resolution} px; use depth {resolution.bit_length() - 1} or less"
            )
        blocks = [
            nn.Sequential(
                nn.Conv2d(channels if block == 0 else width, width, 3, padding=1),
                _norm(norm, width),
                nn.ReLU(),
                _pooling(pooling),
            )
            for block in range(depth)
        ]
        super().__init__(*blocks, nn.Flatten(), nn.Linear(width * side**2, num_classes))
        self.pooling = pooling

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, shape (N, K), of images, shape (N, C, H, W)."""
        return super().forward(images)  # type: ignore[no-any-return]
