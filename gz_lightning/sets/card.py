"""The card of a set: ``README.md`` beside its images, in the words of the set's description."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

METHOD = (
    "Cazenavette et al. 2022, Dataset Distillation by Matching Training Trajectories, arXiv:2203.11932",
    "Guan et al. 2023, Discovering Galaxy Features via Dataset Distillation, arXiv:2311.17967",
)
"""What to cite for the method."""
SIZES = ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))
"""Names of Hugging Face for numbers of rows below a bound."""
LAYOUT = {
    "folder": "`00_leaf/00000.png` and so on: number and name of the leaf, and place of the image in the set. Readers that "
    "take class folders in alphabetical order (torchvision's ImageFolder, DD-Ranking) number the leaves as below.",
    "tiff": "`00000_leaf.tiff` and so on, one for each image: three pages, red, green and blue, single precision, in units "
    "of [0, 1] and not clipped. `tifffile.imread` gives the shape (3, H, W). To standardise: (pixels - mean) / std.",
    "pt": "`images_best.pt` (standardised pixels, float32, shape (M, 3, H, W)), `labels_best.pt` and, for a single step "
    "size, `lr_best.pt`, for `torch.load(..., weights_only=True)`. Codes that take the softmax of their labels, as DATM's "
    "evaluation does, need `logits_best.pt` instead of `labels_best.pt`.",
    "huggingface": "`load_dataset` gives the columns `image` (8 bits, to look at), `label`, and `pixels`, the standardised "
    "float32 values of shape (3, H, W) that belong to the accuracy above. Soft labels are in `soft_label`.",
}
"""What lies in a folder, by format."""
CHOICES = {
    "mtt": "With the learned step size {} (protocol mtt)",
    "validated": "With step size {}, chosen on validation galaxies (protocol validated)",
}
"""How a line on accuracy begins, by protocol."""


def card(description: Mapping[str, Any]) -> str:
    """The card, in Markdown.

    Args:
        description: See :func:`gz_lightning.sets.description.describe`.
    """
    counts = Counter(_leaf(label) for label in description["labels"])
    names = description["class_names"]
    leaves = [f"| {leaf} | {name} | {counts[leaf]} |" for leaf, name in enumerate(names)]
    lines = [
        f"# {description['images']} distilled images of {len(names)} classes of galaxies",
        "",
        f"{description['images']} images of {description['resolution']} x {description['resolution']} px, made by "
        f"gz_lightning {description['gz_lightning_version']} so that networks which are trained on these images alone "
        "classify galaxies. They are no photographs.",
        "",
        *accuracy_lines(description),
        "",
        "| label | class | images |",
        "|---|---|---|",
        *leaves,
        "",
        "## Files",
        "",
        f"{LAYOUT[description['stored']]} `set.json` holds everything else, in plain words and numbers.",
        "",
        cut_off_line(description),
        "",
        "## Training",
        "",
        f"Step size {_step_sizes(description['step_sizes'])}; SGD with momentum 0.9 and weight decay 5e-4 for 1000 epochs, "
        f"a tenth of the step size after half of them; augmentation `{description['augmentation']}`. Network: "
        f"`{json.dumps(description['network'])}`. Mean {_rounded(description['mean'])} and standard deviation "
        f"{_rounded(description['std'])} per channel, of pixels in [0, 1].",
        "",
        "## Licence",
        "",
        description["licence"],
        "",
        "## Please cite",
        "",
        *(f"- {work}" for work in description["citation"]),
    ]
    front = front_matter(description) if description["stored"] == "huggingface" else []
    return "\n".join([*front, *lines, ""])


def front_matter(description: Mapping[str, Any]) -> list[str]:
    """What the Hub and ``load_dataset`` read of a card, in YAML."""
    size = next((name for most, name in SIZES if description["images"] < most), "n>100K")
    licence = description["licence_id"]
    return [
        "---",
        *([f"license: {licence}"] if licence else []),
        "pretty_name: Distilled galaxies",
        "task_categories: [image-classification]",
        f"size_categories: [{size}]",
        "tags: [dataset-distillation, astronomy, galaxy-zoo]",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        "    path: data/train-*.parquet",
        "---",
        "",
    ]


def accuracy_lines(description: Mapping[str, Any]) -> list[str]:
    """How good the set is: a line for each protocol that it was evaluated by, or that it was not."""
    accuracy = description["accuracy"]
    if accuracy is None:
        return ["It has not been evaluated on test galaxies."]
    return [
        f"{CHOICES.get(row['protocol'], 'With step size {}').format(row['step size'])}: {row['test']:.1f} % of "
        f"{accuracy['test_galaxies']} test galaxies are classified correctly (95 % interval {row['low']:.1f} to "
        f"{row['high']:.1f}; {row['networks']} fresh networks of {accuracy['epochs']} epochs)."
        for row in accuracy["rows"]
    ]


def cut_off_line(description: Mapping[str, Any]) -> str:
    """How many pixel values a picture of 8 bits cuts off."""
    share = f"{100 * description['cut_off']:.1f} % of the pixel values lie below 0 or above 255, which a PNG cuts off"
    if description["stored"] == "folder":
        return f"{share}: a network learns less from these pictures than from the set itself. The other formats keep all."
    where = "in `pixels`" if description["stored"] == "huggingface" else "here"
    return f"Nothing is cut off {where} ({share})."


def _leaf(label: int | list[float]) -> int:
    return label if isinstance(label, int) else max(range(len(label)), key=label.__getitem__)


def _step_sizes(values: list[float]) -> str:
    if not values:
        return "unknown"
    return ", ".join(f"{value:.3g}" for value in values) + (", one for each start epoch in turn" if len(values) > 1 else "")


def _rounded(values: list[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)
