"""Logits and gradients of several ConvNets at once, so small that an operator costs as much as its arithmetic.

The images of all lie one after the other, so norm, ReLU and pooling are one operation for all. Only the convolutions, whose
filters differ, run one network after the other: as one grouped convolution they have no fast path on a CPU.

Shapes: n networks, M images of each, C channels, H x W pixels, K classes, P parameters.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from gz_lightning.networks.convnet_block import Block, layout
from gz_lightning.networks.convnet_derivatives import ConvNetDerivatives
from gz_lightning.shapes import Float, Tensor

convolution_backward = torch.ops.aten.convolution_backward.default
ONES = [1, 1]
"""Stride, padding and dilation of the blocks' convolutions."""


class _StackedBlock(Block):
    """The same block of n networks: each parameter has a first axis of length n; images are those of all, (n M, ...)."""

    w: list[Tensor]  # type: ignore[assignment]

    def convolved(self, b: Tensor) -> Tensor:
        """See :meth:`Block.convolved`."""
        biases = [None] * len(b) if self.drops_bias else b
        networks = zip(self.h.chunk(len(b)), self.w, biases, strict=True)
        return torch.cat([F.conv2d(h, w, bias, padding=1) for h, w, bias in networks])

    def wide(self, part: Tensor) -> Tensor:
        """A number for each network and channel, shape (n, C), as a factor of (n M, C, H, W)."""
        return part.repeat_interleave(len(self.h) // len(part), 0)[..., None, None]

    def over_images(self, x: Tensor) -> Tensor:
        """The sum over each network's images of x, shape (n M, C, 1, 1): shape (n, C)."""
        return x.view(len(self.w), -1, x.shape[1]).sum(1)

    def back(self, to_input: bool) -> tuple[list[Tensor], Tensor | None]:
        """Derivatives of w, b, gamma and beta, each of shape (n, ...); ``to_input``: and of h, shape (n M, C, H, W)."""
        networks = zip(self.da.chunk(len(self.w)), self.h.chunk(len(self.w)), self.w, strict=True)
        # One call for both: operators of networks this small cost more than their arithmetic.
        results = [
            convolution_backward(da, h, w, None, ONES, ONES, ONES, False, [0, 0], 1, [to_input, True, False])
            for da, h, w in networks
        ]
        to_b = self.over_images(self.da.sum((2, 3), keepdim=True))
        parameters = [
            torch.stack([to_w for _, to_w, _ in results]),
            torch.zeros_like(to_b) if self.drops_bias else to_b,
            *self.affine,
        ]
        return parameters, torch.cat([to_h for to_h, _, _ in results]) if to_input else None


@torch.no_grad()
def stacked_logits_and_gradient(
    derivatives: ConvNetDerivatives,
    theta: Float[Tensor, "n P"],
    images: Float[Tensor, "n M C H W"],
    labels: Float[Tensor, "n M K"],
) -> tuple[Float[Tensor, "n M K"], Float[Tensor, "n P"]]:
    """What ``derivatives.logits_and_gradient`` gives for each network.

    Args:
        derivatives: Of the networks' structure.
        theta: Parameters, shape (n, P).
        images: Shape (n, M, C, H, W).
        labels: Soft labels, shape (n, M, K); they need not sum to 1.

    Returns:
        Logits, and gradients of the mean cross entropy of each network.
    """
    n, m = images.shape[:2]
    split = theta.split(derivatives.sizes, 1)
    parts = [part.view(n, *shape) for part, shape in zip(split, derivatives.shapes, strict=True)]
    per_block = 4 if derivatives.norm.groups else 2
    h = images.flatten(0, 1).contiguous(memory_format=layout(images))
    blocks: list[_StackedBlock] = []
    for i in range(0, len(parts) - 2, per_block):
        filters = [w.contiguous(memory_format=layout(images)) for w in parts[i]]
        parameters = [filters, *parts[i + 1 : i + per_block]]
        blocks.append(_StackedBlock(derivatives.norm, derivatives.pooling, parameters, h))
        h = blocks[-1].p
    head, head_bias = parts[-2:]
    flat = h.reshape(n, m, -1)
    logits = torch.baddbmm(head_bias[:, None], flat, head.transpose(1, 2))
    error = (logits.softmax(2) * labels.sum(2, keepdim=True) - labels) / m
    u = (error @ head).view(h.shape).contiguous(memory_format=layout(images))
    gradients = [error.transpose(1, 2) @ flat, error.sum(1)]
    for i in reversed(range(len(blocks))):
        blocks[i].backward(u)
        of_block, u = blocks[i].back(to_input=i > 0)
        gradients = of_block + gradients
    return logits, torch.cat([part.reshape(n, -1) for part in gradients], 1)
