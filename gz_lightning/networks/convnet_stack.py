"""The gradients of several ConvNets of one structure at once: so small that operators cost as much as arithmetic.

Their images lie behind each other, so norm, ReLU and pooling are one operation for all; only the convolutions, whose filters
differ, are done one network after the other. (As one grouped convolution they have no fast path on a CPU.)

Shapes: n networks, M images of each, C channels, H x W pixels, K classes, P parameters.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from gz_lightning.networks.convnet_block import Block, layout
from gz_lightning.networks.convnet_derivatives import ConvNetDerivatives
from gz_lightning.shapes import Tensor

convolution_backward = torch.ops.aten.convolution_backward.default
ONES = [1, 1]
"""Stride, padding and dilation of the blocks' convolutions."""


class _StackedBlock(Block):
    """The same block of n networks: each parameter has a first axis of length n; images are those of all, (n M, ...)."""

    w: list[Tensor]  # type: ignore[assignment]

    def convolved(self, b: Tensor) -> Tensor:
        """See :meth:`Block.convolved`."""
        biases = [None] * len(b) if self.drops_bias else b
        each = zip(self.h.chunk(len(b)), self.w, biases, strict=True)
        return torch.cat([F.conv2d(h, w, own, padding=1) for h, w, own in each])

    def wide(self, part: Tensor) -> Tensor:
        """A number for each network and channel, shape (n, C), as a factor of (n M, C, H, W)."""
        return part.repeat_interleave(len(self.h) // len(part), 0)[..., None, None]

    def over_images(self, x: Tensor) -> Tensor:
        """The sum over each network's images of x, shape (n M, C, 1, 1): shape (n, C)."""
        return x.view(len(self.w), -1, x.shape[1]).sum(1)

    def back(self, to_input: bool) -> tuple[list[Tensor], Tensor | None]:
        """Derivatives of w, b, gamma and beta, each of shape (n, ...); and of h, shape (n M, C, H, W), if that is wanted."""
        each = zip(self.da.chunk(len(self.w)), self.h.chunk(len(self.w)), self.w, strict=True)
        # One call for both: operators of networks this small cost more than their arithmetic.
        found = [
            convolution_backward(*own, None, ONES, ONES, ONES, False, [0, 0], 1, [to_input, True, False]) for own in each
        ]
        to_b = self.over_images(self.da.sum((2, 3), keepdim=True))
        parameters = [
            torch.stack([own[1] for own in found]),
            torch.zeros_like(to_b) if self.drops_bias else to_b,
            *self.affine,
        ]
        return parameters, torch.cat([own[0] for own in found]) if to_input else None


@torch.no_grad()
def stacked_gradient(derivatives: ConvNetDerivatives, theta: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """What ``derivatives.gradient`` gives for each network.

    Args:
        derivatives: Those of the networks' structure.
        theta: Parameters, shape (n, P).
        images: Shape (n, M, C, H, W).
        labels: int64, shape (n, M), or soft, shape (n, M, K).

    Returns:
        Gradients of each network's mean cross entropy, shape (n, P).
    """
    n, m = images.shape[:2]
    split = theta.split(derivatives.sizes, 1)
    parts = [part.view(n, *shape) for part, shape in zip(split, derivatives.shapes, strict=True)]
    each = 4 if derivatives.norm.groups else 2
    h = images.flatten(0, 1).contiguous(memory_format=layout(images))
    blocks: list[_StackedBlock] = []
    for i in range(0, len(parts) - 2, each):
        filters = [w.contiguous(memory_format=layout(images)) for w in parts[i]]
        blocks.append(_StackedBlock(derivatives.norm, derivatives.pooling, [filters, *parts[i + 1 : i + each]], h))  # type: ignore[list-item]
        h = blocks[-1].p
    head, head_bias = parts[-2:]
    flat = h.reshape(n, m, -1)
    logits = torch.baddbmm(head_bias[:, None], flat, head.transpose(1, 2))
    soft = labels.is_floating_point()
    targets = labels if soft else F.one_hot(labels, logits.shape[-1])
    weight = labels.sum(2, keepdim=True) if soft else 1
    error = (logits.softmax(2) * weight - targets) / m
    u = (error @ head).view(h.shape).contiguous(memory_format=layout(images))
    found = [error.transpose(1, 2) @ flat, error.sum(1)]
    for i in reversed(range(len(blocks))):
        blocks[i].backward(u)
        of_block, u = blocks[i].back(to_input=i > 0)
        found = of_block + found
    return torch.cat([part.reshape(n, -1) for part in found], 1)
