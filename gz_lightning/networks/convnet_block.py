"""One block of a ConvNet: its forward and backward pass, and the derivatives of both along a direction.

Autograd differentiates twice, which makes and passes over many tensors as large as the activations. Here the products
with a direction v are the derivative along v (the tangent; a name with a trailing underscore is that of the name
without) of the backward pass written by hand, and the passes are few, because norm, ReLU and pooling of a block are
taken together:

    a = conv(h, w) + b          of the block's input h
    n = r (a - mean)            r = 1 / sqrt(var + eps) of each group of channels; without a norm n = a
    p = gamma S(n) + beta S(1)  S: ReLU and pooling together. It is linear once the primal pass has fixed where ReLU passes
                                (and, for max pooling, which pixel is the largest), so it is its own derivative.

Backward, with u = dL/dp and du = gamma S^T(u) = dL/dn:  da = r (du - mean(du) - n mean(du n)). The sums over pixels that
it needs are taken after pooling, where there are a quarter as many: sum(S^T(u)) = sum(u S(1)), sum(S^T(u) n) = sum(u S(n)).

Shapes: M images, C channels, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

from gz_lightning.shapes import Tensor


def layout(x: Tensor) -> torch.memory_format:
    """Channels last on the CPU, where pooling and the first convolution are several times faster so.

    Meta tensors have the shapes of the CPU's.
    """
    return torch.channels_last if x.device.type in ("cpu", "meta") else torch.contiguous_format


def _pixel_sum(x: Tensor, y: Tensor) -> Tensor:
    """Sum of x y over pixels, shape (M, C, 1, 1)."""
    return (x * y).sum((2, 3), keepdim=True)


class Selection:
    """S: ReLU and pooling together, as the linear map that a primal pass has fixed it to be.

    Args:
        y: What goes into ReLU, shape (M, C, H, W); written over.
        pooling: ``avg``, ``max`` or ``none``.
    """

    def __init__(self, y: Tensor, pooling: str) -> None:
        self.pooling, self.size = pooling, y.shape[2:]
        if pooling == "max":
            largest, self.index = F.max_pool2d(y, 2, return_indices=True)
            self.of_one = self.passes = (largest > 0).to(y)
        else:
            self.passes = y.gt_(0)
            self.of_one = F.avg_pool2d(self.passes, 2) if pooling == "avg" else self.passes

    def __call__(self, x: Tensor) -> Tensor:
        """S(x): pooled."""
        if self.pooling == "max":
            return x.flatten(2).gather(2, self.index.flatten(2)).view_as(self.index) * self.passes
        passed = x * self.passes
        return F.avg_pool2d(passed, 2) if self.pooling == "avg" else passed

    def transpose(self, u: Tensor, factor: Tensor | None = None) -> Tensor:
        """S^T(u factor): a new tensor of the size before pooling; ``factor``, shape (M, C, 1, 1), default 1."""
        if factor is None:
            factor = u.new_ones(())
        if self.pooling == "max":  # as F.max_unpool2d, which deterministic algorithms refuse
            spread = u.new_zeros((*u.shape[:2], self.size.numel()))
            spread.scatter_(2, self.index.flatten(2), (u * factor * self.passes).flatten(2))
            return spread.view(*u.shape[:2], *self.size).contiguous(memory_format=layout(u))
        if self.pooling == "none":
            return u * factor * self.passes
        spread = F.interpolate(u * (factor / 4), scale_factor=2.0, mode="nearest")
        if spread.shape[2:] != self.size:  # an odd last row or column is not pooled
            spread = F.pad(spread, (0, self.size[1] - spread.shape[3], 0, self.size[0] - spread.shape[2]))
        return spread.mul_(self.passes)


@dataclass(frozen=True)
class Norm:
    """Group norm as the ConvNet has it; ``groups`` 0 is none, as many as channels instance norm."""

    groups: int
    eps: float

    def __call__(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """n, shape (M, C, H, W), in place of a, and r, shape (M, C, 1, 1)."""
        if not self.groups:
            return a, a.new_ones((*a.shape[:2], 1, 1))
        pixels = a.shape[2] * a.shape[3]
        a.sub_(self.mean(a.sum((2, 3), keepdim=True), pixels))
        r = (self.mean(_pixel_sum(a, a), pixels) + self.eps).rsqrt()
        return a.mul_(r), r

    def mean(self, sums: Tensor, pixels: int) -> Tensor:
        """Sums over pixels, shape (M, C, 1, 1) -> means over the pixels and channels of a group, at each of its channels."""
        if self.groups == sums.shape[1]:
            return sums / pixels
        if not self.groups:
            return torch.zeros_like(sums)
        grouped = sums.reshape(len(sums), self.groups, -1)
        return (grouped.mean(2, keepdim=True) / pixels).expand_as(grouped).reshape(sums.shape)


class Tangent(NamedTuple):
    """The derivatives of a block's forward pass along a direction: of its parameters and input, and of what they give.

    ``h`` is None where the input does not change, ``r`` and ``gamma`` where the block has no norm.
    """

    w: Tensor
    gamma: Tensor | None
    h: Tensor | None
    r: Tensor | None
    n: Tensor
    q: Tensor
    p: Tensor


class Block:
    """One block at some parameters and input. In this order: forward (made so), backward, tangent, backward_tangent.

    Args:
        norm: Norm.
        pooling: Pooling, as of :class:`Selection`.
        parameters: w, b and, with a norm, gamma and beta.
        h: Input, shape (M, C, H, W).
        normed: n and r, if they have been computed before.
    """

    def __init__(
        self, norm: Norm, pooling: str, parameters: list[Tensor], h: Tensor, normed: tuple[Tensor, Tensor] | None = None
    ) -> None:
        self.norm, self.h = norm, h
        self.w, b = parameters[:2]
        self.drops_bias = norm.groups == b.shape[-1]  # a norm of each channel by itself takes a constant away again
        self.n, self.r = normed or norm(self.convolved(b))
        self.pixels = self.n.shape[2] * self.n.shape[3]
        self.gamma: Tensor | None = None
        if not norm.groups:
            self.select = Selection(self.n.clone(), pooling)
            self.p = self.q = self.select(self.n)
            return
        self.gamma, beta = (self.wide(part) for part in parameters[2:])
        self.select = Selection(torch.addcmul(beta, self.gamma, self.n), pooling)
        self.q = self.select(self.n)
        self.p = torch.addcmul(beta * self.select.of_one, self.gamma, self.q)

    def convolved(self, b: Tensor) -> Tensor:
        """a, shape (M, C, H, W)."""
        return F.conv2d(self.h, self.w, None if self.drops_bias else b, padding=1)

    def wide(self, part: Tensor) -> Tensor:
        """A number for each channel, shape (C,), as a factor of (M, C, H, W)."""
        return part.view(-1, 1, 1)

    def over_images(self, x: Tensor) -> Tensor:
        """The sum over images of x, shape (M, C, 1, 1): that of each channel, shape (C,)."""
        return x.sum((0, 2, 3))

    def backward(self, u: Tensor) -> None:
        """``da``, dL/da, and ``affine``, dL/d(gamma, beta), from u = dL/dp."""
        self.u = u
        self.affine: list[Tensor] = []
        if self.gamma is None:
            self.da = self.select.transpose(u)
            return
        self.sums = [_pixel_sum(u, self.select.of_one), _pixel_sum(u, self.q)]
        self.means = [self.norm.mean(self.gamma * s, self.pixels) for s in self.sums]
        self.da = self.select.transpose(u, self.r * self.gamma)
        self.da.addcmul_(self.n, self.r * self.means[1], value=-1).sub_(self.r * self.means[0])
        self.affine = [self.over_images(self.sums[1]), self.over_images(self.sums[0])]

    def tangent(self, parameters_: list[Tensor], h_: Tensor | None) -> Tangent:
        """The tangent, from the derivatives of the parameters and of the input (None: zero)."""
        w_, b_ = parameters_[:2]
        a_ = F.conv2d(self.h, w_, None if self.drops_bias else b_, padding=1)
        if h_ is not None:
            a_ += F.conv2d(h_, self.w, padding=1)
        if self.gamma is None:
            q_ = self.select(a_)
            return Tangent(w_, None, h_, None, a_, q_, q_)
        mean_ = self.norm.mean(a_.sum((2, 3), keepdim=True), self.pixels)
        covariance = self.norm.mean(_pixel_sum(self.n, a_), self.pixels)  # of n and a_
        r_ = -self.r.square() * covariance
        n_ = a_.mul_(self.r).addcmul_(self.n, self.r * covariance, value=-1).sub_(self.r * mean_)
        q_ = self.select(n_)
        gamma_, beta_ = (self.wide(part) for part in parameters_[2:])
        p_ = (self.gamma * q_).addcmul_(gamma_, self.q).addcmul_(self.select.of_one, beta_)
        return Tangent(w_, gamma_, h_, r_, n_, q_, p_)

    def backward_tangent(self, tangent: Tangent, u_: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The derivatives of ``da`` and ``affine``."""
        gamma, gamma_, r, r_ = self.gamma, tangent.gamma, self.r, tangent.r
        if gamma is None or gamma_ is None or r_ is None:
            return self.select.transpose(u_), []
        (s0, s1), (m0, m1) = self.sums, self.means
        s0_ = _pixel_sum(u_, self.select.of_one)
        s1_ = _pixel_sum(u_, self.q) + _pixel_sum(self.u, tangent.q)
        m0_, m1_ = (self.norm.mean(gamma * s_ + gamma_ * s, self.pixels) for s, s_ in ((s0, s0_), (s1, s1_)))
        through = (self.u * (r_ * gamma + r * gamma_)).addcmul_(u_, r * gamma)
        da_ = self.select.transpose(through).addcmul_(self.n, r_ * m1 + r * m1_, value=-1)
        da_.addcmul_(tangent.n, r * m1, value=-1).sub_(r_ * m0 + r * m0_)
        return da_, [self.over_images(s1_), self.over_images(s0_)]

    def of_parameters(
        self, da: Tensor, affine: list[Tensor], also: tuple[Tensor | None, Tensor] | None = None
    ) -> list[Tensor]:
        """Derivatives of w, b, gamma and beta; ``also`` is a second pair of input and dL/da to add to that of w."""
        to_w = conv2d_weight(self.h, self.w.shape, da, padding=1)
        if also is not None and also[0] is not None:
            to_w += conv2d_weight(also[0], self.w.shape, also[1], padding=1)
        to_b = da.new_zeros(da.shape[1]) if self.drops_bias else da.sum((0, 2, 3))
        return [to_w, to_b, *affine]

    def of_input(self, da: Tensor, w: Tensor) -> Tensor:
        """Back through the convolution with filters w."""
        u: Tensor = conv2d_input(self.h.shape, w, da, padding=1)
        return u
