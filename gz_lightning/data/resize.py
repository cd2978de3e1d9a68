"""Exact area resizing: the same pixels on every machine.

Shapes: n images, C channels, ``size`` x ``size`` pixels before and ``resolution`` x ``resolution`` after.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

AT_ONCE = 4
"""Images resized together. Fewer leave threads waiting for the interpreter between short operations, more do not fit into
a core's cache. (Two threads took .63 of the time for four of 424 px to 128 px that they took for one at a time.)"""
_memory = threading.local()


def _buffer(name: str, shape: tuple[int, ...], kind: npt.DTypeLike) -> npt.NDArray[Any]:
    """This thread's array of that name; allocating one for each image would cost more than its arithmetic."""
    buffer: npt.NDArray[Any] | None = getattr(_memory, name, None)
    if buffer is None or buffer.shape != shape or buffer.dtype != kind:
        buffer = np.empty(shape, kind)
        setattr(_memory, name, buffer)
    return buffer


@functools.cache
def _taps(size: int, resolution: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.uint32], int]:
    """Which of ``size`` pixels make each of ``resolution`` new ones, in whole numbers.

    A new pixel is ``total / unit`` old ones wide, where ``total`` and ``unit`` are size and resolution in lowest terms. So
    the shares of the old pixels in it, in units of ``1 / unit``, are whole numbers that add up to ``total``.

    Returns:
        Places of the old pixels, shape (taps, resolution); their shares, of the same shape; and ``total``.
    """
    divisor = math.gcd(size, resolution)
    total, unit = size // divisor, resolution // divisor
    left = np.arange(resolution) * total
    right = left + total
    taps = int((-(-right // unit) - left // unit).max())
    pixel = left // unit + np.arange(taps)[:, None]
    shares = np.clip(np.minimum(right, (pixel + 1) * unit) - np.maximum(left, pixel * unit), 0, None)
    return np.minimum(pixel, size - 1), shares.astype(np.uint32), total


def _along_rows(pixels: npt.NDArray[Any], resolution: int, kind: npt.DTypeLike, name: str) -> npt.NDArray[Any]:
    """Weighted sums along the first axis in ``kind``, which must hold them; valid until the next call with ``name``."""
    places, shares, _ = _taps(len(pixels), resolution)
    lines = pixels.reshape(len(pixels), -1)
    factors = shares.astype(kind)[..., None]
    shape = (resolution, lines.shape[1])
    taken = _buffer(f"{name} taken", shape, lines.dtype)
    summed, part = _buffer(f"{name} summed", shape, kind), _buffer(f"{name} part", shape, kind)
    for tap, (place, factor) in enumerate(zip(places, factors, strict=True)):
        np.take(lines, place, axis=0, out=taken, mode="clip")  # the other modes take a copy first
        np.multiply(taken, factor, out=part if tap else summed)
        if tap:
            summed += part
    result: npt.NDArray[Any] = summed.reshape(resolution, *pixels.shape[1:])
    return result


def area_resize(images: Sequence[npt.NDArray[np.uint8]], resolution: int) -> npt.NDArray[np.uint8]:
    """Reduce square images: each new pixel is the mean of the area it covers, rounded (halves to even).

    The sums are of whole numbers, so the result is exact and the same on every machine. Averaging by area loses no light.

    Args:
        images: n images of one size, each of shape (size, size, C).
        resolution: At most ``size``.

    Returns:
        Shape (n, C, resolution, resolution).

    Example:
        >>> area_resize([np.arange(16, dtype=np.uint8).reshape(4, 4, 1)], 2)
        array([[[[ 2,  4],
                 [10, 12]]]], dtype=uint8)
    """
    if len(images) > AT_ONCE:
        parts = [images[start : start + AT_ONCE] for start in range(0, len(images), AT_ONCE)]
        return np.concatenate([area_resize(part, resolution) for part in parts])
    size, _, channels = images[0].shape
    total = _taps(size, resolution)[2]
    side_by_side = _buffer("images", (size, len(images), size, channels), np.uint8)
    for place, image in enumerate(images):
        side_by_side[:, place] = image
    half_way = _along_rows(side_by_side, resolution, np.min_scalar_type(255 * total), "rows")  # (new H, n, W, C)
    turned = _buffer("turned", (size, len(images), channels, resolution), half_way.dtype)
    turned[...] = half_way.transpose(2, 1, 3, 0)
    exact = np.float32 if 255 * total**2 < 2**24 else np.float64  # holds all sums
    mean = _along_rows(turned, resolution, exact, "columns")  # (new W, n, C, new H)
    mean /= total**2
    whole = _buffer("whole", mean.shape, np.uint8)
    np.rint(mean, out=mean)
    whole[...] = mean
    return np.ascontiguousarray(whole.transpose(1, 2, 3, 0))
