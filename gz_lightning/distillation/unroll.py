"""The inner SGD of a student, and the ways to differentiate through it.

An unroll starts at parameters theta_0 and takes one step per minibatch,

    g_t = d/dtheta CE(f(theta_t, x_t), y_t),        theta_{t+1} = theta_t - alpha_t g_t,

and gives theta_N, differentiable with respect to the minibatches x_t, to soft labels y_t, to the step sizes alpha_t and
to theta_0. The ways:

``adjoint``
    Exact, the default. Only theta_t and the minibatches are kept (and the activations of as many steps as a budget
    allows); on the way back each step is done again, and with
    lambda_N = dL/dtheta_N and H_t the Hessian of step t,

        dL/dx_t = -alpha_t d/dx_t <g_t, lambda_{t+1}>,     dL/dalpha_t = -<g_t, lambda_{t+1}>,
        lambda_t = lambda_{t+1} - alpha_t H_t lambda_{t+1}.

    A ConvNet has these products written out (:mod:`gz_lightning.networks.convnet_derivatives`); any other network gets
    them from autograd.
``checkpoint``
    Exact: autograd, which does each step again on the way back. Leaner than full, but its memory still grows with T.
``full``
    Exact: plain autograd, which keeps the graph of all steps. The reference of the others.
``first_order``
    An approximation (TESLA, Cui et al. 2023): as adjoint, but every H_t is dropped, lambda_t = lambda_N. Exact for one
    step; the longer the unroll, the further off (see benchmarks/README.md).

Shapes: T steps (``syn_steps``), M images in a minibatch, C channels, H x W pixels, K classes, P parameters.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from gz_lightning.errors import InputError
from gz_lightning.networks.derivatives import Derivatives, Network, gradient

MEMORY_BUDGET = 0.25
"""GiB. What grows with the steps comes first; then steps are kept whole, or what is dearest (benchmarks/README.md)."""


def _step(network: Network, theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """One step with its graph."""
    return theta - alpha * gradient(network, theta, x, y, create_graph=True)


def unroll_full(
    network: Network,
    theta: torch.Tensor,
    images: Sequence[torch.Tensor],
    labels: Sequence[torch.Tensor],
    step_sizes: torch.Tensor,
) -> torch.Tensor:
    """Plain autograd: the graph of all T steps is kept, so memory grows with T."""
    theta = theta if theta.requires_grad else theta.detach().requires_grad_()
    for x, y, alpha in zip(images, labels, step_sizes, strict=True):
        theta = _step(network, theta, x, y, alpha)
    return theta


def unroll_checkpoint(
    network: Network,
    theta: torch.Tensor,
    images: Sequence[torch.Tensor],
    labels: Sequence[torch.Tensor],
    step_sizes: torch.Tensor,
) -> torch.Tensor:
    """Plain autograd with each step checkpointed: its graph is made again on the way back."""
    theta = theta if theta.requires_grad else theta.detach().requires_grad_()
    for x, y, alpha in zip(images, labels, step_sizes, strict=True):
        # The re-entrant kind cannot differentiate through autograd.grad. No step draws anything at random.
        theta = checkpoint(_step, network, theta, x, y, alpha, use_reentrant=False, preserve_rng_state=False)
    return theta


def _plan(sizes: Sequence[tuple[int | None, int | None]], budget: float) -> list[bool | None]:
    """What to keep of each step: all (True), what is dearest (False), or nothing (None).

    What is dearest goes first, for it saves most time for the memory it takes; what is left of the budget makes steps whole.
    """
    plan: list[bool | None] = [None] * len(sizes)
    last_first = list(enumerate(sizes))[::-1]  # the way back begins there, and what it has used it gives back
    for t, (_, dearest) in last_first:
        if dearest is not None and dearest <= budget:
            plan[t], budget = False, budget - dearest
    for t, (whole, dearest) in last_first:
        if plan[t] is False and whole is not None and dearest is not None and whole - dearest <= budget:
            plan[t], budget = True, budget - (whole - dearest)
    return plan


class _Adjoint(torch.autograd.Function):
    """Forward: the steps alone, keeping theta_t. Backward: the recursion of the adjoint variable lambda_t."""

    @staticmethod
    def forward(
        ctx: Any,
        derivatives: Derivatives,
        exact: bool,
        budget: float,
        theta: torch.Tensor,
        step_sizes: torch.Tensor,
        *batches: torch.Tensor,
    ) -> torch.Tensor:
        ctx.derivatives, ctx.exact, ctx.num_steps, ctx.kept = derivatives, exact, len(step_sizes), {}
        images, labels = batches[: ctx.num_steps], batches[ctx.num_steps :]
        # theta_t, the minibatches and their gradients grow with T whatever is kept, so the budget pays for them first.
        budget -= sum(theta.nbytes + 2 * x.nbytes for x in images)
        plan = _plan([(derivatives.kept_bytes(x, True), derivatives.kept_bytes(x, False)) for x in images], budget)
        ctx.thetas = []
        for t, whole in enumerate(plan):
            ctx.thetas.append(theta)
            if whole is not None:
                ctx.kept[t] = []
            gradient = derivatives.gradient(theta, images[t], labels[t], ctx.kept.get(t), bool(whole))
            theta = theta - step_sizes[t] * gradient
        ctx.save_for_backward(step_sizes, *batches)
        return theta

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, adjoint: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        num_steps = ctx.num_steps
        step_sizes, *tensors = ctx.saved_tensors
        images, labels = tensors[:num_steps], tensors[num_steps:]
        needs_images, needs_labels = ctx.needs_input_grad[5 : 5 + num_steps], ctx.needs_input_grad[5 + num_steps :]
        to_images: list[torch.Tensor | None] = [None] * num_steps
        to_labels: list[torch.Tensor | None] = [None] * num_steps
        to_step_sizes = torch.zeros_like(step_sizes)
        for t in reversed(range(num_steps)):  # adjoint is lambda_{t+1} here
            needs = {"needs_images": needs_images[t], "needs_labels": needs_labels[t], "needs_theta": ctx.exact}
            kept = ctx.kept.pop(t, None)
            products = ctx.derivatives.products(ctx.thetas.pop(), images[t], labels[t], adjoint, **needs, kept=kept)
            to_step_sizes[t] = -products.along
            if products.to_images is not None:
                to_images[t] = -step_sizes[t] * products.to_images
            if products.to_labels is not None:
                to_labels[t] = -step_sizes[t] * products.to_labels
            if products.to_theta is not None:
                adjoint = adjoint - step_sizes[t] * products.to_theta
        return None, None, None, adjoint, to_step_sizes, *to_images, *to_labels


def _adjoint(
    network: Network,
    theta: torch.Tensor,
    images: Sequence[torch.Tensor],
    labels: Sequence[torch.Tensor],
    step_sizes: torch.Tensor,
    memory_budget: float = MEMORY_BUDGET,
    *,
    exact: bool,
) -> torch.Tensor:
    """The adjoint recursion with the network's own derivatives, if it has any written out; differentiable once."""
    derivatives = getattr(network, "derivatives", None) or Derivatives(network)
    budget = memory_budget * 2**30 if torch.is_grad_enabled() else 0.0
    end: torch.Tensor = _Adjoint.apply(derivatives, exact, budget, theta, step_sizes, *images, *labels)
    return end


UNROLLS: dict[str, Callable[..., torch.Tensor]] = {
    "adjoint": functools.partial(_adjoint, exact=True),
    "checkpoint": unroll_checkpoint,
    "full": unroll_full,
    "first_order": functools.partial(_adjoint, exact=False),
}
"""The ways to differentiate through the unroll, by name."""
EXACT = ("adjoint", "checkpoint", "full")
"""Those that give the exact gradient."""


KEPT_OF_GRAPH = {"full": 1.0, "checkpoint": 0.5}
"""Share of the activations of a step that stays in memory for each step; measured 1.2 and .7 (benchmarks/README.md)."""


def least_memory(
    network: Network, theta: torch.Tensor, images: torch.Tensor, steps: int, mode: str, memory_budget: float = MEMORY_BUDGET
) -> int:
    """Bytes that an unroll takes at least, with its way back, beside what a process takes anyway.

    Args:
        network: As of :func:`unroll`.
        theta: Parameters, shape (P,).
        images: A minibatch, shape (M, C, H, W).
        steps: T.
        mode: As of :func:`unroll`.
        memory_budget: GiB, as of :func:`unroll`.
    """
    derivatives = getattr(network, "derivatives", None) or Derivatives(network)
    growing = steps * (theta.nbytes + 2 * images.nbytes)
    one = derivatives.kept_bytes(images, True) or 0
    if mode in KEPT_OF_GRAPH:
        return growing + int(KEPT_OF_GRAPH[mode] * steps * one)
    return max(growing, int(min(memory_budget * 2**30, growing + steps * one)))


def unroll(
    network: Network,
    theta: torch.Tensor,
    images: Sequence[torch.Tensor],
    labels: Sequence[torch.Tensor],
    step_sizes: torch.Tensor,
    mode: str = "adjoint",
    memory_budget: float = MEMORY_BUDGET,
) -> torch.Tensor:
    """Take T steps of SGD and give the parameters they end at.

    Args:
        network: Pure function (theta, images) -> logits, such as
            :class:`gz_lightning.networks.functional.FunctionalNetwork`.
        theta: Parameters theta_0 to start from, shape (P,).
        images: T minibatches, each of shape (M, C, H, W), augmented already; M may differ from step to step.
        labels: T labels, each int64 of shape (M,) or soft of shape (M, K).
        step_sizes: alpha_t, shape (T,); or one alpha for all steps, shape ().
        mode: A key of ``UNROLLS``: ``adjoint`` (exact, keeps least, the default), ``checkpoint`` (exact, less
            memory than full), ``full`` (exact, keeps the graph) or ``first_order`` (an approximation).
        memory_budget: GiB that the unroll may take in the modes adjoint and first_order, beside what a single step
            needs. What parameters, minibatches and their gradients leave of it holds activations of steps, which need
            not be done again on the way back; the result is the same.

    Returns:
        theta_N, shape (P,).

    Raises:
        InputError: If there is no such mode.
        ValueError: If images, labels and step sizes are not of the same number.

    Example:
        >>> from gz_lightning.networks.convnet import ConvNet
        >>> from gz_lightning.networks.functional import FunctionalNetwork
        >>> convnet = ConvNet(num_classes=2, resolution=8, width=4, depth=1)
        >>> network, start = FunctionalNetwork(convnet), FunctionalNetwork.parameters_of(convnet)
        >>> images, labels = torch.randn(2, 3, 8, 8, requires_grad=True), torch.tensor([0, 1])
        >>> student = unroll(network, start, [images] * 5, [labels] * 5, torch.tensor(0.01))
        >>> torch.autograd.grad((student - start).square().sum(), images)[0].shape
        torch.Size([2, 3, 8, 8])
    """
    if mode not in UNROLLS:
        raise InputError(f"there is no unroll '{mode}'; the unrolls are {', '.join(UNROLLS)}")
    if step_sizes.ndim == 0:
        step_sizes = step_sizes.expand(len(images))
    if not len(images) == len(labels) == len(step_sizes):
        raise ValueError(f"{len(images)} minibatches, {len(labels)} labels and {len(step_sizes)} step sizes do not match")
    if not torch.is_grad_enabled():
        mode = "adjoint"  # all of them go to the same place, and this one keeps no graph
    budget = {"memory_budget": memory_budget} if mode in ("adjoint", "first_order") else {}
    return UNROLLS[mode](network, theta, images, labels, step_sizes, **budget)
