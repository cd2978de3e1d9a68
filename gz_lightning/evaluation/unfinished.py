"""UnfinishedEvaluation: finished outcomes on disk, so that an interrupted evaluation resumes.

Shapes: D draws, n networks per draw, N galaxies, K leaves.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from gz_lightning.errors import InputError
from gz_lightning.evaluation.contenders import Contender, Outcome
from gz_lightning.storage.tensors import load_signed, save_signed


class UnfinishedEvaluation:
    """Outcomes on disk, one file per outcome, named by a digest of everything that it depends on.

    Args:
        folder: Folder of the files; removed when the evaluation is finished.
        galaxies: Fingerprint of the galaxies.
        device: Device that networks are trained on.

    Example:
        >>> kept = UnfinishedEvaluation(Path("evaluation/unfinished"), galaxies.fingerprint, "cpu")  # doctest: +SKIP
        >>> outcome = kept.find(contender, network) or compete(contender, network, galaxies, device)  # doctest: +SKIP
    """

    def __init__(self, folder: Path, galaxies: str, device: str) -> None:
        self.folder, self.made_with = folder, [galaxies, device, torch.__version__]

    def _file(self, contender: Contender, network: Mapping[str, Any]) -> Path:
        settings = [contender.name, contender.protocol, contender.networks, contender.syn_steps, contender.choosing]
        digest = hashlib.sha256(json.dumps([self.made_with, settings, asdict(contender.training), dict(network)]).encode())
        for candidate in contender.candidates:
            digest.update(json.dumps([candidate.name, list(candidate.step_sizes), len(candidate.sets)]).encode())
            for tensor in (tensor for pair in candidate.sets for tensor in pair):
                digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().data)
        return self.folder / f"{digest.hexdigest()[:32]}.pt"

    def find(self, contender: Contender, network: Mapping[str, Any]) -> Outcome | None:
        """The outcome, or None if its file is absent or damaged."""
        path = self._file(contender, network)
        if not path.is_file():
            return None
        try:
            kept = load_signed(path)
        except InputError:  # damaged: it is trained again
            return None
        if kept.get("of") != path.stem:  # it was copied to this name
            return None
        chosen = contender.candidates[kept["chosen"]]
        tried = [(str(name), str(step), float(mean)) for name, step, mean in kept["tried"]]
        return Outcome(contender, chosen, tried, *(kept[name].detach() for name in ("val", "test_logits", "hits")))

    def keep(self, outcome: Outcome, network: Mapping[str, Any]) -> None:
        """Write an outcome atomically."""
        contender = outcome.contender
        chosen = next(i for i, candidate in enumerate(contender.candidates) if candidate is outcome.chosen)
        path = self._file(contender, network)
        kept = {"of": path.stem, "chosen": chosen, "tried": [list(one) for one in outcome.tried]}
        tensors = {"val": outcome.val, "test_logits": outcome.test_logits, "hits": outcome.hits}
        tensors = {name: tensor.cpu() for name, tensor in tensors.items()}
        save_signed({**kept, **tensors}, path)

    def remove(self) -> None:
        """Remove all files: the evaluation is finished."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.folder)
