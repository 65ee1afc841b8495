"""Which runs can't matter: limits by hand, on a study whose scores are chosen so that each is a short sum."""

from dataclasses import replace

import pytest

from intrinsic_cli.statistics.points import Place
from intrinsic_cli.statistics.pruning import ABOVE, BEHIND, BELOW, Known, Limit, Track, counts, first
from intrinsic_cli.statistics.targets import Scale

ERROR = 0.01  # of every score; two lie clearly apart from 2 · √2 · 0.01 = 0.0283 on
MARGIN = 0.0282843
SCALE = Scale(chance=0.5, n_eval=2500)


def ran(size, lr, *scores, seed=0):
    """A run with evaluations behind steps 10, 20, ... of which the last gives the score."""
    return Track(Place(size, seed, lr), scores[-1], ERROR, {10 * k: s for k, s in enumerate(scores[:-1], 1)})


def limits(known, place, kind):
    return {limit.step: limit.score for limit in known.limits(place) if limit.kind == kind}


def test_a_rate_is_held_against_the_best_of_its_size_and_seed_and_what_its_size_still_gained():
    known = Known([ran(100, 0.1, 0.6, 0.7, 0.8), ran(100, 1.0, 0.5, 0.5, 0.9, seed=1)], [], SCALE)
    # The other seed gained 0.4 from either step on, so that 0.8 - 0.4 is still in reach.
    expected = {10: 0.4 - MARGIN, 20: 0.4 - MARGIN}
    assert limits(known, Place(100, 0, 0.3), BEHIND) == pytest.approx(expected, abs=1e-6)
    assert limits(known, Place(200, 0, 0.3), BEHIND) == {}
    assert limits(known, Place(100, 0, 0.1), BEHIND) == {}  # its own rate is no rival
    # So does another seed of its own rate: what it gained late, this one may gain.
    late = Known([ran(100, 0.1, 0.6, 0.7, 0.8), ran(100, 0.3, 0.55, 0.6, 0.9, seed=1)], [], SCALE)
    assert limits(late, Place(100, 0, 0.3), BEHIND) == pytest.approx(
        {10: 0.45 - MARGIN, 20: 0.5 - MARGIN}, abs=1e-6
    )
    one = Known([ran(100, 0.1, 0.6, 0.7, 0.8)], [], SCALE)
    assert limits(one, Place(100, 0, 0.3), BEHIND) == pytest.approx(
        {10: 0.6 - MARGIN, 20: 0.7 - MARGIN}, abs=1e-6
    )


def test_full_fine_tuning_has_rates_and_no_size():
    known = Known([ran(None, 1e-3, 0.7, 0.9)], [], SCALE)
    assert limits(known, Place(None, 0, 1e-2), BEHIND) == pytest.approx({10: 0.7 - MARGIN}, abs=1e-6)
    assert {limit.kind for limit in known.limits(Place(None, 0, 1e-2))} == {BEHIND}


FULL = ran(None, 1e-3, 0.5, 0.9)  # its gains say nothing of a run in the space
# The targets: 0.9 · 0.9 = 0.81 of the score, and 0.5 + 0.9 · 0.4 = 0.86 from chance.


def test_a_smaller_size_is_surely_below_the_lowest_target_only_beside_one_that_does_not_reach_it():
    known = Known([FULL, ran(1000, 0.1, 0.5, 0.7, 0.8)], [], SCALE)
    expected = {10: 0.81 - 0.3 - MARGIN, 20: 0.81 - 0.1 - MARGIN}
    assert limits(known, Place(100, 0, 0.1), BELOW) == pytest.approx(expected, abs=1e-6)
    assert limits(known, Place(3000, 0, 0.1), BELOW) == {}
    reached = Known([FULL, ran(1000, 0.1, 0.5, 0.7, 0.82)], [], SCALE)  # one of the two targets
    assert limits(reached, Place(100, 0, 0.1), BELOW) == {}


def test_a_larger_size_is_surely_above_the_highest_target_only_beside_one_that_reaches_it():
    known = Known([FULL, ran(1000, 0.1, 0.9, 0.89, 0.87)], [], SCALE)
    expected = {10: 0.86 + 0.03 + MARGIN, 20: 0.86 + 0.02 + MARGIN}
    assert limits(known, Place(3000, 0, 0.1), ABOVE) == pytest.approx(expected, abs=1e-6)
    assert limits(known, Place(100, 0, 0.1), ABOVE) == {}
    assert known.settled(Place(3000, 0, 0.1)) == ""  # 0.87 reaches 0.86, and not by more than 0.0283
    missed = Known([FULL, ran(1000, 0.1, 0.9, 0.89, 0.85)], [], SCALE)
    assert limits(missed, Place(3000, 0, 0.1), ABOVE) == {}


def test_a_size_beyond_one_that_surely_reaches_every_target_can_not_be_the_first():
    known = Known([FULL, ran(1000, 0.1, 0.85, 0.89)], [], SCALE)
    assert known.settled(Place(3000, 0, 0.1)) == "1000 surely reaches the target (0.86)"
    assert known.settled(Place(1000, 0, 0.3)) == known.settled(Place(100, 0, 0.1)) == ""
    assert known.settled(Place(None, 0, 1e-2)) == ""


def test_other_rates_of_a_size_that_is_above_need_not_begin():
    known = Known([FULL], [(Place(3000, 1, 0.1), ABOVE), (Place(100, 0, 0.1), BELOW)], SCALE)
    assert known.settled(Place(3000, 0, 0.3)) == "its size is above the target, as lr=0.1 says"
    assert known.settled(Place(100, 0, 0.3)) == ""  # another rate may still reach it


def test_without_full_fine_tuning_there_is_no_target():
    known = Known([ran(1000, 0.1, 0.85, 0.89)], [], SCALE)
    assert {limit.kind for limit in known.limits(Place(1000, 0, 0.3))} == {BEHIND}
    assert known.limits(Place(3000, 0, 0.3)) == []
    assert known.settled(Place(3000, 0, 0.3)) == ""


def test_a_loss_is_the_mirror_image():
    def mirrored(track):
        flipped = {step: -score for step, score in track.before.items()}
        return replace(track, score=-track.score, before=flipped)

    loss = replace(SCALE, chance=-0.5, higher_is_better=False, metric="loss")
    gain = Scale(chance=0.5, metric="loss", n_eval=2500)
    tracks = [FULL, ran(1000, 0.1, 0.9, 0.88, 0.87), ran(300, 0.1, 0.6, 0.7)]
    up, down = Known(tracks, [], gain), Known([mirrored(t) for t in tracks], [], loss)
    targets = up._targets[1], down._targets[1]
    assert targets == pytest.approx((0.86, 0.86))  # from chance, the only definition that a loss shares
    for place in (Place(1000, 0, 0.3), Place(3000, 0, 0.1)):
        for kind in (BEHIND, ABOVE):
            mine, theirs = limits(up, place, kind), limits(down, place, kind)
            assert {step: -score for step, score in theirs.items()} == pytest.approx(mine)
    [above] = [
        limit for limit in down.limits(Place(3000, 0, 0.1)) if limit.kind == ABOVE and limit.step == 10
    ]
    assert above.ends(10, above.score - 0.001)
    assert not above.ends(10, above.score + 0.001)


def test_scores_without_a_known_error_end_nothing():
    blind = [replace(t, error=0.0) for t in (FULL, ran(1000, 0.1, 0.5, 0.8))]
    known = Known(blind, [], SCALE)
    assert known.limits(Place(1000, 0, 0.3)) == known.limits(Place(100, 0, 0.1)) == []


def test_a_limit_ends_at_its_own_step_and_beyond_its_score():
    behind = Limit(20, BEHIND, 0.7, "why")
    assert [behind.ends(*at) for at in ((20, 0.69), (20, 0.7), (10, 0.1), (20, 0.9))] == [
        True,
        False,
        False,
        False,
    ]
    assert first([behind, replace(behind, score=0.8)], 20, 0.75) == replace(behind, score=0.8)
    assert first([behind], 20, 0.75) is None


@pytest.mark.parametrize(
    ("place", "kept"),
    [
        (Place(100, 1, 0.1), False),  # the rate of a run that fell behind, on another seed
        (Place(100, 1, 0.3), True),
        (Place(3000, 1, 0.3), False),  # any rate of a size that is off the target
        (Place(300, 0, 0.1), True),
        (Place(None, 0, 0.1), True),
    ],
)
def test_what_is_left_of_pruned_cells_does_not_count(place, kept):
    pruned = [(Place(100, 0, 0.1), BEHIND), (Place(3000, 0, 0.1), ABOVE)]
    assert counts(place, pruned) is kept


def test_survivors_of_a_pruned_cell_set_no_target_and_no_level():
    lucky = ran(1000, 0.1, 0.8, 0.99, seed=1)
    known = Known([FULL, lucky], [(Place(1000, 0, 0.1), BEHIND)], SCALE)
    assert known.settled(Place(3000, 0, 0.1)) == ""
    assert known.best_rate(1000) is None


def test_of_a_size_that_is_below_another_rate_may_still_reach_the_target():
    """A run below every target speaks for its rate: others are trained, and one that reaches the target counts."""
    pruned = [(Place(100, 0, 0.1), BELOW)]
    assert not counts(Place(100, 1, 0.1), pruned)
    assert counts(Place(100, 1, 0.3), pruned)


def test_without_a_known_error_no_size_is_surely_above():
    blind = [replace(t, error=0.0) for t in (FULL, ran(1000, 0.1, 0.5, 0.861))]
    assert Known(blind, [], SCALE).settled(Place(3000, 0, 0.3)) == ""
    above = Known(blind, [(Place(3000, 1, 0.1), ABOVE)], SCALE)
    assert above.settled(Place(3000, 0, 0.3)) == ""


@pytest.mark.parametrize("size", [None, 100])
@pytest.mark.parametrize(("finished", "rival"), [(1, False), (2, False), (3, True)])
def test_a_rate_that_diverges_is_no_rival(size, finished, rival):
    """One of whose runs more than a quarter diverged is not chosen, so that it puts nobody behind."""
    lucky = [ran(size, 1.0, 0.7, 0.9, seed=seed) for seed in range(finished)]
    known = Known(lucky, [], SCALE, diverged=[Place(size, 7, 1.0)])
    assert bool(limits(known, Place(size, 0, 0.3), BEHIND)) is rival


def test_a_rate_that_diverges_is_not_the_best_of_its_size():
    lucky, steady = ran(1000, 1.0, 0.7, 0.89), [ran(1000, 0.3, 0.7, 0.8, seed=seed) for seed in (0, 1)]
    known = Known([FULL, lucky, *steady], [], SCALE, diverged=[Place(1000, 1, 1.0)])
    assert known.best_rate(1000) == 0.3
    assert known.settled(Place(3000, 0, 0.1)) == ""
    assert Known([FULL, lucky, *steady], [], SCALE).best_rate(1000) == 1.0
