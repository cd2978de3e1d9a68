"""Remarks of Lightning that nobody can do anything about here, left out: on the command line and in a notebook.

They come as soon as a Trainer is made, before any of this package's code runs: so the modules that a Trainer trains leave
them out when they are imported.
"""

from __future__ import annotations

import logging
import warnings

MESSAGES = (
    ".*does not have many workers.*",  # batches are slices of a tensor in memory
    ".*isinstance\\(treespec, LeafSpec\\).*",  # a deprecated use of torch inside Lightning
    ".*`max_epochs` was not set.*",  # the modules set it
    ".*You passed in a `val_dataloader` but have no `validation_step`.*",  # EvaluateSynthetic validates
    ".*is smaller than the logging interval.*",
    ".*Total length of .* across ranks is zero.*",  # a finished run that is started again
    ".*when logging on epoch level in distributed setting.*",  # each process trains other experts
)
"""Warnings about what is meant to be as it is."""
ADVERTS = ("litlogger", "litmodels")
"""Packages that Lightning's log recommends at every start."""


def _no_advert(record: logging.LogRecord) -> bool:
    return not any(name in str(record.msg) for name in ADVERTS)


def quiet() -> None:
    """Leave out ``MESSAGES`` and the ``ADVERTS`` of Lightning's log. Once is enough; more does no harm."""
    for message in MESSAGES:
        warnings.filterwarnings("ignore", message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_advert)
