"""Cut-outs: image files -> the squares of pixels that are packed.

Shapes: C channels, H x W pixels of a cut-out, ``resolution`` x ``resolution`` pixels of what is packed.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import heapq
import io
import itertools
import json
import os
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, UnidentifiedImageError

from gz_lightning.data.arrow import DatasetTable
from gz_lightning.data.embedded import Content, Inside, in_storage_order
from gz_lightning.data.resize import area_resize
from gz_lightning.errors import InputError
from gz_lightning.storage.whole import atomic_write

COLOUR_MODES = ("RGB", "RGBA", "P")
"""PIL's modes for images in colour, which RGB holds without loss."""
BAD_IMAGE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning)
"""What PIL raises on bad files; the last within refusing_huge."""
SAMPLE = 100
"""Images whose size is read to find the common one."""
AHEAD = 4
"""Groups queued for each worker: enough to keep all busy, few enough to bound the memory."""


@contextlib.contextmanager
def refusing_huge() -> Iterator[None]:
    """Make PIL's warning of a decompression bomb a ``BAD_IMAGE``; to be entered before there are threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def open_image(content: Content) -> Image.Image:
    """An image from its file, the bytes of its file, or its pixels.

    Raises:
        BAD_IMAGE: If it is none.
    """
    if isinstance(content, np.ndarray):
        return Image.fromarray(content)
    return Image.open(io.BytesIO(content) if isinstance(content, bytes) else str(content))


def read_square(content: Content, resolution: int, crop: float, size: tuple[int, int] | None) -> npt.NDArray[np.uint8] | str:
    """The central square of a cut-out, shape (side, side, 3), or why it cannot be used; see :func:`decode_cutouts`."""
    if content is None:
        return "holds no pixels"
    if isinstance(content, Path) and not os.path.isfile(content):  # opening a pipe would block
        return "is missing"
    try:
        with open_image(content) as image:
            width, height = image.size
            if size is not None and image.size != size:
                return f"has {width} x {height} pixels, not {size[0]} x {size[1]} (--cutout_size 0 takes any)"
            if image.mode not in COLOUR_MODES:
                return f"is not in colour: its mode is {image.mode}, not RGB"
            side = round(min(height, width) * crop)
            if side < resolution:
                return (
                    f"has {width} x {height} pixels: its central crop ({crop}) of {side} px is smaller than the "
                    f"resolution {resolution}; choose a smaller --resolution or a larger --crop"
                )
            top, left = (height - side) // 2, (width - side) // 2
            square = image.crop((left, top, left + side, top + side))
            if image.has_transparency_data and (np.asarray(square.convert("RGBA"))[..., 3] < 255).any():
                return "has transparent pixels, whose colour means nothing; save it without them"
            pixels = np.asarray(square if square.mode == "RGB" else square.convert("RGB"))
            if (pixels[0] == pixels[0, 0]).all() and (pixels == pixels[0, 0]).all():  # a row suffices for most
                return "shows nothing: all its pixels have one colour"
            return pixels
    except UnidentifiedImageError:
        return "cannot be read as an image: its format is unknown"
    except BAD_IMAGE as error:
        return f"cannot be read as an image: {' '.join(str(error).split())}"


def decode_cutouts(
    contents: Sequence[Content], resolution: int = 128, crop: float = 0.5, size: tuple[int, int] | None = None
) -> list[npt.NDArray[np.uint8] | str]:
    """Cut-outs as they are packed, or why one cannot be used (words that follow the file's name).

    Args:
        contents: Images: their files, the bytes of their files, or their pixels.
        resolution: Side of the results in pixels.
        crop: See :func:`read_cutout`.
        size: Width and height that the images must have; None: any.

    Returns:
        For each image its pixels, shape (3, resolution, resolution), or a reason.
    """
    results: list[npt.NDArray[np.uint8] | str] = [read_square(content, resolution, crop, size) for content in contents]
    by_side: dict[int, list[int]] = {}
    for place, square in enumerate(results):
        if not isinstance(square, str):
            by_side.setdefault(len(square), []).append(place)
    for places in by_side.values():
        squares = [np.asarray(results[place]) for place in places]
        for place, cutout in zip(places, area_resize(squares, resolution), strict=True):
            results[place] = cutout
    return results


@refusing_huge()
def read_cutout(file: str | Path, resolution: int = 128, crop: float = 0.5) -> npt.NDArray[np.uint8]:
    """A cut-out as it is packed: central crop, then area resize.

    Args:
        file: A colour image.
        resolution: Side of the result in pixels.
        crop: Side of the central square that is kept, as a share of the image's shorter side, in (0, 1]. The
            published half of 424 px is 212 px.

    Returns:
        Pixels of shape (3, resolution, resolution), RGB.

    Raises:
        InputError: If the image cannot be decoded, is greyscale or CMYK, or its crop has transparent pixels, a single
            colour or fewer pixels a side than ``resolution``.
    """
    cutout = decode_cutouts([Path(file)], resolution, crop)[0]
    if isinstance(cutout, str):
        raise InputError(f"{file} {cutout}")
    return cutout


def common_size(files: Sequence[Path | Inside]) -> tuple[int, int] | None:
    """Width and height of most of the first ``SAMPLE`` images, as they are stored; None if none can be opened."""
    sizes: collections.Counter[tuple[int, int]] = collections.Counter()
    contents = itertools.chain.from_iterable(contents for _, contents in in_storage_order(_first(files)))
    for content in contents:
        if content is None or (isinstance(content, Path) and not os.path.isfile(content)):
            continue
        try:
            with open_image(content) as image:
                sizes[image.size] += 1
        except BAD_IMAGE:
            continue  # it will be among the rejects
    return sizes.most_common(1)[0][0] if sizes else None


def _first(files: Sequence[Path | Inside]) -> list[Path | Inside]:
    """The first ``SAMPLE`` images; inside of larger files, those that lie together."""
    own = [file for file in files[:SAMPLE] if isinstance(file, Path)]
    inside = (file for file in files if isinstance(file, Inside))
    return [*own, *heapq.nsmallest(SAMPLE - len(own), inside, key=lambda one: (str(one.file), one.row))]


def plan_of(files: Sequence[Path | Inside], resolution: int, crop: float, size: tuple[int, int] | None) -> str:
    """SHA-256 of what is decoded and how: names, sizes and times of the files, and the settings."""
    digest = hashlib.sha256(json.dumps([1, resolution, crop, size]).encode())
    states: dict[str, str] = {}
    for image in files:
        file = image.file if isinstance(image, Inside) else image
        state = states.get(str(file)) or _state(file)
        if isinstance(image, Inside):
            states[str(file)] = state
        digest.update(f"{image}\0{state}\0".encode())
    return digest.hexdigest()


def _state(file: Path | DatasetTable) -> str:
    if isinstance(file, DatasetTable):
        return file.fingerprint or "missing"
    try:
        state = os.stat(file)
    except OSError:
        return "missing"
    return f"{state.st_size}\0{state.st_mtime_ns}"


def in_groups(
    work: Callable[[list[int], list[Content]], list[str]],
    groups: Iterable[tuple[list[int], list[Content]]],
    workers: int,
    between: Callable[[], None] = lambda: None,
) -> Generator[tuple[int, str]]:
    """Process images in threads, a group at a time, and yield place and result of each, in the order of the groups.

    Most of the time goes into decoding, which releases the interpreter, so threads suffice. They run only a little ahead of
    the consumer, and do what they can for a whole group: taking the interpreter back costs a wait.

    Args:
        work: Takes places and contents of a group and returns a result for each.
        groups: Places and contents of the images of each group, see :func:`in_storage_order`.
        workers: Number of threads.
        between: Called after each group, while the threads go on.
    """
    with ThreadPoolExecutor(workers) as pool:
        queue: collections.deque[tuple[list[int], Future[list[str]]]] = collections.deque()
        try:
            for places, contents in groups:
                queue.append((places, pool.submit(work, places, contents)))
                if len(queue) >= AHEAD * workers:
                    done, results = queue.popleft()
                    yield from zip(done, results.result(), strict=True)
                    between()
            while queue:
                done, results = queue.popleft()
                yield from zip(done, results.result(), strict=True)
        finally:
            for _, future in queue:
                future.cancel()


class Rejects:
    """Galaxies without a usable image; more of them than the limit stop the run.

    Args:
        output: The packed file, beside which they are listed.
        missing: Object ids without an image -> the reason; they do not count towards the limit.
        limit: Most unusable images.
        strict: Whether to name the first unusable image instead of counting.
    """

    def __init__(self, output: Path, missing: Mapping[str, str], limit: int, strict: bool) -> None:
        self.path = output.with_suffix(".rejects.csv")
        self.rows = [(object_id, "", reason) for object_id, reason in missing.items()]
        self.missing, self.limit, self.strict = len(missing), limit, strict

    @property
    def number(self) -> int:
        """How many images cannot be used."""
        return len(self.rows) - self.missing

    def add(self, object_id: str, file: Path | Inside, reason: str, seen: str) -> None:
        """Add a galaxy; ``seen`` says of how many images this is one."""
        self.rows.append((object_id, str(file), reason))
        if self.number > self.limit:
            self.write()
            if self.strict:
                raise InputError(f"{file} {reason}; without --strict such images are skipped and listed")
            raise InputError(
                f"{self.number} of {seen} images cannot be used, more than --max_rejects allows ({self.limit}); all are "
                f"listed in {self.path}; the last is {file}, which {reason}"
            )

    def write(self) -> tuple[pd.DataFrame, Path | None]:
        """Write the list, or remove that of an earlier output of the same name; return it and its path."""
        table = pd.DataFrame(self.rows, columns=["object_id", "file", "reason"], dtype="string")
        if not self.rows:
            self.path.unlink(missing_ok=True)
            return table, None
        with atomic_write(self.path) as temporary:
            table.to_csv(temporary, index=False)
        return table, self.path
