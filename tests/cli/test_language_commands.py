"""Every kind of language models' tasks through the commands: sweep, again, summarize, report, export, eval."""

import json

import pytest
from support.language import save_t5
from support.rows import sentences, write_jsonl, write_task

from intrinsic_cli.models import pretrained
from intrinsic_cli.spec import ModelSpec

FAMILIES = ("llama", "t5")
PROMPT = "task.prompt={text} is"
KINDS = {
    "lm": ["task.metrics=loss,bits_per_byte"],
    "choice": [PROMPT, "task.words={calm: quiet, loud: noisy}"],
    "generation": [PROMPT, "task.answer=label", "task.metrics=token_f1,exact_match", "task.max_new_tokens=5"],
}  # fmt: skip
ANSWERED = [PROMPT, "task.answer=label"]  # what an encoder-decoder needs for lm


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_task(tmp_path_factory.mktemp("words"), 24, 10)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The words that choose a random decoder, and a random encoder-decoder over the same bytes."""
    folder = save_t5(tmp_path_factory.mktemp("t5"))
    return {"llama": "model=tiny", "t5": f"model.name={folder}"}


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_study_from_sweep_to_report(kind, family, models, folder, tmp_path, idim):
    out = tmp_path / "out"
    own = [*KINDS[kind], *(ANSWERED if (kind, family) == ("lm", "t5") else [])]
    task = ["task=custom", f"task.path={folder}", f"task.kind={kind}", *own, "data.max_length=64"]
    words = [
        "sweep", "launcher=inline", models[family], *task, "d=20,60", "subspace=did,said", "train.max_steps=3",
        "train.precision=fp32", "train.batch_size=8", "baseline.lr=0.01", f"output_dir={out}",
    ]  # fmt: skip
    status, printed, said = idim(*words)
    assert status == 0, said
    assert "6 runs to do" in said  # two spaces of two d's, full fine-tuning, and the model before training
    status, _, said = idim(*words)
    assert (status, "6 of 6 runs are over already" in said) == (0, True)

    runs = {path.parent.name: json.loads(path.read_text()) for path in out.glob("*/result.json")}
    [untrained] = [run for run in runs.values() if run["d"] == 0]
    [lost] = [
        name for name, run in runs.items() if run["spec"]["subspace"]["kind"] == "said" and run["d"] == 60
    ]
    (out / lost / "result.json").unlink()
    status, _, said = idim(*words)
    assert (status, "1 runs to do" in said) == (0, True)
    again = json.loads((out / lost / "result.json").read_text())
    assert (again["metrics"], again["theta_hash"]) == (runs[lost]["metrics"], runs[lost]["theta_hash"])

    status, printed, _ = idim("summarize", out, "--format", "json")
    records = json.loads(printed)
    assert [record["subspace"] for record in records] == ["said", "did"]
    for record in records:
        assert record["untrained_score"] == pytest.approx(untrained["score"])
        assert record["definition"] == ("gain" if kind == "lm" else "score")
        assert record["metric"] == untrained["metric"]
        assert record["status"] in ("estimated", "below_grid", "above_grid", "undefined")
    status, _, _ = idim("summarize", out)
    assert status == 0
    assert idim("report", out)[0] == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "before training" in page
    assert untrained["run_id"] in page
    assert idim("status", out)[1].startswith("6 done")

    status, _, said = idim("export", out / lost, "--out", tmp_path / "small.safetensors")
    assert status == 0, said
    status, printed, said = idim(
        "eval", tmp_path / "small.safetensors", *task[:2]
    )  # it knows how it was asked
    assert status == 0, said
    told = dict(line.split() for line in printed.splitlines()[: len(again["metrics"])])
    assert {name: float(value) for name, value in told.items()} == pytest.approx(again["metrics"], abs=6e-5)
    assert idim("apply", tmp_path / "small.safetensors", "--out", tmp_path / "model")[0] == 0
    asked = json.loads((tmp_path / "model" / "config.json").read_text())["idim"]
    assert asked["kind"] == kind
    assert [f"task.prompt={asked['prompt']}" for key in asked if key == "prompt"] == [
        w for w in own if w == PROMPT
    ]
    assert asked.get("words") == ({"calm": "quiet", "loud": "noisy"} if kind == "choice" else None)
    if PROMPT in own:  # of rows that were set apart by the text that a prompt makes of them
        [rows] = folder.glob("train*")
        other = ("eval", tmp_path / "small.safetensors", f"task={rows}", "task.prompt={text} was")
        status, _, said = idim(*other)
        assert (status, "task.prompt is not that of training" in said) == (2, True)
        assert idim(*other, "task.validation=train")[0] == 0
        assert "by hash: held out of training where" in idim(*other[:-1])[1]
    status, _, said = idim("export", out / untrained["run_id"], "--out", tmp_path)
    assert (status, "trained nothing" in said) == (2, True)


GENERATION = ["task.kind=generation", "task.metrics=exact_match", PROMPT, "task.answer=label"]
CHOICE = ["task.kind=choice", PROMPT]
BAD = {
    "a missing column": ([*GENERATION, "task.prompt={txt} is"], ["task.prompt=txt", "did you mean text"]),
    "a missing answer": ([*GENERATION, "task.answer=anser"], ["task.answer=anser", "text, label"]),
    "words that begin alike": (
        [*CHOICE, "task.words={calm: good, loud: goodness}"], ["'goodness' begins with 'good'"]
    ),
    "the same words": ([*CHOICE, "task.words={calm: good, loud: good}"], ["choose other words"]),
    "words for one class": ([*CHOICE, "task.words={calm: good}"], ["0 (calm), 1 (loud)"]),
    "no words": ([*CHOICE, "task.words={calm: good, loud: ' '}"], ["task.words says nothing for loud"]),
    "empty answers": ([*GENERATION, "task.path={empty}"], ["answers are empty"]),
    "long answers": ([*GENERATION, "task.path={long}"], ["answers have more tokens", "data.max_length="]),
    "a metric of classes": ([*GENERATION, "task.metrics=accuracy"], ["'accuracy'", "exact_match"]),
    "a metric of words": (["task.metrics=loss"], ["'loss'", "accuracy"]),
    "an encoder": ([*GENERATION, "model=minilm"], ["bert", "writes none", "model=gpt2"]),
    "a headless decoder": ([*GENERATION, "model.name={headless}"], ["no head to write with"]),
    "texts of an encoder-decoder": (["task.kind=lm", "task.metrics=loss", "{t5}"], ["task.prompt and task.answer"]),
    "no answer": (["task.kind=generation", "task.metrics=exact_match", PROMPT], ["task.answer"]),
    "no chat template": ([*GENERATION, "task.chat=true"], ["task.chat=true", "no chat template"]),
    "chat of whole texts": (
        ["task.kind=lm", "task.metrics=loss", "task.chat=true"], ["task.chat=true", "task.answer"]
    ),
    "per token": ([*GENERATION, "task.per_token=true"], ["task.per_token=true", "task.kind=generation"]),
    "longer texts than the model reads": (
        ["task.kind=lm", "task.metrics=loss", "data.max_length=300"], ["data.max_length=300", "data.max_length=256"]
    ),
    "more than the model reads": (
        [*GENERATION, "task.max_new_tokens=250"], ["task.max_new_tokens=250", "256"]
    ),
    "a template without columns": ([*GENERATION, "task.prompt=hello"], ["names no column"]),
    "an open brace": ([*GENERATION, "task.prompt={text"], ["task.prompt='{text'"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def places(models, tmp_path_factory):
    """Data with answers that can't be learned, and a model without its head."""
    place = tmp_path_factory.mktemp("places")
    for name, odd in (("empty", " "), ("long", "a long answer " * 9)):
        rows = [row | {"label": odd if i % 4 == 0 else "b"} for i, row in enumerate(sentences(24))]
        write_jsonl(place / f"{name}.jsonl", rows)
    base = pretrained.load(ModelSpec("tiny"), 0, kind="lm")
    base.model.config.tie_word_embeddings = False
    base.model.model.save_pretrained(place / "headless")
    base.tokenizer.save_pretrained(place / "headless")
    return {name: place / f"{name}.jsonl" for name in ("empty", "long")} | {
        "headless": place / "headless", "t5": models["t5"],
    }  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_status_2_before_any_training(case, places, folder, tmp_path, idim):
    words, parts = BAD[case]
    for name, place in places.items():
        words = [word.replace("{" + name + "}", str(place)) for word in words]
    own = ["model=tiny", f"task.path={folder}", "data.max_length=40", f"output_dir={tmp_path / 'out'}"]
    status, printed, said = idim("run", "task=custom", *own, *words)
    assert (status, printed) == (2, "")
    assert said.startswith("idim: ")
    assert said.count("\n") == 1
    for part in parts:
        assert part in said
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
