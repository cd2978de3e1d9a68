"""A run folder with an evaluation, as small as it gets."""

from pathlib import Path

import pytest

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.evaluation.evaluate import evaluate
from tests.evaluation.conftest import synthetic_set

METRICS = """loss,probe_loss,stage,step,step_size/start_epoch_0,val/accuracy
,,,0,,0.4
0.9,1.1,1.0,9,0.02,
0.8,1.0,2.0,19,0.021,
,,,20,,0.5
"""


@pytest.fixture(scope="session")
def evaluated(toy_path: Path, toy_experts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with an evaluation that has soft labels and one more network; a test that changes it takes a copy."""
    folder = tmp_path_factory.mktemp("runs") / "a & b"
    toy = Galaxies(toy_path)
    write_run(folder, toy, toy_path, toy_experts)
    evaluate(
        folder / "best.h5", toy_path, num_eval=1, epochs=2, draws=2, step_sizes=[0.01, 0.02], full_epochs=1,
        baselines=["random real", "class mean", "full data"], soft_labels="expert", experts=toy_experts,
        networks=["ConvNetD1W4"],
    )  # fmt: skip
    return folder


def write_run(folder: Path, toy: Galaxies, toy_path: Path, experts: Path) -> None:
    """What a distillation leaves behind."""
    synthetic_set(toy, configuration={"syn_steps": 3, "trajectories": str(experts)}).save(folder / "best.h5")
    for version, text in enumerate((METRICS, "")):
        logs = folder / "logs" / f"version_{version}"
        logs.mkdir(parents=True)
        (logs / "metrics.csv").write_text(text)
        (logs / "config.yaml").write_text(f"data:\n  path: {toy_path}\n")
