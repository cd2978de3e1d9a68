"""What a store keeps and tells: precision, damage, the published format."""

import pickle
import warnings
from pathlib import Path

import pytest
import torch

from gz_lightning.cli import main
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from gz_lightning.experts.exchange import export_buffers, import_buffers
from gz_lightning.experts.inspection import check, damage, info
from gz_lightning.experts.trajectories import METRICS, Recipe, TrajectoryStore, file_of, loss_of_precision, write_expert
from gz_lightning.networks.registry import build_network

RECIPE = Recipe({"name": "ConvNet", "num_classes": 3, "resolution": 16, "width": 4}, "abc", {"lr": 0.1})
ONES = {name: [0.25, 0.75] for name in METRICS}


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize(("precision", "bits"), [("float32", 24), ("float16", 11), ("bfloat16", 8)])
def test_precision(precision: str, bits: int, compression: str, tmp_path: Path) -> None:
    rows = torch.randn(3, 5000)
    write_expert(tmp_path, 0, rows, ONES, RECIPE, precision, compression)
    found = TrajectoryStore(tmp_path).trajectory(0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, rows, rtol=2.0**-bits, atol=1e-7)
    assert found.equal(rows) == (precision == "float32")
    assert TrajectoryStore(tmp_path).parameters(0, 2).equal(found[2])
    assert check(tmp_path).endswith("all whole")
    assert precision in info(tmp_path)


def test_half_the_bytes(tmp_path: Path) -> None:
    sizes = {}
    for precision in ("float32", "bfloat16"):
        write_expert(tmp_path / precision, 0, torch.randn(5, 100_000), {n: [0.0] * 4 for n in METRICS}, RECIPE, precision)
        sizes[precision] = file_of(tmp_path / precision, 0).stat().st_size
    assert sizes["bfloat16"] < 0.51 * sizes["float32"]


def test_loss_of_precision_is_relative_to_the_way_of_an_epoch() -> None:
    exact = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.5]])
    assert loss_of_precision(exact, exact) == 0
    kept = exact + torch.tensor([[0.0, 0.0], [0.01, 0.0], [0.0, 0.02]])
    assert loss_of_precision(exact, kept) == pytest.approx(0.04)


def test_what_float16_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"parameters of expert 7 reach 1e\+05, too large for float16"):
        write_expert(tmp_path, 7, torch.full((3, 4), 1e5), ONES, RECIPE, "float16")
    assert not list(tmp_path.iterdir())


def test_check_names_what_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = torch.randn(3, 5000)
    for expert in range(4):
        write_expert(tmp_path, expert, rows + expert, ONES, RECIPE)
    content = bytearray(file_of(tmp_path, 1).read_bytes())
    content[content.find((rows[2] + 1).numpy().tobytes()) + 4444] ^= 1
    file_of(tmp_path, 1).write_bytes(content)
    file_of(tmp_path, 2).write_bytes(file_of(tmp_path, 2).read_bytes()[:3000])
    with pytest.raises(SystemExit, match="2"):
        main(["trajectories", "check", str(tmp_path)])
    said = capsys.readouterr().err.replace("\n", " ")
    assert "expert_0001.h5: the parameters of epoch 2 are damaged" in said
    assert "2 of 4 experts" in said
    assert "(expert_0001.h5, expert_0002.h5); delete these files and run 'gz-lightning fit' again" in said
    assert damage(file_of(tmp_path, 0)) == ""
    with pytest.raises(InputError, match="no experts in"):
        check(tmp_path / "nowhere")


def test_info_and_its_figure(toy_experts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["trajectories", "info", str(toy_experts), "--figure", str(tmp_path / "curves.png")])
    said = capsys.readouterr().out
    assert "2 experts of 4 epochs" in said
    assert "width 8" in said
    assert "validation accuracy" in said
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_published_format_there_and_back(toy_experts: Path, toy: Galaxies, tmp_path: Path) -> None:
    """Exported, read as the published code reads it, imported: the same bits."""
    store = TrajectoryStore(toy_experts)
    export_buffers(toy_experts, tmp_path / "buffers", experts_per_file=1)
    files = sorted((tmp_path / "buffers").iterdir())
    assert [file.name for file in files] == ["replay_buffer_0.pt", "replay_buffer_1.pt"]
    network = build_network(store.recipe.network)
    for expert, file in enumerate(files):
        (epochs,) = torch.load(file)
        assert len(epochs) == 5
        for epoch, tensors in enumerate(epochs):
            assert [t.shape for t in tensors] == [p.shape for p in network.parameters()]
            flat = torch.cat([p.data.reshape(-1) for p in tensors], 0)  # as the published code does
            assert flat.equal(store.parameters(expert, epoch))
    import_buffers(tmp_path / "buffers", toy.path, tmp_path / "back")
    back = TrajectoryStore(tmp_path / "back")
    for expert in (0, 1):
        assert back.trajectory(expert).equal(store.trajectory(expert))
    wanted = {name: store.recipe.network[name] for name in back.recipe.network}
    assert back.recipe.network == wanted
    assert back.recipe.data == toy.fingerprint
    assert "-" in info(tmp_path / "back")
    with pytest.raises(InputError, match=r"expert_0000.h5 is there already; give another --first_expert"):
        import_buffers(files[0], toy.path, tmp_path / "back")
    with pytest.raises(InputError, match="holds files of replay_buffer_\\*.pt already"):
        export_buffers(toy_experts, tmp_path / "buffers")


class Evil:
    """Its unpickling would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_what_is_no_buffer_is_refused(tmp_path: Path, toy: Galaxies) -> None:
    (tmp_path / "evil.pt").write_bytes(pickle.dumps([Evil(tmp_path / "written")]))
    torch.save([Evil(tmp_path / "written")], tmp_path / "evil2.pt")
    torch.save({"a": 1}, tmp_path / "dict.pt")
    torch.save([[[torch.zeros(3)], [torch.zeros(3)]]], tmp_path / "linear.pt")
    torch.save([[[torch.zeros(3)], [torch.zeros(4)]]], tmp_path / "uneven.pt")
    shapes = [
        p.shape for p in build_network({"name": "ConvNet", "num_classes": 5, "resolution": 16, "width": 4}).parameters()
    ]
    torch.save([[[torch.zeros(s) for s in shapes]] * 2], tmp_path / "five.pt")
    for name, message in (
        ("evil.pt", "no file of PyTorch tensors alone, or is damaged"),
        ("evil2.pt", "no file of PyTorch tensors alone, or is damaged"),
        ("dict.pt", "holds dict, not a list of experts"),
        ("linear.pt", "are no ConvNet with norm 'instance'"),
        ("uneven.pt", "epoch 1 of expert 0 has other shapes"),
        ("five.pt", "for 5 classes at 16 px, but .* has 3 leaves at 16 px"),
        ("nothing.pt", "neither a file nor a folder"),
    ):
        with pytest.raises(InputError, match=message):
            import_buffers(tmp_path / name, toy.path, tmp_path / "store")
    assert not (tmp_path / "written").exists()
    assert not (tmp_path / "store").exists()


def test_buffers_of_other_than_real_numbers_are_refused(tmp_path: Path, toy: Galaxies) -> None:
    """Complex ones would lose their imaginary parts; a tensor may claim any shape of one number that it stores."""
    shapes = [
        p.shape for p in build_network({"name": "ConvNet", "num_classes": 3, "resolution": 16, "width": 4}).parameters()
    ]
    good = [torch.zeros(s) for s in shapes]
    for name, bad in (("complex", good[0].to(torch.complex64)), ("large", torch.zeros(1).expand(2**40))):
        torch.save([[good, [bad, *good[1:]]]], tmp_path / f"{name}.pt")
        with pytest.raises(InputError, match=f"{name}.pt: epoch 1 of expert 0 is no list of tensors that are whole"):
            import_buffers(tmp_path / f"{name}.pt", toy.path, tmp_path / "store")


def test_pickles_of_any_version_are_refused_without_a_warning(tmp_path: Path, toy: Galaxies) -> None:
    (tmp_path / "evil.pt").write_bytes(pickle.dumps([Evil(tmp_path / "written")], protocol=4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match="evil.pt is no file of PyTorch tensors alone"):
            import_buffers(tmp_path / "evil.pt", toy.path, tmp_path / "store")
    assert not (tmp_path / "written").exists()
