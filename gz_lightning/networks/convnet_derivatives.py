"""First and second derivatives of the loss of a ConvNet, written out, block by block.

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

from gz_lightning.networks.convnet import ConvNet
from gz_lightning.networks.convnet_block import Block, Norm, layout
from gz_lightning.networks.derivatives import Derivatives, Network, Products

Tensor = torch.Tensor
_Parts = tuple[list[list[Tensor]], list[Tensor]]
"""Parameters of each block, and of the linear layer."""
PORTION = 6 * 2**20
"""Bytes of one activation of the first block that are worked on at a time on the CPU, see benchmarks/README.md."""


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
        norm: Norm,
        pooling: str,
        parameters: _Parts,
        images: Tensor,
        labels: Tensor,
        total: int,
        outline: _Outline | None = None,
    ) -> None:
        of_blocks, (self.head, head_bias) = parameters
        self.total = total
        self.blocks: list[Block] = []
        h = images.contiguous(memory_format=layout(images))
        known = [None, *outline.known] if outline is not None else [None] * len(of_blocks)
        for own, results in zip(of_blocks, known, strict=True):
            self.blocks.append(Block(norm, pooling, own, h, results))
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
        return x.view(len(x), *self.shape[1:]).contiguous(memory_format=layout(x))


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
        self.norm = Norm(0, 0.0) if norm is None else Norm(norm.num_groups, norm.eps)
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
                number += 3 * m * shape[0] * height * width + m * shape[0]  # n, da, where ReLU passes, and r
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
            block[0] = block[0].contiguous(memory_format=layout(images))
        return blocks, parts[-2:]
