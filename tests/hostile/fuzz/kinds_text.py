"""Trees and settings in YAML files, records of evaluations, run folders, and folders of pictures."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.data.tree import ANSWERS, get_tree
from gz_lightning.evaluation.record import read_evaluation
from gz_lightning.report.page import report
from gz_lightning.sets.sources import read_sets
from tests.hostile.fuzz.case import Trial, copy, require
from tests.hostile.fuzz.damage import damage_file, hostile_tree, replace_file
from tests.hostile.fuzz.hostile_hdf5 import change_hdf5
from tests.hostile.fuzz.kinds_hdf5 import check_set
from tests.hostile.fuzz.kinds_images import change_image
from tests.hostile.fuzz.kinds_tables import prepared_trial
from tests.hostile.fuzz.originals import DISTILL, EVALUATE, FIT, Originals

PICTURE = "pictures/iteration_000000.png"


def _linked(originals: Originals, folder: Path, *names: str) -> None:
    """The paths that configurations name lie below the working directory, which is the case's."""
    for name in names:
        (folder / name).symlink_to(originals / name)


def tree_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """A tree in a YAML file."""
    path = copy(originals / "tree.yaml", folder / draws.choice(("tree.yaml", "a b.yml", "größe.yaml")))
    way = draws.random()
    if way < 0.1:
        changed = replace_file(draws, path, originals.files)
    elif way < 0.4:
        changed = damage_file(draws, path)
    elif way < 0.6:
        changed = hostile_yaml(draws, path)
    else:
        value, changed = hostile_tree(draws, yaml.safe_load(path.read_text()))
        path.write_text(yaml.safe_dump(value, allow_unicode=draws.random() < 0.5))
    if draws.random() < 0.05:
        trial = prepared_trial(
            draws, folder, changed, originals / "images", originals / "tables/hart16.csv", originals / "tables/mapping.csv"
        )
        command = list(trial.command)
        command[command.index("coarse5")] = str(path)
        return Trial(changed, command=command, verify=trial.verify, named=[str(path), "hart16.csv", *trial.named[2:]])

    def read() -> None:
        tree = get_tree(str(path))
        require(len(tree) > 0 and all(isinstance(name, str) and name for name in tree.class_names), "leaves")
        confidences = tree.confidences({answer: [1.0, 0.0] for answer in ANSWERS})
        require(confidences.shape == (2, len(tree)) and np.isfinite(confidences).all(), "confidences")

    return Trial(changed, read)


def hostile_yaml(draws: random.Random, path: Path) -> str:
    """YAML that is more than plain values."""
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(11)
    )
    texts = {
        "bomb": bomb,
        "bomb in a tree": bomb + "name: x\nleaves: *l\n",
        "python": f"!!python/object/apply:os.system ['touch {path.parent}/canary']\n",
        "python name": f"name: !!python/object/apply:builtins.open ['{path.parent}/canary', 'w']\nleaves: {{a: a01}}\n",
        "itself": "&a [*a]\n",
        "itself in a tree": "name: x\nleaves: &a {b: *a}\n",
        "deep": "[" * 20_000,
        "deep maps": "{a: " * 3000,
        "date": "name: 2023-99-99\nleaves: {a: a01}\n",
        "long number": "name: " + "1" * 5000 + "\nleaves: {a: a01}\n",
        "long name": "name: x\nleaves: {" + "y" * 10**6 + ": a01}\n",
        "documents": path.read_text() + "---\n" + path.read_text(),
        "tabs": "name:\tx\nleaves:\n\ta: a01\n",
        "keys": "? [a, b]\n: 1\n",
        "key twice": path.read_text() + path.read_text(),
        "numbers": "name: 1\nleaves: {1: a01, 2.5: a02, null: a03, true: a04 }\n",
        "binary": "name: !!binary 'x?'\nleaves: {a: a01}\n",
        "set": "!!set {a, b}\n",
        "zeros": "name: x\nleaves: {a: a01" + "\0" + "}\n",
        "surrogate": 'name: "\\ud800"\nleaves: {"\\ud800 a": a01}\n',
        "merge": "<<: [1]\nname: x\n",
        "float": "name: .inf\nleaves: {.nan: a01}\n",
    }
    name = draws.choice(list(texts))
    path.write_text(texts[name])
    return f"{path.name}: {name}"


def config_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """A configuration of a command. Whatever would make a long job of it is given on the command line as well."""
    command = draws.choice(("prepare", "evaluate", "fit", "distill"))
    path = copy(originals / f"configs/{command}.yaml", folder / draws.choice(("config.yaml", "a b.yaml", "größe.yaml")))
    way = draws.random()
    if way < 0.06:
        changed = replace_file(draws, path, originals.files, pipe=False)
    elif way < 0.35:
        changed = damage_file(draws, path)
    elif way < 0.5:
        changed = hostile_yaml(draws, path)
    else:
        value, changed = hostile_tree(draws, yaml.safe_load(path.read_text()))
        path.write_text(yaml.safe_dump(value, allow_unicode=True))
    _linked(originals, folder, "galaxies.h5", "experts", "images", "tables")
    copy(originals / "run", folder / "run")
    small: dict[str, list[str]] = {
        "prepare": ["--output", "out.h5", "--per_class", "3", "--resolution", "8", "--workers", "1", "--cutout_size", "16"],
        "evaluate": [*EVALUATE, "--output", "out", "--symmetries", "1"],
        "fit": [
            "--data.path",
            "galaxies.h5",
            *FIT,
            "--model.num_experts",
            "1",
            "--model.rotations",
            "1",
            "--run_dir",
            "fit",
        ],
        "distill": [
            *["--data.path", "galaxies.h5", *DISTILL, "--model.iterations", "1", "--model.segments_per_step", "1"],
            *["--run_dir", "again", "--model.trajectories", "experts", "--model.unroll", "adjoint"],
        ],
    }
    # An error is of a setting as often as of the file; the line itself and its beginning are checked anyway.
    return Trial(changed, command=[command, "--config", str(path), *small[command]], named=[""])


def evaluation_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """The record of an evaluation, by itself or as a part of a run that is reported on."""
    run = copy(originals / "run", folder / "run")
    path = run / "evaluation" / "evaluation.json"
    way = draws.random()
    if way < 0.08:
        changed = replace_file(draws, path, originals.files)
    elif way < 0.35:
        changed = damage_file(draws, path)
    else:
        value, changed = hostile_tree(draws, json.loads(path.read_text()))
        path.write_text(
            draws.choice((json.dumps(value), json.dumps(value, ensure_ascii=False), json.dumps(value)[:-1])), "utf-8"
        )
        if draws.random() < 0.05:
            text = draws.choice(("[" * 100_000, "1" * 5000, '{"format": ' * 5000, "\ufeff{}", "NaN", '"\\ud800"'))
            path.write_text(text)
            changed = f"{text:.20}"
    if draws.random() < 0.04:
        _linked(originals, folder, "galaxies.h5", "experts")
        return Trial(changed, command=["report", str(run), "--networks", "1"])

    def read() -> None:
        if not path.is_file():
            return
        found = read_evaluation(path)
        require(str(found), "as text")
        for column in ("val", "test", "low", "high", "spread"):
            values = found.table[column]
            require(bool(((values >= 0) & (values <= 100.001)).all()), f"the column {column}")
        confusion = found.confusion.to_numpy()
        require(
            confusion.ndim == 2 and confusion.shape[0] == confusion.shape[1] and bool((confusion >= 0).all()), "confusion"
        )

    return Trial(changed, read)


def run_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """A run folder, one file of which is changed, to report on."""
    run = copy(originals / "run", folder / draws.choice(("run", "a & b", "größe <b>", "星系")))
    logs = run / "logs" / "version_0"
    name = draws.choice(
        (
            *("best.h5", "logs/version_0/metrics.csv", "logs/version_0/config.yaml", "logs/version_0/metrics.csv"),
            *("pictures/first.h5", PICTURE),
        )
    )
    path = run / name
    way = draws.random()
    if way < 0.12:
        changed = replace_file(draws, path, originals.files)
    elif way < 0.45 or (name == "logs/version_0/metrics.csv" and way < 0.6) or name == PICTURE:
        changed = damage_file(draws, path)
    elif name.endswith("h5"):
        changed = change_hdf5(draws, path)
    elif name.endswith("yaml"):
        value, changed = hostile_tree(draws, yaml.safe_load(path.read_text()))
        path.write_text(yaml.safe_dump(value))
        if draws.random() < 0.3:
            changed = hostile_yaml(draws, path)
    else:
        rows = path.read_text().splitlines()
        place, cell = (
            draws.randrange(len(rows)),
            draws.choice(("x", "nan", "inf", "-1", "1e308", "9" * 400, "", "a,b", "größe")),
        )
        cells = rows[place].split(",")
        cells[draws.randrange(len(cells))] = cell
        rows[place] = ",".join(cells)
        path.write_text("\n".join(rows * draws.choice((1, 1, 3))))
        changed = f"{path.name}: {cell!r:.20} in row {place}"
    if draws.random() < 0.1:
        logged = draws.choice(("loop", "odd version", "gone", "file for folder"))
        changed = f"{changed}; {logged}"
        if logged == "loop":
            (run / "logs" / "version_1").symlink_to("version_1")
        elif logged == "odd version":
            copy(
                logs,
                run / "logs" / draws.choice(("version_x", "version_²", "version_-3", f"version_{'9' * 100}", "version_1 b")),
            )
        elif logged == "gone":
            shutil.rmtree(logs, ignore_errors=True)
        else:
            shutil.rmtree(run / "logs")
            (run / "logs").write_text("x")
    _linked(originals, folder, "galaxies.h5", "experts")
    runs: list[Any] = [run] if draws.random() < 0.8 else [run, originals / "longer"]
    networks = draws.choice(("0", "0", "0", "1"))
    if draws.random() < 0.5:
        return Trial(changed, command=["report", *map(str, runs), "--output", str(folder / "out"), "--networks", networks])

    def read() -> None:
        written = report(runs, folder / "out", networks=int(networks))
        require(all(file.stat().st_size for file in written.files), "an empty page")
        require("</html>" in written.files[0].read_text(encoding="utf-8"), "half a page")

    return Trial(changed, read)


def pictures_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """A folder of PNGs by leaf."""
    pictures = copy(originals / "pictures", folder / "set")
    leaf = draws.choice(sorted(pictures.iterdir()))
    file = next(leaf.iterdir())
    way = draws.choice(
        ("image", "image", "image", "name", "leaf", "empty", "gone", "file beside", "twice", "link", "folder")
    )
    changed = way
    if way == "image":
        changed = change_image(draws, file, originals)
    elif way == "name":
        changed = file.rename(
            file.with_name(draws.choice(("größe.png", "a b.PNG", "a\nb.png", "x.jpg", ".png", "x" * 250 + ".png")[:5]))
        ).name
    elif way == "leaf":
        target = leaf.with_name(draws.choice(("ROUND!", "größe", "ring", "a\nb", "...")))
        changed = target.name
        if not target.exists():
            leaf.rename(target)
    elif way == "empty":
        file.unlink()
    elif way == "gone":
        shutil.rmtree(leaf)
    elif way == "file beside":
        (pictures / "notes.txt").write_text("x")
    elif way == "twice":
        copy(leaf, pictures / leaf.name.upper())
    elif way == "link":
        (leaf / "round.png").symlink_to("round.png")
    else:
        (leaf / "folder.png").mkdir()
    data = originals / "galaxies.h5"
    if draws.random() < 0.05:
        command = ["evaluate", *EVALUATE, "--synthetic", str(pictures), "--data", str(data), "--network", "ConvNetD1W4"]
        return Trial(changed, command=[*command, "--output", str(folder / "out")])

    def read() -> None:
        galaxies = Galaxies(data)
        (found,) = read_sets(pictures, galaxies, "ConvNetD1W4").values()
        check_set(found)
        require(torch.unique(found.labels).tolist() == [0, 1, 2], "a leaf without images")

    return Trial(changed, read)
