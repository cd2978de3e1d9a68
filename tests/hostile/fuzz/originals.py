"""The valid files that cases begin with: as small as they get, made by the program itself, the same bytes every time."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import h5py
import numpy as np
import pandas as pd
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

from gz_lightning.cli import main
from gz_lightning.data.datamodule import GalaxyZoo2DataModule
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.data.layouts import GALAXY_DATASETS, KAGGLE
from gz_lightning.data.prepare import prepare
from gz_lightning.data.tree import ANSWERS, TREES
from gz_lightning.evaluation.unfinished import UnfinishedEvaluation
from gz_lightning.experts.exchange import export_buffers
from gz_lightning.experts.expert_file import write_expert
from gz_lightning.experts.module import ExpertModule
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.sets.formats import write_set
from gz_lightning.sets.pictures import write_pngs
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.storage.checkpoints import LAST
from tests.conftest import write_toy

TREE = TREES["coarse5"]
FIRST_ID = 587722981736120347
NUMBER = 15
"""Galaxies of a table: three of each leaf."""
QUIET = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--wandb", "off"]
DATA = ["--data.path", "galaxies.h5", "--data.batch_size", "8"]
FIT = [
    *["--model.num_experts", "2", "--model.train_epochs", "3", "--model.width", "4", "--model.depth", "1", *QUIET],
    *["--trainer.devices", "1", "--trainer.num_nodes", "1", "--trainer.strategy", "auto"],
]
DISTILL = [
    *["--model.ipc", "1", "--model.eval_it", "2", "--model.num_eval", "1", "--model.epoch_eval_train", "1"],
    *["--model.syn_steps", "2", "--model.expert_epochs", "1", "--model.max_start_epoch", "2", "--model.lr_teacher", "0.01"],
    *["--trainer.devices", "1", "--trainer.num_nodes", "1", "--trainer.strategy", "auto", *QUIET],
]
EVALUATE = [
    *["--num_eval", "1", "--epochs", "1", "--draws", "1", "--full_epochs", "0", "--step_sizes", "[0.01]"],
    *["--baselines", "[]", "--device", "cpu"],
]

EXPORTED = ("folder", "tiff", "pt", "set.npz", *(["huggingface"] if importlib.util.find_spec("pyarrow") else []))
"""Sets in the formats of ``export``."""


@dataclass(frozen=True)
class Originals:
    """A folder of valid files.

    Args:
        folder: The folder.
    """

    folder: Path

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    @property
    def files(self) -> list[Path]:
        """One of each kind, to be taken for another."""
        names = ("galaxies.h5", "experts/expert_0000.h5", "run/best.h5", "buffers/replay_buffer_0.pt", "pair/images_best.pt")
        more = ("run/evaluation/evaluation.json", "tables/hart16.csv.gz", "tables/sdss.fits", "tables/datasets.parquet")
        last = (
            "tree.yaml",
            "images/100.jpg",
            "fit.ckpt",
            "distill.ckpt",
            "tables/kaggle.csv",
        )
        larger = ("shards/train-0.parquet", "galaxies.tar")
        return [self.folder / name for name in (*names, *more, *last, *larger)]


def make_originals(folder: Path) -> Originals:
    """Make all of them; some seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # as in the cases: two threads round otherwise
    said = io.StringIO()
    # Paths that end up in files are relative: the files are the same wherever they are made.
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            write_toy(Path("galaxies.h5"), per_class=10, resolution=8)
            _tables(Path("tables"))
            _images()
            _larger_files()
            _experts()
            _sets()
            _texts()
        except SystemExit as end:
            raise RuntimeError(f"the valid files cannot be made: {said.getvalue()}") from end
    return Originals(folder)


def votes() -> pd.DataFrame:
    """Fractions of all answers, those of a question adding up to 1; galaxy i is of leaf i modulo 5."""
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {}
    for question in dict.fromkeys(stem[:3] for stem in ANSWERS.values()):
        names = [answer for answer, stem in ANSWERS.items() if stem[:3] == question]
        columns |= dict(zip(names, rng.dirichlet(np.full(len(names), 2.0), NUMBER).round(4).T, strict=True))
    for row in range(NUMBER):
        for answer in TREE.leaves[row % 5].paths[0].split():
            for other in [a for a, stem in ANSWERS.items() if stem[:3] == ANSWERS[answer][:3]]:
                columns[other][row] = 0.9 if other == answer else columns[other][row] / 20
    return pd.DataFrame(columns)[list(ANSWERS)]


def _tables(folder: Path) -> None:
    folder.mkdir()
    fractions, ids = votes(), np.arange(FIRST_ID, FIRST_ID + NUMBER)
    hart = pd.DataFrame({"dr7objid": ids, "ra": 1.5, "total_classifications": 40})
    for answer in TREE.with_left_out.answers:
        hart[f"{ANSWERS[answer]}_weighted_fraction"] = fractions[answer]
    hart.to_csv(folder / "hart16.csv", index=False)
    hart.to_csv(folder / "hart16.csv.gz", index=False, compression={"method": "gzip", "mtime": 0})
    galaxies = pd.DataFrame({"id_str": ids, "smooth-or-featured-gz2_total-votes": 40})
    for answer in TREE.with_left_out.answers:
        galaxies[f"{GALAXY_DATASETS[answer]}_fraction"] = fractions[answer]
    galaxies["subfolder"], galaxies["filename"] = "by_id", [f"{i}.jpg" for i in ids]
    with contextlib.suppress(ImportError):
        galaxies.to_parquet(folder / "datasets.parquet", index=False)
    with contextlib.suppress(ImportError):
        from astropy.io import fits

        columns = [fits.Column("dr7objid", "K", array=ids), fits.Column("total_classifications", "J", array=[40] * NUMBER)]
        columns += [fits.Column(name, "E", array=hart[name].to_numpy()) for name in hart.columns[3:]]
        fits.BinTableHDU.from_columns(columns).writeto(folder / "sdss.fits")
    products: dict[str, Any] = {}
    for answer, (column, parent) in KAGGLE.items():
        products[column] = fractions[answer] * (1 if parent is None else products[parent])
    kaggle = {"GalaxyID": ids} | {name: np.round(values, 6) for name, values in products.items()}
    pd.DataFrame(kaggle).to_csv(folder / "kaggle.csv", index=False)
    assets = range(100, 100 + NUMBER)
    with contextlib.suppress(ImportError):
        from astropy.io import votable
        from astropy.table import Table

        columns32 = {name: hart[name].to_numpy("f4") for name in hart.columns[3:]}
        votable.from_table(Table({"objid": ids, **columns32})).to_xml(
            str(folder / "votes.vot"), tabledata_format="tabledata"
        )
    pd.DataFrame({"objid": ids, "sample": "original", "asset_id": assets}).to_csv(folder / "mapping.csv", index=False)


def _larger_files() -> None:
    """Larger files with many images inside."""
    fractions, ids = votes(), [str(FIRST_ID + row) for row in range(NUMBER)]
    columns: dict[str, Any] = {}
    for answer, column in GALAXY_DATASETS.items():
        columns[column] = np.round(fractions[answer] * 40).astype("int32").to_numpy()
    pictures = [Path(f"images/{100 + row}.jpg").read_bytes() for row in range(NUMBER)]
    write_tar(Path("galaxies.tar"), ids, pictures, columns)
    with contextlib.suppress(ImportError):
        import pyarrow as pa
        import pyarrow.parquet as pq

        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        cells = pa.array([{"bytes": content, "path": None} for content in pictures], kind)
        labels = [row % 5 for row in range(NUMBER)]
        table = pa.table({"image": cells, "id_str": ids, "label": labels, **columns})
        names = {"label": {"_type": "ClassLabel", "names": [leaf.name for leaf in TREE.leaves]}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": names}})})
        Path("shards").mkdir()
        pq.write_table(table[:10], "shards/train-0.parquet", row_group_size=4)
        pq.write_table(table[10:], "shards/test-0.parquet")
    with h5py.File("Galaxy10.h5", "w") as file:
        file["images"] = np.random.default_rng(2).integers(0, 256, (10, 16, 16, 3), dtype=np.uint8)
        file["ans"] = np.arange(10, dtype=np.uint8) % 5
        file.attrs["made"] = "as the file of Galaxy10"
    own = {"disk": {"answers": ["yes", "no"]}, "bar": {"answers": ["strong", "weak"], "after": ["disk_yes"]}}
    leaves = {"barred": "disk_yes bar_strong", "weakly": ["disk_yes bar_weak"], "none": "disk_no"}
    Path("own.yaml").write_text(
        yaml.safe_dump({"name": "own", "leaves": leaves, "questions": own, "infixes": ["", "-mine"]})
    )
    changed = {"smooth-or-featured": {"renamed": {"artifact": "problem"}}, "merging": None, "bar": own["disk"]}
    extending = {"name": "own", "extends": "decals-dr12", "questions": changed, "infixes": ["-mine"]}
    Path("extending.yaml").write_text(yaml.safe_dump(extending))


def write_tar(path: Path, ids: list[str], pictures: list[bytes], columns: dict[str, Any]) -> None:
    """A WebDataset; the same bytes every time."""
    with tarfile.open(path, "w") as archive:
        for row, object_id in enumerate(ids):
            labels = json.dumps({name: int(values[row]) for name, values in columns.items()}).encode()
            for ending, content in (("image.jpg", pictures[row]), ("labels.json", labels)):
                member = tarfile.TarInfo(f"{object_id}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def _images() -> None:
    """The same cut-outs by asset id, by object id, and in class folders."""
    rng = np.random.default_rng(1)
    for row in range(NUMBER):
        pixels = np.kron(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8), np.ones((4, 4, 1), np.uint8))
        image, object_id = Image.fromarray(pixels), FIRST_ID + row
        places = [f"images/{100 + row}.jpg", f"by_id/{object_id}.jpg", f"folders/{TREE.leaves[row % 5].folder}/{row}.png"]
        for place in places:
            Path(place).parent.mkdir(parents=True, exist_ok=True)
            image.save(place)


class _Keep(Callback):
    """Copies the checkpoint inside the first group, as it would be left by a run that was interrupted there."""

    watches_only = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        path = Path(trainer.default_root_dir) / LAST
        if path.exists() and not Path("fit.ckpt").exists():
            shutil.copyfile(path, "fit.ckpt")


def _experts() -> None:
    main(["fit", *DATA, *FIT, "--model.trajectories", "experts", "--run_dir", "fit", "--model.checkpoint_minutes", "0"])
    store = TrajectoryStore("experts")
    unknown = {name: store.metrics[store.metrics["expert"] == 0][name].tolist() for name in store.metrics.columns[2:]}
    write_expert("packed_experts", 0, store.trajectory(0), unknown, store.recipe, "bfloat16", "gzip", store.confusion(0))
    galaxies = GalaxyZoo2DataModule("galaxies.h5", batch_size=8)
    module = ExpertModule("again", num_experts=2, train_epochs=3, width=4, depth=1, checkpoint_minutes=0)
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator="cpu", default_root_dir="again", callbacks=[_Keep()], num_sanity_val_steps=0, **quiet)
    trainer.fit(module, datamodule=galaxies)
    export_buffers(Path("experts"), Path("buffers"))


def _sets() -> None:
    distill = ["distill", *DATA, *DISTILL, "--model.trajectories", "experts"]
    main([*distill, "--run_dir", "run", "--model.iterations", "2", "--trainer.log_every_n_steps", "1"])
    shutil.copyfile(Path("run") / LAST, "distill.ckpt")
    shutil.copytree("run", "longer")
    main([*distill, "--run_dir", "longer", "--model.iterations", "4", "--ckpt_path", "last"])
    evaluate = ["evaluate", "--synthetic", "run/best.h5", "--data", "galaxies.h5", *EVALUATE]
    with patch.object(UnfinishedEvaluation, "remove"):  # the folder of what it has trained stays
        main(evaluate)
    shutil.move("run/evaluation/unfinished", "outcomes")
    made = SyntheticSet.load("run/best.h5")
    Path("pictures").mkdir()
    write_pngs(made, made.pixels, Path("pictures"))
    for name, labels in (("best", made.labels), ("soft", torch.eye(3)[made.labels] * 0.7 + 0.1)):
        Path("pair").mkdir(exist_ok=True)
        torch.save(made.images, f"pair/images_{name}.pt")
        torch.save(labels, f"pair/labels_{name}.pt")
    shutil.copyfile("run/best.h5", "hard.h5")
    made.labels = torch.eye(3)[made.labels] * 0.7 + 0.1
    made.save("soft.h5")
    for name in EXPORTED:
        write_set(made, name.removeprefix("set."), Path("exported") / name)


def _texts() -> None:
    tree = {"name": "own", "leaves": {leaf.name: list(leaf.paths) for leaf in TREE.leaves}}
    Path("tree.yaml").write_text(yaml.safe_dump(tree))
    configs = Path("configs")
    configs.mkdir()
    prepared = {"images": "images", "table": "tables/hart16.csv", "mapping": "tables/mapping.csv", "tree": "coarse5"}
    settings: dict[str, Any] = {
        "prepare": prepared | {"per_class": 3, "resolution": 8, "crop": 0.5, "val_fraction": 0.1, "votes": None},
        "evaluate": {"synthetic": "run/best.h5", "data": "galaxies.h5", "epochs": 1, "baselines": [], "step_sizes": [0.01]},
        "fit": {"model": {"lr": 0.01, "width": 4, "augmentation": "galaxy", "norm": "instance"}, "data": {"batch_size": 8}},
        "distill": {
            "model": {"ipc": 1, "stage": "fixed", "lr_img": 0.1, "pix_init": "real", "lr_teacher": [0.01]},
            "data": {"path": "galaxies.h5", "batch_size": 8},
            "trainer": {"accelerator": "cpu", "log_every_n_steps": 5},
        },
    }
    for name, values in settings.items():
        (configs / f"{name}.yaml").write_text(yaml.safe_dump(values))
    given: dict[str, Any] = {
        "images": Path("images"),
        "table": Path("tables/hart16.csv"),
        "tree": "coarse5",
        "resolution": 8,
    }
    given |= {"mapping": Path("tables/mapping.csv"), "workers": 1}
    prepare(Path("prepared.h5"), **given)
    # What a run leaves that one last bad image has stopped.
    shutil.copytree("images", "spoilt")
    for asset in range(100, 100 + NUMBER):
        if asset % 5 == 4:
            Image.new("L", (16, 16)).save(f"spoilt/{asset}.jpg")
    assert len(Galaxies("prepared.h5")) == NUMBER


@contextlib.contextmanager
def originals() -> Iterator[Originals]:
    """All of them, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="fuzz-originals-") as folder:
        yield make_originals(Path(folder))
