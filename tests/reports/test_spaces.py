"""Spaces of adapters among the curves: x is what was counted, and each space has a column and a line of its own."""

from dataclasses import replace

import pytest
from support.made_runs import result, save, study

from intrinsic_cli.reports import curve_plots, differences, figures, svg
from intrinsic_cli.reports.curves import estimates, group
from intrinsic_cli.reports.records import records
from intrinsic_cli.reports.tables import answer, grid


def adapted(r, d, score, *, seed=0, kind="lora", lr=0.001, **adapter):
    """A run of an adapter that is trained itself, with `d` numbers."""
    made = result(None, score, seed=seed, lr=lr, changes={"adapter": {"kind": kind, "r": r, **adapter}})
    return replace(made, d=d, D=90_000)


def lora(scores, **options):
    return [adapted(r, d, s, seed=seed, **options) for r, d, s in scores for seed in range(3)]


DID = study({1000: 0.60, 4000: 0.95}, 1.00)
LORA = lora([(1, 1000, 0.70), (2, 2000, 0.80), (4, 4000, 0.95)])
OVER = [
    run
    for r in (4, 8)
    for run in study({500: 0.80, 2000: 0.92}, 1.00, changes={"adapter": {"kind": "lora", "r": r}})
    if run.spec.d
]


def test_the_x_of_an_adapters_curve_is_what_was_counted():
    [(curve, value)] = [pair for pair in estimates(group(DID + LORA)) if pair[0].kind == "lora"]
    assert [level.d for level in value.curve] == [1000, 2000, 4000]
    # 0.9 is two thirds of the way from 0.80 to 0.95, in log2 of the numbers: 2000 * 2 ** (2 / 3)
    assert value.d_t == round(2000 * 2 ** (2 / 3))
    assert (len(curve.runs), len(curve.baseline), curve.name) == (9, 3, "minilm sst2 lora")


def test_every_space_has_a_column_and_a_name():
    found = estimates(group(DID + LORA + OVER))
    assert [(c.kind, c.variant) for c, _ in found] == [
        ("did", ""), ("did lora", "adapter.r=4"), ("did lora", "adapter.r=8"), ("lora", ""),
    ]  # fmt: skip
    header, [row] = grid(found)
    shares = {name: cell for name, cell in zip(header, row, strict=True) if not name.endswith("chance")}
    assert list(shares) == [
        "model",
        "sst2 full accuracy",
        "sst2 DID",
        "sst2 DID lora adapter.r=4",
        "sst2 DID lora adapter.r=8",
        "sst2 lora",
    ]
    assert shares["sst2 lora"].startswith(str(round(2000 * 2 ** (2 / 3))))
    told = {record["space"]: record for record in records(found)}
    assert (told["lora"]["subspace"], told["lora"]["adapter"], told["lora"]["projection"]) == (
        "full",
        "lora",
        None,
    )
    assert (told["did"]["subspace"], told["did"]["adapter"], told["did"]["projection"]) == (
        "did",
        "none",
        "fastfood",
    )
    assert told["did lora"]["adapter"] == "lora"
    assert "DID lora adapter.r=4" in str(answer(found))


def test_an_adapter_of_other_layers_is_another_curve():
    others = lora([(1, 400, 0.7), (2, 800, 0.95)], target=["query"])
    found = group(DID + LORA + others)
    assert [(c.kind, c.variant, len(c.runs)) for c in found if c.kind == "lora"] == [
        ("lora", "adapter.target=[*]", 9), ("lora", "adapter.target=[query]", 6),
    ]  # fmt: skip


def test_a_size_that_diverged_counts_against_its_rate_where_its_like_was_counted():
    lost = [
        replace(LORA[-1].spec, seed=7),
        replace(LORA[-1].spec, adapter=replace(LORA[0].spec.adapter, r=64)),
    ]
    [(curve, value)] = [p for p in estimates(group(DID + LORA, lost)) if p[0].kind == "lora"]
    assert len(curve.diverged) == 2
    assert value.failed == 1
    assert value.d_t == round(2000 * 2 ** (2 / 3))


def test_the_overlay_has_bands_marks_and_the_best_of_all_spaces():
    found = estimates(group(DID + LORA))
    plot = curve_plots.overlay("sst2", found)
    by_look = {look: [s for s in plot.series if s.look == look] for look in ("line", "mark", "area", "dash")}
    assert [s.label for s in by_look["line"]] == ["minilm DID", "minilm lora"]
    assert len(by_look["mark"]) == len(by_look["area"]) == 2
    for (_, value), area in zip(found, by_look["area"], strict=True):
        levels = value.curve
        assert area.x == (*[level.d for level in levels], *[level.d for level in reversed(levels)])
        reach = 1.96 * value.noise / 3**0.5
        assert area.y[0] == pytest.approx(levels[0].fit + reach)
        assert area.y[-1] == pytest.approx(levels[0].fit - reach)
    [best] = by_look["dash"]
    # LoRA is the better one at 1000 and at 2000; both reach 0.95 at 4000.
    assert best.x == (1000, 2000, 2000, 4000, 4000, 4000)
    assert best.y == pytest.approx((0.70, 0.70, 0.80, 0.80, 0.95, 0.95))
    assert "lora 0.8000 with 2,000" in plot.told
    assert svg.draw(plot).count('class="area ') == 2
    pytest.importorskip("matplotlib")
    assert len(figures.draw(plot).axes[0].patches) == 2


@pytest.mark.parametrize(
    ("one", "other", "names"),
    [
        ("space=lora", "space=did", {("lora", "did")}),
        ("adapter=lora,adapter.r=4", "adapter=none", {("did lora", "did")}),
        ("space=did lora,adapter.r=8", "space=lora", {("did lora", "lora")}),
    ],
)
def test_spaces_can_be_compared(one, other, names):
    curves = group(DID + LORA + OVER)
    assert {(a.kind, b.kind) for a, b in differences.pairs(curves, one, other)} == names


def test_one_space_alone_has_no_best():
    plot = curve_plots.overlay(
        "sst2", estimates(group(DID + study({1000: 0.5, 4000: 0.9}, 1.0, model="tiny")))
    )
    assert [s for s in plot.series if s.label.startswith("best")] == []


def test_the_page_and_the_commands_show_all_spaces(idim, tmp_path):
    store = save(DID + LORA + OVER, tmp_path / "o")
    for words in (
        ("summarize", store.root),
        ("report", store.root),
        ("summarize", store.root, "--format", "csv"),
    ):
        status, printed, said = idim(*words)
        assert (status, said) == (0, "")
    assert "did lora" in printed
    page = (store.root / "report.html").read_text(encoding="utf-8")
    for text in ("DID lora", "lora4", "best with so few numbers"):
        assert text in page
