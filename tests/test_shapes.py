"""Shapes in annotations: checked here at run time, and plain types where jaxtyping is not installed."""

import subprocess
import sys

import pytest
import torch
from jaxtyping import TypeCheckError

from gz_lightning.distillation.matching import matching_loss


def test_a_wrong_shape_is_an_error_in_the_tests() -> None:
    with pytest.raises(TypeCheckError, match="target"):
        matching_loss(torch.zeros(3), torch.zeros(3), torch.zeros(4))


def test_without_jaxtyping_annotations_are_the_types() -> None:
    program = (
        "import sys; sys.modules['jaxtyping'] = None; import torch;"
        "from gz_lightning.shapes import Float, Int, Shaped, Tensor;"
        "assert Float[Tensor, 'n P'] is Int[Tensor, 'n'] is Shaped[Tensor, ''] is torch.Tensor;"
        "import gz_lightning.networks.ensemble, gz_lightning.distillation.unroll"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
