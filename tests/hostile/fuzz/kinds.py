"""All kinds of files that the program reads, by name, with their share of the cases."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.hostile.fuzz.case import Outcome, Trial, run_case
from tests.hostile.fuzz.kinds_exported import exported_trial
from tests.hostile.fuzz.kinds_hdf5 import experts_trial, packed_trial, sets_trial
from tests.hostile.fuzz.kinds_images import folders_trial, image_trial, unfinished_trial
from tests.hostile.fuzz.kinds_shards import galaxy10_trial, schema_trial, shards_trial, tar_trial, votable_trial
from tests.hostile.fuzz.kinds_tables import TABLES, mapping_trial, table_trial
from tests.hostile.fuzz.kinds_text import config_trial, evaluation_trial, pictures_trial, run_trial, tree_trial
from tests.hostile.fuzz.kinds_torch import (
    buffers_trial,
    distill_checkpoint_trial,
    fit_checkpoint_trial,
    outcomes_trial,
    pairs_trial,
)
from tests.hostile.fuzz.originals import Originals

Make = Callable[[random.Random, Originals, Path], Trial]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Args:
        name: Its name on the command line of the fuzzer.
        make: Makes a case of a seed.
        share: Cases of it among a hundred or so; fewer where one takes long.
    """

    name: str
    make: Make
    share: int

    def run(self, originals: Originals, seed: int) -> Outcome:
        """Run a case."""

        def make(draws: random.Random, folder: Path) -> Trial:
            return self.make(draws, originals, folder)

        return run_case(make, self.name, seed)


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        *(Kind(name, functools.partial(table_trial, name), 6) for name in TABLES),
        Kind("shards", shards_trial, 8),
        Kind("tar", tar_trial, 4),
        Kind("galaxy10", galaxy10_trial, 3),
        Kind("votable", votable_trial, 4),
        Kind("schema", schema_trial, 4),
        Kind("mapping", mapping_trial, 4),
        Kind("folders", folders_trial, 5),
        Kind("images", image_trial, 8),
        Kind("tree", tree_trial, 5),
        Kind("unfinished-packing", unfinished_trial, 2),
        Kind("packed", packed_trial, 12),
        Kind("experts", experts_trial, 12),
        Kind("sets", sets_trial, 12),
        Kind("buffers", buffers_trial, 6),
        Kind("pairs", pairs_trial, 6),
        Kind("pictures", pictures_trial, 4),
        Kind("exported", exported_trial, 8),
        Kind("outcomes", outcomes_trial, 2),
        Kind("fit-checkpoint", fit_checkpoint_trial, 3),
        Kind("distill-checkpoint", distill_checkpoint_trial, 3),
        Kind("config", config_trial, 5),
        Kind("evaluation", evaluation_trial, 6),
        Kind("run", run_trial, 2),
    )
}
