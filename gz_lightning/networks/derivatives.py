"""First and second derivatives of a network's loss: what an exact unroll needs of each of its steps.

With L(theta, x, y) the mean cross entropy, a step needs its gradient g = dL/dtheta. The way back through it needs, for a
direction v in parameter space, the number <g, v>, the product H v = d/dtheta <g, v>, and the mixed terms d/dx <g, v> and
d/dy <g, v>. :class:`Derivatives` gets them from autograd for any network;
:class:`gz_lightning.networks.convnet_derivatives.ConvNetDerivatives` has them written out.

Shapes: M images, C channels, H x W pixels, K classes, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from gz_lightning.errors import InputError

Network = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""A pure function (theta of shape (P,), images of shape (M, C, H, W)) -> logits of shape (M, K)."""


@dataclass(frozen=True)
class Products:
    """What the way back through one step needs, for a direction v.

    Args:
        along: <g, v>, shape ().
        to_theta: H v, shape (P,), or None where it was not asked for.
        to_images: d/dx <g, v>, shape (M, C, H, W), or None where it was not asked for.
        to_labels: d/dy <g, v>, shape (M, K), or None where it was not asked for.
    """

    along: torch.Tensor
    to_theta: torch.Tensor | None
    to_images: torch.Tensor | None
    to_labels: torch.Tensor | None


class Derivatives:
    """Derivatives of any network, by autograd.

    Args:
        network: Pure function (theta, images) -> logits.
    """

    def __init__(self, network: Network) -> None:
        self.network = network

    def compile(self) -> None:
        """Compile both (torch.compile), which takes minutes once and then saves time at every step.

        Raises:
            InputError: If the network has no derivatives written out: autograd's cannot be compiled.
        """
        raise InputError(
            "compile works for a ConvNet alone, whose derivatives are written out; leave out --model.compile with others"
        )

    def kept_bytes(self, images: torch.Tensor, whole: bool) -> int | None:
        """Memory that ``kept`` of :meth:`gradient` takes for a minibatch, in bytes; None: nothing can be kept.

        Args:
            images: Shape (M, C, H, W).
            whole: See :meth:`gradient`.
        """
        return None

    def gradient(
        self,
        theta: torch.Tensor,
        images: torch.Tensor,
        labels: torch.Tensor,
        kept: list[Any] | None = None,
        whole: bool = True,
    ) -> torch.Tensor:
        """g, shape (P,), without a graph.

        Args:
            theta: Shape (P,).
            images: Shape (M, C, H, W).
            labels: int64, shape (M,), or soft, shape (M, K).
            kept: Takes what :meth:`products` at the same place can use again.
            whole: Keep all; if not, only what is dearest for the memory it takes.
        """
        with torch.enable_grad():
            return gradient(self.network, theta.detach().requires_grad_(), images, labels, create_graph=False)

    def products(
        self,
        theta: torch.Tensor,
        images: torch.Tensor,
        labels: torch.Tensor,
        v: torch.Tensor,
        needs_images: bool = True,
        needs_labels: bool = False,
        needs_theta: bool = True,
        kept: list[Any] | None = None,
    ) -> Products:
        """The products with v, shape (P,).

        Args:
            theta: Shape (P,).
            images: Shape (M, C, H, W).
            labels: int64, shape (M,), or soft, shape (M, K).
            v: The direction, shape (P,).
            needs_images: Whether ``to_images`` is wanted.
            needs_labels: Whether ``to_labels`` is wanted; then the labels must be soft.
            needs_theta: Whether ``to_theta`` is wanted.
            kept: What :meth:`gradient` kept of the same parameters, images and labels; it can be used once.
        """
        theta = theta.detach().requires_grad_()
        x, y = images.detach().requires_grad_(needs_images), labels.detach().requires_grad_(needs_labels)
        with torch.enable_grad():
            g = gradient(self.network, theta, x, y, create_graph=True)
        inputs = {"theta": (theta, needs_theta), "images": (x, needs_images), "labels": (y, needs_labels)}
        wanted = {name: tensor for name, (tensor, needed) in inputs.items() if needed}
        # One vector-Jacobian product of the gradient gives all of them.
        found = torch.autograd.grad(g, list(wanted.values()), v, allow_unused=True, materialize_grads=True) if wanted else ()
        products = dict(zip(wanted, found, strict=True))
        return Products(g.detach() @ v, products.get("theta"), products.get("images"), products.get("labels"))


def gradient(
    network: Network, theta: torch.Tensor, images: torch.Tensor, labels: torch.Tensor, create_graph: bool
) -> torch.Tensor:
    """Gradient of the mean cross entropy with respect to theta, shape (P,), by autograd."""
    loss = F.cross_entropy(network(theta, images), labels)
    return torch.autograd.grad(loss, theta, create_graph=create_graph)[0]
