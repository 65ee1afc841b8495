"""The report page: whole, self-contained and small; and, where there is a Chromium, as a person sees it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from support.made_runs import result, save, study

from intrinsic_cli.cli.main import main
from intrinsic_cli.reports import page
from intrinsic_cli.store import Store

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Elements, texts and the nesting of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and data.strip():
            self.words.setdefault(self.open[-1], []).append(data.strip())

    def values(self, attribute):
        return [attrs[attribute] for _, attrs in self.elements if attribute in attrs]

    def count(self, tag, css):
        return sum(t == tag and css in (attrs.get("class") or "").split() for t, attrs in self.elements)


def write(folder: Path, out: Path) -> str:
    assert main(["report", str(folder), "--out", str(out)]) == 0
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """200 runs: 2 models, 2 tasks, SAID and DID, 4 d's, 2 learning rates, 3 seeds; full, 2 seeds."""
    root = tmp_path_factory.mktemp("big")
    runs = [
        result(d, score - lr / 10, lr=lr, seed=seed, model=model, task=task, kind=kind, n_eval=872)
        for model in ("minilm", "bert-base-uncased")
        for task in ("sst2", "mrpc")
        for kind in ("did", "said")
        for d, score in ((100, 0.55), (300, 0.60), (1000, 0.65), (3000, 0.70))
        for lr in (0.05, 0.1)
        for seed in range(3)
    ]
    runs += [
        result(None, 0.72, seed=seed, model=model, task=task, n_eval=872)
        for model in ("minilm", "bert-base-uncased")
        for task in ("sst2", "mrpc")
        for seed in range(2)
    ]
    save(runs, root / "runs")
    return write(root / "runs", root / "deep" / "report.html"), root


def test_200_runs_are_small_and_whole(big):
    text, _ = big
    page = Page(text)
    assert len(text.encode()) <= 2_000_000
    assert page.count("section", "curve") == 8
    assert page.count("svg", "plot") == 1 + 2 + 8 * 4  # at a glance, two tasks, and four of each curve
    assert page.count("section", "task") == 2
    assert page.words["summary"] == ["200 runs"]  # eight curves stay open
    assert page.count("td", "state-done") == 200
    assert any("200 runs: 200 done" in word for word in page.words["li"])
    names = [name for name in page.values("id") if name]
    assert len(names) == len(set(names))


def test_nothing_comes_from_the_network(big):
    page = Page(big[0])
    assert not {tag for tag, _ in page.elements} & {"script", "img", "iframe", "object", "embed"}
    for link in page.values("src") + page.values("href"):
        assert not re.match(r"\w+:(?!,)|//", link)
    assert not re.search(r"url\(|@import", big[0])


def test_links_lead_somewhere(big):
    text, root = big
    page = Page(text)
    ids = set(page.values("id"))
    links = [link for link in page.values("href") if link != "data:,"]
    inside = [link for link in links if link.startswith("#")]
    assert {link[1:] for link in inside} <= ids
    assert {f"#c{i}" for i in range(8)} < set(inside)
    assert {"#table", "#overview", "#t0", "#t1", "#runs", "#environment"} < set(inside)
    folders = [link for link in links if not link.startswith("#")]
    assert len(folders) == 200
    assert all((root / "deep" / unquote(link) / "result.json").is_file() for link in folders)


def test_the_table_says_what_summarize_says(tmp_path):
    save(study({100: 0.60, 400: 0.84}, 0.80), tmp_path)
    page = Page(write(tmp_path, tmp_path / "report.html"))
    assert page.words["b"] == ["200", "267"]
    assert "0.800" in page.words["td"]
    assert (
        "About 200 of 1,000 parameters (20 %) reach 90 % of full fine-tuning's accuracy. The score has gone "
        "90 % of the way from chance to full fine-tuning's at 267." in page.words["p"]
    )
    facts = dict(zip(page.words["dt"], page.words["dd"], strict=True))
    assert facts["d80"].startswith("126 [")
    assert facts["d90 chance"].startswith("267 [")
    assert facts["full fine-tuning"] == "0.8000 (lr 0.1, 3 runs)"
    assert facts["python"] == "3.11"
    assert "gpu" not in facts


def test_a_study_in_progress(tmp_path):
    """No baseline yet, one run failed, one pending."""
    store = save([result(d, 0.6) for d in (100, 400)], tmp_path)
    for seed, told in ((7, "loss <became> nan"), (8, None)):
        spec = result(100, 0.0, seed=seed).spec
        run = store.run(spec)
        with run.claim():
            run.begin(spec)
            if told:
                run.fail(ValueError(told))
    page = Page(write(tmp_path, tmp_path / "report.html"))
    assert (
        "No number: no run of full fine-tuning on the same rows and weights, trained alike, has finished."
        in page.words["p"]
    )
    assert page.words["b"] == ["—"]
    assert "loss <became> nan" in page.words["td"]
    assert any("2 done, 1 failed, 1 pending" in word for word in page.words["li"])


@pytest.mark.long
def test_many_curves_are_folded_under_their_tasks(tmp_path):
    tasks = [f"task{i}" for i in range(5)]
    pairs = [(task, kind) for task in tasks for kind in ("did", "said")]
    runs = [r for task, kind in pairs for r in study({100: 0.6, 400: 0.84}, 0.8, task=task, kind=kind)]
    save(runs, tmp_path)
    text = write(tmp_path, tmp_path / "report.html")
    page = Page(text)
    told = {run.run_id for run in runs}  # full fine-tuning is shared by the two subspaces of a task
    assert page.words["summary"] == [
        *(f"2 curves of {task}, one by one" for task in tasks),
        f"{len(told)} runs",
    ]
    for i, part in enumerate(text.split('<section class="task"')[1:]):
        assert part.count('<svg class="plot"') == 1 + 2 * 4
        assert f">{tasks[i]}</h2>" in part
        assert part.index("<svg") < part.index("<details>") < part.index('class="card curve"')


def luminance(colour):
    """Relative luminance of #rrggbb (WCAG 2.1)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one, other):
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_words_and_lines_stand_out_in_light_and_dark(big):
    schemes = re.findall(r":root \{(.*?)\}", big[0], re.S)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", scheme))
        for back in (colours["paper"], colours["card"]):
            for word in ("ink", "soft", "accent"):
                assert contrast(colours[word], back) >= 4.5, word
            for line in ("data", "fit", "full", "chance", *(f"c{i}" for i in range(8))):
                assert contrast(colours[line], back) >= 3, line


def test_names_are_text_not_markup(tmp_path):
    save(
        study({100: 0.60, 400: 0.84}, 0.80, model="<script>alert(1)</script>&", task="a<b"),
        tmp_path / "r u#ns",
    )
    page = Page(write(tmp_path / "r u#ns", tmp_path / "report.html"))
    assert "script" not in {tag for tag, _ in page.elements}
    assert "a<b" in page.words["th"]
    (folder, *_) = [link for link in page.values("href") if link.startswith("r%20u%23ns/")]
    assert (tmp_path / unquote(folder)).is_dir()


def test_what_can_not_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    save(study({100: 0.60}, 0.80), tmp_path / "runs")
    assert main(["report", str(tmp_path / "runs"), "--out", str(tmp_path / "file" / "page.html")]) == 2
    assert "can't be written" in capsys.readouterr().err
    Store(tmp_path / "none").root.mkdir()
    assert main(["report", str(tmp_path / "none")]) == 2
    assert "no finished subspace run here" in capsys.readouterr().err


CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--enable-logging=stderr",
]  # fmt: skip
# Shows the page in frames of a phone's and a desk's width and writes down what it measures there.
MEASURE = """<!doctype html><body><script>
const page = PAGE, told = {};
let waiting = 3;
for (const width of [390, 820, 1280]) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width:${width}px;height:900px;border:0`;
  frame.onload = () => {
    const inner = frame.contentDocument;
    const plots = [...inner.querySelectorAll("svg.plot")];
    const texts = [...inner.querySelectorAll("svg.plot text")];
    const lines = [...inner.querySelectorAll("path.line, path.dash")];
    told[width] = {
      scroll: inner.documentElement.scrollWidth,
      table: inner.querySelector("table.d90 td b").getBoundingClientRect().height,
      plots: plots.map(p => p.getBoundingClientRect()).map(b => [b.width, b.height]),
      text: Math.min(...texts.map(t => t.getBoundingClientRect().height)),
      model: inner.querySelector(".d90 tbody th").getBoundingClientRect().width,
      hint: inner.querySelector(".hint").getBoundingClientRect().height,
      tones: [...new Set(lines.map(p => inner.defaultView.getComputedStyle(p).stroke))],
    };
    if (--waiting === 0) document.body.dataset.told = JSON.stringify(told);
  };
  frame.srcdoc = page;
  document.body.append(frame);
}
</script>"""


def browse(path: Path, profile: Path, *flags: str) -> tuple[str, list[str]]:
    """(standard output, console messages) of Chromium on a file."""
    assert CHROMIUM is not None
    answer = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *flags, path.as_uri()],
        capture_output=True, text=True, timeout=180, check=True,
    )  # fmt: skip
    return answer.stdout, [line for line in answer.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.long
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_in_a_browser(big, tmp_path):
    text, root = big
    dom, console = browse(root / "deep" / "report.html", tmp_path / "profile", "--dump-dom")
    assert console == []
    assert 'table class="d90"' in dom

    frames = tmp_path / "frames.html"
    frames.write_text(MEASURE.replace("PAGE", json.dumps(text).replace("</", "<\\/")), encoding="utf-8")
    dom, console = browse(frames, tmp_path / "profile", "--dump-dom", "--virtual-time-budget=20000")
    assert console == []
    (told,) = (value for value in Page(dom).values("data-told"))
    for width, seen in ((int(w), s) for w, s in json.loads(told).items()):
        assert seen["scroll"] <= width  # nothing sticks out to the side
        assert seen["table"] > 10
        assert len(seen["plots"]) == 35
        assert 80 < seen["model"] < 0.35 * width  # the model's column leaves room for the others
        assert (seen["hint"] > 0) == (width < 1000)
        assert all(w > 250 and h > 100 for w, h in seen["plots"])
        assert seen["text"] >= 9
        assert len(seen["tones"]) >= 6
        assert "none" not in seen["tones"]


@pytest.mark.long
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_light_and_dark(big, tmp_path):
    image = pytest.importorskip("matplotlib.image")
    corners = []
    for scheme in (1, 0):  # Chromium's numbers for light and dark
        shot = tmp_path / f"{scheme}.png"
        flags = (
            f"--screenshot={shot}",
            "--window-size=900,900",
            f"--blink-settings=preferredColorScheme={scheme}",
        )
        browse(big[1] / "deep" / "report.html", tmp_path / "profile", *flags)
        corners.append(image.imread(shot)[0, 0, :3].mean())
    light, dark = corners
    assert light > 0.9
    assert dark < 0.15


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (1.0, "100"),
        (0.9999, "100"),
        (0.123, "12"),
        (0.0543, "5.4"),
        (200 / 355_359_744, "0.000056"),
        (0.5, "50"),
    ],
)
def test_a_share_is_a_number_and_no_power_of_ten(part, told):
    assert page._percent(part) == told
