"""Figures as they are read: every name whole, none on another, in whatever letters, and in a file of its own."""

from __future__ import annotations

import math
import warnings
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.made_runs import save, study

from intrinsic_cli.cli.main import main
from intrinsic_cli.reports import curve_plots, figures, trend_plots
from intrinsic_cli.reports.axes import step_axis
from intrinsic_cli.reports.curves import estimates, group
from intrinsic_cli.reports.fonts import families
from intrinsic_cli.reports.plot import Plot, Series
from intrinsic_cli.reports.trends import trends

pytest.importorskip("matplotlib")

SCORES = {100: 0.60, 300: 0.75, 1000: 0.86, 3000: 0.90}
REAL = [f"bert-128-step-{step}" for step in (0, 250, 500, 1000, 2000, 4000, 8000, 16000, 24000)]
LONG = ["m" * 80, "m" * 79 + "n", "a name of many words that nobody would ever give to a model but who knows"]
HARD = ["a$b$c", "x$\\frac$y", "$_$", "_em_ *s*", "<b>&", "模型一", "模型二", "𓀀", "two\nlines"]


def found(*names, scores=SCORES, **options):
    runs = [r for name in names for r in study(scores, 0.92, model=name, n_eval=1000, **options)]
    return estimates(group(runs))


def trend(*names):
    curves = found(*names, scores={1000: 0.60, 4000: 0.80, 16000: 0.86})
    axis = step_axis(curve.spec.model for curve, _ in curves)
    return trend_plots.plot(trends(curves, axis)[0], axis)


def written(figure):
    """The texts of a figure, with their places in pixels."""
    figure.canvas.draw()
    renderer, [ax] = figure.canvas.get_renderer(), figure.axes
    texts = [*ax.texts, *figure.texts, ax.xaxis.label, ax.yaxis.label]
    texts += [*ax.get_xticklabels("both"), *ax.get_yticklabels("both")]
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in texts if text.get_text()]


@pytest.mark.parametrize(
    "plot",
    [
        pytest.param(curve_plots.overview(found(*REAL)), id="overview of real names"),
        pytest.param(curve_plots.overview(found(*LONG)), id="overview of long names"),
        pytest.param(curve_plots.overlay("sst2", found(*REAL)), id="overlay of real names"),
        pytest.param(curve_plots.overlay("sst2", found(*LONG)), id="overlay of long names"),
        pytest.param(curve_plots.score(*found("minilm")[0]), id="score"),
        pytest.param(curve_plots.rates(*found("minilm")[0]), id="rates"),
        pytest.param(
            curve_plots.score(*found("minilm", scores={20_000: 0.8, 30_000: 0.9, 40_000: 0.9})[0]), id="short"
        ),
        pytest.param(trend(*REAL), id="steps from 0 to 24000"),
        pytest.param(trend(*REAL[1:4]), id="three steps"),
    ],
)
def test_no_text_is_cut_and_none_lies_on_another(plot):
    figure = figures.draw(plot)
    texts = written(figure)
    assert len(texts) >= 3
    for text, box in texts:
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1, text
    for (one, a), (other, b) in combinations(texts, 2):
        apart = a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1  # a pixel of leading
        assert apart, (one, other)


@pytest.mark.parametrize("names", [REAL, LONG])
def test_names_are_whole_in_a_legend_and_beside_rows(names):
    curves = found(*names)
    for plot, wanted in (
        (curve_plots.overlay("sst2", curves), [f"{curve.row} DID" for curve, _ in curves]),
        (curve_plots.overview(curves), curve_plots.overview(curves).rows),
    ):
        seen = {"".join(text.split()) for text, _ in written(figures.draw(plot))}
        assert {"".join(name.split()) for name in wanted} <= seen


@given(st.floats(1e-4, 1e6), st.floats(1.05, 1e9), st.booleans(), st.floats(0.01, 0.06))
def test_names_of_ticks_stand_apart(low, ratio, log, character):
    ends = Series((low, low * ratio), (1.0, 2.0), "line", "fit")
    plot = Plot("p", "", "", "", (ends,), log_x=log)

    def width(name):
        return min(character * len(name), 0.3)

    named = plot.x_ticks(width)
    first, last = plot.x_limits()
    share = (
        (lambda x: math.log(x / first) / math.log(last / first))
        if log
        else (lambda x: (x - first) / (last - first))
    )
    assert named
    for (x, name), (other, behind) in pairwise(named):
        assert share(other) - share(x) >= (width(name) + width(behind)) / 2 - 1e-9


@pytest.mark.long
def test_names_are_written_as_they_are_and_matplotlib_says_nothing(tmp_path):
    curves = found(*HARD)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = figures.write([curve_plots.overlay("sst2", curves), curve_plots.overview(curves)], tmp_path)
    for svg in files[::2]:
        said = "".join(ElementTree.parse(svg).getroot().itertext())
        for name in HARD:
            assert name.replace("\n", "\\n") in said


def test_letters_that_no_font_has_are_spelled_for_a_pdf():
    plot = curve_plots.overview(found(*HARD))
    readable = figures.readable(plot)
    assert len(set(readable.rows)) == len(HARD)
    assert families(figures.letters(readable))[1] - {"\n"} == frozenset()
    assert readable.rows[:2] == plot.rows[:2]


def test_a_letter_that_another_font_has_comes_from_it():
    letter = "\U0001d400"  # of mathematics: not in DejaVu Sans, but in a font that comes with matplotlib
    usual, missing = families("DID")
    more, none = families(f"DID {letter}")
    assert (missing, none) == (frozenset(), frozenset())
    assert more[: len(usual)] == usual
    assert len(more) == len(usual) + 1


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["模型一", "模型二"], ["模型一-sst2-DID-score", "模型二-sst2-DID-score"]),
        (["a b", "a+b"], ["a-b-sst2-DID-score", "a-b-sst2-DID-score-2"]),
        (["Bert", "bert"], ["Bert-sst2-DID-score", "bert-sst2-DID-score-2"]),
        (["$", ".x"], ["sst2-DID-score", "x-sst2-DID-score"]),
        (["m" * 240], ["m" * 40 + "…" + "mmmmm-sst2-DID-score"]),
    ],
)
def test_every_figure_has_a_file_of_its_own(tmp_path, names, files):
    curves = [pair for name in names for pair in found(name)]
    made = figures.write([curve_plots.score(*pair) for pair in curves], tmp_path)
    assert [path.name for path in made] == [f"{name}.{form}" for name in files for form in figures.FORMATS]
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in made}


@pytest.mark.parametrize("place", ["/proc/x", "/proc", "{}/link", "{}/file/x"])
def test_a_folder_that_can_not_be_made_is_told_before_any_work(tmp_path, place, idim):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "else")
    (tmp_path / "file").write_text("kept")
    save(study(SCORES, 0.92), tmp_path / "runs")
    folder, page = place.format(tmp_path), tmp_path / "page.html"
    for words in (("report", tmp_path / "runs", "--out", page), ("compare", tmp_path / "runs")):
        status, out, err = idim(*words, "--figures", folder)
        assert (status, out) == (2, "")
        assert err.startswith(f"idim: --figures {folder} can't be written")
    assert {path.name for path in tmp_path.iterdir()} == {"link", "file", "runs"}


def test_a_folder_that_is_checked_is_left_as_it_was(tmp_path):
    figures.check_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").mkdir()
    figures.check_folder(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.long
def test_compare_says_what_it_wrote_and_where(tmp_path, capsys):
    save([r for name in ("a", "b") for r in study(SCORES, 0.92, model=name)], tmp_path / "runs")
    words = ["compare", str(tmp_path / "runs"), "--format", "json", "--figures", str(tmp_path / "figures")]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert shown.err == f"2 figures in {tmp_path / 'figures'}\n"
    assert shown.out.startswith("{")
