"""Tasks in one space of θ, against NumPy, and the story of runs that share a P."""

import csv
import io
import json
import math
import re
import shutil
import xml.etree.ElementTree as ET
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from support.rows import sentences, write_jsonl

from intrinsic_cli.cli import main as cli
from intrinsic_cli.errors import DataError, StoreError
from intrinsic_cli.finetunes.file import FineTune
from intrinsic_cli.finetunes.rebuild import attach, place
from intrinsic_cli.finetunes.space import answer, matrices, shares, spaces
from intrinsic_cli.render import render
from intrinsic_cli.reports import heatmap
from intrinsic_cli.spec import ProjectionSpec
from intrinsic_cli.store import Store
from intrinsic_cli.training.inputs import Loader
from intrinsic_cli.training.run import execute


def test_matrices_are_those_of_numpy():
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(3, 7)), draw.normal(size=(2, 7))
    cosines, distances, pairs = matrices([a, b])
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
    within, across = unit[0] @ unit[0].T, unit[0] @ unit[1].T
    assert cosines[0, 1] == cosines[1, 0] == pytest.approx(across.mean())
    assert cosines[0, 0] == pytest.approx((within.sum() - 3) / 6)
    gap = np.linalg.norm(a[:, None] - b[None], axis=-1)
    assert distances[0, 1] == pytest.approx(gap.mean())
    assert distances[1, 1] == pytest.approx(np.linalg.norm(b[0] - b[1]))
    assert pairs.tolist() == [[3, 6], [6, 1]]


@pytest.mark.parametrize("kind", ["did", "said"])
@pytest.mark.parametrize("normalize", ["global", "tensor"])
def test_distances_are_those_of_the_weights(kind, normalize, make_spec):
    """Against the weights themselves: two runs' moves, written by the subspace, over many draws of P."""
    spec = make_spec(kind, d=80, normalize=normalize, groups="module")
    inputs = Loader()(spec)
    draw = np.random.default_rng(3)
    some = FineTune(
        model=spec.model, weights_hash=inputs.base.weights_hash, head_hash=None, subspace=spec.subspace,
        projection=ProjectionSpec("dense", seed=0), version=1, precision="fp32", max_length=32,
        labels=("calm", "loud"), kind="classification", task="easy", metric="accuracy", score=None, n_eval=None,
        tensors={"theta": torch.ones(1)} | ({"lam": torch.ones(1)} if kind == "said" else {}),
    )  # fmt: skip
    c = shares(some)
    assert c.sum() == pytest.approx(1 if normalize == "global" else len(list(inputs.base.model.parameters())))
    d = 80 - (len(c) if kind == "said" else 0)
    runs = [
        {"theta": torch.tensor(draw.normal(0.3, 1, d)).float()}
        | ({"lam": torch.tensor(draw.normal(1, 0.7, len(c))).float()} if kind == "said" else {})
        for _ in range(2)
    ]
    scales = [np.sqrt(c) * (run["lam"].numpy() if kind == "said" else 1) for run in runs]
    cosines, distances, _ = matrices([run["theta"][None].numpy() for run in runs], [s[None] for s in scales])
    squares, products = [], []
    for seed in range(12):
        moves = []
        for run in runs:
            moved = replace(some, projection=ProjectionSpec("dense", seed=seed), tensors=run)
            model = inputs.fresh_model(0)
            start = {name: p.detach().clone() for name, p in model.named_parameters()}
            with closing(attach(moved, model, inputs.head)) as space:
                place(space, run)
            moves.append(torch.cat([(p - start[n]).detach().flatten() for n, p in model.named_parameters()]))
        squares.append(((moves[0] - moves[1]) ** 2).sum().item())
        products.append(torch.cosine_similarity(*moves, dim=0).item())
    assert math.sqrt(np.mean(squares)) == pytest.approx(distances[0, 1], rel=0.05)
    assert np.mean(products) == pytest.approx(cosines[0, 1], abs=0.05)


def test_one_run_has_no_noise_and_a_zero_no_direction():
    cosines, _, pairs = matrices([np.ones((1, 3)), np.ones((1, 3)) * 2])
    assert np.isnan(cosines[0, 0])
    assert pairs[0, 0] == 0
    assert cosines[0, 1] == pytest.approx(1)
    with pytest.raises(DataError, match="zero"):
        matrices([np.zeros((1, 3))])


@pytest.fixture(scope="module")
def results(make_spec, tmp_path_factory):
    """Two tasks with opposite labels, two training seeds each, under one P; and a run under another P."""
    folder = tmp_path_factory.mktemp("swapped")
    swap = {"calm": "loud", "loud": "calm"}
    for split, n in (("train", 96), ("validation", 40)):
        rows = [row | {"label": swap[row["label"]]} for row in sentences(n)]
        write_jsonl(folder / f"{split}.jsonl", rows)
    store, loader = Store(tmp_path_factory.mktemp("tasks")), Loader()
    for seed in (0, 1):
        for name, options in (("easy", {}), ("swapped", {"path": folder})):
            spec = make_spec(d=30, max_steps=8, lr=0.05, seed=seed, exclude=("classifier*",), **options)
            spec = replace(spec, projection=ProjectionSpec(seed=5), task=replace(spec.task, name=name))
            execute(spec, store, loader)
    execute(make_spec(d=30, seed=3), store, loader)
    return store


def test_runs_of_several_seeds_share_a_space_only_where_p_has_a_seed_of_its_own(results):
    (space,) = spaces(results.results())
    assert space.tasks == ("easy", "swapped")
    assert space.pairs.tolist() == [[1, 4], [4, 1]]
    assert "seed 5" in space.name
    thetas = [
        load_file(r.path / "theta.safetensors")["theta"].astype(float)
        for name in space.tasks
        for r in results.results()
        if r.spec.task.name == name and r.spec.projection.seed == 5
    ]
    cosine = np.corrcoef(np.hstack([thetas, -np.array(thetas)]))  # of rows of mean 0: the plain cosine
    assert space.cosines[0, 0] == pytest.approx(cosine[0, 1])
    assert space.cosines[0, 1] == pytest.approx(cosine[:2, 2:].mean())
    assert cosine[0, 2] < -0.9  # opposite labels, one training seed, a few small steps: opposite directions


def test_runs_on_permuted_labels_stand_apart_as_the_null(results, make_spec, tmp_path):
    store = Store(tmp_path)
    for seed in (0, 1):
        spec = make_spec(d=30, max_steps=8, lr=0.05, seed=seed, exclude=("classifier*",), permute_labels=0)
        execute(replace(spec, projection=ProjectionSpec(seed=5)), store, Loader())
    [space] = [each for each in spaces([*results.results(), *store.results()]) if len(each.tasks) == 3]
    assert space.tasks == ("easy", "easy permuted", "swapped")


def test_the_learning_rate_of_the_best_score_speaks_for_a_task(results, make_spec):
    records = results.results()
    worse = [
        replace(r, spec=replace(r.spec, lr=9.0), score=-1.0, metrics={"accuracy": -1.0})
        for r in records
        if r.spec.task.name == "easy"
    ]
    assert render(answer(spaces(records + worse))) == render(answer(spaces(records)))


def test_one_lucky_run_does_not_speak_for_a_task_as_it_does_not_in_a_table(results):
    records = results.results()
    easy = [r for r in records if r.spec.task.name == "easy" and r.spec.projection.seed == 5]
    third = [replace(easy[0], spec=replace(easy[0].spec, seed=2))]
    lucky = [replace(easy[1], spec=replace(easy[1].spec, lr=9.0), score=2.0, metrics={"accuracy": 2.0})]
    assert render(answer(spaces(records + third + lucky))) == render(answer(spaces(records + third)))


def test_spaces_of_equal_titles_are_told_apart(results, tmp_path):
    shutil.copytree(results.root, tmp_path / "other")
    for path in (tmp_path / "other").rglob("result.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"projection_version": 2}))
    one, two = spaces(results.results() + Store(tmp_path / "other").results())
    assert {space.name[-len("seed 5 draw=n") :] for space in (one, two)} == {"seed 5 draw=2", "seed 5 draw=3"}
    assert one.name[:-1] == two.name[:-1]
    assert np.array_equal(one.pairs, two.pairs)


def test_spaces_stand_in_the_order_of_their_d_and_own_data_by_their_name(make_spec, tmp_path):
    store, load = Store(tmp_path), Loader()
    for d in (20, 100, 300):
        for seed in (0, 1):
            spec = make_spec(d=d, seed=seed, max_steps=1)
            own = replace(spec.task, name="custom")
            execute(replace(spec, projection=ProjectionSpec(seed=0), task=own), store, load)
    found = spaces(store.results())
    assert [re.search(r"d=(\d+)", space.name)[1] for space in found] == ["20", "100", "300"]
    assert {task for space in found for task in space.tasks} == {"task"}  # the folder


def test_a_damaged_theta_is_left_out_and_said(results, tmp_path, caplog):
    shutil.copytree(results.root, tmp_path / "copy")
    store = Store(tmp_path / "copy")
    lost = next(r for r in store.results() if r.spec.task.name == "easy" and r.spec.seed == 1)
    (lost.directory / "theta.safetensors").write_bytes(b"torn")
    (space,) = spaces(store.results())
    assert space.pairs.tolist() == [[0, 2], [2, 1]]
    assert f"{lost.directory / 'theta.safetensors'} is damaged" in caplog.text
    assert "run its sweep again" in caplog.text
    assert "export" not in caplog.text


def test_nothing_to_compare_is_said(results):
    with pytest.raises(StoreError, match=r"share a space.*projection.seed"):
        spaces(results.results()[:1])


def test_the_command_its_formats_and_its_figure(results, tmp_path, capsys):
    (space,) = spaces(results.results())
    assert cli.main(["tasks", str(results.root), "--figures", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    for value in [*space.cosines.ravel(), *space.distances.ravel()]:
        assert f"{value:.3f}" in out
    assert cli.main(["tasks", str(results.root), "--format", "csv"]) == 0
    flat = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(r["task_a"], r["task_b"], r["pairs"]) for r in flat] == [
        ("easy", "easy", "1"), ("easy", "swapped", "4"), ("swapped", "swapped", "1"),
    ]  # fmt: skip
    assert float(flat[1]["cosine"]) == pytest.approx(space.cosines[0, 1], rel=1e-9)
    assert json.loads(render(answer([space]), "json"))[1]["distance"] == pytest.approx(
        space.distances[0, 1], rel=1e-9
    )
    (picture,) = tmp_path.glob("*.svg")
    root = ET.parse(picture).getroot()
    assert f"{space.cosines[0, 1]:.2f}" in [element.text for element in root.iter() if element.text]


def test_colours_say_sign_and_size():
    assert heatmap.colour(0.0) == "#ffffff"
    assert heatmap.colour(1.0) == "#3b6fd4"
    assert heatmap.colour(-2.0) == "#d1480f"
    assert heatmap.colour(float("nan")) == "#e8e6e1"
    half = [int(heatmap.colour(0.5)[i : i + 2], 16) for i in (1, 3, 5)]
    assert half == [round((255 + c) / 2) for c in (0x3B, 0x6F, 0xD4)]


def test_names_are_text_in_the_picture():
    picture = heatmap.draw("a < b & c", ["<x>", "y" * 30], [[1.0, float("nan")], [float("nan"), 1.0]])
    root = ET.fromstring(picture)
    assert "<x>" in [element.text for element in root.iter()]
