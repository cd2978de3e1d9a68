"""What lower precisions do to the gradient of the images: its cosine to float64's is printed (pytest -rP shows it)."""

from collections.abc import Iterator

import pytest
import torch

from gz_lightning.augmentation import augment
from gz_lightning.distillation.matching import matching_loss
from gz_lightning.distillation.unroll import unroll
from gz_lightning.networks.convnet import ConvNet
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.randomness import generator

STEPS = 10


@pytest.fixture
def _tf32() -> Iterator[None]:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


def image_gradient(device: torch.device, dtype: torch.dtype, autocast: bool = False) -> torch.Tensor:
    """Gradient of the matching loss, float64 on the CPU, shape (K, 3, H, W). Autocast goes with autograd alone."""
    torch.manual_seed(0)
    convnet = ConvNet(5, 32, width=32)
    network, start = FunctionalNetwork(convnet), FunctionalNetwork.parameters_of(convnet)
    target = (start + 0.01 * torch.randn_like(start)).to(device, dtype)
    images = torch.randn(5, 3, 32, 32).to(device, dtype).requires_grad_()
    start, labels, draws = start.to(device, dtype), torch.arange(5, device=device), generator(0)
    batches = [augment(images, "galaxy", draws) for _ in range(STEPS)]
    alphas = torch.full((STEPS,), 0.02, device=device, dtype=dtype)
    with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        end = unroll(network, start, batches, [labels] * STEPS, alphas, "full" if autocast else "adjoint")
        loss = matching_loss(end, start, target)
    return torch.autograd.grad(loss, images)[0].cpu().double()


@pytest.mark.usefixtures("_tf32")
@pytest.mark.parametrize(
    ("name", "least"), [("float32", 0.99), ("float32, TF32", 0.9), ("bfloat16 where autocast has it", 0.5)]
)
def test_cosine_of_the_image_gradient(name: str, least: float, device: torch.device) -> None:
    torch.set_float32_matmul_precision("high" if "TF32" in name else "highest")
    torch.backends.cudnn.allow_tf32 = "TF32" in name
    exact = image_gradient(device, torch.float64)
    found = image_gradient(device, torch.float32, autocast="bfloat16" in name)
    cosine = float((found * exact).sum() / found.norm() / exact.norm())
    print(f"cosine to float64, {STEPS} steps on {device.type}, {name}: {cosine:.8f}")
    assert cosine > least
