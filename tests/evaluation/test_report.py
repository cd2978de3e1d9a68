"""The page: what is on it, that it stands alone, and that a browser can open it."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from gz_lightning.cli import main
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.data.tree import get_tree
from gz_lightning.errors import InputError
from gz_lightning.evaluation.evaluate import evaluate
from gz_lightning.evaluation.record import read_evaluation
from gz_lightning.report.page import report
from gz_lightning.report.runs import nearest_galaxies, read_run
from gz_lightning.report.tree_figure import branches, question, tree_figure
from tests.evaluation.conftest import synthetic_set

METRICS = """loss,probe_loss,stage,step,step_size/start_epoch_0,val/accuracy
,,,0,,0.4
0.9,1.1,1.0,9,0.02,
0.8,1.0,2.0,19,0.021,
,,,20,,0.5
"""


@pytest.fixture(scope="module")
def evaluated(toy_path: Path, toy_experts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with an evaluation, as small as it gets, and one more network."""
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


class Page(HTMLParser):
    """Tags with their attributes, and the text of table cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_stands_alone_and_can_be_read_aloud(evaluated: Path) -> None:
    result = report([evaluated])
    text = (evaluated / "report" / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert not page.all("script")
    assert not page.all("link")
    assert not re.search(r"(?:src|href)=\"(?!data:image/png;base64,|#)", text)
    images = page.all("img")
    assert all(len(image["alt"] or "") > 30 for image in images)
    assert len(images) == len(result.files) - 1
    for path in result.files[1:]:
        with Image.open(path) as picture:
            assert min(picture.size) > 100
    names = {path.name for path in result.files}
    assert names >= {"tree.png", "accuracy.png", "confusion.png", "loss_curve.png", "stage_curve.png", "experts_curve.png"}
    assert len(page.all("caption")) == len(page.all("table"))
    assert {head.get("scope") for head in page.all("th")} == {"col", "row"}
    for wanted in ("a &amp; b", "random real", "distilled, tuned", "label-robust score", "ConvNetD1W4", "arXiv:2203.11932"):
        assert wanted in text
    assert page.all("html") == [{"lang": "en"}]
    assert 'class="remarks"' not in text


def test_what_is_missing_is_said(toy: Galaxies, tmp_path: Path) -> None:
    synthetic_set(toy).save(tmp_path / "run" / "best.h5")
    report([tmp_path / "run"], tmp_path / "page")
    text = (tmp_path / "page" / "report.html").read_text()
    assert "Not evaluated yet: gz-lightning evaluate --synthetic run/best.h5" in text
    assert "Without class means and nearest galaxies (name their place with --data)" in text
    assert "Without the experts&#39; learning curves (name their place with --experts)" in text


def test_a_leaf_that_learned_labels_left_without_images(
    toy: Galaxies, tmp_path: Path, toy_path: Path, toy_experts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[dict[str, torch.Tensor]] = []

    def kept(sets: dict[str, torch.Tensor], *others: Any) -> Any:
        drawn.append(sets)
        return tree_figure(sets, *others)

    monkeypatch.setattr("gz_lightning.report.page.tree_figure", kept)
    run = tmp_path / "run"
    write_run(run, toy, toy_path, toy_experts)
    labels = torch.eye(3)[torch.tensor([0, 0, 1, 1, 0, 1])] * 0.7 + 0.1
    synthetic_set(toy, labels=labels, configuration={"syn_steps": 3, "trajectories": str(toy_experts)}).save(run / "best.h5")
    result = evaluate(
        run / "best.h5", toy_path, num_eval=1, epochs=2, step_sizes=[0.01], full_epochs=0,
        baselines=["random real", "class mean"],
    )  # fmt: skip
    assert set(result.table["images"]) == {6}
    report([run])
    (sets,) = drawn
    rows = {name: [bool((image == 1).all()) for image in sets[name]] for name in sets}
    empty, full = [False, False, True], [False] * 3
    assert rows == {
        "distilled 1": empty, "distilled 2": empty, "distilled 3": empty, "class mean": full, "nearest real galaxy": empty,
    }  # fmt: skip
    assert (run / "evaluation" / "leaves.png").is_file()


def test_several_runs_side_by_side(evaluated: Path, tmp_path: Path, toy_path: Path, toy_experts: Path) -> None:
    other = tmp_path / "a & b"
    write_run(other, Galaxies(toy_path), toy_path, toy_experts)
    command = ["report", str(evaluated), str(other), "--output", str(tmp_path / "page")]
    main(command)
    text = (tmp_path / "page" / "report.html").read_text()
    assert text.count("<figcaption>") == len(list((tmp_path / "page").glob("*.png")))
    assert f"{evaluated.parent.name} a &amp; b (1)" in text
    assert f"{tmp_path.name} a &amp; b (2)" in text


def test_refusals(evaluated: Path, tmp_path: Path, toy_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="is no run folder of 'gz-lightning distill': there is no best.h5"):
        report([tmp_path])
    with pytest.raises(InputError, match="there is no file none.h5"):
        read_run(evaluated, data=Path("none.h5"))
    with pytest.raises(InputError, match="there are no experts in"):
        read_run(evaluated, experts=tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(evaluated, broken)
    record = broken / "evaluation" / "evaluation.json"
    record.write_text(record.read_text().replace('"format_version": 1', '"format_version": 99'))
    with pytest.raises(InputError, match=r"is gz_lightning.evaluation version 99; this release .* reads"):
        report([broken])
    record.write_text("{")
    with pytest.raises(InputError, match="is no record of an evaluation or is damaged"):
        report([broken])
    for args in (["report"], ["report", str(tmp_path)]):
        with pytest.raises(SystemExit) as end:
            main(args)
        assert end.value.code == 2
        assert "Traceback" not in capsys.readouterr().err


def test_nearest_galaxies_are_found_turned(toy: Galaxies) -> None:
    pixels = toy.standardise(toy.train.images)[[3, 40]]
    assert nearest_galaxies(pixels.rot90(1, (2, 3)).transpose(2, 3), toy).tolist() == [3, 40]


def test_leaves_hang_where_their_paths_part() -> None:
    assert question("a04") == "edge-on?"
    found = branches(get_tree("coarse5"))
    assert found[0] == (("a01",), "rounded?", "completely round")
    assert found[3] == (("a02", "a04"), "bulge shape?", "rounded or boxy or no bulge")
    assert found[4] == (("a02", "a05"), "spiral?", "spiral")


@pytest.mark.parametrize("name", ["simplified", "coarse5", None])
def test_tree_figure_shows_every_leaf(name: str | None) -> None:
    tree = get_tree(name) if name else None
    names = tree.class_names if tree else ("one", "two")
    figure = tree_figure(
        {"first": torch.rand(len(names), 3, 4, 4), "second": torch.rand(len(names), 3, 4, 4)}, names, tree, "x"
    )
    assert len(figure.axes) == 1 + 2 * len(names)
    words = {text.get_text().replace("\n", " ") for text in figure.texts}
    assert {*names, "first", "second", "x"} <= words


@pytest.mark.parametrize("width", [1400, 400])
def test_a_browser_opens_it(evaluated: Path, tmp_path: Path, width: int) -> None:
    """The page is as wide as the window: nothing sticks out but tables that scroll by themselves."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no browser: chromium is not installed")
    report([evaluated], tmp_path)
    page = tmp_path / "report.html"
    probe = "<script>document.title = [document.documentElement.scrollWidth - window.innerWidth," + (
        "[...document.images].filter(i => !(i.complete && i.naturalWidth)).length].join()</script></body>"
    )
    (tmp_path / "probe.html").write_text(page.read_text().replace("</body>", probe))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},900"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command: list[Any] = [browser, *options, profile, "--dump-dom", (tmp_path / "probe.html").as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    title = re.search(r"<title>(-?\d+),(\d+)</title>", dom)
    assert title is not None
    assert int(title[1]) <= 0, f"{title[1]} px stick out"
    assert int(title[2]) == 0, "pictures that do not load"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"data": [', '"data": ["x", '),
        ('"index": [', '"index": [["deep"], '),
        ('"spread"', '"spread", "spread"'),
        ('"distilled"', "1"),
        ('"protocol"', '"other"'),
    ],
)
def test_a_record_whose_tables_are_none_is_refused(evaluated: Path, tmp_path: Path, before: str, after: str) -> None:
    text = json.dumps(json.loads((evaluated / "evaluation" / "evaluation.json").read_text()))
    (tmp_path / "evaluation.json").write_text(text.replace(before, after, 1))
    with pytest.raises(InputError, match="evaluation.json is no record of an evaluation or is damaged"):
        read_evaluation(tmp_path / "evaluation.json")


def test_a_count_that_is_text_or_a_record_without_end_is_refused(evaluated: Path, tmp_path: Path) -> None:
    record = json.loads((evaluated / "evaluation" / "evaluation.json").read_text())
    record["confusion"]["data"][0][0] = "many"
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match="round in confusion is 'many'"):
        read_evaluation(path)
    path.write_text('{"format": ' * 5000)
    with pytest.raises(InputError, match="evaluation.json is no record of an evaluation or is damaged"):
        read_evaluation(path)


def test_logs_and_settings_that_are_none(evaluated: Path, tmp_path: Path) -> None:
    """Settings are refused or left out; of a log that never ends nothing is read, and numbers alone are drawn."""
    run = tmp_path / "run"
    shutil.copytree(evaluated, run)
    for settings in run.glob("logs/version_*/config.yaml"):
        settings.write_text("data: .inf\n")
    log = run / "logs" / "version_0" / "metrics.csv"
    assert read_run(run).galaxies is None
    odd = run / "logs" / "version_²" / "metrics.csv"  # a digit to Python, but no number
    odd.parent.mkdir()
    odd.write_text("")
    log.write_text("step,loss\n0,inf\n1,0.5\n")
    assert read_run(run).metrics["loss"].isna().tolist() == [True, False]
    log.write_text("step,loss\n0,many\n")
    with pytest.raises(InputError, match="metrics.csv cannot be read as a table .*; delete it to do without"):
        read_run(run)
    log.unlink()
    log.symlink_to("/dev/zero")
    with pytest.raises(InputError, match="metrics.csv cannot be read as a table .*there is no file"):
        read_run(run)
