"""First and second derivatives of the loss of a ConvNet, written out.

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

Shapes: M images, C channels, H x W pixels, K classes, P parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.grad import conv2d_input, conv2d_weight

from gz_lightning.networks.convnet import ConvNet
from gz_lightning.networks.derivatives import Derivatives, Network, Products

Tensor = torch.Tensor
_Parts = tuple[list[list[Tensor]], list[Tensor]]
"""Parameters of each block, and of the linear layer."""
PORTION = 6 * 2**20
"""Bytes of one activation of the first block that are worked on at a time on the CPU, see benchmarks/README.md."""


def _wide(x: Tensor) -> Tensor:
    """(M, C) or (C,) as a factor of (M, C, H, W)."""
    return x[..., None, None]


def _pixel_sum(x: Tensor, y: Tensor) -> Tensor:
    """Sum of x y over pixels, shape (M, C)."""
    return (x * y).sum((2, 3))


class _Selection:
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

    def transpose(self, u: Tensor) -> Tensor:
        """S^T(u): a new tensor of the size before pooling."""
        if self.pooling == "max":
            return F.max_unpool2d(u * self.passes, self.index, [2, 2], output_size=list(self.size))
        if self.pooling == "none":
            return u * self.passes
        spread = F.interpolate(u / 4, scale_factor=2.0, mode="nearest")
        if spread.shape[2:] != self.size:  # an odd last row or column is not pooled
            spread = F.pad(spread, (0, self.size[1] - spread.shape[3], 0, self.size[0] - spread.shape[2]))
        return spread.mul_(self.passes)


@dataclass(frozen=True)
class _Norm:
    """Group norm as the ConvNet has it; ``groups`` 0 is none, as many as channels instance norm."""

    groups: int
    eps: float

    def __call__(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """n, shape (M, C, H, W), in place of a, and r, shape (M, C)."""
        if not self.groups:
            return a, a.new_ones(a.shape[:2])
        pixels = a.shape[2] * a.shape[3]
        a.sub_(_wide(self.mean(a.sum((2, 3)), pixels)))
        r = (self.mean(_pixel_sum(a, a), pixels) + self.eps).rsqrt()
        return a.mul_(_wide(r)), r

    def mean(self, sums: Tensor, pixels: int) -> Tensor:
        """Sums over pixels, shape (M, C) -> means over the pixels and channels of a group, at each of its channels."""
        if not self.groups:
            return torch.zeros_like(sums)
        grouped = sums.reshape(len(sums), self.groups, -1)
        return grouped.mean(2, keepdim=True).expand_as(grouped).flatten(1) / pixels


class _Block:
    """One block at given parameters and input. In this order: forward (made so), backward, tangent, backward_tangent.

    Args:
        norm: Its norm.
        pooling: Its pooling.
        parameters: w, b and, with a norm, gamma and beta.
        h: Input, shape (M, C, H, W).
        known: n and r, where they are known.
    """

    def __init__(
        self, norm: _Norm, pooling: str, parameters: list[Tensor], h: Tensor, known: tuple[Tensor, Tensor] | None = None
    ) -> None:
        self.norm, self.h = norm, h
        self.w, b = parameters[:2]
        self.drops_bias = norm.groups == len(b)  # a norm of each channel by itself takes a constant away again
        self.n, self.r = known or norm(F.conv2d(h, self.w, None if self.drops_bias else b, padding=1))
        self.pixels = self.n.shape[2] * self.n.shape[3]
        self.gamma = parameters[2] if norm.groups else None
        y = self.n.clone() if self.gamma is None else torch.addcmul(_wide(parameters[3]), _wide(self.gamma), self.n)
        self.select = _Selection(y, pooling)
        self.q = self.select(self.n)
        self.p = self.q
        if self.gamma is not None:
            self.p = torch.addcmul(_wide(parameters[3]) * self.select.of_one, _wide(self.gamma), self.q)

    def backward(self, u: Tensor) -> None:
        """``da``, dL/da, and ``affine``, dL/d(gamma, beta), from u = dL/dp."""
        self.u = u
        self.affine: list[Tensor] = []
        if self.gamma is None:
            self.da = self.select.transpose(u)
            return
        self.sums = [_pixel_sum(u, self.select.of_one), _pixel_sum(u, self.q)]
        self.means = [self.norm.mean(self.gamma * s, self.pixels) for s in self.sums]
        self.da = self.select.transpose(u * _wide(self.r * self.gamma))
        self.da.addcmul_(self.n, _wide(-self.r * self.means[1])).sub_(_wide(self.r * self.means[0]))
        self.affine = [self.sums[1].sum(0), self.sums[0].sum(0)]

    def tangent(self, parameters_: list[Tensor], h_: Tensor | None) -> Tensor:
        """p_ from the derivatives of the parameters and of the input (None: zero)."""
        self.w_, b_ = parameters_[:2]
        self.h_ = h_
        a_ = F.conv2d(self.h, self.w_, None if self.drops_bias else b_, padding=1)
        if h_ is not None:
            a_ += F.conv2d(h_, self.w, padding=1)
        if self.gamma is None:
            self.n_ = a_
            self.q_ = self.select(a_)
            return self.q_
        mean_ = self.norm.mean(a_.sum((2, 3)), self.pixels)
        covariance = self.norm.mean(_pixel_sum(self.n, a_), self.pixels)  # of n and a_
        self.r_ = -self.r.square() * covariance
        self.n_ = a_.mul_(_wide(self.r)).addcmul_(self.n, _wide(-self.r * covariance)).sub_(_wide(self.r * mean_))
        self.q_ = self.select(self.n_)
        self.gamma_, beta_ = parameters_[2:]
        p_ = _wide(self.gamma) * self.q_ + _wide(self.gamma_) * self.q
        return p_.addcmul_(self.select.of_one, _wide(beta_))

    def backward_tangent(self, u_: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The derivatives of ``da`` and ``affine``."""
        if self.gamma is None:
            return self.select.transpose(u_), []
        r, r_, gamma, gamma_ = self.r, self.r_, self.gamma, self.gamma_
        (s0, s1), (m0, m1) = self.sums, self.means
        s0_ = _pixel_sum(u_, self.select.of_one)
        s1_ = _pixel_sum(u_, self.q) + _pixel_sum(self.u, self.q_)
        m0_, m1_ = (self.norm.mean(gamma * s_ + gamma_ * s, self.pixels) for s, s_ in ((s0, s0_), (s1, s1_)))
        through = (self.u * _wide(r_ * gamma + r * gamma_)).addcmul_(u_, _wide(r * gamma))
        da_ = self.select.transpose(through).addcmul_(self.n, _wide(-r_ * m1 - r * m1_))
        da_.addcmul_(self.n_, _wide(-r * m1)).sub_(_wide(r_ * m0 + r * m0_))
        return da_, [s1_.sum(0), s0_.sum(0)]

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


@dataclass(frozen=True)
class _Outline:
    """What is dear to compute of a portion: results of the convolutions of its blocks but the first, there and back.

    Args:
        known: n and r of each block but the first.
        us: dL/dp of each block but the last.
    """

    known: list[tuple[Tensor, Tensor]]
    us: list[Tensor]


class _Portion:
    """Some images of a minibatch: their forward and backward pass, and what comes of them.

    Args:
        norm: Norm of the blocks.
        pooling: Pooling of the blocks.
        parameters: Of the blocks and of the linear layer.
        images: Shape (M, C, H, W).
        labels: int64, shape (M,), or soft, shape (M, K).
        total: Images of the whole minibatch, over which the loss is a mean.
        outline: Its outline, where that was kept.
    """

    def __init__(
        self,
        norm: _Norm,
        pooling: str,
        parameters: _Parts,
        images: Tensor,
        labels: Tensor,
        total: int,
        outline: _Outline | None = None,
    ) -> None:
        of_blocks, (self.head, head_bias) = parameters
        self.total = total
        self.blocks: list[_Block] = []
        h = images.contiguous(memory_format=_layout(images))
        known = [None, *outline.known] if outline is not None else [None] * len(of_blocks)
        for own, results in zip(of_blocks, known, strict=True):
            self.blocks.append(_Block(norm, pooling, own, h, results))
            h = self.blocks[-1].p
        self.shape, self.flat = h.shape, h.flatten(1)
        self.logits = torch.addmm(head_bias, self.flat, self.head.T)
        self.share = self.logits.softmax(1)
        soft = labels.is_floating_point()
        targets = labels if soft else F.one_hot(labels, self.share.shape[1])
        self.weight = labels.sum(1, keepdim=True) if soft else self.share.new_ones(())
        self.error = (self.share * self.weight - targets) / total
        u = self._unflatten(self.error @ self.head)
        for i in reversed(range(len(self.blocks))):
            block = self.blocks[i]
            block.backward(u)
            if i:  # the gradient of the images themselves is not wanted
                u = outline.us[i - 1] if outline is not None else block.of_input(block.da, block.w)

    def outline(self) -> _Outline:
        """See :class:`_Outline`."""
        return _Outline([(block.n, block.r) for block in self.blocks[1:]], [block.u for block in self.blocks[:-1]])

    def gradient(self) -> Tensor:
        """Its part of g, shape (P,)."""
        found = [part for block in self.blocks for part in block.of_parameters(block.da, block.affine)]
        return torch.cat([f.reshape(-1) for f in (*found, self.error.T @ self.flat, self.error.sum(0))])

    def products(self, tangents: _Parts, needs_images: bool, needs_theta: bool) -> Products:
        """Its part of the products."""
        of_blocks, (head_, head_bias_) = tangents
        p_: Tensor | None = None
        for block, own in zip(self.blocks, of_blocks, strict=True):
            p_ = block.tangent(own, p_)
        assert p_ is not None
        flat_ = p_.flatten(1)
        logits_ = torch.addmm(head_bias_, flat_, self.head.T).addmm_(self.flat, head_.T)
        moved = logits_ - (self.share * logits_).sum(1, keepdim=True)  # derivative of log softmax
        error_ = self.share * moved * self.weight / self.total
        found = [error_.T @ self.flat + self.error.T @ flat_, error_.sum(0)]
        u_ = self._unflatten(error_ @ self.head + self.error @ head_)
        for i in reversed(range(len(self.blocks))):
            block = self.blocks[i]
            da_, affine_ = block.backward_tangent(u_)
            if needs_theta:
                found = [*block.of_parameters(da_, affine_, (block.h_, block.da)), *found]
            if i or needs_images:
                u_ = block.of_input(da_, block.w) + block.of_input(block.da, block.w_)
        to_theta = torch.cat([f.reshape(-1) for f in found]) if needs_theta else None
        return Products((self.error * logits_).sum(), to_theta, u_ if needs_images else None, -moved / self.total)

    def _unflatten(self, x: Tensor) -> Tensor:
        return x.view(len(x), *self.shape[1:]).contiguous(memory_format=_layout(x))


def _layout(x: Tensor) -> Any:
    return torch.channels_last if x.device.type == "cpu" else torch.contiguous_format


class ConvNetDerivatives(Derivatives):
    """Derivatives of a ConvNet, written out; exact, and called as :class:`Derivatives` are.

    On the CPU images and filters are laid out with their channels last (pooling and the first convolution are several
    times faster so), and few images are worked on at a time, so that what is made of them stays in the caches.

    Args:
        network: The ConvNet as a pure function of theta.
        convnet: Gives the structure; its own parameters are not used.
    """

    def __init__(self, network: Network, convnet: ConvNet) -> None:
        super().__init__(network)
        self.shapes = [parameter.shape for parameter in convnet.parameters()]
        self.sizes = [shape.numel() for shape in self.shapes]
        norm = next((module for module in convnet.modules() if isinstance(module, nn.GroupNorm)), None)
        self.norm = _Norm(0, 0.0) if norm is None else _Norm(norm.num_groups, norm.eps)
        self.pooling = convnet.pooling
        self.compiled = False

    def compile(self) -> None:
        """See :meth:`Derivatives.compile`."""
        if not self.compiled:
            self.compiled = True
            # The two are functions of tensors alone, so compiled they are the same functions in fewer kernels.
            self.gradient = torch.compile(self.gradient)  # type: ignore[method-assign]
            self.products = torch.compile(self.products)  # type: ignore[method-assign]

    def kept_bytes(self, images: Tensor, whole: bool) -> int | None:
        """See :meth:`Derivatives.kept_bytes`. Compiled, nothing is kept."""
        if self.compiled:
            return None
        m, channels, height, width = images.shape
        number = m * channels * height * width if whole else 0
        for i, shape in enumerate(self.shapes[: -2 : 4 if self.norm.groups else 2]):
            if whole:
                number += 3 * m * shape[0] * height * width  # n, da, and where ReLU passes
            elif i:
                number += 2 * m * shape[0] * height * width + m * shape[0]  # n, u of the block before, and r
            if self.pooling != "none":
                height, width = height // 2, width // 2
            if whole:
                number += 4 * m * shape[0] * height * width  # p, q, u and S(1)
        return number * images.element_size()

    @torch.no_grad()
    def gradient(
        self, theta: Tensor, images: Tensor, labels: Tensor, kept: list[Any] | None = None, whole: bool = True
    ) -> Tensor:
        """See :meth:`Derivatives.gradient`."""
        return self.logits_and_gradient(theta, images, labels, kept, whole)[1]

    @torch.no_grad()
    def logits_and_gradient(
        self, theta: Tensor, images: Tensor, labels: Tensor, kept: list[Any] | None = None, whole: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Logits, shape (M, K), and what :meth:`gradient` gives."""
        total, logits = torch.zeros_like(theta), []
        for portion in self._portions(theta, images, labels):
            total += portion.gradient()
            logits.append(portion.logits)
            if kept is not None:
                kept.append(portion if whole else portion.outline())
        return torch.cat(logits), total

    @torch.no_grad()
    def products(
        self,
        theta: Tensor,
        images: Tensor,
        labels: Tensor,
        v: Tensor,
        needs_images: bool = True,
        needs_labels: bool = False,
        needs_theta: bool = True,
        kept: list[Any] | None = None,
    ) -> Products:
        """See :meth:`Derivatives.products`."""
        tangents = self._parts(v, images)
        whole = kept is not None and isinstance(kept[0], _Portion)
        portions = kept if kept is not None and whole else self._portions(theta, images, labels, kept)
        parts = [portion.products(tangents, needs_images, needs_theta) for portion in portions]
        to_theta = [part.to_theta for part in parts if part.to_theta is not None]
        to_images = [part.to_images for part in parts if part.to_images is not None]
        to_labels = [part.to_labels for part in parts if part.to_labels is not None]
        return Products(
            along=torch.stack([part.along for part in parts]).sum(),
            to_theta=torch.stack(to_theta).sum(0) if needs_theta else None,
            to_images=torch.cat(to_images) if needs_images else None,
            to_labels=torch.cat(to_labels) if needs_labels else None,
        )

    def _portions(
        self, theta: Tensor, images: Tensor, labels: Tensor, outlines: list[Any] | None = None
    ) -> Iterator[_Portion]:
        """The minibatch, on the CPU few images at a time; each portion is made when it is asked for."""
        parameters, number = self._parts(theta, images), 1
        if images.device.type == "cpu":
            one = self.shapes[0][0] * images.shape[2] * images.shape[3] * images.element_size()
            number = math.ceil(len(images) / max(1, PORTION // one))
        each = zip(images.tensor_split(number), labels.tensor_split(number), outlines or [None] * number, strict=True)
        for x, y, outline in each:
            yield _Portion(self.norm, self.pooling, parameters, x, y, len(images), outline)

    def _parts(self, theta: Tensor, images: Tensor) -> _Parts:
        """Parameters of each block, and of the linear layer."""
        parts = [part.view(shape) for part, shape in zip(theta.split(self.sizes), self.shapes, strict=True)]
        each = 4 if self.norm.groups else 2
        blocks = [parts[i : i + each] for i in range(0, len(parts) - 2, each)]
        for block in blocks:
            block[0] = block[0].contiguous(memory_format=_layout(images))
        return blocks, parts[-2:]
