"""SyntheticSet: distilled galaxies, and all that is needed to use them.

Shapes: M images (``ipc`` of each of K leaves), H x W pixels, S step sizes.
"""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from gz_lightning.data.datamodule import GalaxyZoo2DataModule, denormalise
from gz_lightning.errors import InputError
from gz_lightning.files import create_hdf5, get_text, open_checked, set_text, write_header, written_whole

FORMAT = "synthetic"
FORMAT_VERSION = 1
MADE_BY = "gz-lightning distill"


def leaf_folder(name: str) -> str:
    """The folder of a leaf: its name in small letters, with underscores for all but letters and digits."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


@dataclass
class SyntheticSet:
    """A small set of images to train a network on.

    Args:
        images: Standardised pixels, float32, shape (M, 3, H, W).
        labels: Leaves, int64, shape (M,); or soft labels, float32, shape (M, K).
        step_sizes: The learned step sizes alpha, shape (S,): one, or one for each start epoch.
        class_names: Names of the K leaves.
        mean: Mean of the training pixels per channel, in [0, 1], shape (3,).
        std: Their standard deviation, in [0, 1], shape (3,).
        tree: Name of the tree, or empty.
        network: Description of the network it was distilled for.
        augmentation: The augmentation it was distilled with.
        data: Fingerprint of the packed galaxies.
        trajectories: Fingerprint of the experts.
        iteration: Outer iterations it took.
        configuration: The settings of the distillation.
        results: What is known of its worth, by name.

    Example:
        >>> synthetic = SyntheticSet.load("runs/ipc1/best.h5")  # doctest: +SKIP
        >>> synthetic.denormalised(), synthetic.step_sizes, synthetic.results  # doctest: +SKIP
        >>> synthetic.to_image_folder("distilled")  # doctest: +SKIP
    """

    images: torch.Tensor
    labels: torch.Tensor
    step_sizes: torch.Tensor
    class_names: tuple[str, ...]
    mean: torch.Tensor
    std: torch.Tensor
    tree: str = ""
    network: dict[str, Any] = field(default_factory=dict)
    augmentation: str = "none"
    data: str = ""
    trajectories: str = ""
    iteration: int = 0
    configuration: dict[str, Any] = field(default_factory=dict)
    results: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def hard_labels(self) -> torch.Tensor:
        """Leaves, int64, shape (M,)."""
        return self.labels if self.labels.ndim == 1 else self.labels.argmax(1)

    def denormalised(self) -> torch.Tensor:
        """Pixels as they are looked at: float32 in [0, 1], shape (M, 3, H, W); what lies outside is cut off."""
        return denormalise(self.images, self.mean, self.std)

    def as_dataset(self) -> TensorDataset:
        """Pairs (standardised pixels, label) for a DataLoader; labels as they are, hard or soft.

        Example:
            >>> from torch.utils.data import DataLoader
            >>> synthetic = SyntheticSet.load("best.h5")  # doctest: +SKIP
            >>> batches = DataLoader(synthetic.as_dataset(), batch_size=256, shuffle=True)  # doctest: +SKIP
        """
        return TensorDataset(self.images, self.labels)

    def to_image_folder(self, folder: str | Path) -> Path:
        """Write the images as PNGs, one folder for each leaf: what torchvision's ImageFolder and ``evaluate`` read.

        Pixels become whole numbers of 0 to 255; what lies outside is cut off, so such a folder is worth a little less than
        the set. Soft labels are left out.

        Args:
            folder: A folder that is not there yet, or is empty; it appears whole.

        Returns:
            The folder.

        Raises:
            InputError: If there is something in it.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} is there already; name a folder that is not")
        folder.parent.mkdir(parents=True, exist_ok=True)
        pixels = self.denormalised().mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part") as temporary:
            whole = Path(temporary) / folder.name
            for name in self.class_names:
                (whole / leaf_folder(name)).mkdir(parents=True)
            for place, label in enumerate(self.hard_labels.tolist()):
                Image.fromarray(pixels[place]).save(whole / leaf_folder(self.class_names[label]) / f"{place:05d}.png")
            whole.replace(folder)
        return folder

    def to_npz(self, path: str | Path) -> None:
        """Write ``images`` (standardised), ``labels``, ``step_sizes``, ``mean``, ``std`` and ``class_names`` for NumPy."""
        names = ("images", "labels", "step_sizes", "mean", "std")
        arrays = {name: getattr(self, name).detach().cpu().numpy() for name in names}
        with written_whole(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, class_names=np.array(self.class_names), **arrays)

    def save(self, path: str | Path) -> None:
        """Write the set into one HDF5 file, whole or not at all."""
        with create_hdf5(path) as file:
            for name in ("images", "labels", "step_sizes", "mean", "std"):
                file.create_dataset(name, data=getattr(self, name).detach().cpu().numpy(), fletcher32=True)
            for name in ("class_names", "network", "results"):
                set_text(file, name, json.dumps(getattr(self, name)))
            for name in ("tree", "augmentation", "data", "trajectories"):
                set_text(file, name, getattr(self, name))
            file.attrs["iteration"] = self.iteration
            write_header(file, FORMAT, FORMAT_VERSION, self.configuration, f"{self.data}+{self.trajectories}")

    @classmethod
    def load(cls, path: str | Path) -> SyntheticSet:
        """Read a set.

        Raises:
            InputError: If the file is no distilled set or is damaged.
        """
        with open_checked(path, FORMAT, FORMAT_VERSION, MADE_BY) as file:
            tensors = {n: torch.from_numpy(file[n][...]) for n in ("images", "labels", "step_sizes", "mean", "std")}
            return cls(
                **tensors,
                class_names=tuple(json.loads(get_text(file, "class_names"))),
                network=json.loads(get_text(file, "network")),
                results=json.loads(get_text(file, "results")),
                tree=get_text(file, "tree"),
                augmentation=get_text(file, "augmentation"),
                data=get_text(file, "data"),
                trajectories=get_text(file, "trajectories"),
                iteration=int(file.attrs["iteration"]),
                configuration=json.loads(get_text(file, "configuration")),
            )

    def check_fits(self, galaxies: GalaxyZoo2DataModule, path: str | Path = "the set") -> None:
        """Check that the set can be used with these galaxies.

        Raises:
            InputError: If leaves, image size, or mean and standard deviation differ; says which.
        """
        what = ""
        if self.class_names != galaxies.class_names:
            what = f"its leaves are {', '.join(self.class_names)}, those of the galaxies {', '.join(galaxies.class_names)}"
        elif self.images.shape[1:] != galaxies.packed.image_shape:
            what = f"its images have {self.images.shape[-1]} px, the galaxies {galaxies.resolution} px"
        elif not (torch.allclose(self.mean, galaxies.packed.mean) and torch.allclose(self.std, galaxies.packed.std)):
            what = (
                f"its pixels are standardised with mean {self.mean.tolist()} and standard deviation {self.std.tolist()}, "
                f"those of the galaxies with {galaxies.packed.mean.tolist()} and {galaxies.packed.std.tolist()}"
            )
        if what:
            raise InputError(f"{path} does not fit {galaxies.path}: {what}")
