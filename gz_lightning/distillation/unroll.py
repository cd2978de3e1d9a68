"""The inner SGD of a student, and the ways to differentiate through it.

An unroll starts at parameters theta_0 and takes one step per minibatch,

    g_t = d/dtheta CE(f(theta_t, x_t), y_t),    v_{t+1} = mu v_t + g_t,    theta_{t+1} = theta_t - alpha_t v_{t+1},

with v_0 = 0 and momentum mu (0 as published: then v_{t+1} is g_t), and gives theta_N, differentiable with respect to the
minibatches x_t, to soft labels y_t, to the step sizes alpha_t and to theta_0. The ways (:data:`UNROLLS`):

``adjoint``
    Exact, the default. Only theta_t, with momentum v_t, and the minibatches are kept (and the activations of as many
    steps as a budget allows); on the way back each step is done again, and with lambda_t = dL/dtheta_t, p_t = dL/dv_t and
    H_t the Hessian of step t,

        p_{t+1} = mu p_{t+2} - alpha_t lambda_{t+1},       dL/dx_t = d/dx_t <g_t, p_{t+1}>,
        lambda_t = lambda_{t+1} + H_t p_{t+1},             dL/dalpha_t = -<v_{t+1}, lambda_{t+1}>,

    from lambda_N = dL/dtheta_N and p_{N+1} = 0: one product with H_t a step, with momentum or without.

    A ConvNet has these products written out (:mod:`gz_lightning.networks.convnet_derivatives`); any other network gets
    them from autograd.
``full``
    Exact: plain autograd, which keeps the graph of all steps. The reference of the others.
``first_order``
    An approximation (TESLA, Cui et al. 2023): as adjoint, but every H_t is dropped, lambda_t = lambda_N. Exact for one
    step; the longer the unroll, the further off (see benchmarks/README.md).

Shapes: T steps (``syn_steps``), M images in a minibatch, C channels, H x W pixels, K classes, P parameters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import torch

from gz_lightning.networks.derivatives import Keep, Network, derivatives_of, gradient
from gz_lightning.settings import check_name
from gz_lightning.shapes import Float, Int, Tensor

Minibatches = Sequence[Float[Tensor, "_ C H W"]]
"""T of them; M may differ from step to step."""
MinibatchLabels = Sequence[Int[Tensor, "_"] | Float[Tensor, "_ K"]]
"""int64 or soft."""

MEMORY_BUDGET = 0.25
"""GiB. What grows with the steps comes first; then steps are kept whole, or what is dearest (benchmarks/README.md)."""


@dataclass(frozen=True)
class Unroll(ABC):
    """A way to differentiate through the steps. A subclass of it in ``UNROLLS`` is one that settings can name.

    Args:
        memory_budget: GiB that the unroll may take, beside what a single step needs. A way that cannot choose what it
            keeps disregards it. The result does not depend on it.
    """

    memory_budget: float = MEMORY_BUDGET
    exact: ClassVar[bool] = True
    """Whether the gradient is that of plain autograd, to rounding. The tests hold every exact way to it."""

    @abstractmethod
    def __call__(
        self,
        network: Network,
        theta: Float[Tensor, " P"],
        images: Minibatches,
        labels: MinibatchLabels,
        step_sizes: Float[Tensor, " T"],
        momentum: float = 0.0,
    ) -> Float[Tensor, " P"]:
        """theta_N, of arguments as in :func:`unroll`; differentiable as the top of this file says."""

    def least_memory(
        self,
        network: Network,
        theta: Float[Tensor, " P"],
        images: Float[Tensor, "M C H W"],
        steps: int,
        momentum: float = 0.0,
    ) -> int:
        """Bytes that T ``steps`` on such minibatches and their way back take at least, beside a process's usual ones."""
        return steps * _growing_bytes(theta, images, momentum)


class Full(Unroll):
    """Plain autograd: the graph of all T steps is kept, whatever the budget."""

    def __call__(
        self,
        network: Network,
        theta: Float[Tensor, " P"],
        images: Minibatches,
        labels: MinibatchLabels,
        step_sizes: Float[Tensor, " T"],
        momentum: float = 0.0,
    ) -> Float[Tensor, " P"]:
        """See :class:`Unroll`."""
        theta = theta if theta.requires_grad else theta.detach().requires_grad_()
        velocity = torch.zeros_like(theta)
        for x, y, alpha in zip(images, labels, step_sizes, strict=True):
            velocity = momentum * velocity + gradient(network, theta, x, y, create_graph=True)
            theta = theta - alpha * velocity
        return theta

    def least_memory(
        self,
        network: Network,
        theta: Float[Tensor, " P"],
        images: Float[Tensor, "M C H W"],
        steps: int,
        momentum: float = 0.0,
    ) -> int:
        """See :class:`Unroll`. Measured: 1.2 times the activations of every step (benchmarks/README.md)."""
        return super().least_memory(network, theta, images, steps, momentum) + steps * _step_bytes(network, theta, images)


class Adjoint(Unroll):
    """The adjoint recursion: a step is done again on the way back, unless the budget had room for its activations."""

    def __call__(
        self,
        network: Network,
        theta: Float[Tensor, " P"],
        images: Minibatches,
        labels: MinibatchLabels,
        step_sizes: Float[Tensor, " T"],
        momentum: float = 0.0,
    ) -> Float[Tensor, " P"]:
        """See :class:`Unroll`; differentiable once."""
        end: Tensor = _Recursion.apply(network, self, momentum, theta, step_sizes, *images, *labels)
        return end

    def least_memory(
        self,
        network: Network,
        theta: Float[Tensor, " P"],
        images: Float[Tensor, "M C H W"],
        steps: int,
        momentum: float = 0.0,
    ) -> int:
        """See :class:`Unroll`: the budget, if the steps can use it."""
        growing = super().least_memory(network, theta, images, steps, momentum)
        return max(growing, int(min(self.memory_budget * 2**30, growing + steps * _step_bytes(network, theta, images))))


class FirstOrder(Adjoint):
    """The adjoint recursion without the Hessians, an approximation (TESLA, Cui et al. 2023)."""

    exact = False


UNROLLS: dict[str, type[Unroll]] = {"adjoint": Adjoint, "full": Full, "first_order": FirstOrder}
"""The ways to differentiate through the unroll, by name."""


def unroll(
    network: Network,
    theta: Float[Tensor, " P"],
    images: Minibatches,
    labels: MinibatchLabels,
    step_sizes: Float[Tensor, " T"] | Float[Tensor, ""],
    way: str | Unroll = "adjoint",
    momentum: float = 0.0,
) -> Float[Tensor, " P"]:
    """Take T steps of SGD and give the parameters they end at.

    Args:
        network: Pure function (theta, images) -> logits, such as
            :class:`gz_lightning.networks.functional.FunctionalNetwork`.
        theta: Parameters theta_0 to start from.
        images: T minibatches, augmented already; M may differ from step to step.
        labels: T labels, each int64 of shape (M,) or soft of shape (M, K).
        step_sizes: alpha_t; or one alpha for all steps.
        way: How to differentiate: a key of ``UNROLLS`` or, with settings of its own, such as ``Adjoint(memory_budget=1.0)``.
            Without gradients (``torch.no_grad``) all are the same, and nothing is kept.
        momentum: mu of the student, at least 0 and below 1. Published: 0.

    Returns:
        theta_N.

    Raises:
        InputError: If there is no such way.
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
    if isinstance(way, str):
        check_name("unroll", way, UNROLLS)
        way = UNROLLS[way]()
    if step_sizes.ndim == 0:
        step_sizes = step_sizes.expand(len(images))
    if not len(images) == len(labels) == len(step_sizes):
        raise ValueError(f"{len(images)} minibatches, {len(labels)} labels and {len(step_sizes)} step sizes do not match")
    if torch.is_grad_enabled():
        return way(network, theta, images, labels, step_sizes, momentum)
    velocity = None
    for x, y, alpha in zip(images, labels, step_sizes, strict=True):
        velocity = _velocity(velocity, derivatives_of(network).linearise(theta, x, y, keep="nothing").gradient, momentum)
        theta = theta - alpha * velocity
    return theta


def _velocity(before: Tensor | None, gradient: Tensor, momentum: float) -> Tensor:
    """v_{t+1}; without momentum that is the gradient itself."""
    return gradient if before is None or not momentum else momentum * before + gradient


class _Recursion(torch.autograd.Function):
    """Forward: the steps, keeping theta_t and v_t. Backward: the recursion of the adjoint variables."""

    @staticmethod
    def forward(
        ctx: Any, network: Network, way: Adjoint, momentum: float, theta: Tensor, step_sizes: Tensor, *batches: Tensor
    ) -> Tensor:
        num_steps = len(step_sizes)
        images, labels = batches[:num_steps], batches[num_steps:]
        derivatives, ctx.exact, ctx.momentum, ctx.products = derivatives_of(network), way.exact, momentum, []
        plan, velocity, velocities = _plan(network, theta, images, labels, way.memory_budget, momentum), None, []
        for x, y, alpha, keep in zip(images, labels, step_sizes, plan, strict=True):
            step = derivatives.linearise(theta, x, y, keep)
            ctx.products.append(step.products)
            velocity = _velocity(velocity, step.gradient, momentum)
            theta = theta - alpha * velocity
            if momentum:
                velocities.append(velocity)
        ctx.save_for_backward(step_sizes, *batches, *velocities)  # refuses the way back if one was changed in place since
        return theta

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, adjoint: Tensor) -> tuple[Tensor | None, ...]:
        step_sizes, momentum = ctx.saved_tensors[0], ctx.momentum
        num_steps = len(step_sizes)
        velocities = ctx.saved_tensors[1 + 2 * num_steps :]
        needs_images, needs_labels = ctx.needs_input_grad[5 : 5 + num_steps], ctx.needs_input_grad[5 + num_steps :]
        to_images: list[Tensor | None] = [None] * num_steps
        to_labels: list[Tensor | None] = [None] * num_steps
        to_step_sizes, to_velocity = torch.zeros_like(step_sizes), torch.zeros_like(adjoint)
        for t in reversed(range(num_steps)):  # adjoint is lambda_{t+1} here, to_velocity mu p_{t+2}
            # Products are linear in their direction: without momentum, p is -alpha times the adjoint.
            direction, factor = (to_velocity - step_sizes[t] * adjoint, 1.0) if momentum else (adjoint, -step_sizes[t])
            needs_theta = ctx.exact and (t > 0 or ctx.needs_input_grad[3])
            products = ctx.products.pop()(direction, needs_images[t], needs_labels[t], needs_theta)
            to_step_sizes[t] = -(velocities[t] @ adjoint) if momentum else -products.along
            if products.to_images is not None:
                to_images[t] = factor * products.to_images
            if products.to_labels is not None:
                to_labels[t] = factor * products.to_labels
            if products.to_theta is not None:
                adjoint = adjoint + factor * products.to_theta
            to_velocity = momentum * direction
        return None, None, None, adjoint, to_step_sizes, *to_images, *to_labels


def _plan(
    network: Network,
    theta: Tensor,
    images: Sequence[Tensor],
    labels: Sequence[Tensor],
    memory_budget: float,
    momentum: float,
) -> list[Keep]:
    """What to keep of each step.

    An outline goes first, for it saves most time for the memory it takes; what is left of the budget makes steps whole.
    """
    # theta_t, v_t, the minibatches and their gradients grow with T whatever is kept, so the budget pays for them first.
    budget = memory_budget * 2**30 - sum(_growing_bytes(theta, x, momentum) for x in images)
    nbytes = derivatives_of(network).nbytes
    sizes = [{keep: nbytes(theta, x, y, keep) for keep in get_args(Keep)} for x, y in zip(images, labels, strict=True)]
    plan: list[Keep] = ["nothing"] * len(images)
    upgrades: tuple[tuple[Keep, Keep], ...] = ("nothing", "outline"), ("outline", "everything")
    for less, more in upgrades:
        for t in reversed(range(len(images))):  # the way back begins there, and what it has used it gives back
            cost = sizes[t][more] - sizes[t][less]
            if plan[t] == less and cost <= budget:
                plan[t], budget = more, budget - cost
    return plan


def _growing_bytes(theta: Tensor, images: Tensor, momentum: float) -> int:
    """What a further step takes whatever is kept of it: its parameters, velocity, minibatch and the gradient of that."""
    return theta.nbytes * (2 if momentum else 1) + 2 * images.nbytes


def _step_bytes(network: Network, theta: Tensor, images: Tensor) -> int:
    """What a step takes that is kept whole."""
    labels = torch.zeros(len(images), dtype=torch.int64)
    return derivatives_of(network).nbytes(theta, images, labels, "everything")
