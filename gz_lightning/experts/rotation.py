"""Images turned by given angles: the copies of the published augmented form, made as they are needed."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def rotated(images: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """Images turned counterclockwise about their centre, with bilinear interpolation; the corners mirror the inside.

    Args:
        images: Shape (N, C, H, W).
        degrees: Shape (N,).
    """
    angle = torch.deg2rad(degrees.to(images.dtype))
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    matrix = torch.stack([torch.stack([cos, -sin, zero], -1), torch.stack([sin, cos, zero], -1)], 1)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
