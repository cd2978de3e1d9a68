"""First and second derivatives of a network's loss: what an exact unroll needs of each of its steps.

With L(theta, x, y) the mean cross entropy, a step needs its gradient g = dL/dtheta. The way back through it needs, for a
direction v in parameter space, the number <g, v>, the product H v = d/dtheta <g, v>, and the mixed terms d/dx <g, v> and
d/dy <g, v>. ``linearise`` gives both: the gradient, and a function of v that may use again what the gradient was made of.
:class:`Derivatives` gets them from autograd for any network;
:class:`gz_lightning.networks.convnet_derivatives.ConvNetDerivatives` has them written out.

Shapes: M images, C channels, H x W pixels, K classes, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F

from gz_lightning.errors import InputError
from gz_lightning.shapes import Float, Int, Tensor

Network = Callable[[Tensor, Tensor], Tensor]
"""A pure function (theta of shape (P,), images of shape (M, C, H, W)) -> logits of shape (M, K)."""
Labels = Int[Tensor, " M"] | Float[Tensor, "M K"]
"""Classes, or a share of each class."""
Keep = Literal["everything", "outline", "nothing"]
"""What a step holds for its products: all they use again, only what is dearest to compute for its memory, or nothing."""


@dataclass(frozen=True)
class Products:
    """What the way back through one step needs, for a direction v; None where it was not asked for.

    Args:
        along: <g, v>.
        to_theta: H v.
        to_images: d/dx <g, v>.
        to_labels: d/dy <g, v>.
    """

    along: Float[Tensor, ""]
    to_theta: Float[Tensor, " P"] | None
    to_images: Float[Tensor, "M C H W"] | None
    to_labels: Float[Tensor, "M K"] | None


@dataclass(frozen=True)
class Step:
    """A step, linearised at theta, x and y.

    Args:
        gradient: g, without a graph.
        products: The function (v, needs_images=True, needs_labels=False, needs_theta=True) -> :class:`Products`, which may
            be called any number of times; v has shape (P,), and for ``needs_labels`` the labels must be soft. It alone
            holds memory, so that one may keep it and let the gradient go.
        nbytes: Bytes that ``products`` holds beside theta, x and y.
    """

    gradient: Float[Tensor, " P"]
    products: Callable[..., Products]
    nbytes: int = 0


class Derivatives:
    """Derivatives of any network, by autograd; a step holds nothing but its arguments.

    Args:
        network: Pure function (theta, images) -> logits.
    """

    def __init__(self, network: Network) -> None:
        self.network = network

    def compile(self) -> None:
        """Compile the derivatives (torch.compile): minutes once, then less time at every step. Nothing is held then.

        Raises:
            InputError: If the network has no derivatives written out: autograd's cannot be compiled.
        """
        raise InputError(
            "compile works for a ConvNet alone, whose derivatives are written out; leave out --model.compile with others"
        )

    def nbytes(self, theta: Float[Tensor, " P"], images: Float[Tensor, "M C H W"], labels: Labels, keep: Keep) -> int:
        """``nbytes`` of the step that :meth:`linearise` would give, without making it."""
        return 0

    def linearise(
        self,
        theta: Float[Tensor, " P"],
        images: Float[Tensor, "M C H W"],
        labels: Labels,
        keep: Keep = "everything",
    ) -> Step:
        """The gradient of the mean cross entropy, and its products with directions.

        Args:
            theta: Parameters.
            images: A minibatch.
            labels: Its classes or, soft, a share of each class; shares need not sum to 1.
            keep: What to hold for the products; their bits are the same whatever it is.
        """

        def products(v: Tensor, needs_images: bool = True, needs_labels: bool = False, needs_theta: bool = True) -> Products:
            needs = needs_theta, needs_images, needs_labels
            leaves = theta.detach().requires_grad_(), images.detach(), labels.detach()
            needed = [leaf.requires_grad_() for leaf, need in zip(leaves, needs, strict=True) if need]
            with torch.enable_grad():
                g = gradient(self.network, *leaves, create_graph=True)
            # One vector-Jacobian product of the gradient gives all of them.
            vjps = iter(torch.autograd.grad(g, needed, v, allow_unused=True, materialize_grads=True) if needed else ())
            return Products(g.detach() @ v, *(next(vjps) if need else None for need in needs))

        with torch.enable_grad():
            g = gradient(self.network, theta.detach().requires_grad_(), images.detach(), labels.detach())
        return Step(g, products)


def derivatives_of(network: Network) -> Derivatives:
    """The derivatives that a network brings along as its ``derivatives``, or else autograd's."""
    return getattr(network, "derivatives", None) or Derivatives(network)


def gradient(
    network: Network,
    theta: Float[Tensor, " P"],
    images: Float[Tensor, "M C H W"],
    labels: Labels,
    create_graph: bool = False,
) -> Float[Tensor, " P"]:
    """Gradient of the mean cross entropy with respect to theta, by autograd."""
    loss = F.cross_entropy(network(theta, images), labels)
    return torch.autograd.grad(loss, theta, create_graph=create_graph)[0]
