"""What the plots show, and the two ways of drawing them."""

from __future__ import annotations

import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.made_runs import result, save, scored, study

from intrinsic_cli.cli.main import main
from intrinsic_cli.errors import ConfigError, StoreError
from intrinsic_cli.reports import curve_plots, figures, svg
from intrinsic_cli.reports.curves import estimates, group
from intrinsic_cli.reports.plot import ARROWS, Plot, Series, number, ticks

RUNS = study({100: 0.60, 400: 0.84}, 0.80) + [result(100, 0.55, lr=0.3, seed=s) for s in range(3)]


def curve_and_value():
    return estimates(group(RUNS))[0]


def by_look(plot, look):
    return [s for s in plot.series if s.look == look]


def test_the_score_plot_holds_the_study():
    plot = curve_plots.score(*curve_and_value())
    (runs,), (fit,), (mark, other) = (by_look(plot, look) for look in ("points", "line", "mark"))
    assert (
        sorted(zip(runs.x, runs.y, strict=True)) == [(100, 0.60)] * 3 + [(400, 0.84)] * 3
    )  # not those at 0.3
    assert (fit.x, fit.y) == ((100, 400), pytest.approx((0.60, 0.84)))
    assert (mark.x, mark.y) == ((200,), pytest.approx((0.72,)))
    assert (other.x, other.y, other.label) == ((267,), pytest.approx((0.77,)), "d90 chance = 267")
    assert {level.label: level.y for level in plot.levels} == pytest.approx(
        {"chance": 0.5, "full fine-tuning": 0.80, "target, 90 %": 0.72, "target chance, 90 %": 0.77}
    )
    assert plot.band is not None
    assert plot.band[0] < 200 < plot.band[1]


def test_a_study_without_a_baseline_still_shows_its_runs():
    ((curve, value),) = estimates(group(r for r in RUNS if r.spec.d))
    plot = curve_plots.score(curve, value)
    assert len(plot.series[0].x) == 9
    assert plot.band is None
    assert [level.label for level in plot.levels] == ["chance"]
    assert curve_plots.overview([(curve, value)]).series == ()


def test_learning_rates_are_a_line_per_d():
    plot = curve_plots.rates(*curve_and_value())
    lines = {s.label: dict(zip(s.x, s.y, strict=True)) for s in by_look(plot, "line")}
    assert lines == {"d = 100": pytest.approx({0.1: 0.60, 0.3: 0.55}), "d = 400": pytest.approx({0.1: 0.84})}
    assert [s.x for s in by_look(plot, "points")] == [(0.1,), (0.1,)]


def test_training_curves_come_from_the_histories(tmp_path):
    found = estimates(group(save(RUNS, tmp_path).results()))
    loss, norm = curve_plots.training(*found[0], curve_plots.histories(found))
    assert [s.label for s in loss.series] == ["d = 100"] * 3 + ["d = 400"] * 3 + ["full fine-tuning"] * 3
    assert [s.label for s in norm.series] == ["d = 100"] * 3 + ["d = 400"] * 3
    # The first and last of 60 stretches of 100 steps are step 1 and steps 99 and 100.
    assert loss.series[0].y[0] == pytest.approx(1 - 0.60 / 100)
    assert loss.series[0].y[-1] == pytest.approx(1 - 0.60 * 99.5 / 100)
    assert norm.series[0].y[-1] == pytest.approx((99**0.5 + 10) / 2)


def test_the_overview_has_a_row_per_number():
    censored = study({100: 0.4}, 0.8, task="rte", chance=0.3)
    undefined = study({100: 0.4}, 0.3, task="qnli")
    plot = curve_plots.overview(estimates(group(RUNS + censored + undefined)))
    assert plot.rows == ("minilm rte DID  > 100", "minilm sst2 DID  200")
    (mark,), (arrow,) = by_look(plot, "mark"), by_look(plot, "right")
    assert (mark.x, mark.y) == ((200,), (-1,))
    assert (arrow.x, arrow.y) == ((100,), (0,))
    assert plot.told == "minilm rte DID  > 100; minilm sst2 DID  200"
    below = curve_plots.overview(estimates(group(study({100: 0.79, 400: 0.8}, 0.80))))
    assert [s.x for s in by_look(below, "left")] == [(100,)]


def test_an_overlay_has_every_curve_of_a_task_and_its_d90():
    both = estimates(group(RUNS + study({100: 0.66, 400: 0.84}, 0.80, kind="said")))
    assert list(curve_plots.by_task(both)) == ["sst2"]
    plot = curve_plots.overlay("sst2", both)
    lines = {s.label: (s.x, s.y) for s in by_look(plot, "line")}
    assert lines == {
        "minilm SAID": ((100, 400), pytest.approx((0.66, 0.84))),
        "minilm DID": ((100, 400), pytest.approx((0.60, 0.84))),
    }
    # 100 * 4 ** (0.06 / 0.18) = 158.7 and 100 * 4 ** (0.12 / 0.24) = 200, at the target 0.72
    assert [(s.x[0], s.y[0]) for s in by_look(plot, "mark")] == [
        (159, pytest.approx(0.72)), (200, pytest.approx(0.72)),
    ]  # fmt: skip
    assert len({s.tone for s in by_look(plot, "line")}) == 2
    assert plot.told.startswith("minilm SAID: d90 159 [")


def test_arrows_point_where_the_curve_goes_on():
    ends = {}
    for look in ARROWS:
        plot = Plot("a", "t", "x", "y", (Series((1.0,), (1.0,), look, "fit"),))
        (path,) = [
            e for e in ElementTree.fromstring(svg.draw(plot)).iter("path") if e.get("class") == "mark t-fit"
        ]
        ends[look] = path.get("transform").partition("rotate")[2]
        pytest.importorskip("matplotlib")
        (line,) = figures.draw(plot).axes[0].get_lines()
        assert line.get_marker() == dict(zip(ARROWS, "<>v^", strict=True))[look]
    # The path points to the right; SVG turns clockwise.
    assert ends == {"right": "(0)", "down": "(90)", "left": "(180)", "up": "(270)"}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0, "0"),
        (0.05, "0.05"),
        (999, "999"),
        (1000, "1,000"),
        (30_000, "30,000"),
        (2e6, "2M"),
        (1e-5, "1e-5"),
    ],
)
def test_numbers_on_an_axis_are_written_as_in_tables(value, told):
    assert number(value) == told


def test_values_are_told_to_those_who_point_and_to_those_who_listen():
    root = ElementTree.fromstring(svg.draw(curve_plots.score(*curve_and_value())))
    titles = {e.text for e in root.iter("title")}
    assert "d = 400: mean 0.8400 of 3 at lr 0.1, fit 0.8400" in titles
    assert "d = 100, seed 2, lr 0.1: accuracy 0.6000" in titles
    for told in ("Score against d: accuracy against d", "d = 100: mean 0.6000", "target, 90 % 0.7200"):
        assert told in root.get("aria-label")
    (rates,) = [curve_plots.rates(*curve_and_value())]
    assert "d = 100: lr 0.1 chosen, 0.6000" in rates.told


@pytest.mark.parametrize("n", [0, 1, 59, 60, 61, 119, 120, 121, 300])
def test_decimate_gives_the_means_of_stretches_of_one_length(n):
    """Of x = 0, 1, 2, … the mean of a stretch tells where it ends, if it is known where it begins."""
    y = np.random.default_rng(n).normal(size=n).tolist()
    xs, ys = curve_plots.decimate(range(len(y)), y)
    assert len(xs) == len(ys) == min(len(y), curve_plots.MAX_POINTS)
    begin, lengths = 0, set()
    for x, value in zip(xs, ys, strict=True):
        end = round(2 * x) - begin + 1
        assert value == pytest.approx(np.mean(y[begin:end]), abs=1e-9)
        lengths.add(end - begin)
        begin = end
    assert begin == len(y)
    assert not lengths or max(lengths) - min(lengths) <= 1


@given(st.floats(1e-6, 1e6), st.floats(1.01, 1e8), st.integers(5, 8), st.booleans())
def test_ticks_are_few_round_and_inside(low, ratio, most, log):
    found = ticks(low, low * ratio, log, most)
    assert found == sorted(set(found))
    assert all(low * (1 - 1e-6) <= x <= low * ratio * (1 + 1e-6) for x in found)
    assert len(found) <= (9 if log else most + 1)  # eight decades are nine powers of ten
    if not log:
        assert len(found) >= 2


def test_the_drawing_puts_data_where_the_axes_say():
    plot = curve_plots.score(*curve_and_value())
    root = ElementTree.fromstring(svg.draw(plot))
    ticks = {e.text: float(e.get("x")) for e in root.iter("text") if e.get("y") == "270"}
    circles = sorted({(float(e.get("cx")), float(e.get("cy"))) for e in root.iter("circle")})
    assert circles[0][0] == pytest.approx(ticks["100"], abs=0.11)
    low, high = circles  # d = 100 and 400; on a log axis 200 lies halfway
    assert ticks["200"] == pytest.approx((low[0] + high[0]) / 2, abs=0.2)
    assert low[1] > high[1]  # the higher score is higher up
    assert len(list(root.iter("rect"))) == 1


def test_what_is_drawn_is_escaped():
    plot = Plot("a", "<b>", "x & y", '"', (Series((1.0,), (1.0,), "points", "data", "", ("<script>",)),))
    root = ElementTree.fromstring(svg.draw(plot))
    assert [e.text for e in root.iter("title")] == ["<script>"]
    assert root.get("aria-label") == '<b>: " against x & y'


def test_an_open_interval_reaches_the_edge():
    runs = study({100: 0.60, 400: 0.719}, 0.80, n_eval=872)
    plot = curve_plots.score(*estimates(group(runs))[0])
    assert plot.band is not None
    assert plot.band[1] is None
    (band,) = ElementTree.fromstring(svg.draw(plot)).iter("rect")
    assert float(band.get("x")) + float(band.get("width")) == svg.WIDTH - svg.RIGHT


@pytest.mark.long
def test_figures_for_a_paper(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    save(RUNS, tmp_path / "runs")
    folder = tmp_path / "figures"
    words = ["report", str(tmp_path / "runs"), "--out", str(tmp_path / "page.html"), "--figures", str(folder)]
    assert main(words) == 0
    assert f"10 figures in {folder}" in capsys.readouterr().out
    says = {"overview": "minilm sst2 DID"} | {
        f"minilm-sst2-DID-{what}": word
        for what, word in (
            ("score", "d90 = 200"),
            ("rates", "d = 400"),
            ("loss", "loss"),
            ("theta_norm", "‖θ‖"),
        )
    }
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.{form}" for name in says for form in ("svg", "pdf")
    }
    for name, word in says.items():
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert word in "".join(ElementTree.parse(folder / f"{name}.svg").getroot().itertext())


@pytest.mark.long
def test_the_same_runs_give_the_same_files(tmp_path):
    pytest.importorskip("matplotlib")
    plot = curve_plots.score(*curve_and_value())
    once, twice = (figures.write([plot], tmp_path / name) for name in ("once", "twice"))
    assert [path.read_bytes() for path in once] == [path.read_bytes() for path in twice]


@pytest.mark.long
def test_many_figures_are_the_same_whoever_draws_them(tmp_path, monkeypatch):
    plot = curve_plots.score(*curve_and_value())
    several = [replace(plot, name=f"plot-{i:02}", title=str(i)) for i in range(4)]
    content = []
    monkeypatch.setattr(figures, "WORTH", 2)
    for count in (1, 2):
        monkeypatch.setattr("os.cpu_count", lambda count=count: count)
        files = figures.write(several, tmp_path / str(count))
        assert [f.name for f in files[:3]] == ["plot-00.svg", "plot-00.pdf", "plot-01.svg"]
        assert len(files) == 8
        content.append([f.read_bytes() for f in files])
    assert content[0] == content[1]


@pytest.mark.long
def test_a_folder_that_can_not_be_written_is_one_line_from_any_process(tmp_path, monkeypatch):
    plot = curve_plots.score(*curve_and_value())
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(figures, "WORTH", 2)
    (tmp_path / "figures" / "plot-03.pdf").mkdir(parents=True)  # a folder stands where a file would
    with pytest.raises(StoreError, match=r"--figures .* can't be written"):
        figures.write([replace(plot, name=f"plot-{i:02}") for i in range(4)], tmp_path / "figures")


def test_without_matplotlib_the_way_out_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as where it is not installed
    with pytest.raises(ConfigError, match=r'pip install "intrinsic-cli\[report\]"'):
        figures.write([], tmp_path)
    save(RUNS, tmp_path)
    assert main(["report", str(tmp_path), "--figures", str(tmp_path / "figures")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "report.html").exists()
    assert main(["report", str(tmp_path)]) == 0  # the page needs none


def as_loss(runs):
    """The same runs with a loss of 10 at an accuracy of 0 and of 0 at 1."""
    return [scored(r, 10 * (1 - r.score), "loss", chance=10.0, higher_is_better=False) for r in runs]


def test_the_best_loss_with_so_few_numbers_is_the_lowest():
    runs = study({100: 0.60, 400: 0.84}, 0.80) + study({100: 0.66, 400: 0.82}, 0.80, kind="said")
    upward, downward = (
        curve_plots.overlay("sst2", estimates(group(each))).series[-1] for each in (runs, as_loss(runs))
    )
    assert (upward.x, upward.y) == ((100, 400, 400, 400), pytest.approx((0.66, 0.66, 0.84, 0.84)))
    assert downward.x == upward.x
    assert downward.y == pytest.approx([10 * (1 - y) for y in upward.y])
    assert [note.partition(" ")[0] for note in downward.notes] == ["SAID", "SAID", "DID", "DID"]


def test_curves_of_different_metrics_share_no_axis():
    other = [replace(r, data_hash="5" * 64) for r in as_loss(RUNS)]
    found = estimates(group(RUNS + study({100: 0.66, 400: 0.84}, 0.80, kind="said") + other))
    parts = curve_plots.by_task(found)
    assert {name: {c.metric for c, _ in some} for name, some in parts.items()} == {
        "sst2 accuracy": {"accuracy"}, "sst2 loss": {"loss"},
    }  # fmt: skip
    assert [p.y_label for p in curve_plots.every(found) if p.name.endswith("overlay")] == ["accuracy"]


def test_learning_rates_have_the_means_of_the_curve():
    """One of three runs collapsed: it has no part in the score at d = 400, so in no mean there either."""
    runs = [
        scored(r, 0.5) if (r.spec.d, r.spec.seed) == (400, 1) else r
        for r in study({100: 0.60, 200: 0.70, 400: 0.84}, 0.90)
    ]
    ((curve, value),) = estimates(group(runs))
    assert value.collapsed == 1
    plot = curve_plots.rates(curve, value)
    lines = {s.label: s.y for s in by_look(plot, "line")}
    assert value.curve[-1].score == pytest.approx(0.84)
    assert lines["d = 400"] == pytest.approx((0.84,))
    assert "d = 400: lr 0.1 chosen, 0.8400" in plot.told
    [fell] = [s for s in plot.series if s.label == "collapsed, in no mean"]
    assert (fell.x, fell.y) == ((0.1,), (0.5,))
    assert "d = 400, seed 1, lr 0.1: accuracy 0.5000, collapsed" in plot.told


# The best mean is at 3,000; from 10,000 on the scores are clearly lower.
FALL = study({100: 0.60, 300: 0.75, 1000: 0.86, 3000: 0.88, 10_000: 0.60, 30_000: 0.55}, 0.92, n_eval=1000)


def test_beyond_a_fall_an_overlay_shows_what_was_measured():
    other = study({100: 0.60, 3000: 0.90}, 0.92, n_eval=1000, kind="said")
    both = estimates(group(FALL + other))
    plot = curve_plots.overlay("sst2", both)
    [fit] = [s for s in by_look(plot, "line") if s.label == "minilm DID"]
    assert (fit.x[-1], fit.y[-1]) == (3000, pytest.approx(0.88))
    assert "minilm DID: d = 3,000, fitted accuracy 0.8800" in fit.notes
    [band] = [s for s in by_look(plot, "area") if s.tone == fit.tone]
    assert max(band.x) == 3000
    [beyond] = by_look(plot, "points")
    assert (beyond.x, beyond.y) == ((10_000, 30_000), pytest.approx((0.60, 0.55)))
    assert beyond.notes[1] == "minilm DID: d = 30,000, mean accuracy 0.5500, beyond a fall"
    [way] = [s for s in by_look(plot, "dash") if s.tone == fit.tone]
    assert (way.x, way.y) == ((3000, 10_000, 30_000), pytest.approx((0.88, 0.60, 0.55)))
    assert max(plot.series[-1].x) == 3000  # of the best of all spaces


def test_beyond_a_fall_a_score_plot_has_no_fit():
    [(curve, value)] = estimates(group(FALL))
    plot = curve_plots.score(curve, value)
    [fit], [mean] = by_look(plot, "line"), by_look(plot, "dash")
    assert (fit.x[-1], mean.x[-1], mean.y[-1]) == (3000, 30_000, pytest.approx(0.55))
    assert "d = 30,000: mean 0.5500 of 3 at lr 0.1, beyond a fall" in mean.notes


def test_runs_that_collapsed_are_no_seeds_of_the_mean():
    runs = [
        scored(r, 0.5) if (r.spec.d, r.spec.seed) == (400, 1) else r
        for r in study({100: 0.60, 200: 0.70, 400: 0.84}, 0.90)
    ]
    plot = curve_plots.score(*estimates(group(runs))[0])
    points = {s.label: list(zip(s.x, s.y, strict=True)) for s in by_look(plot, "points")}
    assert points["collapsed, in no mean"] == [(400, 0.5)]
    assert sorted(points["one seed"])[-2:] == [(400, 0.84), (400, 0.84)]
    assert "d = 400, seed 1, lr 0.1: accuracy 0.5000, collapsed" in plot.series[1].notes


def test_an_open_end_has_an_arrow_wherever_the_number_is():
    """d90 beyond the largest d, and its interval from below the smallest: 1.96 times the noise of 50 rows, 0.07."""
    [(curve, value)] = estimates(group(study({100: 0.70, 400: 0.71}, 0.80, n_eval=50)))
    assert (value.status, value.low_open, value.high_open) == ("above_grid", True, True)
    plot = curve_plots.overview([(curve, value)])
    assert [(s.look, s.x, s.tone) for s in plot.series if s.look in ARROWS] == [
        ("left", (100,), "fit"), ("right", (400,), "chance"),
    ]  # fmt: skip
