"""The normalised update: gradients whose size does not depend on resolution, ``ipc`` or how far the loss has come."""

from __future__ import annotations

import torch

LARGEST_GRADIENT = 1.0
"""Where the gradient of the log of a step size is cut off: with the default ``lr_lr`` and momentum, 2 % an iteration."""


def normalise(loss: torch.Tensor, images: torch.Tensor, log_step_sizes: torch.Tensor, *labels: torch.Tensor) -> None:
    """Change gradients in place, so that plain SGD moves each image by ``lr_img`` in the root mean square of its pixels.

    Where the matching loss is above 1, that is where the student ended farther from the expert than it began, all are
    divided by it: else one student gone astray would make the step size useless.

    Args:
        loss: Matching loss, shape ().
        images: Gradient of it by the images, shape (M, 3, H, W).
        log_step_sizes: Gradient by the log of the step sizes, shape (S,).
        labels: Gradients by whatever else is learned.

    Example:
        >>> images, sizes = torch.tensor([3.0, -4.0]).view(2, 1, 1, 1), torch.tensor([0.5, -9.0])
        >>> normalise(torch.tensor(2.0), images, sizes)
        >>> images.flatten().tolist(), sizes.tolist()
        ([0.5, -0.5], [0.25, -1.0])
    """
    scale = images.square().mean((1, 2, 3), keepdim=True).sqrt()
    images /= scale.clamp(min=torch.finfo(scale.dtype).tiny)
    for gradient in (images, log_step_sizes, *labels):
        gradient /= loss.clamp(min=1)
    log_step_sizes.clamp_(-LARGEST_GRADIENT, LARGEST_GRADIENT)
