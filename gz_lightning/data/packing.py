"""Cut-outs -> the packed HDF5 file.

One file holds everything the rest of the package needs to know of its galaxies: pixels, labels, leaf confidences,
object ids, splits, the statistics of the training pixels, names, and what made it.

Shapes: N galaxies, K leaves, H x W pixels (H = W = ``resolution``).
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from gz_lightning.data.selection import SPLITS
from gz_lightning.errors import InputError
from gz_lightning.files import create_hdf5, get_text, open_checked, set_text, write_header
from gz_lightning.progress import track

FORMAT = "galaxies"
FORMAT_VERSION = 1
MADE_BY = "gz-lightning prepare"
BATCH = 256
"""Images in memory at a time."""


@functools.cache
def area_weights(size: int, resolution: int) -> npt.NDArray[np.float32]:
    """Weights that average ``size`` pixels into ``resolution`` by the area they share, shape (resolution, size).

    Each row sums to one. Averaging by area loses no light: the mean of the image stays what it was.
    """
    edges = np.arange(resolution + 1) * (size / resolution)
    left, right = edges[:-1, None], edges[1:, None]
    pixel = np.arange(size)[None, :]
    shared = np.clip(np.minimum(right, pixel + 1) - np.maximum(left, pixel), 0, None)
    weights: npt.NDArray[np.float32] = (shared / shared.sum(axis=1, keepdims=True)).astype(np.float32)
    return weights


def read_cutout(file: str | Path, resolution: int = 128, crop: float = 0.5) -> npt.NDArray[np.uint8]:
    """A cut-out as it is packed: central crop, then area resize.

    Args:
        file: An image.
        resolution: Side of the result in pixels.
        crop: Side of the central square that is kept, as a share of the image's shorter side, in (0, 1]. The
            published half of 424 px is 212 px.

    Returns:
        Pixels of shape (3, resolution, resolution), RGB.

    Raises:
        InputError: If the image cannot be decoded, or its crop has fewer pixels a side than ``resolution``.
    """
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # what PIL raises on bad files
        raise InputError(f"{file} cannot be read as an image: {error}") from error
    height, width = pixels.shape[:2]
    side = round(min(height, width) * crop)
    if side < resolution:
        raise InputError(
            f"{file} has {width} x {height} pixels: its central crop ({crop}) of {side} px is smaller than the "
            f"resolution {resolution}; choose a smaller --resolution or a larger --crop"
        )
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[top : top + side, left : left + side].transpose(2, 0, 1).astype(np.float32)
    weights = area_weights(side, resolution)
    return np.rint(weights @ square @ weights.T).astype(np.uint8)


def read_cutouts(files: Sequence[Path], resolution: int, crop: float, workers: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Batches of cut-outs in the order of ``files``, decoded by ``workers`` threads, with a progress bar."""
    with ThreadPoolExecutor(workers) as pool:
        starts = range(0, len(files), BATCH)
        decode = functools.partial(read_cutout, resolution=resolution, crop=crop)
        images = (image for start in starts for image in pool.map(decode, files[start : start + BATCH]))
        counted = track(images, "packing galaxies", len(files))
        for start in starts:
            size = min(BATCH, len(files) - start)
            yield np.stack([next(counted) for _ in range(size)])
        next(counted, None)  # lets the progress bar end


def write_packed(
    path: str | Path,
    batches: Iterable[npt.NDArray[np.uint8]],
    *,
    resolution: int,
    labels: npt.NDArray[np.int64],
    confidences: npt.NDArray[np.float64],
    object_ids: Sequence[str],
    splits: npt.NDArray[np.int64],
    class_names: Sequence[str],
    tree: str,
    configuration: Mapping[str, Any],
) -> None:
    """Write a packed file, whole or not at all.

    Args:
        path: The file.
        batches: The N images in order, in batches of shape (n, 3, H, W).
        resolution: Side of the images in pixels.
        labels: Leaf of each galaxy, shape (N,).
        confidences: Leaf confidences, shape (N, K).
        object_ids: N object ids.
        splits: Place of each galaxy's split in ``SPLITS``, shape (N,).
        class_names: Names of the K leaves.
        tree: Name of the tree, or empty.
        configuration: Whatever made the file; written into it as JSON.

    Raises:
        InputError: If no galaxy is in the training split.
    """
    if not (splits == SPLITS.index("train")).any():
        raise InputError(f"none of the {len(labels)} galaxies falls into the training split; take more galaxies")
    shape = (len(labels), 3, resolution, resolution)
    digest = hashlib.sha256(json.dumps([tree, list(class_names), list(object_ids), shape]).encode())
    for array in (labels.astype("<i8"), confidences.astype("<f4"), splits.astype("<i8")):
        digest.update(array.tobytes())
    total, squares, pixels = np.zeros(3), np.zeros(3), 0
    with create_hdf5(path) as file:
        # One galaxy a chunk: any row is one seek away. The checksum finds damage when it is read.
        images = file.create_dataset("images", shape, np.uint8, chunks=(1, *shape[1:]), fletcher32=True)
        start = 0
        for batch in batches:
            images[start : start + len(batch)] = batch
            digest.update(np.ascontiguousarray(batch).tobytes())
            training = batch[splits[start : start + len(batch)] == SPLITS.index("train")].astype(np.float64) / 255
            total += training.sum(axis=(0, 2, 3))
            squares += (training**2).sum(axis=(0, 2, 3))
            pixels += training[:, 0].size
            start += len(batch)
        if start != len(labels):
            raise ValueError(f"{start} images were given for {len(labels)} labels")
        file.create_dataset("labels", data=labels.astype("<i8"), fletcher32=True)
        file.create_dataset("confidences", data=confidences.astype("<f4"), fletcher32=True)
        file.create_dataset("object_ids", data=np.array([str(i).encode() for i in object_ids]), fletcher32=True)
        file.create_dataset("splits", data=splits.astype("<i8"), fletcher32=True)
        mean = total / pixels
        file.attrs["mean"] = mean
        file.attrs["std"] = np.sqrt(np.maximum(squares / pixels - mean**2, 0))
        set_text(file, "class_names", json.dumps(list(class_names)))
        set_text(file, "tree", tree)
        write_header(file, FORMAT, FORMAT_VERSION, configuration, digest.hexdigest())


@dataclass(frozen=True)
class Packed:
    """The content of a packed file.

    Args:
        path: The file.
        images: Pixels, uint8, shape (N, 3, H, W), RGB.
        labels: Leaf of each galaxy, int64, shape (N,).
        confidences: Leaf confidences in [0, 1], float32, shape (N, K).
        object_ids: N object ids.
        splits: Place of each galaxy's split in ``SPLITS``, int64, shape (N,).
        mean: Mean of the training pixels per channel, in [0, 1], float32, shape (3,).
        std: Their standard deviation, in [0, 1], float32, shape (3,).
        class_names: Names of the K leaves.
        tree: Name of the tree, or empty.
        configuration: What made the file.
        fingerprint: SHA-256 of the content.
    """

    path: Path
    images: torch.Tensor
    labels: torch.Tensor
    confidences: torch.Tensor
    object_ids: tuple[str, ...]
    splits: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor
    class_names: tuple[str, ...]
    tree: str
    configuration: dict[str, Any]
    fingerprint: str


def read_packed(path: str | Path) -> Packed:
    """Read a packed file.

    Raises:
        InputError: If it is no packed file, is damaged, or its images hold a channel without any contrast.
    """
    with open_checked(path, FORMAT, FORMAT_VERSION, MADE_BY) as file:
        packed = Packed(
            path=Path(path),
            images=torch.from_numpy(file["images"][...]),
            labels=torch.from_numpy(file["labels"][...]),
            confidences=torch.from_numpy(file["confidences"][...]),
            object_ids=tuple(object_id.decode() for object_id in file["object_ids"][...].tolist()),
            splits=torch.from_numpy(file["splits"][...]),
            mean=torch.tensor(file.attrs["mean"], dtype=torch.float32),
            std=torch.tensor(file.attrs["std"], dtype=torch.float32),
            class_names=tuple(json.loads(get_text(file, "class_names"))),
            tree=get_text(file, "tree"),
            configuration=json.loads(get_text(file, "configuration")),
            fingerprint=get_text(file, "fingerprint"),
        )
    if not (packed.std > 0).all():
        raise InputError(f"{path}: a channel of the training images is the same everywhere, so it cannot be standardised")
    return packed
