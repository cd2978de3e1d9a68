"""How a trajectory is read: epoch by epoch, as it was stored, or as a straight path that goes as far in each epoch.

SGD takes a crooked way, and late in training most of an epoch is noise that no student can follow. Three groups found that
synthetic images match a smoothed way better (MCT, Zhong et al. 2025; PTM-ST; Bezier surrogates).

Shapes: E epochs, L layers (tensors of the network, weights and biases each), P parameters.
"""

from __future__ import annotations

import math

import torch

from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.shapes import Float, Tensor


class RawPath:
    """The epochs as they were stored (MTT); and the contract of an entry of PATHS.

    Args:
        store: The experts.
    """

    def __init__(self, store: TrajectoryStore) -> None:
        self.store = store

    def epoch(self, epoch: float) -> float:
        """The epoch of a point that the path has, for a real number in [0, E]; here the whole one that it lies in."""
        return math.floor(epoch)

    def point(self, expert: int, epoch: float) -> Float[Tensor, " P"]:
        """Where an expert was at such an epoch.

        Raises:
            InputError: If there is no such expert or epoch, or its record is damaged.
        """
        return self.store.parameters(expert, int(self.epoch(epoch)))


class StraightPath(RawPath):
    """The straight line from an expert's initialisation to its last epoch, layer by layer, with the expert's pace.

    With theta_s the expert at epoch s and c_l(s) the length that layer l has gone by then, sum over j < s of
    |theta_{j+1,l} - theta_{j,l}|, linear between epochs, the path is at theta_{0,l} + beta_l(s) (theta_{E,l} - theta_{0,l})
    where beta_l(s) = c_l(s) / c_l(E); 0 of a layer that never moves, as a bias before a norm.

    The result would be worse than that of the raw path if the last epoch is: it should be where the learning rate has fallen
    (``lr_schedule: cosine``). The first time that an expert is drawn, its whole trajectory is read.
    """

    def __init__(self, store: TrajectoryStore) -> None:
        super().__init__(store)
        self.sizes = torch.tensor([parameter.numel() for parameter in store.network().parameters()])
        self._shares: dict[int, Float[Tensor, "rows L"]] = {}

    def shares(self, expert: int) -> Float[Tensor, "rows L"]:
        """beta_l(s) of the epochs s = 0 .. E, shape (E + 1, L)."""
        if expert not in self._shares:
            steps = self.store.trajectory(expert).double().diff(dim=0)
            layers = torch.arange(len(self.sizes)).repeat_interleave(self.sizes)
            lengths = steps.new_zeros(len(steps), len(self.sizes)).index_add_(1, layers, steps.square()).sqrt()
            gone = torch.cat([lengths.new_zeros(1, len(self.sizes)), lengths.cumsum(0)])
            self._shares[expert] = (gone / torch.where(gone[-1] > 0, gone[-1], 1)).float()
        return self._shares[expert]

    def epoch(self, epoch: float) -> float:
        """See :meth:`RawPath.epoch`; any."""
        return epoch

    def point(self, expert: int, epoch: float) -> Float[Tensor, " P"]:
        """See :meth:`RawPath.point`."""
        self.store.require(expert, epoch)
        begin, end = (self.store.parameters(expert, at) for at in (0, self.store.num_epochs))
        shares, before = self.shares(expert), min(math.floor(epoch), self.store.num_epochs - 1)
        beta = torch.lerp(shares[before], shares[before + 1], epoch - before)
        return begin + beta.repeat_interleave(self.sizes) * (end - begin)


PATHS: dict[str, type[RawPath]] = {"raw": RawPath, "straight": StraightPath}
"""Ways to read a trajectory by name; the contract is :class:`RawPath`'s."""
