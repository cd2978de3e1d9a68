"""Records of benchmarks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gz_lightning.storage.whole import atomic_write


def keep(record: Mapping[str, Any], path: Path | None) -> None:
    """Print a record as JSON, and write it into a file if one is named."""
    text = json.dumps(record, indent=1)
    print(text)
    if path is not None:
        with atomic_write(path) as temporary:
            temporary.write_text(text + "\n")
