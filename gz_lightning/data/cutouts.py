"""Cut-outs: image files -> the squares of pixels that are packed.

Shapes: C channels, H x W pixels of a cut-out, ``resolution`` x ``resolution`` pixels of what is packed.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from gz_lightning.data.resize import area_resize
from gz_lightning.errors import InputError

COLOUR_MODES = ("RGB", "RGBA", "P")
"""What PIL calls images with colours of their own, which RGB holds without loss."""
BAD_IMAGE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning)
"""What PIL raises on bad files; the last inside of refusing_huge."""
SAMPLE = 100
"""Images that are looked at to find out the common size."""
GROUP, AHEAD = 16, 4
"""Images that a worker takes at a time, and groups in work for each worker: enough that none waits, few enough that memory
stays bounded."""


@contextlib.contextmanager
def refusing_huge() -> Iterator[None]:
    """Whatever PIL warns of as larger than any image is a ``BAD_IMAGE``; to be entered before there are threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def read_square(file: str | Path, resolution: int, crop: float, size: tuple[int, int] | None) -> npt.NDArray[np.uint8] | str:
    """The central square of a cut-out, shape (side, side, 3), or why it cannot be used; see :func:`decode_cutouts`."""
    if not os.path.isfile(file):  # a pipe would be waited for
        return "is missing"
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
            return np.asarray(square if square.mode == "RGB" else square.convert("RGB"))
    except UnidentifiedImageError:
        return "cannot be read as an image: it is of no known format"
    except BAD_IMAGE as error:
        return f"cannot be read as an image: {' '.join(str(error).split())}"


def decode_cutouts(
    files: Sequence[str | Path], resolution: int = 128, crop: float = 0.5, size: tuple[int, int] | None = None
) -> list[npt.NDArray[np.uint8] | str]:
    """Cut-outs as they are packed, or why one cannot be used (words that follow the file's name).

    Args:
        files: Images.
        resolution: Side of the results in pixels.
        crop: See :func:`read_cutout`.
        size: Width and height that the images must have; None: any.

    Returns:
        For each file pixels of shape (3, resolution, resolution), or words.
    """
    found: list[npt.NDArray[np.uint8] | str] = [read_square(file, resolution, crop, size) for file in files]
    by_side: dict[int, list[int]] = {}
    for place, square in enumerate(found):
        if not isinstance(square, str):
            by_side.setdefault(len(square), []).append(place)
    for places in by_side.values():
        squares = [np.asarray(found[place]) for place in places]
        for place, cutout in zip(places, area_resize(squares, resolution), strict=True):
            found[place] = cutout
    return found


@refusing_huge()
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
    cutout = decode_cutouts([file], resolution, crop)[0]
    if isinstance(cutout, str):
        raise InputError(f"{file} {cutout}")
    return cutout


def common_size(files: Sequence[Path]) -> tuple[int, int] | None:
    """Width and height of most images, from the first ``SAMPLE`` that can be opened; None if none can."""
    sizes: collections.Counter[tuple[int, int]] = collections.Counter()
    for file in files[:SAMPLE]:
        if not os.path.isfile(file):
            continue
        try:
            with Image.open(file) as image:
                sizes[image.size] += 1
        except BAD_IMAGE:
            continue  # it will be among the rejects
    return sizes.most_common(1)[0][0] if sizes else None


def plan_of(files: Sequence[Path], resolution: int, crop: float, size: tuple[int, int] | None) -> str:
    """SHA-256 of what is to be decoded and how: names, sizes and times of the files, and the settings."""
    digest = hashlib.sha256(json.dumps([1, resolution, crop, size]).encode())
    for file in files:
        try:
            state = os.stat(file)
            digest.update(f"{file}\0{state.st_size}\0{state.st_mtime_ns}\0".encode())
        except OSError:
            digest.update(f"{file}\0missing\0".encode())
    return digest.hexdigest()


def in_groups(
    work: Callable[[range], list[str]], number: int, workers: int, between: Callable[[], None] = lambda: None
) -> Generator[str]:
    """Do something for the places 0 to ``number`` - 1, a group at a time, in threads; give its results in order.

    Threads do: most of the time goes into decoding, which leaves the interpreter free. They run only a little ahead of
    whoever takes the results, and what can be done for a whole group is: each time a thread leaves the interpreter to
    another, it waits to have it back.

    Args:
        work: Is given the places of a group, and gives a result for each.
        number: Number of places.
        workers: Number of threads.
        between: Called after each group, while the threads go on.
    """
    with ThreadPoolExecutor(workers) as pool:
        waiting: collections.deque[Future[list[str]]] = collections.deque()
        try:
            for start in range(0, number, GROUP):
                waiting.append(pool.submit(work, range(start, min(start + GROUP, number))))
                if len(waiting) >= AHEAD * workers:
                    yield from waiting.popleft().result()
                    between()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
