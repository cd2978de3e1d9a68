"""The command line, in process: every command, every config, and what a user's mistake looks like."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from gz_lightning.cli import commands
from gz_lightning.cli.commands import HELP, main
from gz_lightning.cli.demo import demo_commands
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.sets.synthetic import SyntheticSet
from tests.data.test_catalog import hart16
from tests.evaluation.conftest import synthetic_set

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*/*.yaml"))
COMMAND_FOLDERS = ("prepare", "experts", "distill", "evaluate")
TRAINER = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--wandb", "off"]
FIT = ["--model.num_experts", "1", "--model.train_epochs", "2", "--model.width", "4", "--model.depth", "2", *TRAINER]
DISTILL = [
    *["--model.iterations", "2", "--model.eval_it", "2", "--model.num_eval", "1", "--model.epoch_eval_train", "2"],
    *["--model.syn_steps", "2", "--model.expert_epochs", "1", "--model.max_start_epoch", "1", *TRAINER],
]
EVALUATE = ["--num_eval", "1", "--epochs", "2", "--draws", "1", "--full_epochs", "1", "--step_sizes", "[0.01]"]


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The one line that a mistake is answered with; the exit status is 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(args)
    assert end.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err.strip().splitlines()[-1]


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for args in ([], ["--help"]):
        main(args)
        assert capsys.readouterr().out.strip() == HELP
    main(["--version"])
    assert capsys.readouterr().out.strip() == "0.1.0"
    commands = "download, prepare, fit, trajectories, distill, evaluate, export, report, demo"
    assert f"the commands are {commands}" in refused(capsys, "frobnicate")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("download", "Which of votes, mapping and images"),
        ("prepare", "Side of the packed images in pixels. 128 is the published one"),
        ("fit", "How many experts the folder is to hold. 100 in the published results."),
        ("distill", "Steps of the student in an outer iteration, N."),
        ("evaluate", "Epochs on a small set. Published: 1000."),
        ("report", "usage: gz-lightning report RUNS ... [--config FILE.yaml] [settings]"),
        ("report", "--runs RUNS ..., --runs+ RUNS ... Run folders of gz-lightning distill; several are shown side by side."),
        ("evaluate", "Without flags, in this order and before all others: SYNTHETIC DATA. With --dry_run"),
        ("export", "Without flags, in this order and before all others: RUN TO."),
        ("demo", "usage: gz-lightning demo [--config CONFIG]"),
        ("demo", "Folder that the demo writes into."),
    ],
)
def test_help_is_the_manual(command: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code in (0, None)
    assert words in " ".join(capsys.readouterr().out.split())


def test_help_tells_the_whole_story_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    told = {}
    for args in (["prepare", "--help"], ["fit", "--help"], ["fit", "--model.help"], ["distill", "--data.help"]):
        with pytest.raises(SystemExit) as end:
            main(args)
        assert end.value.code in (0, None)
        told[" ".join(args)] = capsys.readouterr().out
    assert "With neither: simulated galaxies. A contact sheet of six galaxies of each leaf" in " ".join(
        told["prepare --help"].split()
    )
    assert "Args:" not in told["fit --help"]
    assert "--model.num_experts" in told["fit --model.help"]
    assert "\n  --trainer." not in told["fit --model.help"]
    assert told["distill --data.help"].count("\n  --") == 6


def test_the_whole_way(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The five commands of the demo, made small."""
    monkeypatch.chdir(tmp_path)
    small = {
        "prepare": ["--per_class", "12"],
        "fit": FIT[2:],
        "distill": DISTILL[:-2],
        "evaluate": EVALUATE,
        "report": ["--networks", "1"],
    }
    for command in demo_commands(Path("demo")):
        main([*command, *small[command[0]]])
    out = capsys.readouterr().out
    for name in ("distilled", "class mean", "random real", "full data"):
        assert f"{name} " in out
    for name in (
        "galaxies.h5",
        "experts/expert_0005.h5",
        "distilled/best.h5",
        "distilled/evaluation/leaves.png",
        "report/report.html",
    ):
        assert (tmp_path / "demo" / name).exists()
    assert (tmp_path / "demo" / "distilled" / "logs" / "version_0" / "metrics.csv").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_config(config: Path, tmp_path: Path, toy_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = yaml.safe_load(config.read_text())
    kind = config.parent.name if config.parent.name in COMMAND_FOLDERS else config.stem.split("_")[0]  # real/prepare.yaml
    if kind == "prepare":
        table, mapping, images = (str(path) for path in hart16(tmp_path, 90))
        source = ["--images", images, "--table", table, "--mapping", mapping]
        main(["prepare", "--config", str(config), *source, "--output", "gz2.h5", "--resolution", "8"])
        packed = Galaxies("gz2.h5")
        assert packed.tree == settings["tree"]
        assert packed.configuration["per_class"] == settings["per_class"]
        return
    data = ["--data.path", str(toy_path)]
    fit = ["--config", str(config)] if kind == "experts" else []
    main(["fit", *fit, *data, *FIT])
    store = TrajectoryStore("experts")
    if kind == "experts":
        assert store.recipe.training["lr"] == settings["model"]["lr"]
        assert store.recipe.training["batch_size"] == settings["data"]["batch_size"]
        return
    distill = ["--config", str(config)] if kind == "distill" else []
    main(["distill", *distill, *data, *DISTILL, "--run_dir", "run"])
    made = SyntheticSet.load("run/last.h5")
    assert made.iteration == 2
    if kind == "distill":
        names = set(settings["model"]) - {
            "iterations",
            "eval_it",
            "num_eval",
            "epoch_eval_train",
            "syn_steps",
            "max_start_epoch",
            "expert_epochs",
        }
        assert {name: made.configuration[name] for name in names} == {name: settings["model"][name] for name in names}
        return
    assert kind == "evaluate"
    small = ["--networks", "[ConvNetD1W4]"] if "networks" in settings else []  # VGG11 does not fit 16 px
    command = ["evaluate", "--config", str(config), "--synthetic", "run/last.h5", "--data", str(toy_path)]
    main([*command, *EVALUATE, *small])
    assert Path("run/evaluation/accuracy.csv").exists()


def test_a_run_is_recorded_and_goes_on(
    tmp_path: Path, toy_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = ["--data.path", str(toy_path)]
    main(["fit", *data, *FIT, "--model.seed", "3"])
    assert "1 expert of 2 epochs in experts" in capsys.readouterr().err
    command = ["distill", *data, *DISTILL, "--run_dir", "run", "--trainer.log_every_n_steps", "1", "--model.seed", "5"]
    main([*command, "--ckpt_path", "last"])  # where there is none it is a new start
    assert "holds a run already: resume it by --ckpt_path last" in refused(capsys, *command)
    main([*command, "--ckpt_path", "last", "--model.iterations", "4"])
    assert SyntheticSet.load("run/last.h5").iteration == 4
    logs = [Path("run/logs") / f"version_{i}" for i in (0, 2)]  # the refused one made version_1
    steps = [[line.split(",") for line in (log / "metrics.csv").read_text().splitlines()] for log in logs]
    column = [rows[0].index("step") for rows in steps]
    assert [sorted({row[i] for row in rows[1:]}) for rows, i in zip(steps, column, strict=True)] == [
        ["0", "1", "2"], ["2", "3", "4"]
    ]  # fmt: skip
    main(["distill", "--config", str(logs[1] / "config.yaml"), "--ckpt_path", "null", "--run_dir", "copy"])
    assert torch.equal(SyntheticSet.load("copy/last.h5").images, SyntheticSet.load("run/last.h5").images)
    assert "there is no checkpoint none.ckpt" in refused(capsys, *command, "--ckpt_path", "none.ckpt")
    astray = [*command, "--run_dir", "astray", "--model.lr_teacher", "1e30", "--model.iterations", "2"]
    assert "gz-lightning distill: no update could be made in any of 2 iterations" in refused(capsys, *astray)


def test_weights_and_biases_offline(tmp_path: Path, toy_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    main(["fit", "--data.path", str(toy_path), *FIT])
    command = ["distill", "--data.path", str(toy_path), *DISTILL, "--run_dir", "run"]
    main([*command, "--wandb", "offline", "--wandb_name", "first look"])
    runs = list(Path("run/wandb").glob("offline-run-*"))
    assert len(runs) == 1
    assert list(runs[0].glob("files/media/images/images_*.png"))


def test_mistakes_are_answered_in_one_line(
    tmp_path: Path, toy_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = ["--data.path", str(toy_path)]
    assert "gz-lightning prepare: there is no image folder nowhere" in refused(
        capsys, "prepare", "--output", "a.h5", "--images", "nowhere"
    )
    assert "gz-lightning distill: there are no experts in experts" in refused(capsys, "distill", *data, *DISTILL)
    assert "there is no file none.h5" in refused(capsys, "fit", "--data.path", "none.h5", *FIT)
    assert "--model.lr must be a number > 0, not -1.0" in refused(capsys, "fit", *data, *FIT, "--model.lr", "-1")
    assert "--wandb is offline, online or off, not 'maybe'" in refused(capsys, "fit", *data, *FIT, "--wandb", "maybe")
    assert "nonsense" in refused(capsys, "fit", "--model.nonsense", "3")
    assert "there is no file best.h5; 'gz-lightning distill' makes one" in refused(
        capsys, "evaluate", "--synthetic", "best.h5", "--data", str(toy_path)
    )
    monkeypatch.setenv("GZ_DEBUG", "1")
    with pytest.raises(SystemExit) as end:
        main(["fit", "--data.path", "none.h5", *FIT])
    assert end.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "gz-lightning fit: there is no file none.h5" in lines[-1]


def test_simulated_galaxies_stand_in_where_no_data_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import gz_lightning.data.datamodule as datamodule

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GZ_LIGHTNING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datamodule, "SIMULATED_PER_CLASS", 6)
    monkeypatch.setattr(datamodule, "SIMULATED_RESOLUTION", 16)
    main(["fit", *FIT])
    assert "no data named: simulating galaxies into" in capsys.readouterr().err
    (path,) = (tmp_path / "cache").glob("*.h5")
    packed = Galaxies(path)
    assert len(packed.class_names) == 10
    assert packed.images.shape == (60, 3, 16, 16)
    assert TrajectoryStore("experts").recipe.data == packed.fingerprint
    main(["fit", *FIT, "--model.num_experts", "2"])
    assert "no data named" not in capsys.readouterr().err


def test_the_trees_are_drawn_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    main(["prepare", "--list_trees"])
    assert "decals: 12 leaves, Galaxy Zoo DECaLS and DESI" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["prepare", "--list_trees", "--seed", "3"])
    assert end.value.code == 2
    assert "--list_trees draws all trees, or that of --tree, and nothing else" in capsys.readouterr().err


@pytest.mark.parametrize("args", [["--list_trees", "--tree", "own.yaml"], ["--tree=own.yaml", "--list_trees"]])
def test_one_tree_is_drawn(
    args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text("name: bars\nleaves: {bar: a02 a05 a06, none: a02 a05 a07}\n")
    main(["prepare", *args])
    drawn = capsys.readouterr().out
    assert drawn.startswith("bars: 2 leaves")
    assert "simplified" not in drawn
    with pytest.raises(SystemExit):
        main(["prepare", "--list_trees", "--tree", "none.yaml"])
    assert "there is no file none.yaml" in capsys.readouterr().err


def test_whoever_reads_a_result_may_have_enough() -> None:
    """As head has after its first line."""
    command = f"{sys.executable} -m gz_lightning prepare --list_trees | head -1"
    run = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert run.stdout.startswith("simplified: 10 leaves")
    assert run.stderr == ""
    assert run.returncode in (0, 141)


@pytest.mark.parametrize("args", [["--real"], ["--real", "--output", "x"], ["--output", "x", "--real", "true"]])
def test_the_demo_takes_real_galaxies(args: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    ran: list[str] = []
    true_main = commands.main
    monkeypatch.setattr(commands, "main", lambda command: ran.append(command[0]))
    true_main(["demo", *args])
    assert ran == ["download", "prepare", "fit", "distill", "evaluate", "report"]


DRY = "a dry run: nothing was trained or written"


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(
    tmp_path: Path, toy_path: Path, toy_experts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GZ_LIGHTNING_CACHE", "cache")
    table, mapping, images = (str(path) for path in hart16(tmp_path, 90))
    data, synthetic = str(toy_path), str(tmp_path / "set.h5")
    synthetic_set(Galaxies(data)).save(synthetic)
    files = sorted(tmp_path.rglob("*"))
    source = ["--images", images, "--table", table, "--mapping", mapping]
    for command, said in (
        (["prepare", "--output", "new/a.h5", "--per_class", "3"], "30 simulated galaxies of 10 leaves at 128 px; "),
        (["prepare", "--output", "new/b.h5", *source, "--resolution", "8"], " leaves to pack at 8 px; "),
        (["fit", "--data.path", data, *FIT], "1 expert x 2 epochs x 1 step (2 in all), networks of "),
        (["fit", *FIT], "1 expert x 2 epochs x "),  # of simulated galaxies, which nobody keeps
        (
            ["distill", "--data.path", data, "--model.trajectories", str(toy_experts), *DISTILL],
            "2 iterations at most x 2 steps ",
        ),
        (["evaluate", synthetic, data, *EVALUATE], " fresh networks of "),
    ):
        main([*command, "--dry_run"])
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.splitlines()[-1] == DRY
        assert said in captured.err.splitlines()[-2]
    assert sorted(tmp_path.rglob("*")) == files
    main(["prepare", "--output", "c.h5", "--per_class", "3", "--resolution", "16", "--dry_run", "false"])
    assert Path("c.h5").exists()
    assert "--dry_run is true or false, not 'maybe'" in refused(capsys, "evaluate", "a", "b", "--dry_run", "maybe")
