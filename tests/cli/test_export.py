"""The command ``export``."""

import subprocess
import sys
from pathlib import Path

import pytest

from gz_lightning import export
from gz_lightning.cli import main
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from tests.evaluation.conftest import synthetic_set


def test_a_set_is_written(toy: Galaxies, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synthetic_set(toy).save(tmp_path / "best.h5")
    main(["export", str(tmp_path), "--to", "pt", "--output", str(tmp_path / "set")])
    assert f"written: {tmp_path / 'set'}" in capsys.readouterr().out
    names = ["README.md", "images_best.pt", "labels_best.pt", "logits_best.pt", "lr_best.pt", "set.json"]
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == names


def test_a_mistake_is_one_line(toy: Galaxies, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synthetic_set(toy).save(tmp_path / "best.h5")
    with pytest.raises(SystemExit) as end:
        main(["export", str(tmp_path), "--to", "jpeg"])
    assert end.value.code == 2
    assert "--to" in capsys.readouterr().err
    with pytest.raises(InputError, match="--to must be one of folder, tiff, npz, pt, huggingface, not 'jpeg'"):
        export(tmp_path, "jpeg")  # type: ignore[arg-type]


def test_the_settings_need_no_torch() -> None:
    program = "import sys, gz_lightning.cli.export; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
