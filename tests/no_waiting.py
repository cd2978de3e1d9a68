"""A mode that refuses the operators which make the host wait for a device."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
WAITS = {
    *(aten._local_scalar_dense, aten.nonzero, aten.nonzero_numpy, aten.is_nonzero, aten.equal, aten.allclose),
    *(aten.masked_select, aten.unique_consecutive, aten._unique2, aten.repeat_interleave, aten.bincount, aten.argwhere),
}
"""Operators whose result, or its shape, the host has to know."""


class NoWaiting(TorchDispatchMode):
    """Refuses operators that make the host wait for a device; counts copies from the host to it.

    Args:
        device: The device. Where it is the CPU itself, all tensors are taken to be on it.
    """

    def __init__(self, device: str = "cpu") -> None:
        super().__init__()
        self.device = device
        self.seen = self.copies = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.seen += 1
        tensors = [x for x in args if isinstance(x, torch.Tensor)]
        masks = func.overloadpacket in (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_)
        masks = masks and any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1])
        if (func.overloadpacket in WAITS or masks) and any(x.device.type == self.device for x in tensors):
            raise AssertionError(f"{func} makes the host wait")
        result = func(*args, **kwargs)
        if func.overloadpacket in (aten._to_copy, aten.copy_):
            source, end = tensors[-1].device.type, result.device.type
            assert end != "cpu" or source == "cpu", f"{func} copies to the host"
            self.copies += (source, end) == ("cpu", "meta")
        return result
