"""Cut-outs: image files -> the squares of pixels that are packed.

Shapes: C channels, H x W pixels of a cut-out, ``resolution`` x ``resolution`` pixels of what is packed.
"""

from __future__ import annotations

import collections
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from gz_lightning.errors import InputError

COLOUR_MODES = ("RGB", "RGBA", "P")
"""What PIL calls images with colours of their own, which RGB holds without loss."""
SAMPLE = 100
"""Images that are looked at to find out the common size."""
GROUP, AHEAD = 16, 4
"""Images that a worker takes at a time, and groups in work for each worker: enough that none waits, few enough that memory
stays bounded."""


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


def _along_rows(pixels: npt.NDArray[Any], resolution: int, kind: npt.DTypeLike) -> npt.NDArray[Any]:
    """Sums of the shares along the first axis, computed as ``kind``, which must hold them."""
    places, shares, _ = _taps(len(pixels), resolution)
    pixels = pixels.astype(kind)
    factors = shares.astype(kind)[..., None, None]
    summed: npt.NDArray[Any] = pixels[places[0]] * factors[0]
    part = np.empty_like(summed)
    for place, factor in zip(places[1:], factors[1:], strict=True):
        np.take(pixels, place, axis=0, out=part, mode="clip")  # the other modes take a copy first
        part *= factor
        summed += part
    return summed


def area_resize(pixels: npt.NDArray[np.uint8], resolution: int) -> npt.NDArray[np.uint8]:
    """A square image made smaller: each new pixel is the mean of the area it covers, rounded (halves to even).

    The sums are of whole numbers, so the result is exact and the same on every machine. Averaging by area loses no light.

    Args:
        pixels: Shape (size, size, C).
        resolution: At most ``size``.

    Returns:
        Shape (C, resolution, resolution).
    """
    total = _taps(len(pixels), resolution)[2]
    half_way = _along_rows(pixels, resolution, np.min_scalar_type(255 * total)).transpose(1, 2, 0)  # (W, C, new H)
    exact = np.float32 if 255 * total**2 < 2**24 else np.float64  # holds all sums
    mean = _along_rows(np.ascontiguousarray(half_way), resolution, exact)
    mean /= total**2
    return np.ascontiguousarray(np.rint(mean, out=mean).astype(np.uint8).transpose(1, 2, 0))


def decode_cutout(
    file: str | Path, resolution: int = 128, crop: float = 0.5, size: tuple[int, int] | None = None
) -> npt.NDArray[np.uint8] | str:
    """A cut-out as it is packed, or why it cannot be used (words that follow the file's name).

    Args:
        file: An image.
        resolution: Side of the result in pixels.
        crop: See :func:`read_cutout`.
        size: Width and height that the image must have; None: any.
    """
    try:
        with Image.open(file) as image:
            width, height = image.size
            if size is not None and image.size != size:
                return f"has {width} x {height} pixels, not {size[0]} x {size[1]} (--cutout_size 0 takes any)"
            if image.mode not in COLOUR_MODES:
                return f"has no colours of its own to keep: its mode is {image.mode}, not RGB"
            side = round(min(height, width) * crop)
            if side < resolution:
                return (
                    f"has {width} x {height} pixels: its central crop ({crop}) of {side} px is smaller than the "
                    f"resolution {resolution}; choose a smaller --resolution or a larger --crop"
                )
            top, left = (height - side) // 2, (width - side) // 2
            square = image.crop((left, top, left + side, top + side))
            pixels = np.asarray(square if square.mode == "RGB" else square.convert("RGB"))
    except FileNotFoundError:
        return "is missing"
    except UnidentifiedImageError:
        return "cannot be read as an image: it is of no known format"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # what PIL raises on bad files
        return f"cannot be read as an image: {' '.join(str(error).split())}"
    return area_resize(pixels, resolution)


def read_cutout(file: str | Path, resolution: int = 128, crop: float = 0.5) -> npt.NDArray[np.uint8]:
    """A cut-out as it is packed: central crop, then area resize.

    Args:
        file: An image in colours.
        resolution: Side of the result in pixels.
        crop: Side of the central square that is kept, as a share of the image's shorter side, in (0, 1]. The
            published half of 424 px is 212 px.

    Returns:
        Pixels of shape (3, resolution, resolution), RGB.

    Raises:
        InputError: If the image cannot be decoded, is greyscale or CMYK, or its crop has fewer pixels a side than
            ``resolution``.
    """
    cutout = decode_cutout(file, resolution, crop)
    if isinstance(cutout, str):
        raise InputError(f"{file} {cutout}")
    return cutout


def common_size(files: Sequence[Path]) -> tuple[int, int] | None:
    """Width and height of most images, from the first ``SAMPLE`` that can be opened; None if none can."""
    sizes: collections.Counter[tuple[int, int]] = collections.Counter()
    for file in files[:SAMPLE]:
        try:
            with Image.open(file) as image:
                sizes[image.size] += 1
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue  # it will be among the rejects
    return sizes.most_common(1)[0][0] if sizes else None


def decode_cutouts(
    files: Sequence[Path],
    resolution: int,
    crop: float,
    size: tuple[int, int] | None,
    workers: int,
    note: Callable[[Sequence[npt.NDArray[np.uint8] | str]], bytes],
) -> Iterator[tuple[list[npt.NDArray[np.uint8] | str], bytes]]:
    """:func:`decode_cutout` of the files in order, a group at a time, by ``workers`` threads that run only a little ahead.

    Threads do: most of the time goes into decoding, which leaves the interpreter free. What can be done for a whole group
    is: each time the main thread leaves the interpreter to the workers, it waits to have it back.

    Args:
        files: Images.
        resolution: See :func:`decode_cutout`.
        crop: See :func:`decode_cutout`.
        size: See :func:`decode_cutout`.
        workers: Number of threads.
        note: What else they do with a group; its result comes with the group.
    """

    def decode(group: Sequence[Path]) -> tuple[list[npt.NDArray[np.uint8] | str], bytes]:
        cutouts = [decode_cutout(file, resolution, crop, size) for file in group]
        return cutouts, note(cutouts)

    with ThreadPoolExecutor(workers) as pool:
        waiting: collections.deque[Future[tuple[list[npt.NDArray[np.uint8] | str], bytes]]] = collections.deque()
        try:
            for start in range(0, len(files), GROUP):
                waiting.append(pool.submit(decode, files[start : start + GROUP]))
                if len(waiting) >= AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
