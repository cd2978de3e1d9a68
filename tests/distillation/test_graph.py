"""Iterations that are captured and replayed: the buffers, with a stand-in for the capture, give the bits of plain ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gz_lightning.augmentation import DSA
from gz_lightning.distillation.graph import Outputs, Replayed, matching
from gz_lightning.distillation.matching import Drawn
from gz_lightning.distillation.module import TrajectoryMatching
from gz_lightning.distillation.unroll import Adjoint
from gz_lightning.errors import InputError
from tests.distillation.conftest import Distil

CPU, GPU = torch.device("cpu"), torch.device("cuda")


class Again:
    """Stands in for a CUDA graph: to replay is to run once more on the same buffers, into the same outputs."""

    def __init__(self) -> None:
        self.captures = self.replays = 0

    def __call__(self, run: Callable[[], Outputs]) -> tuple[Callable[[], object], Outputs]:
        outputs = [torch.full_like(output, torch.nan) for output in run()]  # a capture computes nothing
        self.captures += 1

        def replay() -> None:
            self.replays += 1
            for output, new in zip(outputs, run(), strict=True):
                output.copy_(new)

        return replay, outputs


def refuses(run: Callable[[], Outputs]) -> tuple[Callable[[], object], Outputs]:
    run()
    raise RuntimeError("operation not permitted when stream is capturing\nand more of it")


def captured(monkeypatch: pytest.MonkeyPatch, capture: Any) -> None:
    monkeypatch.setattr(
        "gz_lightning.distillation.module.matching", lambda work, settings, device, *_: Replayed(work, device, capture)
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"stage": "fixed", "batch_syn": 4, "segments_per_step": 2},
        {"stage": "fixed", "augmentation": "none", "unroll": "full"},
        {"labels": "experts", "lr_label": 5.0},
        # A probe at first, and none in the fine-tuning that follows: other shapes, and another graph.
        {"stage": "stage", "max_duration": 10, "max_start_epoch": 1, "sigma_threshold": 1e9, "iterations": 14},
    ],
    ids=str,
)
def test_replayed_iterations_have_the_bits_of_plain_ones(
    settings: dict[str, Any], distil: Distil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = distil(tmp_path / "plain", lr_img=0.05, **settings)
    capture = Again()
    captured(monkeypatch, capture)
    replayed = distil(tmp_path / "replayed", lr_img=0.05, **settings)
    assert torch.equal(plain.images, replayed.images)
    assert torch.equal(plain.log_step_sizes, replayed.log_step_sizes)
    assert plain.stages.state_dict() == replayed.stages.state_dict()
    assert capture.captures == 1 + bool(plain.stages.state_dict().get("fine_tuning"))
    assert capture.replays == plain.iteration * settings.get("segments_per_step", 1)


def test_where_capture_fails_a_remark_says_so_once(
    distil: Distil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = distil(tmp_path / "plain", iterations=3)
    capsys.readouterr()
    captured(monkeypatch, refuses)
    eager = distil(tmp_path / "eager", iterations=3)
    assert torch.equal(plain.images, eager.images)
    said = [line for line in capsys.readouterr().err.splitlines() if "CUDA graph" in line]
    assert said == [
        "no CUDA graph (operation not permitted when stream is capturing): iterations run operator by operator, as with "
        "--model.graph off"
    ]


def test_results_are_copies() -> None:
    replayed = Replayed(lambda drawn: [drawn.start + drawn.target], CPU, Again())
    zero, rows = torch.zeros(2), torch.arange(1)
    first = replayed(Drawn(0, 0, (1,), zero, zero + 1, rows))[0]
    second = replayed(Drawn(0, 1, (1,), zero, zero + 2, rows))[0]
    assert (first.tolist(), second.tolist()) == ([1, 1], [2, 2])


def test_when_iterations_are_captured() -> None:
    def chosen(
        device: torch.device, graph: str | bool, devices: int = 1, strategy: str = "galaxy", sizes: str = "global"
    ) -> bool:
        settings = {"graph": graph, "step_sizes": sizes, "objective": "match"}
        return isinstance(matching(lambda drawn: [], settings, device, strategy, devices), Replayed)

    assert chosen(GPU, "auto")
    assert chosen(GPU, "on", devices=2)
    assert chosen(GPU, True, devices=2)  # YAML reads on and off as these
    assert not chosen(GPU, "off")
    assert not chosen(GPU, False)
    assert not chosen(GPU, "auto", devices=2)
    assert not chosen(GPU, "auto", strategy=DSA)
    assert not chosen(GPU, "auto", sizes="independent")
    assert not chosen(CPU, "auto")
    settings = {"graph": "auto", "step_sizes": "global", "objective": "match"}
    for part, captured in ((Adjoint, True), (Again, False)):  # a function of one's own may count
        assert isinstance(matching(lambda drawn: [], settings, GPU, "none", parts=[part]), Replayed) == captured
    for wrong, reason in (
        ({"device": CPU}, r"--model.graph on needs a GPU \(--trainer.accelerator gpu\); --model.graph auto captures where"),
        ({"device": GPU, "strategy": DSA}, f"operations are always the same, galaxy or none, not {DSA};"),
        ({"device": GPU, "sizes": "independent"}, "needs one step size for all start epochs: --model.step_sizes global;"),
    ):
        with pytest.raises(InputError, match=reason):
            chosen(graph="on", **wrong)


def test_a_graph_without_a_gpu_is_refused(distil: Distil, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--model.graph on needs a GPU"):
        distil(tmp_path, graph="on")
    with pytest.raises(InputError, match="--model.graph must be one of auto, on, off or true or false, not 'always'"):
        TrajectoryMatching(graph="always")  # type: ignore[arg-type]
