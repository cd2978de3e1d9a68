"""How a network is trained: schedules and symmetric copies."""

import pytest
import torch

from gz_lightning.errors import InputError
from gz_lightning.training.protocol import Protocol, symmetric_copies


def test_published_schedules() -> None:
    assert Protocol(epochs=4).step_size_schedule([0.1]) == [0.1, 0.1, 0.01, 0.01]
    assert Protocol(epochs=5).step_size_schedule([0.1]) == [0.1, 0.1, 0.1, 0.01, 0.01]
    # 1000 epochs and four step sizes: 500 / 4 epochs at each, then 500 at a tenth of the last.
    assert Protocol().step_size_schedule([4, 3, 2, 1]) == [4] * 125 + [3] * 125 + [2] * 125 + [1] * 125 + [0.1] * 500
    assert Protocol(epochs=4).step_size_schedule([2, 1], syn_steps=3) == [2] * 3 + [1] * 3 + [0.1] * 2
    cosine = Protocol(epochs=4, schedule="cosine").step_size_schedule([1.0])
    assert cosine == pytest.approx([1, 0.8536, 0.5, 0.1464], abs=1e-4)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="symmetries is 1 or 8"):
        Protocol(symmetries=4)
    with pytest.raises(InputError, match=r"epochs \(0\) and batch_size \(256\) must be at least 1"):
        Protocol(epochs=0)
    with pytest.raises(InputError, match="no augmentation 'blur'"):
        Protocol(augmentation="blur")


def test_symmetric_copies_are_the_eight_of_a_square() -> None:
    image = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
    copies, labels = symmetric_copies(image, torch.tensor([0, 1]))
    assert torch.equal(copies[:2], image)
    assert labels.tolist() == [0, 1] * 8
    of_one = {tuple(copy.flatten().tolist()) for copy in copies[::2]}
    assert len(of_one) == 8
    for move in (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.transpose(-1, -2), lambda x: x.rot90(1, (-2, -1))):
        assert {tuple(move(copy).flatten().tolist()) for copy in copies[::2]} == of_one
