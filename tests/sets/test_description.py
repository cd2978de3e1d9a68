"""What a set says of itself, and descriptions that cannot be used."""

import json
from typing import Any

import pytest
import torch

from gz_lightning.errors import Damaged
from gz_lightning.sets.description import check_content, describe, described_set, labels_of, numbers, read_description
from gz_lightning.sets.formats import UNTOLD
from gz_lightning.sets.synthetic import SyntheticSet
from tests.sets.test_pictures import made


def described(synthetic: SyntheticSet) -> dict[str, Any]:
    return read_description(json.dumps(describe(synthetic, "pt", synthetic.images, UNTOLD)))


@pytest.mark.parametrize("soft", [False, True])
def test_all_of_a_set_is_in_it(soft: bool) -> None:
    synthetic = made(3)
    synthetic.network, synthetic.tree, synthetic.augmentation = {"name": "ConvNet", "width": 8}, "own", "galaxy"
    synthetic.data, synthetic.trajectories, synthetic.iteration = "d", "t", 7
    synthetic.step_sizes, synthetic.results = torch.tensor([0.1, 0.3]), {"val_accuracy": 0.5}
    synthetic.configuration = {"syn_steps": 3, "trajectories": "/home/me/experts", "load_syn_image": "/home/me/a.h5"}
    if soft:
        synthetic.labels = torch.eye(3)[synthetic.labels] * 0.7 + 0.1
    description = described(synthetic)
    assert "/home" not in json.dumps(description)
    found = described_set(description, synthetic.images, torch.from_numpy(labels_of(description)))
    for name, value in {**vars(synthetic), "configuration": {"syn_steps": 3}}.items():
        read = getattr(found, name)
        assert torch.equal(read, value) if isinstance(value, torch.Tensor) else read == value, name


def test_it_belongs_to_its_images() -> None:
    synthetic = made(3)
    description = described(synthetic)
    check_content(description, synthetic.images)
    check_content({**description, "licence": "cc-by-4.0"}, synthetic.images)  # which may be edited
    for changed in ({"mean": [0.1, 0.2, 0.3]}, {"labels": [0] * 6}, {"augmentation": "none_"}):
        with pytest.raises(Damaged, match="or the images, are not what they were written as"):
            check_content({**description, **changed}, synthetic.images)
    with pytest.raises(Damaged, match="or the images, are not what they were written as"):
        check_content(description, synthetic.images + 1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "it is other version 1"),
        ({"format_version": 2}, "it is gz_lightning.set version 2; this release .* reads gz_lightning.set 1"),
        ({"images": 0}, "it is of 0 images"),
        ({"images": True}, "its images is True"),
        ({"resolution": None}, "its resolution is None"),
    ],
)
def test_another_text_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Damaged, match=message):
        read_description(json.dumps({**describe(made(3), "pt", made(3).images, UNTOLD), **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"std": [0.1, 0.0, 0.1]}, "std of channel 1 is 0.0"),
        ({"step_sizes": [-1.0]}, "step_sizes of start epoch 0 is -1.0"),
        ({"class_names": ["a", "a", "b"]}, "the names of the leaves are"),
        ({"class_names": [1, 2, 3]}, "its class_names are"),
        ({"augmentation": "swirl"}, "there is no augmentation 'swirl'"),
        ({"results": {"val_accuracy": "good"}}, "its results are"),
        ({"network": "ConvNet"}, "its network is 'ConvNet'"),
    ],
)
def test_values_that_no_set_has_are_refused(changes: dict[str, Any], message: str) -> None:
    synthetic = made(3)
    with pytest.raises(Damaged, match=message):
        described_set({**described(synthetic), **changes}, synthetic.images, synthetic.labels)


def test_labels_and_numbers() -> None:
    of = {"class_names": ["a", "b"], "images": 2}
    assert labels_of({**of, "labels": [1, 0]}).tolist() == [1, 0]
    assert labels_of({**of, "labels": [[0.5, 0.5], [1, 0]]}).tolist() == [[0.5, 0.5], [1, 0]]
    for labels in ([0], [0, 2], [0, -1], [0, "1"], [[0.5, 0.5], [1]], [[0.5, 0.5], 1], [[0.5, None], [1, 0]], "01"):
        with pytest.raises(Damaged, match="labels"):
            labels_of({**of, "labels": labels})
    with pytest.raises(Damaged, match="its mean is"):
        numbers({"mean": [1.0, float("nan"), 1.0]}, "mean", 3)
    with pytest.raises(Damaged, match="its mean is"):
        numbers({"mean": [1.0]}, "mean", 3)


@pytest.mark.parametrize("labels", [torch.zeros(6), torch.zeros(5, dtype=torch.int64), torch.full((6, 2), 0.5)])
def test_labels_of_another_shape_are_refused(labels: torch.Tensor) -> None:
    synthetic = made(3)
    with pytest.raises(Damaged, match=r"its labels are torch\.\w+ of the shape"):
        described_set(described(synthetic), synthetic.images, labels)
