"""A run folder with an evaluation, as small as it gets."""

from pathlib import Path

import pytest
from PIL import Image

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.evaluation.evaluate import evaluate
from gz_lightning.report.runs import Run, read_run
from gz_lightning.sets.sources import FIRST
from gz_lightning.sets.synthetic import USED
from tests.evaluation.conftest import evaluation as evaluation
from tests.evaluation.conftest import synthetic_set

METRICS = """loss,probe_loss,stage,step,step_size,step_size/start_epoch_0,\
step_size/start_epoch_1,val/accuracy,val/accuracy_std
,,,0,,,,0.4,0.05
0.9,1.1,1.0,9,0.02,0.02,,,
0.8,1.0,2.0,19,0.021,,0.021,,
,,,20,,,,0.5,0.02
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
    settings = {"syn_steps": 3, "trajectories": str(experts), "expert_epochs": None, "lr_img": None, "num_eval": 1}
    settings |= {"epoch_eval_train": 2, "batch_real": None, "network": None}
    configuration = {**settings, USED: {"expert_epochs": 1, "lr_img": 0.003}}
    made = synthetic_set(toy, configuration=configuration)
    made.save(folder / "best.h5")
    before = made.images.clone()
    before[0, :, 5:9, 5:9] -= 2.0
    synthetic_set(toy, images=before, iteration=0).save(folder / FIRST)
    for iteration in (0, 10, 20):
        shade = (10 * iteration, 0, 0)
        Image.new("RGB", (1200, 600), shade).save(folder / "pictures" / f"iteration_{iteration:06d}.png")
    for version, text in enumerate((METRICS, "")):
        logs = folder / "logs" / f"version_{version}"
        logs.mkdir(parents=True)
        (logs / "metrics.csv").write_text(text)
        (logs / "config.yaml").write_text(f"data:\n  path: {toy_path}\n")


@pytest.fixture(scope="session")
def run(evaluated: Path) -> Run:
    """What the run folder holds."""
    return read_run(evaluated)
