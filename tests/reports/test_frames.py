"""The Python side: what notebooks get, by hand."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from support.made_runs import result, save, study

import intrinsic_cli
from intrinsic_cli import Point, d90, results, summarize
from intrinsic_cli.errors import IdimError, StoreError


def test_runs_as_a_frame(tmp_path):
    save([result(100, 0.6, seed=2, lr=0.3, holdout=0.55), result(None, 0.8)], tmp_path)
    frame = results(tmp_path).set_index("subspace")
    assert len(frame) == 2
    run = frame.loc["did"]
    assert (run.d, run.lr, run.seed, run.score, run.holdout) == (100, 0.3, 2, 0.6, 0.55)
    assert (run.model, run.task, run.metric, run.n_train, run.seconds) == (
        "minilm",
        "sst2",
        "accuracy",
        4000,
        60,
    )
    assert (tmp_path / run.run_id / "result.json").samefile(f"{run.path}/result.json")
    assert frame.loc["full"].d == frame.loc["full"].D == 1000
    assert (run.projection, run.normalize) == ("fastfood", "global")
    assert frame.loc["full"][["projection", "normalize"]].isna().all()
    with pytest.raises(StoreError, match="not a folder"):
        results(tmp_path / "none")


def test_own_data_have_the_name_that_tables_have(tmp_path):
    own = {"task": {"name": "custom", "path": "./My Reviews (final).csv", "config": None}}
    save(study({100: 0.60, 400: 0.84}, 0.80, changes=own), tmp_path)
    assert set(results(tmp_path).task) == set(summarize(tmp_path).task) == {"My Reviews (final)"}


def test_d90s_as_a_frame(tmp_path):
    save(study({100: 0.60, 400: 0.84}, 0.80), tmp_path)
    frame = summarize(tmp_path, [0.8, 0.9], normalised=True)
    # d = 100 * 4 ** ((target - 0.60) / 0.24), rounded up, at the targets 0.64, 0.74, 0.72 and 0.77
    assert frame.d.tolist() == [126, 225, 200, 267]
    assert frame.definition.tolist() == ["score", "chance"] * 2


def test_a_d90_of_ones_own_numbers():
    assert d90([(100, 0.60), (400, 0.84)], [0.80], chance=0.5).d_t == 200
    assert d90([(100, 0.60), (400, 0.84)], [0.80], chance=0.5, threshold=0.8).d_t == 126
    assert d90([(100, 0.6), (400, 0.7)], [0.80], chance=0.5).status == "above_grid"
    tuned = [Point(100, 0, 0.1, 0.60), Point(100, 0, 0.3, 0.2), Point(400, 0, 0.1, 0.84)]
    assert d90(tuned, [Point(None, 0, 1e-4, 0.80)], chance=0.5).d_t == 200


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ([(100, 0, 0.6)], {}, r"\(100, 0, 0.6\) is not \(d, score\)"),
        ([(100, "good")], {}, r"is not \(d, score\)"),
        ([("100", 0.6)], {}, "d='100' in a subspace run"),
        ([(2**64, 0.6)], {}, "d=18446744073709551616 in a subspace run"),
        ([(100, math.nan)], {}, "not finite"),
        ([(100, 60.0)], {"n_eval": 500}, "accuracy=60 of the run d=100 is no share; divide percent by 100"),
        ([Point(100, 0, 1.0, 0.6, rows=np.array([0.6, np.nan]))], {}, "a row's, that is not finite"),
        ([(100, 0.6)], {"n_eval": 0}, "n_eval=0 must be at least 1 row"),
        ([(100, 0.6)], {"n_eval": math.nan}, "n_eval=nan"),
        ([(100, 0.6)], {"chance": math.nan}, "chance=nan is not finite"),
        ([(100, 0.6)], {"untrained": math.inf}, "untrained=inf is not finite"),
        ([(100, 0.6)], {"resamples": 0}, "resamples=0 must be at least 1"),
        ([(100, 0.6)], {"chance": None}, "chance=None is no number"),
        ([(100, 0.6)], {"untrained": "0.5"}, "untrained='0.5' is no number"),
        ([(100, 0.6)], {"chance": 50.0}, "chance=50 is no accuracy; divide percent by 100"),
        ([(100, 3.0)], {"higher_is_better": False}, "accuracy=3 .* is no share; give metric='loss'"),
        ([(100, 0.6)], {"untrained": 30.0}, "untrained=30 is no accuracy"),
    ],
)
def test_numbers_that_can_be_no_curve_are_refused_by_their_value(given, options, message):
    with pytest.raises(IdimError, match=message):
        d90(given, [0.8, 0.81], **{"chance": 0.5, **options})


@pytest.mark.parametrize("baseline", [0.8, "0.8", None])
def test_a_baseline_is_a_list_of_scores(baseline):
    with pytest.raises(IdimError, match=f"baseline={baseline!r} is no list of scores"):
        d90([(100, 0.6)], baseline, chance=0.5)


def test_dir_shows_the_public_names_and_each_is_there():
    assert set(dir(intrinsic_cli)) == set(intrinsic_cli.__all__) == {*intrinsic_cli._HOMES, "__version__"}
    for name in dir(intrinsic_cli):
        assert getattr(intrinsic_cli, name) is not None
    told = "import sys, intrinsic_cli; intrinsic_cli.summarize; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
