"""``benchmarks/gpu.py`` runs on a machine that has little installed and no git checkout: a dry run, made tiny."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
INSTALLED = (
    *("torch", "torchvision", "lightning", "torchmetrics", "h5py", "pandas", "matplotlib", "psutil", "jinja2", "pyyaml"),
    *("pytest", "hypothesis"),
)
"""What the machine has, and what these need."""
ABSENT = ("jsonargparse", "wandb", "pooch", "rich", "jaxtyping", "beartype", "requests", "astropy", "pyarrow", "xdist")


def needed(names: tuple[str, ...]) -> dict[str, importlib.metadata.Distribution]:
    """The distributions of this environment that some need, themselves included."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = [(name, "") for name in names]
    while waiting:
        name, extra = waiting.pop()
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:  # of another system
            continue
        if extra or canonicalize_name(name) not in found:
            for text in distribution.requires or []:
                requirement = Requirement(text)
                if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                    waiting += [(requirement.name, more) for more in ("", *requirement.extras)]
        found[canonicalize_name(name)] = distribution
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment with links to nothing but that."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for distribution in needed(INSTALLED).values():
        for top in {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            if not (packages / top).exists():
                (packages / top).symlink_to(str(distribution.locate_file(top)))
    return folder / "bin" / "python"


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "COV", "GZ_"))}
    return {**kept, "HOME": str(folder), "OMP_NUM_THREADS": "1", "MPLCONFIGDIR": str(folder)}


def test_what_is_absent_on_the_bare_machine(bare: Path, tmp_path: Path) -> None:
    program = (
        "import importlib.util as u\n"
        f"print([m for m in {ABSENT} if u.find_spec(m)], [m for m in ('torch', 'pytest') if not u.find_spec(m)])"
    )
    ran = subprocess.run([bare, "-c", program], env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True)
    assert ran.stdout == "[] []\n", ran.stderr


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The files of the checkout that travel, without git."""
    folder = tmp_path / "copied"
    for name in ("gz_lightning", "benchmarks", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_dry_run_on_a_bare_machine(bare: Path, copied: Path, tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    command = [str(bare), "benchmarks/gpu.py", "--device", "cpu", "--tiny", "--minutes", "20", "--json", str(path)]
    ran = subprocess.run(command, cwd=copied, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    record = json.loads(path.read_text())
    wrong = {name: part for name, part in record["parts"].items() if part["status"] != "done"}
    assert not wrong, ran.stdout
    assert (record["commit"], record["card"], record["tiny"]) == ("unknown", "none", True)
    assert record["torch"] == torch.__version__
    parts = {name: part["records"] for name, part in record["parts"].items()}
    assert list(parts) == ["tests", "unroll", "experts", "evaluation", "distillation"]
    (tests,) = parts["tests"]
    assert (tests["ended"], tests["passed"], tests["failed"], len(tests["cosines"])) == ("none failed", 2, 0, 1)
    unrolls = [one for one in parts["unroll"] if "mode" in one]
    modes = ["full", "adjoint", "adjoint, captured"]
    assert [(one["tf32"], one["mode"]) for one in unrolls] == [(tf32, mode) for tf32 in (False, True) for mode in modes]
    assert all(one["ratio_to_full"] > 0 and one["share_of_matrix_product_rate"] > 0 for one in unrolls)
    assert [len(one["name, milliseconds, calls"]) for one in parts["unroll"] if one.get("what") == "profile"] == [10]
    assert [one["mode"] for one in parts["experts"]] == ["plain", "2 together"]
    assert [one["mode"] for one in parts["evaluation"]] == ["loop", "5 together", "25 together"]
    assert parts["experts"][1]["ratio_to_plain"] > 0
    assert [one["what"] for one in parts["distillation"]] == ["experts", "distillation"]
    assert 0 <= parts["distillation"][1]["val_accuracy"] <= 1


def test_a_part_that_takes_too_long_keeps_what_it_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import limited

    program = "import subprocess, sys, time; print('so far', flush=True); subprocess.Popen(['sleep', '60']); time.sleep(60)"
    ended, output = limited.limited([sys.executable, "-c", program], 3.0, dict(os.environ))
    assert (ended, output) == (None, "so far\n")
    assert limited.limited([sys.executable, "-c", "import sys; sys.exit(3)"], 60, dict(os.environ)) == (3, "")


def test_wheels_are_brought_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu

    about = {
        "brought.py": "answer = 42\n",
        "brought-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: brought\nVersion: 1\n",
        "brought-1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "brought-1.dist-info/RECORD": "",
    }
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "brought-1-py3-none-any.whl", "w") as wheel:
        for name, text in about.items():
            wheel.writestr(name, text)
    given = gpu.bring(tmp_path / "wheels", str(tmp_path / "site"))
    ran = subprocess.run([sys.executable, "-c", "import brought; print(brought.answer)"], env=given, capture_output=True)
    assert ran.stdout == b"42\n"
    gpu.bring(tmp_path, str(tmp_path / "none"))
    assert "no wheel of" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
def test_without_cuda_it_says_so(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--json", str(tmp_path / "gpu.json")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "there is no CUDA here; '--device cpu --tiny' is a dry run" in ran.stderr
