"""Generators that depend on their key alone."""

import hashlib

import torch

from gz_lightning.randomness import derived_seed, generator


def test_a_seed_is_the_hash_of_its_key() -> None:
    digest = hashlib.sha256(b"(3, 'expert', 7)").digest()
    assert derived_seed(3, "expert", 7) == int.from_bytes(digest[:8], "big") // 2
    assert 0 <= derived_seed() < 2**63


def test_the_same_key_draws_the_same_and_others_draw_others() -> None:
    state = torch.get_rng_state()
    draws = [torch.rand(4, generator=generator(*key)) for key in (("a", 1), ("a", 1), ("a", 2), ("b", 1), ("a1",), (1, "a"))]
    assert torch.equal(draws[0], draws[1])
    assert len({tuple(draw.tolist()) for draw in draws}) == 5
    assert torch.equal(torch.get_rng_state(), state)
