"""The loss of a ConvNet whose gradient is written out instead of autograd's: the same, and faster on a CPU.

Shapes: M images, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gz_lightning.networks.convnet_derivatives import ConvNetDerivatives


class _WrittenLoss(torch.autograd.Function):
    """Forward: loss, logits, and the gradient, which is kept. Backward: that."""

    @staticmethod
    def forward(
        ctx: Any, derivatives: ConvNetDerivatives, images: torch.Tensor, shares: torch.Tensor, *parameters: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        theta = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
        logits, gradient = derivatives.logits_and_gradient(theta, images, shares)
        parts = gradient.split([parameter.numel() for parameter in parameters])
        ctx.parts = [part.view(parameter.shape) for part, parameter in zip(parts, parameters, strict=True)]
        ctx.mark_non_differentiable(logits)
        return -(shares * logits.log_softmax(1)).sum() / len(images), logits

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, to_loss: torch.Tensor, to_logits: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return None, None, None, *(to_loss * part for part in ctx.parts)


def written_loss(
    derivatives: ConvNetDerivatives,
    convnet: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    class_weights: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What ``CrossEntropyLoss(weight=class_weights)`` gives, differentiable once with respect to the parameters.

    Args:
        derivatives: Those of the ConvNet's structure.
        convnet: The ConvNet.
        images: Shape (M, C, H, W).
        labels: int64, shape (M,), or shares for each class, shape (M, K).
        class_weights: Shape (K,).

    Returns:
        The loss, and the logits, shape (M, K), without a gradient.
    """
    if labels.is_floating_point():
        shares = labels * class_weights
    else:  # the mean is over the weights
        weights = class_weights[labels]
        shares = nn.functional.one_hot(labels, len(class_weights)) * (weights * len(labels) / weights.sum())[:, None]
    loss, logits = _WrittenLoss.apply(derivatives, images, shares.to(images), *convnet.parameters())
    return loss, logits
