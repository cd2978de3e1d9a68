"""First and second derivatives of the loss of a ConvNet, written out, block by block.

Shapes: M images, C channels, H x W pixels, K classes, P parameters.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from gz_lightning.networks.convnet import ConvNet
from gz_lightning.networks.convnet_block import Block, Norm, Tangent, layout
from gz_lightning.networks.derivatives import Derivatives, Keep, Labels, Network, Products, Step
from gz_lightning.shapes import Float, Tensor

_Parts = tuple[list[list[Tensor]], list[Tensor]]
"""Parameters of each block, and of the linear layer."""
PORTION = 6 * 2**20
"""Bytes of one activation of the first block that are worked on at a time on the CPU, see benchmarks/README.md."""


@dataclass(frozen=True)
class _Outline:
    """What is dear to compute of a portion: results of the convolutions of its blocks but the first, there and back.

    Args:
        normed: n and r of each block but the first.
        us: dL/dp of each block but the last.
    """

    normed: list[tuple[Tensor, Tensor]]
    us: list[Tensor]


class _Portion:
    """Some images of a minibatch: their forward and backward pass, and what comes of them.

    Args:
        norm: Norm of the blocks.
        pooling: Pooling of the blocks.
        parameters: Of the blocks and of the linear layer.
        images: Shape (M, C, H, W).
        labels: Classes, or shares.
        total: Images of the whole minibatch, over which the loss is a mean.
        outline: Its outline, if that was kept.
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
        normed = [None] * len(of_blocks) if outline is None else [None, *outline.normed]
        for of_block, n_and_r in zip(of_blocks, normed, strict=True):
            self.blocks.append(Block(norm, pooling, of_block, h, n_and_r))
            h = self.blocks[-1].p
        # A copy whatever the layout of h, so that memory depends on shapes alone.
        self.shape, self.flat = h.shape, h.clone(memory_format=torch.contiguous_format).flatten(1)
        self.logits = torch.addmm(head_bias, self.flat, self.head.T)
        self.share = self.logits.softmax(1)
        soft = labels.is_floating_point()
        # Not F.one_hot, which on a CPU looks at the values.
        targets = labels if soft else torch.zeros_like(self.share).scatter_(1, labels[:, None], 1.0)
        self.weight = labels.sum(1, keepdim=True) if soft else self.share.new_ones(())
        self.error = (self.share * self.weight - targets) / total
        u = self._unflatten(self.error @ self.head)
        for i in reversed(range(len(self.blocks))):
            block = self.blocks[i]
            block.backward(u)
            if i:  # nobody needs the gradient of the images themselves
                u = block.of_input(block.da, block.w) if outline is None else outline.us[i - 1]

    def outline(self) -> _Outline:
        """See :class:`_Outline`."""
        return _Outline([(block.n, block.r) for block in self.blocks[1:]], [block.u for block in self.blocks[:-1]])

    def gradient(self) -> Float[Tensor, " P"]:
        """Its part of g."""
        of_blocks = [part for block in self.blocks for part in block.of_parameters(block.da, block.affine)]
        return torch.cat([part.reshape(-1) for part in (*of_blocks, self.error.T @ self.flat, self.error.sum(0))])

    def products(self, directions: _Parts, needs_images: bool, needs_theta: bool) -> Products:
        """Its part of the products."""
        of_blocks, (head_, head_bias_) = directions
        tangents: list[Tangent] = []
        for block, of_block in zip(self.blocks, of_blocks, strict=True):
            tangents.append(block.tangent(of_block, tangents[-1].p if tangents else None))
        flat_ = tangents[-1].p.flatten(1)
        logits_ = torch.addmm(head_bias_, flat_, self.head.T).addmm_(self.flat, head_.T)
        moved = logits_ - (self.share * logits_).sum(1, keepdim=True)  # derivative of log softmax
        error_ = self.share * moved * self.weight / self.total
        to_theta = [error_.T @ self.flat + self.error.T @ flat_, error_.sum(0)]
        u_ = self._unflatten(error_ @ self.head + self.error @ head_)
        for i in reversed(range(len(self.blocks))):
            block, tangent = self.blocks[i], tangents.pop()
            da_, affine_ = block.backward_tangent(tangent, u_)
            if needs_theta:
                to_theta = [*block.of_parameters(da_, affine_, (tangent.h, block.da)), *to_theta]
            if i or needs_images:
                u_ = block.of_input(da_, block.w) + block.of_input(block.da, tangent.w)
        return Products(
            along=(self.error * logits_).sum(),
            to_theta=torch.cat([part.reshape(-1) for part in to_theta]) if needs_theta else None,
            to_images=u_ if needs_images else None,
            to_labels=-moved / self.total,
        )

    def _unflatten(self, x: Tensor) -> Tensor:
        return x.view(len(x), *self.shape[1:]).contiguous(memory_format=layout(x))


_Held = Sequence[_Portion | _Outline | None]
"""What a step keeps of each portion."""


class ConvNetDerivatives(Derivatives):
    """Derivatives of a ConvNet, written out; exact, and called as :class:`Derivatives` are.

    On the CPU images and filters are laid out with their channels last (pooling and the first convolution are several
    times faster so), and few images are worked on at a time, so that what is made of them stays in the caches.

    Args:
        network: The ConvNet as a pure function of theta.
        convnet: Gives the structure; the values of its parameters are not used.
    """

    def __init__(self, network: Network, convnet: ConvNet) -> None:
        super().__init__(network)
        self.shapes = [parameter.shape for parameter in convnet.parameters()]
        self.sizes = [shape.numel() for shape in self.shapes]
        norm = next((module for module in convnet.modules() if isinstance(module, nn.GroupNorm)), None)
        self.norm = Norm(0, 0.0) if norm is None else Norm(norm.num_groups, norm.eps)
        self.pooling = convnet.pooling
        self.compiled = False
        self._sizes_of_steps: dict[tuple[object, ...], int] = {}

    def compile(self) -> None:
        """See :meth:`Derivatives.compile`."""
        if not self.compiled:
            self.compiled = True
            # The two are functions of tensors alone, so compiled they are the same functions in fewer kernels.
            self._run = torch.compile(self._run)  # type: ignore[method-assign]
            self._products = torch.compile(self._products)  # type: ignore[method-assign]

    def nbytes(self, theta: Float[Tensor, " P"], images: Float[Tensor, "M C H W"], labels: Labels, keep: Keep) -> int:
        """See :meth:`Derivatives.nbytes`: that of a step on the meta device, whose tensors are shapes alone.

        Exact on the CPU. On a GPU images and filters are not laid out anew, so it counts a copy of them too many.
        """
        if keep == "nothing" or self.compiled:
            return 0
        arguments = (theta, images, labels)
        key = (keep, *((x.shape, x.stride(), x.dtype) for x in arguments))
        if key not in self._sizes_of_steps:
            theta, images, labels = beside = [_on_meta(x) for x in arguments]
            self._sizes_of_steps[key] = _storage_bytes(self._run(theta, images, labels, keep)[2], beside)
        return self._sizes_of_steps[key]

    def linearise(
        self, theta: Float[Tensor, " P"], images: Float[Tensor, "M C H W"], labels: Labels, keep: Keep = "everything"
    ) -> Step:
        """See :meth:`Derivatives.linearise`. Compiled, nothing is held."""
        held: _Held
        _, gradient, held = self._run(theta, images, labels, "nothing" if self.compiled else keep)
        products = functools.partial(self._products, theta, images, labels, held)
        return Step(gradient, products, self.nbytes(theta, images, labels, keep))

    def logits_and_gradient(
        self, theta: Float[Tensor, " P"], images: Float[Tensor, "M C H W"], labels: Labels
    ) -> tuple[Float[Tensor, "M K"], Float[Tensor, " P"]]:
        """Logits and the gradient of the mean cross entropy, for training."""
        return self._run(theta, images, labels, "nothing")[:2]

    @torch.no_grad()
    def _run(
        self, theta: Tensor, images: Tensor, labels: Tensor, keep: Keep
    ) -> tuple[Float[Tensor, "M K"], Float[Tensor, " P"], _Held]:
        """Logits, gradient, and what is kept of each portion."""
        logits, gradient, held = [], torch.zeros_like(theta), []
        for portion in self._portions(theta, images, labels):
            logits.append(portion.logits)
            gradient += portion.gradient()
            held.append(portion if keep == "everything" else portion.outline() if keep == "outline" else None)
            del portion  # one at a time, unless it was kept
        return torch.cat(logits), gradient, held

    @torch.no_grad()
    def _products(
        self,
        theta: Tensor,
        images: Tensor,
        labels: Tensor,
        held: _Held,
        v: Tensor,
        needs_images: bool = True,
        needs_labels: bool = False,
        needs_theta: bool = True,
    ) -> Products:
        """``products`` of a :class:`Step`."""
        directions = self._parts(v, images)
        portions = self._portions(theta, images, labels, held)
        parts = []
        for portion in portions:
            parts.append(portion.products(directions, needs_images, needs_theta))
            del portion  # one at a time, unless it was kept
        to_theta = [part.to_theta for part in parts if part.to_theta is not None]
        to_images = [part.to_images for part in parts if part.to_images is not None]
        to_labels = [part.to_labels for part in parts if part.to_labels is not None]
        return Products(
            along=torch.stack([part.along for part in parts]).sum(),
            to_theta=torch.stack(to_theta).sum(0) if needs_theta else None,
            to_images=torch.cat(to_images) if needs_images else None,
            to_labels=torch.cat(to_labels) if needs_labels else None,
        )

    def _portions(self, theta: Tensor, images: Tensor, labels: Tensor, held: _Held | None = None) -> Iterator[_Portion]:
        """The minibatch, on the CPU few images at a time; a portion that was not kept is made when it is its turn."""
        number = 1
        if images.device.type in ("cpu", "meta"):
            image_bytes = self.shapes[0][0] * images.shape[2] * images.shape[3] * images.element_size()
            number = math.ceil(len(images) / max(1, PORTION // image_bytes))
        parameters: _Parts | None = None
        portions = zip(images.tensor_split(number), labels.tensor_split(number), held or [None] * number, strict=True)
        for x, y, kept in portions:
            if isinstance(kept, _Portion):
                yield kept
            else:
                parameters = parameters or self._parts(theta, images)
                yield _Portion(self.norm, self.pooling, parameters, x, y, len(images), kept)

    def _parts(self, theta: Tensor, images: Tensor) -> _Parts:
        """Parameters of each block, and of the linear layer."""
        parts = [part.view(shape) for part, shape in zip(theta.split(self.sizes), self.shapes, strict=True)]
        per_block = 4 if self.norm.groups else 2
        blocks = [parts[i : i + per_block] for i in range(0, len(parts) - 2, per_block)]
        for block in blocks:
            block[0] = block[0].contiguous(memory_format=layout(images))
        return blocks, parts[-2:]


def _on_meta(x: Tensor) -> Tensor:
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")


def _storage_bytes(held: object, beside: Sequence[Tensor]) -> int:
    """Bytes of all tensors in an object, its lists and attributes; memory that tensors share counts once."""
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in _tensors(held)}
    for tensor in beside:
        storages.pop(tensor.untyped_storage()._cdata, None)
    return sum(storages.values())


def _tensors(held: object) -> Iterator[Tensor]:
    if isinstance(held, Tensor):
        yield held
    elif isinstance(held, (list, tuple)):
        for item in held:
            yield from _tensors(item)
    elif hasattr(held, "__dict__"):
        yield from _tensors(list(vars(held).values()))
