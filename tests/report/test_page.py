"""The page: what is on it, that it stands alone, and that a browser can open it."""

import base64
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
from gz_lightning.errors import InputError
from gz_lightning.evaluation.evaluate import evaluate
from gz_lightning.report.page import report
from gz_lightning.report.tree_figure import tree_figure
from gz_lightning.sets.synthetic import SyntheticSet
from tests.evaluation.conftest import synthetic_set
from tests.report.conftest import write_run


class Page(HTMLParser):
    """Tags with their attributes, and the text of table cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "link", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    @property
    def ids(self) -> set[str | None]:
        return {attributes.get("id") for _, attributes in self.tags}

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_stands_alone_and_can_be_read_aloud(evaluated: Path) -> None:
    result = report([str(evaluated)])
    text = (evaluated / "report" / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert [script.get("src") for script in page.all("script")] == [None]
    assert not page.all("link")
    assert not re.search(r"(?:src|href)=\"(?!data:image/png;base64,|#)", text)
    assert not re.search(r"url\(|https?:", text)
    images = page.all("img")
    assert all(len(image["alt"] or "") > 20 for image in images)
    for path in result.files[1:]:
        assert base64.b64encode(path.read_bytes()).decode() in text
        with Image.open(path) as picture:
            assert min(picture.size) > 100
    names = {path.name for path in result.files}
    assert names >= {"tree.png", "accuracy.png", "loss_curve.png", "stage_curve.png", "step_size_curve.png"}
    assert names >= {"accuracy_curve.png", "experts_curve.png"}
    assert len(page.all("caption")) == len(page.all("table"))
    assert {head.get("scope") for head in page.all("th")} == {"col", "row"}
    for words in ("a &amp; b", "random real", "distilled, tuned", "label-robust score", "ConvNetD1W4", "arXiv:2203.11932"):
        assert words in text
    assert page.all("html") == [{"lang": "en"}]
    assert "the survey and the catalogue that they come from" in text  # the galaxies do not say: as in an exported card
    assert "Willett" not in text
    assert 'class="remarks"' not in text
    assert set(re.findall(r'href="#(\w+)"', text)) <= page.ids


def test_all_that_was_learned_seen_and_confused_is_on_it(evaluated: Path, toy: Galaxies, tmp_path: Path) -> None:
    report([evaluated], tmp_path)
    page = Page((tmp_path / "report.html").read_text())
    alts = [image["alt"] or "" for image in page.all("img")]
    for beginning, number in (
        ("First image", 6), ("Distilled image of", 6), ("Distilled minus first", 6), ("Stretched", 6),
        ("Distilled images of all leaves at iteration", 3), ("Occlusion map", 9), ("Training galaxy", 18),
    ):  # fmt: skip
        assert sum(alt.startswith(beginning) for alt in alts) == number, beginning
    assert {image["data-iteration"]: "hidden" in image for image in page.all("img") if "data-iteration" in image} == {
        "0": True, "10": False, "20": True,
    }  # fmt: skip
    (slider,) = page.all("input")
    assert slider["value"] == "1"  # the set is of iteration 7
    text = (tmp_path / "report.html").read_text()
    legend, words, maps = (
        text.index(part) for part in ("grey or dark: no effect", "light beside the galaxy", "Occlusion map")
    )
    assert legend < words < maps
    on_it = {alt.split()[2] for alt in alts if alt.startswith("Training galaxy")}
    assert on_it <= set(toy.train.object_ids)


def test_networks_can_be_left_out(evaluated: Path, tmp_path: Path) -> None:
    report([evaluated], tmp_path, networks=0)
    text = (tmp_path / "report.html").read_text()
    assert "Occlusion map of" not in text
    assert "Without occlusion maps and mistaken galaxies: --networks is 0" in text
    assert "a &amp; b, best.h5, row 'distilled': per cent of each leaf's test galaxies" in text


def test_what_is_missing_is_said(toy: Galaxies, tmp_path: Path) -> None:
    synthetic_set(toy).save(tmp_path / "run" / "best.h5")
    report([tmp_path / "run"], tmp_path / "page")
    text = (tmp_path / "page" / "report.html").read_text()
    assert "Not evaluated yet: gz-lightning evaluate --synthetic run/best.h5" in text
    assert "Without real galaxies beside the images, and what networks see in them (name their place with --data)" in text
    assert "Without the first images and the difference from them: there is no pictures/first.h5 in run" in text
    assert "Six images; what they teach has not been measured yet, and guessing gives 33" in text
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
    for prefix in (f"{evaluated.parent.name}_a___b__1__", f"{tmp_path.name}_a___b__2__"):
        assert (tmp_path / "page" / f"{prefix}tree.png").is_file()
    sliders = [tag["id"] for tag in Page(text).all("input")]
    assert len(set(sliders)) == 2
    assert f"{evaluated.parent.name} a &amp; b (1)" in text
    assert f"{tmp_path.name} a &amp; b (2)" in text


def test_refusals(evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="name at least one run folder"):
        report([])
    with pytest.raises(InputError, match="--runs must be a list of which every item is a path, not 3"):
        report(3)  # type: ignore[arg-type]
    broken = tmp_path / "broken"
    shutil.copytree(evaluated, broken)
    (broken / "evaluation" / "evaluation.json").write_text("{")
    with pytest.raises(InputError, match="is no record of an evaluation or is damaged"):
        report([broken])
    for args in (["report"], ["report", str(tmp_path)]):
        with pytest.raises(SystemExit) as end:
            main(args)
        assert end.value.code == 2
        assert "Traceback" not in capsys.readouterr().err


PROBE = """<script>
const seen = [];
const report = document.querySelector(".slider"), input = report.querySelector("input");
for (const place of [0, 2]) {
  input.value = place;
  input.dispatchEvent(new Event("input"));
  const shown = [...report.querySelectorAll("img")].filter(i => i.offsetParent !== null).map(i => i.dataset.iteration);
  seen.push(shown.join("+") + "=" + report.querySelector("output").textContent);
}
dispatchEvent(new Event("beforeprint"));
const all = [...document.querySelectorAll("body *")].filter(i => i.checkVisibility());
document.title = [
  document.documentElement.scrollWidth - window.innerWidth,
  [...document.images].filter(i => !(i.complete && i.naturalWidth)).length,
  all.filter(i => ["auto", "scroll"].includes(getComputedStyle(i).overflowX)).length,
  all.filter(i => i.getBoundingClientRect().right > window.innerWidth + 1).map(i => i.tagName).join(" ") || "none",
  [...document.querySelectorAll("details")].every(i => i.open), ...seen].join();
</script></body>"""
"""Moves the slider, opens what is printed, and writes into the title what there is to see."""


@pytest.mark.parametrize("width", [1400, 700, 500])
def test_a_browser_opens_it(evaluated: Path, tmp_path: Path, width: int) -> None:
    """The page is as wide as the window and nothing on it scrolls by itself; the slider shows one iteration at a time."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no browser: chromium is not installed")
    report([evaluated], tmp_path)
    page = (tmp_path / "report.html").read_text()
    (tmp_path / "probe.html").write_text(page.replace("</body>", PROBE))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},900"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command: list[Any] = [browser, *options, profile, "--dump-dom", (tmp_path / "probe.html").as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title is not None
    sticks_out, broken, scrolling, outside, opened, *seen = title[1].split(",")
    assert int(sticks_out) <= 0, f"{sticks_out} px stick out"
    assert int(broken) == 0, "pictures that do not load"
    assert int(scrolling) == 0, "boxes that scroll by themselves"
    assert outside == "none"
    assert opened == "true"
    assert seen == ["0=0", "20=20"]


@pytest.mark.parametrize("scored", ["best.h5", "last.h5"])
def test_the_set_that_was_scored_is_drawn_and_described(
    toy: Galaxies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scored: str
) -> None:
    shown: list[dict[str, torch.Tensor]] = []

    def kept(sets: dict[str, torch.Tensor], *others: Any) -> Any:
        shown.append(sets)
        return tree_figure(sets, *others)

    monkeypatch.setattr("gz_lightning.report.page.tree_figure", kept)
    run = tmp_path / "run"
    first = synthetic_set(toy, ipc=1)
    first.save(run / "best.h5")
    synthetic_set(toy, ipc=1, images=first.images.flip(3), iteration=99).save(run / "last.h5")
    small: dict[str, Any] = {"num_eval": 1, "epochs": 2, "step_sizes": [0.01], "full_epochs": 0, "baselines": []}
    evaluate(run / scored, toy, **small)
    report([run], data=toy)
    text = (run / "report" / "report.html").read_text()
    assert torch.equal(shown[0]["distilled"], SyntheticSet.load(run / scored).denormalised())
    iteration = 99 if scored == "last.h5" else 7
    rows = "the row &#39;distilled&#39; and the row &#39;distilled, tuned&#39;"
    assert f"Shown: {scored} (iteration {iteration}), scored in {rows}" in text
    assert f">{iteration}</td>" in text
    (run / scored).write_bytes((run / ("best.h5" if scored == "last.h5" else "last.h5")).read_bytes())
    report([run], data=toy)
    text = (run / "report" / "report.html").read_text()
    assert f"Without the evaluation in run/evaluation, as {scored} has changed since: evaluate again" in text
    assert f"Shown: best.h5 (iteration {99 if scored == 'best.h5' else 7}), the set of highest validation accuracy" in text
    assert "worth" not in Page(text).ids


def test_an_evaluation_of_a_set_that_is_not_the_runs(toy: Galaxies, tmp_path: Path) -> None:
    run, made = tmp_path / "run", synthetic_set(toy)
    made.save(run / "best.h5")
    torch.save(made.images, run / "images_best.pt")
    torch.save(made.labels, run / "labels_best.pt")
    small: dict[str, Any] = {"num_eval": 1, "epochs": 2, "step_sizes": [0.01], "full_epochs": 0, "baselines": []}
    evaluate(run / "images_best.pt", toy, network="ConvNetD1W4", **small)
    report([run])
    text = (run / "report" / "report.html").read_text()
    assert "it scored images_best.pt, which is no set of this run: evaluate again" in text
