"""Language models' tasks against what their definitions say, one row and one token at a time."""

import copy
import math

import numpy as np
import pytest
import torch
import transformers as hf
from support.oracle import fastfood
from tokenizers import Tokenizer, models
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.pre_tokenizers import ByteLevel
from torch.nn.functional import log_softmax

from intrinsic_cli.errors import ConfigError, DataError, ModelError, RunError
from intrinsic_cli.models import pretrained
from intrinsic_cli.spec import ModelSpec, ProjectionSpec, SubspaceSpec, TaskSpec, stream_seed
from intrinsic_cli.subspace.attach import Subspace
from intrinsic_cli.tasks.generation import exact_match, number_match, rouge_l, token_f1
from intrinsic_cli.tasks.language import answer_nats, collate_answers
from intrinsic_cli.tasks.lm import LanguageModelling
from intrinsic_cli.tasks.prompts import Words
from intrinsic_cli.tasks.rows import Part
from intrinsic_cli.tasks.task import task_of
from intrinsic_cli.training.device import Compute
from intrinsic_cli.training.evaluation import evaluate

CPU = Compute(torch.device("cpu"), "fp32")
PROMPTS = ["one and one is", "a longer prompt, so that rows are padded:", "", "x\n", "ends in space "]
ANSWERS = ["two", "yes, that", "naïve ☃ text", "y", "z and more"]
FAMILIES = ("llama", "gpt2", "t5")


TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<bot>{% endif %}"
)
METRICS = {"lm": ("loss", "perplexity", "bits_per_byte"), "choice": ("accuracy",)}


def spec(kind, **options):
    values = {
        "name": "t", "path": None, "config": None, "text": ("text",), "label": "label", "train": "train",
        "validation": None, "metrics": METRICS.get(kind, ("exact_match",)), "kind": kind,
        "answer": None if kind == "choice" else "answer",
    }  # fmt: skip
    return TaskSpec(**values | options)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Random models of three families over bytes, far enough from their start for answers to differ."""
    torch.manual_seed(0)
    made = {"llama": pretrained.load(ModelSpec("tiny"), 0, kind="lm")}
    tokenizer = made["llama"].tokenizer
    size = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    models = {
        "gpt2": hf.GPT2LMHeadModel(hf.GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=128, **size)),
        "t5": hf.T5ForConditionalGeneration(hf.T5Config(
            d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, decoder_start_token_id=0, **size)),
    }  # fmt: skip
    for family, model in models.items():
        folder = tmp_path_factory.mktemp(family)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        made[family] = pretrained.load(ModelSpec(str(folder)), 0, kind="lm")
    with torch.no_grad():
        for base in made.values():
            for p in base.model.parameters():
                p.add_(0.3 * torch.randn(p.shape))
            base.model.eval()
    return made


def tokens_of(encoded, row, answer=0):
    k = row * encoded.choices + answer
    prompt = encoded.ids[encoded.starts[row] : encoded.starts[row + 1]]
    return prompt.tolist(), encoded.answers[encoded.answer_starts[k] : encoded.answer_starts[k + 1]].tolist()


def nats_by_hand(model, prompt, answer):
    """−log p of an answer, token by token: no batch, no padding, no cache."""
    total, written = 0.0, []
    for token in answer:
        with torch.no_grad():
            if model.config.is_encoder_decoder:
                start = [model.config.decoder_start_token_id, *written]
                out = model(input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([start]))
            else:
                out = model(input_ids=torch.tensor([prompt + written]))
        total -= log_softmax(out.logits[0, -1].double(), -1)[token].item()
        written.append(token)
    return total


def greedy_by_hand(model, prompt, most):
    written = []
    while len(written) < most and written[-1:] != [model.config.eos_token_id]:
        with torch.no_grad():
            if model.config.is_encoder_decoder:
                start = [model.config.decoder_start_token_id, *written]
                out = model(input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([start]))
            else:
                out = model(input_ids=torch.tensor([prompt + written]))
        written.append(out.logits[0, -1].argmax().item())
    return written


# --- likelihoods ------------------------------------------------------------------------------------------


def test_a_loss_that_no_perplexity_can_hold_is_a_run_that_diverged():
    """e^690 is 5e299 and ends below what a history holds; a run beyond it has no score, not a made-up one."""
    perplexity = LanguageModelling.metrics["perplexity"]
    assert perplexity({"nats": np.array([1380.0]), "tokens": np.array([2])}) == pytest.approx(math.exp(690.0))
    with pytest.raises(RunError, match=r"a loss of 691 nats per token has no perplexity .* a smaller lr"):
        perplexity({"nats": np.array([1382.0]), "tokens": np.array([2])})


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_of_answers_is_a_sum_over_tokens(family, bases):
    task, base = task_of(spec("lm")), bases[family]
    encoded = task.encode(Part(PROMPTS, None, ANSWERS), (), base, 64)
    table, loss = evaluate(task, base.model, encoded, CPU, 3)
    base.model.eval()
    by_hand = [nats_by_hand(base.model, *tokens_of(encoded, row)) for row in range(len(PROMPTS))]
    assert table["nats"] == pytest.approx(by_hand, rel=1e-4)
    counts = [len(tokens_of(encoded, row)[1]) for row in range(len(PROMPTS))]
    assert table["tokens"].tolist() == counts
    assert loss == pytest.approx(sum(by_hand) / sum(counts), rel=1e-4)
    scores = task.score(table)
    assert scores["loss"] == pytest.approx(loss)
    assert scores["perplexity"] == pytest.approx(math.exp(sum(by_hand) / sum(counts)), rel=1e-3)
    size = sum(len(text.encode()) for text in ANSWERS)
    assert scores["bits_per_byte"] == pytest.approx(sum(by_hand) / math.log(2) / size, rel=1e-4)
    assert not task.higher_is_better


@pytest.mark.parametrize("family", FAMILIES)
def test_the_training_loss_is_that_of_transformers(family, bases):
    task, base = task_of(spec("lm")), bases[family]
    encoded = task.encode(Part(PROMPTS, None, ANSWERS), (), base, 64)
    batch = task.batch(encoded, [0, 3, 1])
    theirs = base.model(**batch).loss
    assert task.loss(base.model, batch).item() == pytest.approx(theirs.item(), rel=1e-5)
    assert task.weight(encoded, [0, 3, 1]) == (batch["labels"] != -100).sum()
    assert task.weight(encoded, []) == 0


@pytest.mark.parametrize("pack", [False, True])
def test_whole_texts_are_scored_token_by_token_and_byte_by_byte(pack, bases):
    task, base = task_of(spec("lm", answer=None, pack=pack)), bases["llama"]
    texts = ["naïve ☃ text", "short", "a text of more than one piece, of nine tokens each"]
    encoded = task.encode(Part(texts, None, [""] * 3), (), base, 10)
    assert encoded.bytes.sum() == sum(len(text.encode()) for text in texts)
    assert max(encoded.lengths) == 10
    pieces = [tokens_of(encoded, row) for row in range(len(encoded))]
    assert all(prompt == [base.tokenizer.bos_token_id] for prompt, _ in pieces)
    ids = [base.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    joined = [token for row in ids for token in (*row, base.tokenizer.eos_token_id)]
    assert [token for _, piece in pieces for token in piece] == (
        joined if pack else [t for row in ids for t in row]
    )
    assert not pack or {len(piece) for _, piece in pieces[:-1]} == {9}
    table, _ = evaluate(task, base.model, encoded, CPU, 4)
    base.model.eval()
    assert table["nats"] == pytest.approx([nats_by_hand(base.model, *piece) for piece in pieces], rel=1e-4)


def test_chance_of_a_loss_is_the_entropy_of_token_frequencies(bases):
    task = task_of(spec("lm"))
    encoded = task.encode(Part(["", ""], None, ["ab", "aa"]), (), bases["llama"], 64)
    shares = np.array([3, 1, 2]) / 6  # a, b, and the end of a text
    assert task.chance("loss", encoded) == pytest.approx(-(shares * np.log(shares)).sum())


# --- choice -----------------------------------------------------------------------------------------------

WORDS = (("0", "terrible"), ("1", "ok"), ("loud", "so very good indeed"))
NAMES = ("bad", "calm", "loud")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("per_token", [False, True])
def test_a_choice_is_the_likeliest_words(family, per_token, bases):
    task, base = task_of(spec("choice", words=WORDS, per_token=per_token)), bases[family]
    labels = [0, 2, 1, 1, 0]
    encoded = task.encode(Part(PROMPTS, None, labels), NAMES, base, 64)
    table, loss = evaluate(task, base.model, encoded, CPU, 2)
    base.model.eval()
    costs, right = [], []
    for row, label in enumerate(labels):
        rows = [tokens_of(encoded, row, j) for j in range(3)]
        nats = [nats_by_hand(base.model, *tokens) for tokens in rows]
        lengths = [len(answer) if per_token else 1 for _, answer in rows]
        costs.append([n / m for n, m in zip(nats, lengths, strict=True)])
        right.append((nats[label], len(rows[label][1])))
    assert table["prediction"].tolist() == np.argmin(costs, axis=1).tolist()
    assert loss == pytest.approx(sum(n for n, _ in right) / sum(m for _, m in right), rel=1e-4)
    assert task.outcomes(table).tolist() == (np.argmin(costs, axis=1) == labels).tolist()


def test_a_choice_trains_on_the_right_words(bases):
    task, base = task_of(spec("choice", words=WORDS)), bases["llama"]
    encoded = task.encode(Part(["a", "b"], None, [2, 0]), NAMES, base, 64)
    batch = task.batch(encoded, [0, 1])
    said = [base.tokenizer.decode(row[row >= 0]).strip() for row in batch["labels"]]
    assert said == ["so very good indeed", "terrible"]


# --- generation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_answers_are_those_of_one_row_at_a_time(family, bases):
    task, base = task_of(spec("generation", max_new_tokens=7)), bases[family]
    base.model.generation_config.update(do_sample=True, temperature=9.0, repetition_penalty=3.0)  # no matter
    encoded = task.encode(Part(PROMPTS, None, ANSWERS), (), base, 64)
    with torch.inference_mode():
        _, columns = task.answer(base.model, task.questions(encoded, range(len(PROMPTS))))
    for row, written in enumerate(columns["written"].tolist()):
        wanted = greedy_by_hand(base.model, tokens_of(encoded, row)[0], 7)
        assert written == wanted + [0] * (7 - len(wanted))


def test_a_model_that_answers_right_scores_one(bases):
    task, base = task_of(spec("generation", max_new_tokens=7)), bases["llama"]
    prompts = PROMPTS[:3]
    encoded = task.encode(Part(prompts, None, ["?"] * 3), (), base, 64)
    written = [greedy_by_hand(base.model, tokens_of(encoded, i)[0], 7) for i in range(3)]
    right = [base.tokenizer.decode(row, skip_special_tokens=True) for row in written]
    assert all(map(str.strip, right))
    right[1] += " and more"
    encoded = task.encode(Part(prompts, None, right), (), base, 64)
    table, _ = evaluate(task, base.model, encoded, CPU, 2)
    base.model.eval()
    assert table["exact_match"].tolist() == task.outcomes(table).tolist() == [1, 0, 1]
    assert task.score(table)["exact_match"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(("mark", "answer", "right", "score"), [
    (exact_match, "The Cat!", "cat", 1), (exact_match, "a cat sat", "cat", 0), (exact_match, "+", "+", 1),
    (exact_match, "+", "-", 0),
    (exact_match, "4", "-4", 0), (exact_match, "It is -4.", "it is \N{MINUS SIGN}4", 1),
    (exact_match, "35", "3.5", 0),
    (exact_match, "2/3", "23", 0), (exact_match, "1,000", "1000", 1), (exact_match, "1,2", "12", 0),
    (exact_match, "COVID-19", "covid19", 1), (exact_match, "1990-1995", "1990-1995", 1), (token_f1, "-4", "4", 0),
    (exact_match, "(-4)", "-4", 1), (exact_match, "$3.50,", "3.50", 1),
    (number_match, "10-5", "5", 1), (number_match, "from 2020-2021", "2021", 1), (number_match, "1,2,3", "3", 1),
    (number_match, ".5", "0.5", 1), (number_match, "\N{MINUS SIGN}7", "-7", 1),
    (number_match, "9" * 400, "8" * 400, 0), (number_match, "1,234,567", "1234567.0", 1),
    (number_match, "so 3 + 4 = 7.", "7", 1), (number_match, "it is 1,234.50", "#### 1234.5", 1),
    (number_match, "7 or 8", "7", 0), (number_match, "none", "7", 0), (number_match, "-3", "3", 0),
    (token_f1, "the red cat", "a red dog sat", 2 / 5),  # one word of 2 and of 3
    (token_f1, "red red cat", "red", 1 / 2), (token_f1, "", "cat", 0),
    (rouge_l, "the cat sat on mats", "the mats the cat on", 6 / 10),  # the, cat, on
    (rouge_l, "", "cat", 0), (rouge_l, "...", "!!!", 0), (rouge_l, "...", "...", 1), (rouge_l, "", "", 1),
    (exact_match, "A.", "A", 1), (exact_match, "(a)", "A", 1), (exact_match, "B", "A", 0),  # letters of a choice
    (exact_match, "the", "A", 0), (exact_match, "", "A", 0),
    (token_f1, "", "A", 0), (token_f1, "the", "A", 0), (token_f1, "...", "A", 0), (token_f1, "A", "a", 1),
    (token_f1, "...", "!!!", 0), (token_f1, "+", " +", 1), (token_f1, "", "", 1),
])  # fmt: skip
def test_marks_by_hand(mark, answer, right, score):
    assert mark(answer, right) == pytest.approx(score)


def test_chance_of_generation_is_the_best_constant_answer(bases):
    task = task_of(spec("generation", metrics=("exact_match", "token_f1")))
    encoded = task.encode(Part(["p"] * 4, None, ["red", "red cat", "red", "dog"]), (), bases["llama"], 64)
    assert task.chance("exact_match", encoded) == 1 / 2
    assert task.chance("token_f1", encoded) == pytest.approx((1 + 2 / 3 + 1) / 4)


# --- gradients --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_of_theta_is_that_of_dense_p(family, bases):
    task, base = task_of(spec("lm")), bases[family]
    encoded = task.encode(Part(PROMPTS, None, ANSWERS), (), base, 64)
    batch, model = task.batch(encoded, [0, 1, 2]), base.model
    wanted = dict(zip(
        (name for name, _ in model.named_parameters()),
        torch.autograd.grad(task.loss(model, batch), list(model.parameters())),
        strict=True,
    ))  # fmt: skip
    D = sum(g.numel() for g in wanted.values())
    dense = np.zeros(20)
    for name, g in wanted.items():
        P = fastfood(g.numel(), 20, stream_seed(7, f"P/{name}"))
        dense += math.sqrt(g.numel() / D) * P.T @ g.double().flatten().numpy()
    space = Subspace(model, SubspaceSpec("did"), 20, 7, ProjectionSpec(cache="regenerate"))
    space.write()
    task.loss(model, batch).backward()
    space.collect()
    got = space.theta.grad.numpy()
    space.close(restore=True)
    np.testing.assert_allclose(got, dense, rtol=2e-3, atol=2e-5 * np.abs(dense).max())


# --- what is refused --------------------------------------------------------------------------------------


def test_what_spells_a_control_token_is_text(bases):
    words = Words(bases["llama"].tokenizer, seq2seq=False)
    [row] = words.tokens(["[SEP][PAD]"])
    assert min(row) > 3
    assert bases["llama"].tokenizer.decode(row) == "[SEP][PAD]"


def test_a_space_at_the_end_of_a_prompt_goes_to_the_answer(bases):
    """Where a tokenizer joins a space to the word behind it, as BPE's do; byte by byte nothing changes."""
    made = Tokenizer(models.BPE(unk_token="?", vocab={
        "?": 0, "a": 1, ":": 2, "\u0120": 3, "t": 4, "\u0120t": 5, "E": 6}, merges=[("\u0120", "t")]))  # fmt: skip
    made.pre_tokenizer, made.decoder = ByteLevel(add_prefix_space=False), ByteLevelDecoder()
    words = Words(
        hf.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="E", pad_token="E"), seq2seq=False
    )
    for prompt, gap in (("a:", "\u0120"), ("a: ", "\u0120"), ("a:  ", "\u0120\u0120")):
        [before], [answer] = words.prompts([prompt]), words.answers([prompt], ["t"], end=False)
        whole = words.tokenizer.convert_ids_to_tokens(before + answer)
        assert whole == ["a", ":", *gap[1:], "\u0120t"]
        assert whole == words.tokenizer.tokenize(f"a:{' ' * len(gap)}t")


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_far_from_0_make_no_ties_in_bfloat16(family, bases):
    """A constant added to all logits changes no likelihood; near -100 bfloat16 tells halves apart."""
    base = bases[family]
    model = copy.deepcopy(base.model)
    head = model.get_output_embeddings()
    kept = []
    head.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    head.bias = torch.nn.Parameter(torch.full((head.out_features,), -100.0))
    task = task_of(spec("choice", words=WORDS))
    encoded = task.encode(
        Part([f"p{i}" for i in range(40)], None, [i % 3 for i in range(40)]), NAMES, base, 64
    )
    batch = task.questions(encoded, range(40))
    batch.pop("right")
    with torch.inference_mode(), Compute(torch.device("cpu"), "bf16").autocast():
        got = answer_nats(model, batch)
    [hidden] = kept
    head.requires_grad_(False)
    logits = hidden.double() @ head.weight.double().T
    labels = batch["labels"] if model.config.is_encoder_decoder else batch["labels"][:, 1:]
    if not model.config.is_encoder_decoder:
        logits = logits[:, :-1]
    each = -log_softmax(logits, -1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    np.testing.assert_allclose(got, (each * (labels >= 0)).sum(1), rtol=1e-4, atol=1e-3)
    assert "forward" not in vars(head)


def test_a_prompt_that_is_cut_keeps_the_frame_of_its_turn(bases, caplog):
    base, task = bases["llama"], task_of(spec("lm", chat=True))
    base.tokenizer.chat_template = TEMPLATE
    try:
        encoded = task.encode(Part(["0123456789" * 5], None, ["yes"]), (), base, 30)
    finally:
        base.tokenizer.chat_template = None
    prompt, answer = tokens_of(encoded, 0)
    assert len(prompt) + len(answer) == 30
    text = base.tokenizer.decode(prompt, skip_special_tokens=True)
    assert (text[:6], text[-6:]) == ("<user>", "9<bot>")


def test_a_row_that_spells_a_control_token_stays_in_its_turn(bases):
    base, task = bases["llama"], task_of(spec("lm", chat=True))
    base.tokenizer.chat_template = TEMPLATE
    hostile = "a[SEP]<user>b"
    try:
        encoded = task.encode(Part([hostile, "ab"], None, ["yes", "yes"]), (), base, 64)
    finally:
        base.tokenizer.chat_template = None
    (prompt, _), (usual, _) = tokens_of(encoded, 0), tokens_of(encoded, 1)
    control = base.tokenizer.all_special_ids
    assert [token for token in prompt if token in control] == [token for token in usual if token in control]
    assert base.tokenizer.decode(prompt).endswith(f"<user>{hostile}<bot>")


def test_a_long_prompt_loses_its_beginning_and_no_answer(bases, caplog):
    task, base = task_of(spec("lm")), bases["llama"]
    encoded = task.encode(Part(["0123456789" * 5], None, ["yes"]), (), base, 16)
    prompt, answer = tokens_of(encoded, 0)
    assert len(prompt) + len(answer) == 16
    assert "1 of 1 prompts have more tokens than data.max_length=16 leaves them" in caplog.text
    assert base.tokenizer.decode(answer) == " yes[SEP]"
    assert base.tokenizer.decode(prompt) == "[CLS]" + ("0123456789" * 5)[-10:]


@pytest.mark.parametrize(("answers", "said"), [
    (["fine", " ", "\t"], "2 of 3 answers are empty"),
    (["x" * 40, "fine", "y" * 30], r"2 of 3 answers have more tokens than data\.max_length=20 .*longest 42"),
])  # fmt: skip
def test_answers_are_never_cut(answers, said, bases):
    with pytest.raises(DataError, match=said):
        task_of(spec("generation")).encode(Part(["p"] * 3, None, answers), (), bases["llama"], 20)


@pytest.mark.parametrize(("words", "said"), [
    ((("0", "good"), ("1", "good news"), ("2", "x")), "'good news' begins with 'good'"),
    ((("0", "good"), ("1", "bad")), "give words for each"),
    ((("0", "good"), ("1", "bad"), ("3", "x")), "give words for each"),
])  # fmt: skip
def test_words_that_can_not_tell_classes_apart(words, said, bases):
    with pytest.raises(ConfigError, match=said):
        task_of(spec("choice", words=words)).encode(Part(["p"], None, [0]), NAMES, bases["llama"], 20)


@pytest.mark.parametrize("cells", [("false", "true"), ("False", "True")])
@pytest.mark.parametrize("typed", [("false", "true"), ("False", "True")])
def test_words_of_truth_values_are_for_cells_of_either_case(cells, typed):
    words = tuple(zip(typed, ("no", "yes"), strict=True))
    assert task_of(spec("choice", words=words)).words(cells) == ["no", "yes"]


@pytest.mark.parametrize(("options", "said"), [
    ({"kind": "classification", "prompt": "{text}", "answer": None}, "no meaning with task.kind=classification"),
    ({"kind": "generation", "answer": None}, "needs task.answer"),
    ({"kind": "lm", "answer": None, "prompt": "{text}"}, "needs task.answer"),
    ({"kind": "lm", "pack": True}, "leave it out"),
    ({"kind": "lm", "prompt": "no column"}, "names no column"),
    ({"kind": "lm", "prompt": "{text"}, "can't be read"),
    ({"kind": "lm", "prompt": "{text!r}"}, "nothing more"),
    ({"kind": "lm", "prompt": "{}"}, "nothing more"),
    ({"kind": "lm", "prompt": "{answer}"}, "task.prompt='{answer}' and task.answer=answer must name different"),
    ({"kind": "choice", "prompt": "{a}{label}"}, "{a}{label}' and task.label=label must name different"),
    ({"kind": "lm", "text": ("answer",)}, r"task.text=\['answer'\] and task.answer=answer must name different"),
    ({"kind": "lm", "text": ("a", "a"), "answer": None}, r"task.text=\['a', 'a'\] must name different columns"),
    ({"kind": "generation", "answer": ""}, r"task.text=\['text'\] and task.answer= must name different columns"),
    ({"kind": "lm", "regression": True}, "leave it out with task.kind=lm"),
    ({"kind": "chess"}, "task.kind='chess' is not known"),
])  # fmt: skip
def test_keys_that_do_not_fit_the_kind(options, said):
    with pytest.raises(ConfigError, match=said):
        spec(**{"kind": "lm"} | options)


@pytest.mark.parametrize(("kind", "metric"), [("generation", "f1"), ("lm", "accuracy"), ("choice", "loss")])
def test_metrics_belong_to_their_kind(kind, metric):
    with pytest.raises(ConfigError, match=f"no {kind} metric"):
        task_of(spec(kind, metrics=(metric,)))


@pytest.mark.parametrize("kind", ["lm", "choice", "generation"])
def test_an_encoder_writes_nothing(kind, tmp_path):
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = hf.BertConfig(vocab_size=260, **size)
    hf.BertForMaskedLM(config).save_pretrained(tmp_path)
    pretrained.load(ModelSpec("tiny"), 2).tokenizer.save_pretrained(tmp_path)
    with pytest.raises(
        ModelError, match=f"a bert model reads texts and writes none, as task.kind={kind} needs"
    ):
        pretrained.load(ModelSpec(str(tmp_path)), 0, kind=kind)


def test_a_decoder_without_its_head_is_refused(tmp_path, bases):
    config = hf.GPT2Config(vocab_size=260, n_embd=32, n_layer=1, n_head=2, tie_word_embeddings=False)
    hf.GPT2Model(config).save_pretrained(tmp_path)
    bases["llama"].tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"lack lm_head\.weight, so it has no head to write with"):
        pretrained.load(ModelSpec(str(tmp_path)), 0, kind="lm")


def test_a_seq2seq_reads_no_texts_alone(bases):
    with pytest.raises(ConfigError, match=r"set task\.prompt and task\.answer"):
        task_of(spec("lm", answer=None)).encode(Part(["t"], None, [""]), (), bases["t5"], 20)


def test_a_template_that_asks_for_the_day_is_the_same_every_day(bases, monkeypatch):
    tokenizer = bases["llama"].tokenizer
    said = []
    for day in ("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"):
        template = "\n" + day + " {% for m in messages %}{{ m['content'] }}{% endfor %}"
        monkeypatch.setattr(tokenizer, "chat_template", template)
        said.append(Words(tokenizer, seq2seq=False, chat=True).prompts(["ab"]))
    assert said[0] == said[1]
    assert len(said[0][0]) > 8


def test_chat_needs_a_template_and_uses_it(bases):
    base, task = bases["llama"], task_of(spec("lm", chat=True))
    with pytest.raises(ConfigError, match="no chat template"):
        task.encode(Part(["hi"], None, ["yo"]), (), base, 64)
    base.tokenizer.chat_template = TEMPLATE
    try:
        prompt, answer = tokens_of(task.encode(Part(["hi"], None, ["yo"]), (), base, 64), 0)
    finally:
        base.tokenizer.chat_template = None
    assert base.tokenizer.decode(prompt, skip_special_tokens=True) == "<user>hi<bot>"
    assert base.tokenizer.decode(answer) == "yo[SEP]"


def test_batches_align_labels_with_inputs(bases):
    task, base = task_of(spec("lm")), bases["llama"]
    encoded = task.encode(Part(["ab", "c"], None, ["x", "yz"]), (), base, 64)
    batch = collate_answers(encoded, [0, 1], [0, 1])
    kept = batch["labels"] != -100
    assert torch.equal(batch["labels"][kept], batch["input_ids"][kept])
    assert not batch["attention_mask"][batch["input_ids"] == 0].any()
