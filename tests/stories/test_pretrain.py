"""scripts/pretrain-tiny: what it trains on, and that stopping and going on changes nothing."""

from __future__ import annotations

import json
import shutil
from itertools import islice

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from support.scripts import load

from intrinsic_cli.models import pretrained
from intrinsic_cli.spec import ModelSpec
from intrinsic_cli.tasks import pydoc


@pytest.fixture(scope="module")
def script():
    return load("pretrain_tiny")


WORDS = [
    "the",
    "cat",
    "dog",
    "bird",
    "sees",
    "hears",
    "a",
    "red",
    "green",
    "old",
    "house",
    "tree",
    "river",
    "and",
]


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    return sorted({" ".join(rng.choice(WORDS, size=rng.integers(4, 12))) for _ in range(300)})


@pytest.fixture(scope="module")
def toy(script):
    return script.Recipe(layers=1, vocabulary=80, length=16, batch=8, warmup=2)


def write_split(folder, task, split, **columns):
    (folder / task).mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_parquet(folder / task / f"{split}-00000-of-00001.parquet")


def test_no_validation_or_test_sentence_of_any_task_is_trained_on(script, tmp_path):
    write_split(
        tmp_path, "one", "train", label=[0, 1, 1],
        sentence=["A good film , it is .", "Shared by two tasks here .", "too short"],
    )  # fmt: skip
    write_split(tmp_path, "one", "validation", sentence=["Only for the validation split ."], label=[1])
    write_split(
        tmp_path, "two", "train", sentence1=["He reads a long book ."], sentence2=["He reads a  short book ."]
    )
    write_split(
        tmp_path,
        "two",
        "test",
        sentence1=["shared by two tasks here ."],
        sentence2=["He reads a short book ."],
    )
    prose = set(script.sentences(None))
    rows = pydoc.corpus()
    forbidden = {text.lower() for text, _, held in rows if held}
    assert {text.lower() for text in prose} == {
        text.lower() for text, _, held in rows if not held
    } - forbidden
    assert len(prose) > 5000
    assert set(script.sentences(tmp_path)) - prose == {"A good film , it is .", "He reads a long book ."}
    more = tmp_path / "text"
    more.mkdir()
    (more / "a.txt").write_text("A line of more text.\nonly for the validation split .\n", encoding="utf-8")
    assert set(script.sentences(tmp_path, more)) - set(script.sentences(tmp_path)) == {"A line of more text."}


def test_held_out_sentences_are_chosen_by_their_hash(script, texts):
    share = np.mean([script.held_out(f"sentence {i}") for i in range(20_000)])
    assert share == pytest.approx(0.02, abs=4 * (0.02 * 0.98 / 20_000) ** 0.5)
    assert script.held_out("A  b C") == script.held_out("a b c")


def test_every_sentence_once_an_epoch_and_the_same_from_any_step(script, toy):
    lengths = np.random.default_rng(0).integers(4, 16, size=83)
    epoch = list(islice(script.batches(lengths, toy, 0), 10))
    assert [len(batch) for batch in epoch] == [8] * 10
    assert len(set(np.concatenate(epoch))) == 80
    more = list(islice(script.batches(lengths, toy, 0), 25))
    assert not np.array_equal(np.concatenate(more[10:20]), np.concatenate(epoch))
    for start in (3, 10, 17):
        assert np.array_equal(list(islice(script.batches(lengths, toy, start), 5)), more[start : start + 5])


def test_a_sixth_of_the_ordinary_pieces_is_masked_as_in_bert(script, texts, toy, tmp_path):
    tokenizer = script.tokenizer_of(tmp_path, texts, toy)
    assert tokenizer.convert_ids_to_tokens(range(5)) == script.SPECIAL
    ids = torch.randint(5, len(tokenizer), (200, 500), generator=torch.Generator().manual_seed(1))
    ids[:, 0], ids[:, -1] = tokenizer.cls_token_id, tokenizer.pad_token_id
    corrupted, chosen = script.mask(ids, tokenizer, torch.Generator().manual_seed(0))
    assert not chosen[:, [0, -1]].any()
    assert chosen.float().mean() == pytest.approx(0.15, abs=0.01)
    assert torch.equal(corrupted[~chosen], ids[~chosen])
    assert (corrupted[chosen] == tokenizer.mask_token_id).float().mean() == pytest.approx(0.8, abs=0.02)
    assert (corrupted[chosen] == ids[chosen]).float().mean() == pytest.approx(0.1, abs=0.02)


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_going_on_gives_the_weights_of_an_uninterrupted_run(script, texts, toy, tmp_path):
    whole = script.pretrain(texts, 32, [0, 3, 6], tmp_path / "whole", toy)
    # Which of two equally good pieces the tokenizer has is chance, so it is kept beside the checkpoints.
    shutil.copytree(tmp_path / "whole" / "tokenizer", tmp_path / "parts" / "tokenizer")
    script.pretrain(texts, 32, [0, 3], tmp_path / "parts", toy)
    before = (tmp_path / "parts" / "bert-32-step-3" / "model.safetensors").stat().st_mtime_ns
    parts = script.pretrain(texts, 32, [6, 0, 3], tmp_path / "parts", toy)
    assert [folder.name for folder in parts] == ["bert-32-step-0", "bert-32-step-3", "bert-32-step-6"]
    assert (parts[1] / "model.safetensors").stat().st_mtime_ns == before
    for a, b in zip(whole, parts, strict=True):
        assert weights(a).keys() == weights(b).keys()
        assert all(torch.equal(tensor, weights(b)[name]) for name, tensor in weights(a).items())
        assert json.loads((a / "pretraining.json").read_text()) == json.loads(
            (b / "pretraining.json").read_text()
        )
    moved = [
        name for name, tensor in weights(whole[0]).items() if not torch.equal(tensor, weights(whole[2])[name])
    ]
    assert any("layer.0.attention" in name for name in moved)
    assert not list((tmp_path / "parts").glob(".*"))
    with pytest.raises(SystemExit, match=r"bert-32.resume was made with another seed; choose another --out"):
        script.pretrain(texts, 32, [6], tmp_path / "parts", script.Recipe(**{**vars(toy), "seed": 1}))
    with pytest.raises(SystemExit, match=r"bert-32.resume is already past bert-32-step-4; remove it"):
        script.pretrain(texts, 32, [4, 8], tmp_path / "parts", toy)


def test_what_is_stopped_between_checkpoints_goes_on_from_there(script, texts, toy, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "KEEP", 2)
    [whole] = script.pretrain(texts, 32, [6], tmp_path / "whole", toy)
    shutil.copytree(tmp_path / "whole" / "tokenizer", tmp_path / "parts" / "tokenizer")
    trained, steps = script._train_step, []

    def until_the_sixth(step, *rest):
        if step == 5 and 5 not in steps:
            steps.append(step)
            raise KeyboardInterrupt
        steps.append(step)
        trained(step, *rest)

    monkeypatch.setattr(script, "_train_step", until_the_sixth)
    with pytest.raises(KeyboardInterrupt):
        script.pretrain(texts, 32, [6], tmp_path / "parts", toy)
    [parts] = script.pretrain(texts, 32, [6], tmp_path / "parts", toy)
    assert steps == [0, 1, 2, 3, 4, 5, 4, 5]
    assert all(torch.equal(tensor, weights(parts)[name]) for name, tensor in weights(whole).items())


@pytest.mark.parametrize(("width", "lr"), [(64, 1e-3), (256, 5e-4)])
def test_a_wide_model_learns_at_a_rate_that_goes_as_one_over_its_width(
    script, texts, toy, tmp_path, width, lr
):
    before, after = script.pretrain(texts, width, [0, 1], tmp_path, toy)
    assert json.loads((after / "pretraining.json").read_text())["lr"] == lr
    # Adam's first step moves what has a gradient by its rate, here half of it, as the warmup takes two steps.
    name = "bert.encoder.layer.0.output.dense.bias"
    moved = (weights(after)[name] - weights(before)[name]).abs()
    assert moved.median() == pytest.approx(lr / 2, rel=0.01)


def test_a_checkpoint_is_a_model_for_idim_with_only_pooler_and_classifier_new(script, texts, toy, tmp_path):
    untrained, folder = script.pretrain(texts, 32, [0, 60], tmp_path, toy)
    loaded = pretrained.load(ModelSpec(str(folder)), 2)
    assert {name.split(".")[-2] for name in loaded.head} == {"dense", "classifier"}
    assert all(name.startswith(("bert.pooler.", "classifier.")) for name in loaded.head)
    encoder = dict(loaded.model.named_parameters())
    saved = weights(folder)
    assert all(torch.equal(encoder[name], saved[name]) for name in encoder if name not in loaded.head)
    assert loaded.tokenizer.tokenize("The") == ["the"]
    told = [json.loads((f / "pretraining.json").read_text()) for f in (untrained, folder)]
    assert [t["step"] for t in told] == [0, 60]
    assert told[0]["held_out_loss"] == pytest.approx(
        np.log(len(loaded.tokenizer)), abs=0.2
    )  # it knows nothing
    assert told[1]["held_out_loss"] < told[0]["held_out_loss"] - 0.5
    assert told[0]["sentences"] == sum(not script.held_out(text) for text in texts)


def test_a_folder_without_glue_is_one_line(script, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        script.main(["--glue", str(tmp_path), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert f"--glue {tmp_path} has no TASK/train-*.parquet" in capsys.readouterr().err
