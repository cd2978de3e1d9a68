"""Trajectories in the published format."""

import pickle
import warnings
from pathlib import Path

import pytest
import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from gz_lightning.experts.exchange import export_buffers, import_buffers
from gz_lightning.experts.expert_file import METRICS, file_of, write_expert
from gz_lightning.experts.inspection import damage, info
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.networks.registry import build_network


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
    torch.save([[[torch.zeros(3)], [torch.ones(3)]]], tmp_path / "linear.pt")
    torch.save([[[torch.zeros(3)], [torch.zeros(4)]]], tmp_path / "uneven.pt")
    shapes = [
        p.shape for p in build_network({"name": "ConvNet", "num_classes": 5, "resolution": 16, "width": 4}).parameters()
    ]
    torch.save([[[torch.full(s, value) for s in shapes] for value in (0.0, 1.0)]], tmp_path / "five.pt")
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


def saved(path: Path, trajectories: list[torch.Tensor], store: TrajectoryStore) -> Path:
    """Trajectories, each of shape (E + 1, P), as a file of the published format."""
    shapes = [p.shape for p in store.network().parameters()]
    sizes = [shape.numel() for shape in shapes]
    experts = [
        [[part.view(shape).clone() for part, shape in zip(row.split(sizes), shapes, strict=True)] for row in rows]
        for rows in trajectories
    ]
    torch.save(experts, path)
    return path


def test_epochs_that_are_all_the_last_one_are_refused(toy_experts: Path, toy: Galaxies, tmp_path: Path) -> None:
    """What ``p.detach().cpu()`` of the published codes saves on a CPU, where it does not copy."""
    store = TrajectoryStore(toy_experts)
    last = store.trajectory(0)[-1].expand(5, -1)
    buffer = saved(tmp_path / "replay_buffer_0.pt", [store.trajectory(1), last], store)
    with pytest.raises(InputError, match=r"expert 1 has the same parameters at epochs 0 and 1: no trajectory .*clone\(\)"):
        import_buffers(buffer, toy.path, tmp_path / "back")
    assert not (tmp_path / "back").exists()  # not even the good expert before it


def test_an_expert_that_comes_back_is_refused(toy_experts: Path, toy: Galaxies, tmp_path: Path) -> None:
    """Segments of two epochs would have no length, though no two epochs in a row are equal; -0 is 0."""
    store = TrajectoryStore(toy_experts)
    rows = store.trajectory(0)[[0, 1, 0, 1, 2]]
    rows[2, rows[2] == 0] = -0.0
    assert rows[2].signbit().ne(rows[0].signbit()).any()
    buffer = saved(tmp_path / "replay_buffer_0.pt", [store.trajectory(1), rows], store)
    with pytest.raises(InputError, match=r"expert 1 has the same parameters at epochs 0 and 2: no trajectory .*Leave this"):
        import_buffers(buffer, toy.path, tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_steps_that_rounding_takes_away_are_refused(
    precision: str, toy_experts: Path, toy: Galaxies, tmp_path: Path
) -> None:
    store = TrajectoryStore(toy_experts)
    first, *others = store.trajectory(0).bfloat16().half().float()
    buffer = saved(tmp_path / "replay_buffer_0.pt", [torch.stack([first, *others, first * (1 + 1e-5)])], store)
    with pytest.raises(InputError, match=rf"epochs 0 and 5 as {precision}, which is too coarse .*--precision float32"):
        import_buffers(buffer, toy.path, tmp_path / "back", precision=precision)
    assert not (tmp_path / "back").exists()
    import_buffers(buffer, toy.path, tmp_path / "back")
    assert damage(file_of(tmp_path / "back", 0)) == ""


def test_parameters_too_large_for_a_precision_leave_nothing(toy_experts: Path, toy: Galaxies, tmp_path: Path) -> None:
    store = TrajectoryStore(toy_experts)
    buffer = saved(tmp_path / "replay_buffer_0.pt", [store.trajectory(0), store.trajectory(1) * 1e6], store)
    with pytest.raises(InputError, match="parameters of expert 1 reach .*, too large for float16"):
        import_buffers(buffer, toy.path, tmp_path / "back", precision="float16")
    assert not (tmp_path / "back").exists()


def test_an_expert_is_imported_once(toy_experts: Path, toy: Galaxies, tmp_path: Path) -> None:
    """It would count twice; whether it is there again in a file, in another, or in the folder."""
    store = TrajectoryStore(toy_experts)
    one, other = store.trajectory(0), store.trajectory(1)
    twice = saved(tmp_path / "twice.pt", [one, other, one], store)
    (tmp_path / "two").mkdir()
    for number in (0, 1):
        saved(tmp_path / "two" / f"replay_buffer_{number}.pt", [one], store)
    for path, message in (
        (twice, r"twice.pt: expert 2 is the same as expert 0 of \S*twice.pt; leave one of them out"),
        (tmp_path / "two", r"buffer_1.pt: expert 0 is the same as expert 0 of \S*buffer_0.pt"),
    ):
        with pytest.raises(InputError, match=message):
            import_buffers(path, toy.path, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    import_buffers(saved(tmp_path / "one.pt", [one], store), toy.path, tmp_path / "back")
    with pytest.raises(InputError, match=r"one.pt: expert 0 is the same as \S*back/expert_0000.h5; leave"):
        import_buffers(tmp_path / "one.pt", toy.path, tmp_path / "back", first_expert=1)
    import_buffers(saved(tmp_path / "other.pt", [other], store), toy.path, tmp_path / "back", first_expert=1)
    assert len(TrajectoryStore(tmp_path / "back")) == 2


def test_stored_epochs_that_are_equal_are_found(toy_experts: Path, tmp_path: Path) -> None:
    store = TrajectoryStore(toy_experts)
    rows = store.trajectory(0).clone()
    rows[3] = rows[1]
    write_expert(tmp_path, 0, rows, {name: [0.5] * 4 for name in METRICS}, store.recipe)
    assert "the parameters of epochs 1 and 3 are equal" in damage(file_of(tmp_path, 0))
    assert damage(file_of(toy_experts, 0)) == ""


def test_an_import_of_unlike_experts_leaves_nothing(toy_experts: Path, toy: Galaxies, tmp_path: Path) -> None:
    store = TrajectoryStore(toy_experts)
    buffer = saved(tmp_path / "replay_buffer_0.pt", [store.trajectory(0), store.trajectory(1)[:3]], store)
    with pytest.raises(InputError, match="another kind than the first: its training has train_epochs 2 instead of 4"):
        import_buffers(buffer, toy.path, tmp_path / "back")
    assert not (tmp_path / "back").exists()
