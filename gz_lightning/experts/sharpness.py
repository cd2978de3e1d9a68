"""Flat trajectories: experts that go where the loss is flat (FTD, Du et al. 2023, arXiv 2211.11004).

FTD trains its experts by sharpness-aware minimisation (Foret et al. 2021, arXiv 2010.01412) in the form of GSAM (Zhuang
et al. 2022, arXiv 2203.08065), so that errors in the matched parameters grow less on the student's way afterwards.

Shapes: n experts, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from gz_lightning.experts.stack import Stack


def sharpness_aware_gradient(
    stack: Stack, gradient: torch.Tensor, loss: Callable[[], torch.Tensor], rho: float, alpha: float
) -> torch.Tensor:
    """The gradient that takes each expert towards a flat place.

    Args:
        stack: The experts; their parameters are moved and brought back.
        gradient: g, the gradient at the parameters, shape (n, P).
        loss: The sum of the experts' losses on the same batch, at the stack's parameters as they are when it is called.
        rho: Length of the step uphill, over all parameters of an expert together. 0.01 in FTD.
        alpha: Share of what is left of g across the new gradient that is taken off (GSAM); 0 is plain SAM.

    Returns:
        g_s - alpha (g - <g, u> u) with g_s the gradient at theta + rho g / |g| and u = g_s / |g_s|, shape (n, P).
    """
    parameters = list(stack.parameters())
    tiny = torch.finfo(gradient.dtype).tiny
    uphill = stack.shaped(rho * gradient / gradient.norm(dim=1, keepdim=True).clamp(min=tiny))
    kept = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter, step in zip(parameters, uphill, strict=True):
            parameter.add_(step)
    with torch.enable_grad():
        # A last group may leave places of the stack empty.
        above = stack.rows(torch.autograd.grad(loss(), parameters, allow_unused=True, materialize_grads=True))
    with torch.no_grad():
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.copy_(value)  # adding and subtracting would leave a rounding error
    u = above / above.norm(dim=1, keepdim=True).clamp(min=tiny)
    across = gradient - (gradient * u).sum(1, keepdim=True) * u
    flat: torch.Tensor = above - alpha * across
    return flat
