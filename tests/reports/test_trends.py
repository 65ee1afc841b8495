"""Trends of d90 over checkpoints and sizes, against hand arithmetic, scipy, and records made by hand."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import spearmanr
from support.made_runs import result, save, scored, study

from intrinsic_cli.cli.main import main
from intrinsic_cli.errors import ConfigError, RunError, StoreError
from intrinsic_cli.planning import checkpoints
from intrinsic_cli.planning.words import parse, values
from intrinsic_cli.render import render
from intrinsic_cli.reports import figures, svg
from intrinsic_cli.reports.axes import AXES, accuracy, gap, parameters, step_axis
from intrinsic_cli.reports.curves import estimates, group
from intrinsic_cli.reports.trend_plots import plot
from intrinsic_cli.reports.trend_text import answer, spell
from intrinsic_cli.reports.trends import trends
from intrinsic_cli.result import RunBound
from intrinsic_cli.rundir import RunDir
from intrinsic_cli.spec import ModelSpec, SubspaceSpec
from intrinsic_cli.spec import step_of as step
from intrinsic_cli.statistics.ranks import correlate


def curve(middle, *, size=1000, low=100, high=400, **options):
    """Runs of a study at two d's, the scores 0.6 and `middle`; 90 % of the full score is 0.72."""
    return [replace(r, D=size) for r in study({low: 0.6, high: middle}, 0.80, **options)]


# d90 = 100 * 4 ** (0.12 / (middle - 0.6)) falls with the step; step-0 does not reach the target.
FALLING = {0: 0.66, 500: 0.74, 1000: 0.80, 4000: 0.90}


def trajectory(scores=None, **options):
    return [
        r for at, middle in (scores or FALLING).items() for r in curve(middle, model=f"bert-step-{at}", **options)
    ]  # fmt: skip


def overrides(words):
    """Keys and values that a trajectory's words become."""
    return {o.key_or_group: values(o) for o in checkpoints.overrides(parse(words))}


STEP = step_axis([])


def by_step(results, diverged=()):
    return trends(estimates(group(results, diverged)), step_axis(r.spec.model for r in results))


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("step-1000", 1000), ("step1000", 1000), ("bert-128-step-0", 0), ("seed_0-step_20k", 20_000),
        ("checkpoint2M", 2_000_000), ("1000", 1000), ("main", None), ("step-10-final", 10),
        ("step1000-tokens4B", 1000), ("step10000-tokens41B", 10_000), ("Checkpoint_4k-v2", 4000),
        ("step-0.5M", 500_000), ("step-1M", 10**6), ("step-1.5M", 1_500_000), ("tokens-2.3B", 2_300_000_000),
        ("ckpt-1e5", 100_000), ("global_step20", 20), ("epoch-1.5", 1.5), ("step1000Base", 1000),
        ("step1000of2000", 1000), ("checkpoints", None), ("v1.2.3", None), ("step" + "9" * 5000, None),
    ],
)  # fmt: skip
def test_a_step_is_the_number_behind_its_word_or_at_the_end_of_a_name(name, number):
    assert step(name) == number


@pytest.mark.parametrize(
    "name", ["step_1000_seed_1", "step-1000_2000", "1000_step-1000_5", "seed_1-ckpt_1000_64"]
)
def test_a_line_below_parts_two_numbers_where_they_are_not_one(name):
    assert step(name) == 1000


@pytest.mark.parametrize(
    "number",
    ["1_000", "12_000_000", "1,000", "1'000", "1 000", "2,5M", "1e999", "1e-5", "1E+5", "1e5x", "1.000.000"],
)
@pytest.mark.parametrize("form", ["step-{}", "ckpt{}-epoch-3", "bert-{}", "{}"])
def test_a_number_that_is_not_read_is_no_step_rather_than_another(form, number):
    assert step(form.format(number)) is None


def test_an_exponent_may_be_written_large():
    assert step("ckpt-1E5") == step("ckpt-1e5") == 100_000


def placed(models, **options):
    """The name of the axis of these models, and where each is on it."""
    axis = step_axis(models, **options)
    return axis.name, [axis.of(SimpleNamespace(spec=SimpleNamespace(model=model))) for model in models]


def test_steps_of_revisions_and_folders():
    assert placed([ModelSpec("a/b", revision=r) for r in ("step10", "step2")]) == ("step", [10, 2])
    assert placed([ModelSpec(f"/x/step-{n}/") for n in (0, 0, 7)]) == ("step", [0, 0, 7])
    sizes = ("1000-tokens4B", "2000-tokens8B", "10000-tokens41B")
    assert placed([ModelSpec("a/b", revision=f"step{s}") for s in sizes]) == ("step", [1000, 2000, 10_000])


def test_of_the_names_of_one_model_that_with_a_number_tells_its_step():
    names = {"checkpoint-100": "a", "latest": "c", "checkpoint-300": "c"}
    models = [ModelSpec(f"/x/{name}", fingerprint=content * 64) for name, content in names.items()]
    assert placed(models) == ("step", [100, 300, 300])
    assert placed(models[::-1]) == ("step", [300, 300, 100])


@pytest.mark.parametrize(
    ("models", "why"),
    [
        (
            [ModelSpec("a/b", revision=r) for r in ("step10", "main", "step2", "best")],
            "a/b@main, a/b@best have no step in the name",
        ),
        (
            [ModelSpec("/x/run-7"), ModelSpec("/y/run-7")],
            "/x/run-7 and /y/run-7 are different models of step 7",
        ),
        (
            [ModelSpec("/x/step-9", num_hidden_layers=n) for n in (2, 4)],
            r"/x/step-9 \(2 layers\) and /x/step-9 \(4 layers\) are different models of step 9",
        ),
    ],
)
def test_without_a_step_of_each_a_place_is_the_one_that_was_typed_or_none(models, why):
    with pytest.raises(StoreError, match=f"^{why}; give the checkpoints .*idim trajectory model.name=A,B"):
        step_axis(models)
    assert placed(models, in_order=True) == ("place", list(range(1, len(models) + 1)))
    assert re.search(why, step_axis(models, in_order=True).note)


def test_how_a_model_is_fetched_makes_no_second_one_of_it():
    twice = [ModelSpec("/x/step-5"), ModelSpec("/x/step-9")]
    twice += [replace(m, download_limit=40.0, allow_pickle=True, trust_remote_code=True) for m in twice]
    assert placed(twice) == ("step", [5, 9, 5, 9])
    moved = [ModelSpec(f"{place}/step-3", fingerprint="a" * 64) for place in ("/x", "/y")]
    assert placed(moved) == ("step", [3, 3])


def test_a_pattern_and_revisions_become_a_sweep(tmp_path):
    for at in (1000, 0, 250):
        (tmp_path / f"step-{at}").mkdir()
    (tmp_path / "with space 3").mkdir()
    folders = [f"{tmp_path}/step-{at}" for at in (0, 250, 1000)]
    assert overrides([f"model.name={tmp_path}/step-*", "d=3,5"]) == {"model.name": folders, "d": [3, 5]}
    spaced = f"{tmp_path}/with space 3"
    assert overrides([f"model.name={folders[2]},{tmp_path}/with*"]) == {"model.name": [folders[2], spaced]}
    assert overrides(["model.name=a/b", "revisions=step0,100"]) == {
        "model.name": ["a/b"],
        "model.revision": ["step0", "100"],
    }
    assert overrides(["model=bert-base,minilm", "model.revision=null"]) == {
        "model": ["bert-base", "minilm"],
        "model.revision": [None],
    }
    assert overrides(["model.name=a/b", "model.revision=range(1,4)"])["model.revision"] == [1, 2, 3]


def test_a_link_to_a_checkpoint_is_no_further_one(tmp_path):
    for at in (100, 200, 300):
        (tmp_path / "run" / f"checkpoint-{at}").mkdir(parents=True)
    (tmp_path / "run" / "latest").symlink_to("checkpoint-300")
    (tmp_path / "run" / "best").symlink_to(tmp_path / "run" / "checkpoint-100")
    folders = [f"{tmp_path}/run/checkpoint-{at}" for at in (100, 200, 300)]
    for pattern in ("run/*", "run/*/"):
        found = overrides([f"model.name={tmp_path}/{pattern}"])["model.name"]
        assert [name.rstrip("/") for name in found] == folders
    (tmp_path / "links").mkdir()
    for number, folder in enumerate(folders):
        (tmp_path / "links" / f"step-{number}").symlink_to(folder)
    assert overrides([f"model.name={tmp_path}/links/*"]) == {
        "model.name": [f"{tmp_path}/links/step-{number}" for number in range(3)]
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task=sst2"], "a trajectory needs at least two checkpoints"),
        (["model.name=a/b", "revisions=step0"], "a trajectory needs at least two checkpoints"),
        (["model.name=a/b,a/b"], "a trajectory needs at least two checkpoints"),
        (["model.name=/nowhere/step-*"], "model.name=/nowhere/step-* matches no folder"),
        (["model.name=a/b", "revisions=main,step1", "--threshold", "5"], "threshold=5.0 must lie between"),
        (["model.name=a/b", "revisions=main,step1", "--threshold", "nan"], "threshold=nan must lie between"),
        (
            ["model.name=a/b", "revisions=main,step1", "--selection", "foo"],
            "selection='foo' is not known; use",
        ),
        (["model.name=a/b", "revisions=main,step1", "--selection", "holdout"], "add data.holdout=500"),
        (["model.name=a/b", "revisions=main,step1", "--figures", "file"], "--figures file can't be written"),
        (
            ["model.name=a/b", "revisions=main,step1", "--figures", "file/x"],
            "--figures file/x can't be written",
        ),
    ],
)
def test_what_is_no_trajectory_is_refused_before_anything_is_trained(
    tmp_path, monkeypatch, idim, words, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("kept")
    status, out, err = idim("trajectory", *words, "d=3,5")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_is_there_is_itself_and_a_pattern_keeps_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for parent in ("E[1]", "E1"):
        for at in (100, 200):
            (tmp_path / parent / f"step-{at}").mkdir(parents=True)
    (tmp_path / "E[1]" / "step-300.txt").write_text("no folder")
    typed = ["E[1]/step-100", "E[1]/step-200"]
    words = ["model.name='E[1]/step-100','E[1]/step-200'"]
    assert overrides(words) == {"model.name": typed}
    assert checkpoints.in_order(parse(words))
    words = ["model.name='E[1]/step-*'"]
    assert overrides(words) == {"model.name": [f"./{name}" for name in typed]}
    assert not checkpoints.in_order(parse(words))
    assert overrides(["model.name='E?/step-200'"]) == {"model.name": ["./E1/step-200"]}
    assert overrides([f"model.name='{tmp_path}/E[1]/none'"]) == {"model.name": [f"{tmp_path}/E[1]/none"]}


def test_a_link_to_a_checkpoint_of_a_pattern_is_that_one(tmp_path):
    for name in ("ckpt-1.5M", "ckpt-0.5M", "ckpt-1M", "final"):
        (tmp_path / name).mkdir()
    (tmp_path / "best").symlink_to("ckpt-1M")
    (tmp_path / "latest").symlink_to("final")
    assert overrides([f"model.name={tmp_path}/*"]) == {
        "model.name": [f"{tmp_path}/{name}" for name in ("ckpt-0.5M", "ckpt-1M", "ckpt-1.5M", "final")]
    }


def test_few_studies_without_a_trend_are_called_one():
    rng = np.random.default_rng(0)
    shuffled = [rng.permutation(6).astype(float) for _ in range(400)]
    called = [correlate(np.arange(6.0), d_t, d_t).p <= 0.05 for d_t in shuffled]
    assert np.mean(called) <= 0.07


def test_a_falling_trend_by_hand():
    (trend,) = by_step(trajectory())
    assert trend.x == (0, 500, 1000, 4000)
    assert [value.d_t for _, value in trend.members] == [None, 329, 230, 175]
    # Of the 4! orders, only the one that falls all along and the one that rises have |rho| = 1.
    assert (trend.correlation.rho, trend.correlation.p, trend.correlation.exact) == (-1, 2 / 24, True)


def test_d90s_beyond_the_grid_are_tied_at_its_end():
    (trend,) = by_step(trajectory({0: 0.66, 10: 0.69, 20: 0.80, 30: 0.71, 40: 0.90}))
    oracle = spearmanr([0, 10, 20, 30, 40], [9, 9, 2, 9, 1]).statistic
    assert trend.correlation.rho == pytest.approx(oracle)


def test_of_different_grids_only_the_common_part_ranks():
    # d90 is 329, then beyond 400, then on a wider grid some number above 400: the last two are tied.
    narrow = curve(0.74, model="bert-step-0") + curve(0.66, model="bert-step-1")
    (trend,) = by_step(narrow + curve(0.80, model="bert-step-2", low=200, high=16_000))
    assert trend.members[2][1].d_t > 400
    assert trend.correlation.rho == pytest.approx(spearmanr([0, 1, 2], [1, 2, 2]).statistic)
    (trend,) = by_step(narrow + curve(0.80, model="bert-step-2", low=400, high=16_000))
    assert trend.correlation.reason.startswith(
        "the models were tried at d's that have no range in common up to 400"
    )
    (trend,) = by_step(trajectory(dict.fromkeys(FALLING, 0.66)))
    assert trend.correlation.reason == "all ranks are tied"


def fallen_and_later(*middles):
    """A model whose d90 is beyond 400, where its score falls, and others of d90s on both sides of 400."""
    fallen = study({100: 0.6, 400: 0.66, 1600: 0.5}, 0.80, model="bert-step-0")
    return fallen + [
        r
        for at, middle in enumerate(middles, start=1)
        for r in study({100: 0.6, 400: middle, 1600: 0.76}, 0.80, model=f"bert-step-{at}")
    ]


def test_beyond_a_fall_a_d90_is_neither_above_nor_below_others():
    (trend,) = by_step(fallen_and_later(0.68, 0.74))
    assert (trend.members[0][1].status, trend.members[0][1].grid[-1].d) == ("above_grid", 400)
    assert trend.members[1][1].d_t > 400 > trend.members[2][1].d_t
    assert trend.correlation.rho == pytest.approx(spearmanr([0, 1, 2], [2, 2, 1]).statistic)
    (trend,) = by_step(fallen_and_later(0.68, 0.68))
    assert trend.correlation.reason == "all ranks are tied"
    (trend,) = by_step(fallen_and_later(0.68))
    assert trend.correlation.reason == "2 curves; at least 3 are needed"


def test_a_fall_of_one_model_leaves_the_others_their_ranks():
    # d90s of > 400, 1,022, 800, 542, 329: the first is above the last and of no known order with the others.
    (trend,) = by_step(fallen_and_later(0.60, 0.68, 0.71, 0.74))
    d90s = [value.d_t for _, value in trend.members]
    assert d90s[0] is None
    assert d90s[1] > d90s[2] > d90s[3] > 400 > d90s[4]
    ranks = [0.5, 1.5, 0.5, -0.5, -2]
    assert trend.correlation.rho == pytest.approx(np.corrcoef(range(5), ranks)[0, 1])


def test_below_the_least_d_at_which_runs_lived_nothing_is_known():
    """The first model's runs at d = 100 diverged, so that its d90 of at most 400 may be above another's 249."""
    middles = ({100: 0.75, 400: 0.76}, {100: 0.7, 400: 0.73}, {100: 0.6, 400: 0.66})
    runs = [
        r for at, scores in enumerate(middles)
        for r in study(scores | {1600: 0.78}, 0.80, model=f"bert-step-{at}")
    ]  # fmt: skip
    lost = [r for r in runs if r.spec.d == 100 and r.spec.model.name == "bert-step-0"]
    curves = group([r for r in runs if r not in lost], [r.spec for r in lost])
    [trend] = trends(estimates(curves), step_axis([c.spec.model for c in curves]))
    first, second, third = (value for _, value in trend.members)
    assert (first.status, first.grid[0].d) == ("below_grid", 400)
    assert 100 < second.d_t < 400 < third.d_t
    assert trend.correlation.rho == pytest.approx(spearmanr(range(3), [1, 1, 2]).statistic)


def test_a_fall_that_has_levels_beyond_it_ends_a_curve_too():
    # Its best d is 400, and from 1,600 on its score is clearly lower: what 1,600 says takes no part.
    fallen = study({100: 0.6, 400: 0.70, 1600: 0.62, 6400: 0.60}, 0.80, model="bert-step-0")
    later = [
        r
        for at, middle in ((1, 0.70), (2, 0.74))
        for r in study({100: 0.6, 400: 0.62, 1600: middle, 6400: 0.78}, 0.80, model=f"bert-step-{at}")
    ]
    (trend,) = by_step(fallen + later)
    first, second, third = (value for _, value in trend.members)
    assert (first.status, first.falls_at, first.grid[-1].d) == ("above_grid", 1600, 400)
    assert second.d_t > 1600 > third.d_t > 400
    assert trend.correlation.rho == pytest.approx(np.corrcoef(range(3), [0, 0.5, -0.5])[0, 1])


def test_an_undefined_d90_has_the_worst_rank():
    lost = study({100: 0.5, 400: 0.5}, 0.51, model="bert-step-9000")
    (trend,) = by_step(trajectory() + lost)
    assert (len(trend.members), trend.correlation.models, trend.correlation.undefined) == (5, 5, 1)
    # d90 is beyond the grid, 329, 230, 175, and for the last model there is none: worse than beyond the grid.
    assert trend.correlation.rho == pytest.approx(spearmanr(range(5), [4, 3, 2, 1, 5]).statistic)
    assert "(5 models, 1 of them undefined, which is the worst rank)" in spell(trend, STEP)[0]
    points = [s.x[0] for s in plot(trend, STEP).series if s.look == "points"]
    assert points == [500, 1000, 4000]  # step 0 lies beyond the grid
    (short,) = by_step(trajectory({0: 0.8, 1: 0.9}) + lost)
    assert spell(short, STEP)[0].endswith(
        "exact p = 1 (3 models, 1 of them undefined, which is the worst rank)"
    )


def test_settings_are_trends_of_their_own():
    made = by_step(
        trajectory()
        + trajectory(kind="said")
        + trajectory(task="rte")
        + trajectory(changes={"data": {"max_train": 7}})
    )
    assert sorted(trend.name for trend in made) == [
        "rte DID", "sst2 DID data.max_train=7", "sst2 DID data.max_train=null", "sst2 SAID",
    ]  # fmt: skip
    assert all(trend.x == tuple(FALLING) for trend in made)
    with pytest.raises(StoreError, match="a trend needs at least two"):
        by_step(curve(0.9, model="bert-step-0"))


def test_the_table_and_what_scripts_read():
    made = by_step(trajectory() + trajectory(task="rte"))
    shown = render(answer(made, STEP)).splitlines()
    rows = [line.split("  ") for line in shown if line.strip().startswith(("0 ", "500 ", "1,000", "4,000"))]
    assert [[cell.strip() for cell in row if cell.strip()][:2] for row in rows] == [
        ["0", "bert-step-0"], ["500", "bert-step-500"], ["1,000", "bert-step-1000"], ["4,000", "bert-step-4000"],
    ]  # fmt: skip
    assert "sst2 DID: rank correlation of step and d90 -1.00, exact p = 0.083 (4 models)" in shown
    told = json.loads(render(answer(made, STEP), "json"))
    assert [m["step"] for m in told["models"]] == [0, 500, 1000, 4000] * 2
    assert [(t["name"], t["rho"], t["models"]) for t in told["trends"]] == [
        ("rte DID", -1, 4),
        ("sst2 DID", -1, 4),
    ]
    rows = list(csv.DictReader(io.StringIO(render(answer(made, STEP), "csv"))))
    assert [(row["step"], row["d90"]) for row in rows[:2]] == [("0", ""), ("500", "329")]
    assert render(answer(made, STEP), "md").count("\n|") == 6
    assert render(answer(made, STEP), "tex").count(" \\\\\n") == 10  # in two parts, too wide for a page
    with pytest.raises(ConfigError, match="--format html is not known"):
        render(answer(made, STEP), "html")


def test_the_plot_has_every_interval_and_a_place_for_step_zero():
    (trend,) = by_step(trajectory(n_eval=2000))
    shown = plot(trend, STEP)
    points = [(s.x[0], s.y[0]) for s in shown.series if s.look == "points"]
    assert points == [(500, 329), (1000, 230), (4000, 175)]
    ((zero, end),) = [(s.x[0], s.y[0]) for s in shown.series if s.look == "up"]  # more than the largest d
    assert (end, zero) == (400, 500 / 8**0.5)
    assert shown.x_ticks(lambda name: 0.1)[0] == (zero, "0")
    for s, (_, value) in zip((s for s in shown.series if s.look == "line"), trend.members, strict=True):
        assert s.y == (value.low, 400 if value.high_open else value.high)
    picture = ElementTree.fromstring(svg.draw(shown))
    ticks = [t.text for t in picture.iter("text") if t.get("class") == "tick"]
    assert ticks[0] == "0"
    assert "1,000" in ticks
    # Halfway between 100 and 400 on a logarithmic axis lies 200.
    frame = svg.Frame(shown)
    assert frame.y(200) == pytest.approx((frame.y(100) + frame.y(400)) / 2, abs=0.1)
    axes = figures.draw(shown).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_xticklabels()[0].get_text() == "0"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["100", "200"]


def test_a_line_breaks_where_a_model_has_no_number():
    beyond, undefined = {1: 0.80, 2: 0.66}, study({100: 0.5, 400: 0.5}, 0.51, model="bert-step-5")
    (trend,) = by_step(trajectory({**beyond, 3: 0.80, 4: 0.90}) + undefined + trajectory({6: 0.8, 7: 0.9}))
    shown = plot(trend, STEP)
    assert [s.x for s in shown.series if s.look == "dash"] == [(3, 4), (6, 7)]
    [cross] = [s for s in shown.series if s.look == "cross"]
    assert (cross.x, cross.label) == ((5,), "undefined: worst rank")
    assert cross.y[0] > max(y for s in shown.series if s is not cross for y in s.y)
    assert svg.draw(shown).count("l10 10m0-10l-10 10") == 1


def test_no_number_at_all_is_no_figure():
    lost = [r for at in (1, 2) for r in study({100: 0.5, 400: 0.5}, 0.51, model=f"bert-step-{at}")]
    (trend,) = by_step(lost)
    assert plot(trend, STEP).series == ()


def test_open_ends_have_arrows_in_trends_too():
    runs = [study({100: 0.68, 400: 0.74}, 0.80, model=f"bert-step-{at}", n_eval=30) for at in (1, 2)]
    (trend,) = by_step(runs[0] + runs[1])
    assert all(value.low_open and value.high_open for _, value in trend.members)
    arrows = [(s.look, s.x[0], s.y[0]) for s in plot(trend, STEP).series if s.label == "open end"]
    assert arrows == [("down", 1, 100), ("up", 1, 400), ("down", 2, 100), ("up", 2, 400)]


def test_a_figure_is_of_one_definition_the_trends_own():
    def losses(model, size, begun):
        runs = [replace(r, D=size) for r in study({100: 4.0, 300: 3.4, 1000: 3.0}, 2.9, model=model)]
        runs += [result(0, 4.2, model=model)] if begun else []
        return [scored(r, r.score, "loss", chance=5.0, higher_is_better=False) for r in runs]

    runs = losses("a", 1000, True) + losses("b", 2000, False) + losses("c", 4000, True)
    [trend] = trends(estimates(group(runs)), AXES["parameters"])
    assert [value.definition for _, value in trend.members] == ["gain", "chance", "gain"]
    shown = plot(trend, AXES["parameters"])
    # 90 % of the way from 4.2 to 2.9 is 3.03, between 3.4 at d = 300 and 3.0 at 1000.
    by_hand = 300 * (1000 / 300) ** (0.37 / 0.40)
    points = [(s.x[0], s.y[0]) for s in shown.series if s.look == "points"]
    assert points == [(1000, pytest.approx(by_hand, rel=1e-3)), (4000, pytest.approx(by_hand, rel=1e-3))]
    assert shown.y_label == "d90 gain, trained parameters"
    assert shown.note == "left out: b (the model before training was not measured (d=0))"
    assert not [s for s in shown.series if s.look == "dash"]  # b stands between
    assert trend.correlation.models == len(points)
    pytest.importorskip("matplotlib")
    assert shown.note in {text.get_text() for text in figures.draw(shown).texts}


def sizes():
    return [
        r
        for size, middle in ((200_000, 0.66), (500_000, 0.74), (3_000_000, 0.8))
        for r in curve(middle, size=size, model=f"bert-{size}")
    ]


@pytest.mark.long
def test_compare_over_a_folder(tmp_path, capsys):
    save(sizes() + curve(0.9, model="other-model", size=10), tmp_path / "runs")
    where = [str(tmp_path / "runs"), "--models", "bert-*"]
    assert main(["compare", *where, "--figures", str(tmp_path / "figures")]) == 0
    shown = capsys.readouterr().out
    assert "rank correlation of parameters and d90 -1.00" in shown
    assert "exact p = 0.33 (3 models)" in shown
    assert "other-model" not in shown
    assert sorted(f.name for f in (tmp_path / "figures").iterdir()) == [
        "d90-parameters-sst2-DID.pdf", "d90-parameters-sst2-DID.svg",
    ]  # fmt: skip
    assert main(["compare", *where, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [m["parameters"] for m in told["models"]] == [200_000, 500_000, 3_000_000]
    assert main(["compare", where[0], "--models", "none*"]) == 2
    assert "--models none* is no model in" in capsys.readouterr().err


# Full fine-tuning's score and its score on the rows trained on, by model and task; and the score at d = 400.
MEASURED = {
    ("a", "sst2"): (0.80, 0.90, 0.74), ("b", "sst2"): (0.84, 0.88, 0.86), ("a", "rte"): (0.70, 0.94, 0.66),
    ("b", "rte"): (0.75, 0.85, 0.70),
}  # fmt: skip


def measured(**changes):
    runs = []
    for (model, task), (full, train, middle) in MEASURED.items():
        made = study({100: 0.60, 400: middle}, full, model=model, task=task)
        runs += [r if r.spec.d else replace(r, train_metrics={"accuracy": train}, **changes) for r in made]
    return runs


def test_a_gap_is_the_papers():
    by_name = {(c.row, c.task): c for c in group(measured())}
    assert accuracy(by_name["a", "sst2"]) == pytest.approx(0.80)
    assert gap(by_name["a", "sst2"]) == pytest.approx((0.90 - 0.80) / (1 - 0.80))
    assert gap(by_name["b", "rte"]) == pytest.approx((0.85 - 0.75) / (1 - 0.75))


def test_a_gap_is_of_the_chosen_rate_alone():
    runs = measured()
    worse = [replace(r, score=0.5, metrics={"accuracy": 0.5}, train_metrics={"accuracy": 1.0},
                     spec=replace(r.spec, lr=1.0)) for r in runs if r.spec.d is None]  # fmt: skip
    curves = {(c.row, c.task): c for c in group(runs + worse)}
    assert gap(curves["a", "sst2"]) == pytest.approx(0.5)


def test_a_model_of_which_every_subspace_run_diverged_has_the_worst_rank(tmp_path, capsys):
    """As the one has of which all collapsed to chance."""
    last = curve(0.9, model="bert-step-9000")
    store = save(trajectory() + [run for run in last if run.spec.is_full], tmp_path)
    for run in last:
        if not run.spec.is_full:
            store.run(run.spec).plan(run.spec)
            store.run(run.spec).fail(RunError("the loss is nan: diverged at lr=9"))
    assert main(["compare", str(tmp_path), "--against", "step"]) == 0
    told = capsys.readouterr().out
    assert "(5 models, 1 of them undefined, which is the worst rank)" in told
    assert "— bert-step-9000 sst2 DID: every subspace run failed or collapsed to chance." in told
    assert main(["summarize", str(tmp_path), "--format", "json"]) == 0
    records = json.loads(capsys.readouterr().out)
    [lost] = [record for record in records if record["model"] == "bert-step-9000"]
    assert (lost["d90"], lost["grid_low"], lost["grid_high"], lost["runs"]) == (None, 100, 400, 6)
    assert main(["report", str(tmp_path), "--figures", str(tmp_path / "figures")]) == 0


def test_a_run_of_full_fine_tuning_that_collapsed_has_no_part_in_its_accuracy_and_gap():
    runs = [
        replace(r, score=0.5, metrics={"accuracy": 0.5}, train_metrics={"accuracy": 0.5})
        if r.spec.d is None and r.spec.seed == 2 else r
        for r in measured()
    ]  # fmt: skip
    curves = {(c.row, c.task): c for c in group(runs)}
    assert curves["a", "sst2"].estimate().full_collapsed == 1
    assert accuracy(curves["a", "sst2"]) == pytest.approx(0.80)
    assert gap(curves["a", "sst2"]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_metrics": None}, "needs runs with train.score_train=true"),
        ({"score": 1.0, "metrics": {"accuracy": 1.0}}, "makes no error"),
    ],
)
def test_a_gap_that_is_no_number_is_refused(changes, message):
    runs = [replace(r, **changes) if r.spec.d is None else r for r in measured()]
    with pytest.raises(StoreError, match=message):
        gap(group(runs)[0])


def test_an_accuracy_that_is_none_says_why():
    """Runs of full fine-tuning at chance, while those of the subspace are far above, have collapsed."""
    runs = [scored(r, r.chance) if r.spec.d is None else r for r in study({100: 0.8, 400: 0.9}, 0.95)]
    with pytest.raises(StoreError, match=r"every run of full fine-tuning failed or collapsed to chance$"):
        accuracy(group(runs)[0])


def test_models_and_tasks_make_one_trend_against_accuracy_and_gap(tmp_path, capsys):
    save(measured(), tmp_path / "runs")
    where = str(tmp_path / "runs")
    assert main(["compare", where, "--against", "gap", "--format", "json", "--threshold", "0.85"]) == 0
    told = json.loads(capsys.readouterr().out)
    # d85 by hand: between d = 100 and 400 a straight line in log d, and at most 100 where 0.60 suffices.
    by_hand = {
        pair: 100 * 4 ** ((0.85 * full - 0.6) / (middle - 0.6))
        for pair, (full, _, middle) in MEASURED.items()
    }
    gaps = {pair: (train - full) / (1 - full) for pair, (full, train, _) in MEASURED.items()}
    order = sorted(gaps, key=gaps.get)
    assert [(m["model"], m["task"]) for m in told["models"]] == order
    assert [m["gap"] for m in told["models"]] == pytest.approx([gaps[pair] for pair in order])
    ranks = [max(by_hand[pair], 100) for pair in order]
    [trend] = told["trends"]
    assert (trend["name"], trend["models"]) == ("all tasks DID", 4)
    assert trend["rho"] == pytest.approx(spearmanr(range(4), ranks).statistic)
    assert main(["compare", where, "--against", "accuracy", "--figures", str(tmp_path / "figures")]) == 0
    shown = capsys.readouterr().out
    assert "rank correlation of accuracy and d90" in shown
    assert "(4 curves)" in shown
    rows = [line.split() for line in shown.splitlines() if line.strip()[:3] in ("0.7", "0.8")]
    assert [row[:3] for row in rows] == [
        ["0.700", "a", "rte"], ["0.750", "b", "rte"], ["0.800", "a", "sst2"], ["0.840", "b", "sst2"],
    ]  # fmt: skip
    assert (tmp_path / "figures" / "d90-accuracy-all-tasks-DID.svg").is_file()


def with_epochs(runs, epochs):
    """The runs, each trained for `epochs` of its task."""
    return [
        replace(
            r,
            spec=replace(r.spec, train=replace(r.spec.train, epochs=epochs(r.spec.task.name))),
        )
        for r in runs
    ]


def test_epochs_that_go_with_the_task_keep_all_tasks_one_trend():
    """Two tasks of three and five epochs are one study; two trainings of one task are two."""
    runs = with_epochs(measured(), lambda task: 3.0 if task == "rte" else 5.0)
    [trend] = trends(estimates(group(runs)), AXES["gap"])
    assert len(trend.members) == 4
    again = with_epochs(measured(), lambda task: 3.0 if task == "rte" else 2.0)
    assert {
        trend.name: len(trend.members) for trend in trends(estimates(group(runs + again)), AXES["gap"])
    } == {
        "all tasks DID train.epochs=2.0": 2,
        "all tasks DID train.epochs=5.0": 2,
        "all tasks DID train.epochs=3.0": 2,
    }


def test_a_figure_against_accuracy_is_linear_and_names_the_task():
    [trend] = trends(estimates(group(measured())), AXES["accuracy"])
    drawn = plot(trend, AXES["accuracy"])
    assert (drawn.log_x, drawn.log_y) == (False, True)
    assert {note.split(":")[0] for s in drawn.series for note in s.notes or ()} == {
        f"{model} {task}" for model, task in MEASURED
    }


def test_steps_are_an_axis_of_compare_too(tmp_path, capsys):
    save(trajectory(), tmp_path / "runs")
    assert main(["compare", str(tmp_path / "runs"), "--against", "step"]) == 0
    assert "rank correlation of step and d90 -1.00" in capsys.readouterr().out
    save(curve(0.8, model="bert-final"), tmp_path / "runs")
    assert main(["compare", str(tmp_path / "runs"), "--against", "step"]) == 2
    assert "bert-final has no step in the name; give the checkpoints" in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "runs"), "--against", "step", "--models", "*step*"]) == 0


@pytest.mark.long
def test_runs_that_diverged_count_in_trends_as_in_tables(tmp_path, capsys):
    """A rate that wins where it does not diverge: one of its three seeds does, at every d."""
    fast = [r for r in sizes() if r.spec.d]
    fast = [scored(replace(r, spec=replace(r.spec, lr=0.3)), r.score + 0.05) for r in fast]
    store = save(sizes() + [r for r in fast if r.spec.seed < 2], tmp_path)
    told = {}
    for when in ("before", "after"):
        for command in (["summarize"], ["compare"]):
            assert main([*command, str(tmp_path), "--format", "json"]) == 0
            found = json.loads(capsys.readouterr().out)
            rows = found if command == ["summarize"] else found["models"]
            told[when, command[0]] = {row["model"]: (row["d90"], row["lr"]) for row in rows}
        for r in (r for r in fast if r.spec.seed == 2):
            store.run(r.spec).plan(r.spec)
            store.run(r.spec).fail(RunError("the loss is nan: diverged at lr=0.3"))
    assert told["before", "compare"] == told["before", "summarize"]
    assert told["after", "compare"] == told["after", "summarize"] != told["before", "compare"]
    assert {lr for _, lr in told["after", "compare"].values()} == {0.1}


def test_parameters_are_what_full_fine_tuning_trains():
    runs = [replace(r, D=900 if r.spec.d else 1000) for r in curve(0.8)]
    assert [parameters(c) for c in group(runs)] == [1000]
    assert [parameters(c) for c in group([r for r in runs if r.spec.d])] == [900]


@pytest.fixture
def train(tmp_path, task_folder, monkeypatch, idim):
    """Tiny checkpoints of different weights in the working directory, and a short trajectory over them."""
    from intrinsic_cli.models.pretrained import load

    monkeypatch.chdir(tmp_path)

    def make(*folders):
        base = load(ModelSpec("tiny"), 2)
        for folder in folders:
            base.model.save_pretrained(folder)
            base.tokenizer.save_pretrained(folder)
            for parameter in base.model.parameters():
                parameter.data *= 1.01

    def call(*words):
        short = [
            "task=custom", f"task.path={task_folder}", "task.text=[text]", "task.label=label", "d=20,40",
            "train.max_steps=1", "data.max_length=16", "train.precision=fp32", "launcher=inline",
        ]  # fmt: skip
        return idim("trajectory", *short, *words)

    call.make = make
    return call


@pytest.mark.long
def test_a_trajectory_trains_what_is_missing_and_shows_it(tmp_path, train):
    train.make("checkpoints/step-0", "checkpoints/step-10")
    status, out, _ = train("model.name=checkpoints/step-*", "--format", "json")
    told = json.loads(out)
    assert status == 0
    assert [(m["step"], m["model"], m["runs"]) for m in told["models"]] == [
        (0, "step-0", 2),
        (10, "step-10", 2),
    ]
    assert len(list((tmp_path / "outputs").glob("*/result.json"))) == 6
    status, out, _ = train(
        f"model.name={tmp_path}/checkpoints/step-*", "--format", "json"
    )  # the same folders
    assert (status, json.loads(out)) == (0, told)
    assert len(list((tmp_path / "outputs").glob("*/result.json"))) == 6


@pytest.mark.long
def test_checkpoints_without_steps_are_shown_in_the_order_that_was_typed(tmp_path, train):
    train.make("ck/step-5", "ck/final")
    status, out, err = train("model.name=ck/*")
    assert (status, out) == (2, "")
    assert err.startswith("idim: ./ck/final has no step in the name; give the checkpoints")
    assert not (tmp_path / "outputs").exists()
    status, out, _ = train("model.name=./ck/final,./ck/step-5")
    assert status == 0
    assert [line.split()[:2] for line in out.splitlines() if line.strip()[:2] in ("1 ", "2 ")] == [
        ["1", "final"], ["2", "step-5"],
    ]  # fmt: skip
    assert "rank correlation of place and d90" in out
    assert "place: where a model stands in the order given, as ./ck/final has no step in the name." in out
    status, out, err = train("model.name=./ck/step-5,./ck/step-5")
    assert (status, out) == (2, "")
    assert "at least two checkpoints" in err


@pytest.mark.long
def test_two_pre_trainings_of_equal_steps_make_no_trend(tmp_path, train, idim):
    train.make("a/step-5", "a/step-9", "b/step-5", "b/step-9")
    status, _, err = train("model.name=a/step-*,b/step-*", "--dry-run")
    assert status == 2
    assert "./a/step-5 and ./b/step-5 are different models of step 5" in err
    assert train("model.name=./a/step-5,./b/step-5,./b/step-9")[0] == 0
    status, out, err = idim("compare", "outputs", "--against", "step")
    assert (status, out) == (2, "")
    assert "./a/step-5 and ./b/step-5 are different models of step 5" in err
    assert train("model.name=b/step-*")[0] == 0


@pytest.mark.long
def test_a_trajectory_of_searches_goes_by_baselines_that_are_there(train, idim):
    train.make("ck/step-5", "ck/step-9")
    search = [
        "model.name=ck/step-*",
        "search=adaptive",
        "search.budget=4",
        "search.seeds=[0]",
        "baseline.run=false",
    ]
    for words in ([*search, "--dry-run"], search):
        status, out, err = train(*words)
        assert (status, out) == (2, "")
        assert err.startswith("idim: baseline.run=false: search=adaptive looks for a share")
        assert "use baseline.run=true" in err
    assert train("model.name=ck/step-*", "subspace=full", "lr=1e-3")[0] == 0
    status, out, _ = train(*search, "--format", "json")
    assert status == 0
    assert [m["step"] for m in json.loads(out)["models"]] == [5, 9]


BOUNDS = {("a", "sst2"): 0.41, ("b", "sst2"): 0.30, ("a", "rte"): 0.62, ("b", "rte"): 0.55}


def bounded(store, wanted=BOUNDS, **changes):
    """Give the first run of each curve a bound, and its second a worse one."""
    for (model, task), risk in wanted.items():
        runs = [
            r for r in store.results() if (r.spec.model.name, r.spec.task.name) == (model, task) and r.spec.d
        ]
        for run, worse in zip(runs, (0.0, 0.1), strict=False):
            given = {"risk": risk + worse, "delta": 0.05, "levels": 2, "bits": 900.0, "valid": True} | changes
            RunDir(run.directory).keep_bound(RunBound(**given))


def test_d90_against_the_smallest_bound_of_a_curves_runs(tmp_path, capsys):
    bounded(save(measured(), tmp_path))
    assert (
        main(["compare", str(tmp_path), "--against", "bound", "--threshold", "0.85", "--format", "json"]) == 0
    )
    told = json.loads(capsys.readouterr().out)
    order = sorted(BOUNDS, key=BOUNDS.get)
    assert [(m["model"], m["task"], m["bound"]) for m in told["models"]] == [
        (*key, BOUNDS[key]) for key in order
    ]
    ranks = [m["d"] or 0 for m in told["models"]]  # the smallest d is enough where there is none
    [trend] = told["trends"]
    assert trend["rho"] == pytest.approx(spearmanr(range(4), ranks).statistic)
    assert (trend["exact"], trend["lacking"]) == (True, [])


def test_curves_without_a_bound_are_named_and_the_others_make_a_trend(tmp_path, capsys):
    store = save(measured(), tmp_path)
    bounded(store, {key: risk for key, risk in BOUNDS.items() if key != ("b", "rte")})
    assert main(["compare", str(tmp_path), "--against", "bound"]) == 0
    shown = capsys.readouterr().out
    assert "(3 curves)" in shown
    assert "b rte DID: no run has a bound; `idim bound DIR` makes one of each" in shown
    bounded(store, {("a", "rte"): 0.6}, valid=False)
    assert main(["compare", str(tmp_path), "--against", "bound"]) == 0
    shown = capsys.readouterr().out
    assert "a rte DID: no bound is valid, as its base model was trained on the task's rows" in shown


def test_without_any_bound_one_line_says_how_to_make_them(tmp_path, capsys):
    store = save(measured(), tmp_path)
    assert main(["compare", str(tmp_path), "--against", "bound"]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert "no two curves have a bound" in told.err
    assert "`idim bound DIR` makes one" in told.err
    bounded(store)
    bounded(store, {("a", "sst2"): 0.4}, delta=0.1)
    run = next(
        r for r in store.results() if (r.spec.model.name, r.spec.task.name, r.spec.d) == ("a", "sst2", 400)
    )
    RunDir(run.directory).keep_bound(RunBound(0.4, 0.05, 2, 900.0, True))
    assert main(["compare", str(tmp_path), "--against", "bound"]) == 0
    shown = capsys.readouterr().out
    assert "a sst2 DID: its bounds hold with different probabilities (delta 0.05, 0.1)" in shown
    assert "(3 curves)" in shown


@pytest.mark.parametrize("content", ['{"risk": 0.4', '{"risk": 2.0, "delta": 0.05}', "[]"])
def test_a_bound_that_is_damaged_is_named(tmp_path, capsys, content):
    store = save(measured(), tmp_path)
    bounded(store)
    run = next(r for r in store.results() if r.spec.d)
    (run.directory / "bound.json").write_text(content)
    assert main(["compare", str(tmp_path), "--against", "bound"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"{run.directory / 'bound.json'} is damaged" in told


def test_spaces_of_adapters_are_trends_of_their_own():
    lora = {"adapter": {"kind": "lora", "r": 4}}
    plain, over = sizes(), [
        r for size, middle in ((200_000, 0.9), (500_000, 0.8))
        for r in curve(middle, size=size, model=f"bert-{size}", changes=lora) if r.spec.d
    ]  # fmt: skip
    itself = [
        replace(r, spec=replace(r.spec, d=None, subspace=SubspaceSpec("full")))
        for r in over
    ]  # fmt: skip
    made = trends(estimates(group([*plain, *over, *itself])), AXES["parameters"])
    assert sorted(trend.name for trend in made) == ["sst2 DID", "sst2 DID lora", "sst2 lora"]


def in_precision(precision, seed, **options):
    """Four sizes, whose runs were trained in this precision, with seeds from `seed` on."""
    runs = [
        replace(r, precision=precision, spec=replace(r.spec, seed=r.spec.seed + seed))
        for size, middle in ((1000, 0.66), (2000, 0.74), (3000, 0.8), (4000, 0.9))
        for r in curve(middle, size=size, model=f"bert-{size}", **options)
    ]
    return [replace(r, run_id=r.spec.run_id) for r in runs]


@pytest.mark.parametrize(("axis", "of"), [("parameters", "sst2"), ("accuracy", "all tasks")])
def test_a_model_trained_in_two_precisions_counts_once_in_each_trend(axis, of):
    made = trends(estimates(group(in_precision("fp32", 0) + in_precision("bf16", 3))), AXES[axis])
    assert {trend.name: len({c.spec.model for c, _ in trend.members}) for trend in made} == {
        f"{of} DID precision=bf16": 4, f"{of} DID precision=fp32": 4,
    }  # fmt: skip
    assert all(len(trend.members) == 4 for trend in made)


def test_rows_that_changed_make_trends_of_their_own_by_task():
    runs = in_precision("fp32", 0) + [replace(r, data_hash="2" * 64) for r in in_precision("fp32", 3)]
    made = trends(estimates(group(runs)), AXES["parameters"])
    assert sorted(trend.name for trend in made) == [
        "sst2 DID data_hash=11111111", "sst2 DID data_hash=22222222"
    ]  # fmt: skip


@pytest.mark.parametrize("axis", ["parameters", "accuracy"])
def test_weights_that_changed_under_a_name_are_no_second_model(axis):
    runs = in_precision("fp32", 0)
    again = [
        replace(r, model_hash="3" * 64)
        for r in in_precision("fp32", 3)
        if r.spec.seed < 5 and r.spec.model.name == "bert-2000"
    ]
    [trend] = trends(estimates(group(runs + again)), AXES[axis])
    assert len(trend.members) == 4
    assert [curve.runs[0].model_hash[0] for curve, _ in trend.members] == ["0"] * 4
    [line] = trend.lacking
    assert line.startswith("bert-2000 model_hash=33333333 sst2 DID: a model counts once")


def in_perplexity(runs):
    """The same runs with a perplexity that falls as their accuracy rises."""
    return [
        scored(r, 100 * (1 - r.score), "perplexity", chance=100.0, higher_is_better=False, data_hash="4" * 64)
        for r in runs
    ]


def test_a_loss_and_an_accuracy_are_not_ranked_together(tmp_path, capsys):
    save(in_precision("fp32", 0) + in_perplexity(in_precision("fp32", 0, task="wiki")), tmp_path)
    assert main(["compare", str(tmp_path), "--against", "accuracy"]) == 0
    shown = capsys.readouterr().out
    assert "all tasks DID metric=perplexity: rank correlation of perplexity and d90 " in shown
    assert "all tasks DID: rank correlation of accuracy and d90 " in shown
    assert "(8 curves)" not in shown


def test_curves_without_an_accuracy_or_a_gap_are_named_and_the_others_make_a_trend(tmp_path, capsys):
    perfect = {"score": 1.0, "metrics": {"accuracy": 1.0}}
    runs = [replace(r, **perfect) if (r.spec.model.name, r.d) == ("a", r.D) else r for r in measured()]
    runs = [r for r in runs if (r.spec.model.name, r.spec.task.name, r.spec.d) != ("b", "rte", None)]
    save(runs + [r for r in curve(0.9, model="c") if r.spec.d] + curve(0.9, model="d"), tmp_path)
    assert main(["compare", str(tmp_path), "--against", "accuracy"]) == 0
    shown = capsys.readouterr().out
    assert "(4 curves)" in shown
    for name in ("b rte DID", "c sst2 DID"):
        assert f"{name}: no run of full fine-tuning" in shown
    assert main(["compare", str(tmp_path), "--against", "gap"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "no two curves have a gap" in told
    runs = [r for r in measured() if (r.spec.model.name, r.spec.task.name, r.spec.d) != ("b", "rte", None)]
    found = estimates(group(runs + curve(0.9, model="d") + in_perplexity(curve(0.9, model="e", task="wiki"))))
    [trend] = trends(found, AXES["gap"])
    assert len(trend.members) == 3
    assert [line.partition(":")[0] for line in trend.lacking] == ["b rte DID", "d sst2 DID"]


def test_a_model_whose_full_fine_tuning_never_worked_is_ranked_worst():
    """Its runs collapsed, or all diverged; one that was never fine-tuned is left out."""
    lost = [scored(r, 0.5) if r.spec.d is None else r for r in curve(0.9, model="bert-step-9000")]
    (trend,) = by_step(trajectory() + lost)
    oracle = pytest.approx(spearmanr(range(5), [4, 3, 2, 1, 5]).statistic)
    assert not trend.members[-1][1].curve
    assert (trend.correlation.models, trend.correlation.undefined, trend.correlation.rho) == (5, 1, oracle)
    runs = [r for r in lost if r.spec.d]
    full = [r.spec for r in lost if r.spec.d is None]
    (trend,) = by_step(trajectory() + runs, full)
    assert (trend.correlation.models, trend.correlation.undefined, trend.correlation.rho) == (5, 1, oracle)
    (trend,) = by_step(trajectory() + runs)
    assert (len(trend.members), trend.correlation.models, trend.correlation.undefined) == (5, 4, 0)


def test_a_definition_that_a_model_was_not_measured_for_does_not_rank_it_worst():
    before = [r for at in (0, 500, 1000) for r in study({0: 0.5}, 0.8, seeds=1, model=f"bert-step-{at}")]
    (trend,) = by_step(trajectory() + [r for r in before if r.spec.d == 0])
    assert (trend.correlations["gain"].models, trend.correlations["gain"].undefined) == (3, 0)


def test_a_level_of_each_task_makes_no_p(tmp_path, capsys):
    """Models that are all alike within a task, on two tasks of which one is easier."""
    scores = {"sst2": (0.80, 0.55, 0.76), "rte": (0.70, 0.60, 0.70)}
    runs = [
        r
        for task, (full, low, middle) in scores.items()
        for i, (model, more) in enumerate(zip("abcd", (1, 0, 3, 2), strict=True))
        for r in study({100: low, 400: middle + 0.002 * more}, full + 0.002 * i, model=model, task=task)
    ]
    save(runs, tmp_path)
    assert main(["compare", str(tmp_path), "--against", "accuracy", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    [trend] = told["trends"]
    accuracy, d90 = np.array([(m["accuracy"], m["d90"]) for m in told["models"]]).T
    as_if_exchangeable = correlate(accuracy, d90, d90)
    assert as_if_exchangeable.rho == pytest.approx(trend["rho"])
    assert as_if_exchangeable.p < 0.05 < 2 / 24 <= trend["p"]
    assert trend["exact"] is True
    assert main(["compare", str(tmp_path), "--against", "accuracy"]) == 0
    shown = capsys.readouterr().out
    assert f"within tasks {trend['within']:.2f}, exact p = {trend['p']:.2g} (8 curves)" in shown


def test_tasks_of_one_curve_each_have_no_p():
    scores = {"a": (0.80, 0.78), "b": (0.82, 0.80), "c": (0.84, 0.80)}
    runs = [
        r
        for name, (full, high) in scores.items()
        for r in study({100: 0.6, 400: high}, full, model=name, task=f"task-{name}")
    ]
    [trend] = trends(estimates(group(runs)), AXES["accuracy"])
    assert (trend.correlation.p, trend.correlation.rho is None) == (None, False)
    assert "p unknown as within tasks all ranks are tied (3 curves)" in spell(trend, AXES["accuracy"])[0]


def test_d90s_of_two_definitions_stand_in_columns_of_their_own(tmp_path, capsys):
    """Of losses the headline is `gain` where a model was scored before training, and `chance` where not."""
    models = in_perplexity(
        [r for at in range(4) for r in study({0: 0.5, 100: 0.6, 400: 0.79}, 0.8, model=f"m{at}")]
    )
    save([r for r in models if r.spec.d != 0 or r.spec.model.name != "m3"], tmp_path)
    assert main(["compare", str(tmp_path), "--against", "accuracy", "--format", "md"]) == 0
    shown = capsys.readouterr().out
    [header] = [line for line in shown.splitlines() if "perplexity |" in line and "DID" not in line]
    names = [name.strip() for name in header.strip("|").split("|")]
    assert names[-2:] == ["d90 chance", "d90 gain"]
    assert "d90" not in names
    rows = [line.strip("|").split("|") for line in shown.splitlines() if "| DID " in line]
    assert [(row[1].strip(), row[-1].strip() == "") for row in rows] == [(f"m{i}", i == 3) for i in range(4)]
    assert "and d90 gain " in shown
    assert "and d90 chance " in shown
    assert "and d90 un" not in shown
    assert "reaches its column's target" in shown


def test_a_size_that_goes_with_the_task_makes_a_table_of_each_task(tmp_path, capsys):
    """Heads of different sizes: a is smaller than b on rte and larger on sst2."""
    sizes = {("a", "rte"): 1000, ("b", "rte"): 1500, ("a", "sst2"): 2000, ("b", "sst2"): 1600}
    runs = [
        replace(r, D=D, d=r.d if r.spec.d else D)
        for (model, task), D in sizes.items()
        for r in study({100: 0.6, 400: 0.7}, 0.8, model=model, task=task)
    ]
    save(runs, tmp_path)
    assert main(["compare", str(tmp_path)]) == 0
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert [row for row in rows if row[0][0].isdigit()] == [
        ["1,000", "a"], ["1,500", "b"], ["1,600", "b"], ["2,000", "a"],
    ]  # fmt: skip
    same = [replace(r, D=1000, d=r.d if r.spec.d else 1000) for r in runs]
    save(same, tmp_path / "same")
    assert main(["compare", str(tmp_path / "same")]) == 0
    assert capsys.readouterr().out.count("model  ") == 1


def test_curves_of_no_trend_are_named(tmp_path, capsys, caplog):
    save(trajectory() + curve(0.9, model="other", kind="said"), tmp_path)
    assert main(["compare", str(tmp_path)]) == 0
    assert "in no trend, as no other model was measured alike: other sst2 SAID" in caplog.text


def test_a_pattern_that_no_model_has_tells_the_names(tmp_path, capsys):
    save(trajectory({0: 0.7, 1: 0.8}), tmp_path)
    for words in (["--against", "step"], ["--pair", "model=a", "model=b"]):
        assert main(["compare", str(tmp_path), "--models", "zzz*", *words]) == 2
        told = capsys.readouterr().err
        assert "--models zzz* is no model in" in told
        assert told.endswith("; it has bert-step-0, bert-step-1\n")
