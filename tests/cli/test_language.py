"""Every kind of language models' tasks through the commands: sweep, again, summarize, report, export, eval."""

import json

import pytest
from support.language import save_t5
from support.rows import sentences, write_jsonl

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
    folder = tmp_path_factory.mktemp("words")
    write_jsonl(folder / "train.jsonl", sentences(24))
    write_jsonl(folder / "validation.jsonl", sentences(10, offset=1000))
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The words that choose a random decoder, and a random encoder-decoder over the same bytes."""
    folder = save_t5(tmp_path_factory.mktemp("t5"))
    return {"llama": "model=tiny", "t5": f"model.name={folder}"}


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
    status, printed, said = idim("eval", tmp_path / "small.safetensors", *task)
    assert status == 0, said
    told = dict(line.split() for line in printed.splitlines()[: len(again["metrics"])])
    assert {name: float(value) for name, value in told.items()} == pytest.approx(again["metrics"], abs=6e-5)
    status, _, said = idim("export", out / untrained["run_id"], "--out", tmp_path)
    assert (status, "trained nothing" in said) == (2, True)
