"""Other architectures than the ConvNet, to see whether a distilled set teaches them as well.

They are the variants of the dataset-distillation literature (Zhao et al. 2021) for small images: AlexNet with 5x5 and 3x3
filters, VGG11 with one linear layer, ResNet18 whose stem is a 3x3 convolution. All have instance norm in the form of group
norm, which keeps no running statistics: each is a function of its parameters alone and works in an unroll.

Shapes: N images, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.vgg import cfgs, make_layers

from gz_lightning.errors import InputError
from gz_lightning.networks.convnet import Size

ALEXNET = ((128, 5, True), (192, 5, True), (256, 3, False), (192, 3, False), (192, 3, True))
"""Channels and filter side of each convolution, and whether 2x2 maximum pooling follows."""


def instance_norm(channels: int, **_: Any) -> nn.GroupNorm:
    """Instance norm with affine parameters and without running statistics."""
    return nn.GroupNorm(channels, channels)


def _require_resolution(name: str, resolution: int, least: int) -> None:
    if resolution < least:
        raise InputError(
            f"{name} needs images of at least {least} px, not {resolution}: its last maps would be single pixels"
        )


class AlexNet(nn.Sequential):
    """AlexNet as the literature fits it to small images: five convolutions, three poolings, one linear layer.

    Args:
        num_classes: K.
        resolution: H = W in pixels, at least 16.

    Shape:
        (N, 3, H, W) -> (N, K).

    Raises:
        InputError: If the resolution is too small.
    """

    def __init__(self, num_classes: Size, resolution: Size) -> None:
        _require_resolution("AlexNet", resolution, 16)
        layers: list[nn.Module] = []
        before = 3
        for width, side, pooled in ALEXNET:
            layers += [nn.Conv2d(before, width, side, padding=side // 2), instance_norm(width), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if pooled else []
            before = width
        super().__init__(*layers, nn.Flatten(), nn.Linear(before * (resolution // 8) ** 2, num_classes))


class VGG11(nn.Sequential):
    """VGG11 (the convolutions of torchvision's) with instance norm and one linear layer.

    Args:
        num_classes: K.
        resolution: H = W in pixels, at least 32.

    Shape:
        (N, 3, H, W) -> (N, K).

    Raises:
        InputError: If the resolution is too small.
    """

    def __init__(self, num_classes: Size, resolution: Size) -> None:
        _require_resolution("VGG11", resolution, 32)
        features = make_layers(cfgs["A"], batch_norm=True)
        normed = [instance_norm(m.num_features) if isinstance(m, nn.BatchNorm2d) else m for m in features]
        super().__init__(*normed, nn.Flatten(), nn.Linear(512 * (resolution // 32) ** 2, num_classes))


class ResNet18(nn.Module):
    """torchvision's ResNet18 with instance norm, a 3x3 stem and no pooling before its blocks.

    Args:
        num_classes: K.
        resolution: H = W in pixels, at least 16.

    Shape:
        (N, 3, H, W) -> (N, K).

    Raises:
        InputError: If the resolution is too small.
    """

    def __init__(self, num_classes: Size, resolution: Size) -> None:
        super().__init__()
        _require_resolution("ResNet18", resolution, 16)
        self.network = resnet18(num_classes=num_classes, norm_layer=instance_norm)
        self.network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.network.maxpool = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, shape (N, K), of images, shape (N, 3, H, W)."""
        return self.network(images)  # type: ignore[no-any-return]
