"""The inner SGD of a student, and the ways to differentiate through it.

An unroll starts at parameters theta_0 and takes one step per minibatch,

    g_t = d/dtheta CE(f(theta_t, x_t), y_t),        theta_{t+1} = theta_t - alpha_t g_t,

and gives theta_N, differentiable with respect to the minibatches x_t, to soft labels y_t, to the step sizes alpha_t and
to theta_0. All modes but those named as approximations give the exact gradient; they differ in memory and time alone.

Shapes: T steps (``syn_steps``), M images in a minibatch, C channels, H x W pixels, K classes, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from gz_lightning.errors import InputError

Network = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""A pure function (theta of shape (P,), images of shape (M, C, H, W)) -> logits of shape (M, K)."""


def _gradient(
    network: Network, theta: torch.Tensor, images: torch.Tensor, labels: torch.Tensor, create_graph: bool
) -> torch.Tensor:
    """g_t: gradient of the mean cross entropy with respect to theta, shape (P,)."""
    loss = F.cross_entropy(network(theta, images), labels)
    return torch.autograd.grad(loss, theta, create_graph=create_graph)[0]


def unroll_full(
    network: Network,
    theta: torch.Tensor,
    images: Sequence[torch.Tensor],
    labels: Sequence[torch.Tensor],
    step_sizes: torch.Tensor,
) -> torch.Tensor:
    """Plain autograd: the graph of all T steps is kept, so memory grows with T. The reference for the other modes."""
    theta = theta if theta.requires_grad else theta.detach().requires_grad_()
    for x, y, alpha in zip(images, labels, step_sizes, strict=True):
        theta = theta - alpha * _gradient(network, theta, x, y, create_graph=True)
    return theta


class _Adjoint(torch.autograd.Function):
    """Forward: the steps alone, keeping theta_t. Backward: the recursion of the adjoint variable lambda_t."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        network: Network,
        theta: torch.Tensor,
        step_sizes: torch.Tensor,
        num_steps: int,
        *batches: torch.Tensor,
    ) -> torch.Tensor:
        thetas = []
        for x, y, alpha in zip(batches[:num_steps], batches[num_steps:], step_sizes, strict=True):
            thetas.append(theta)
            with torch.enable_grad():
                gradient = _gradient(network, theta.detach().requires_grad_(), x, y, create_graph=False)
            theta = theta - alpha * gradient
        ctx.network, ctx.num_steps = network, num_steps  # type: ignore[attr-defined]
        ctx.save_for_backward(step_sizes, *thetas, *batches)
        return theta

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, adjoint):  # type: ignore[no-untyped-def]
        num_steps = ctx.num_steps
        step_sizes, *tensors = ctx.saved_tensors
        thetas, images, labels = tensors[:num_steps], tensors[num_steps : 2 * num_steps], tensors[2 * num_steps :]
        needs_image, needs_label = ctx.needs_input_grad[4 : 4 + num_steps], ctx.needs_input_grad[4 + num_steps :]
        to_images: list[torch.Tensor | None] = [None] * num_steps
        to_labels: list[torch.Tensor | None] = [None] * num_steps
        to_step_sizes = torch.zeros_like(step_sizes)
        for t in reversed(range(num_steps)):  # adjoint is lambda_{t+1} here
            theta = thetas[t].detach().requires_grad_()
            x = images[t].detach().requires_grad_(needs_image[t])
            y = labels[t].detach().requires_grad_(needs_label[t])
            with torch.enable_grad():
                gradient = _gradient(ctx.network, theta, x, y, create_graph=True)
            wanted = [theta, *([x] if needs_image[t] else []), *([y] if needs_label[t] else [])]
            # One vector-Jacobian product of g_t with lambda_{t+1}: H_t lambda, then d/dx <g_t, lambda>, d/dy <g_t, lambda>.
            products = list(torch.autograd.grad(gradient, wanted, adjoint, allow_unused=True, materialize_grads=True))
            to_step_sizes[t] = -(gradient.detach() @ adjoint)  # dL/dalpha_t = -<g_t, lambda_{t+1}>
            adjoint = adjoint - step_sizes[t] * products.pop(0)  # lambda_t = lambda_{t+1} - alpha_t H_t lambda_{t+1}
            if needs_image[t]:
                to_images[t] = -step_sizes[t] * products.pop(0)
            if needs_label[t]:
                to_labels[t] = -step_sizes[t] * products.pop(0)
        return None, adjoint, to_step_sizes, None, *to_images, *to_labels


def unroll_adjoint(
    network: Network,
    theta: torch.Tensor,
    images: Sequence[torch.Tensor],
    labels: Sequence[torch.Tensor],
    step_sizes: torch.Tensor,
) -> torch.Tensor:
    """The exact adjoint recursion: each step is computed again on the way back, and no graph outlives its step.

    Only theta_t and the minibatches are kept. The result can be differentiated once.
    """
    return _Adjoint.apply(network, theta, step_sizes, len(images), *images, *labels)  # type: ignore[no-any-return]


UNROLLS = {"adjoint": unroll_adjoint, "full": unroll_full}
"""The ways to differentiate through the unroll, by name; both are exact."""


def unroll(
    network: Network,
    theta: torch.Tensor,
    images: Sequence[torch.Tensor],
    labels: Sequence[torch.Tensor],
    step_sizes: torch.Tensor,
    mode: str = "adjoint",
) -> torch.Tensor:
    """Take T steps of SGD and give the parameters they end at.

    Args:
        network: Pure function (theta, images) -> logits, such as
            :class:`gz_lightning.networks.functional.FunctionalNetwork`.
        theta: Parameters theta_0 to start from, shape (P,).
        images: T minibatches, each of shape (M, C, H, W), augmented already; M may differ from step to step.
        labels: T labels, each int64 of shape (M,) or soft of shape (M, K).
        step_sizes: alpha_t, shape (T,); or one alpha for all steps, shape ().
        mode: A key of ``UNROLLS``: ``adjoint`` (exact, memory flat in T) or ``full`` (exact, keeps the graph).

    Returns:
        theta_N, shape (P,).

    Raises:
        InputError: If there is no such mode.
        ValueError: If images, labels and step sizes are not of the same number.
    """
    if mode not in UNROLLS:
        raise InputError(f"there is no unroll '{mode}'; the unrolls are {', '.join(UNROLLS)}")
    if step_sizes.ndim == 0:
        step_sizes = step_sizes.expand(len(images))
    if not len(images) == len(labels) == len(step_sizes):
        raise ValueError(f"{len(images)} minibatches, {len(labels)} labels and {len(step_sizes)} step sizes do not match")
    return UNROLLS[mode](network, theta, images, labels, step_sizes)
