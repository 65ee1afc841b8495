"""A pre-trained model, with a fresh head where its task asks for one, its tokenizer, and its weights' hash."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import nn

from intrinsic_cli import hub
from intrinsic_cli.errors import ModelError
from intrinsic_cli.models import adapters, checkpoints, soundness
from intrinsic_cli.models.drawn import private_rng, tiny, tiny_decoder
from intrinsic_cli.spec import ModelSpec, stream_seed
from intrinsic_cli.tasks.language import stop_where_answers_end
from intrinsic_cli.tasks.task import KINDS

SIDES = ("left", "right")
# The ends of the names of their classes.
LANGUAGE_MODELS = ("ForMaskedLM", "ForPreTraining", "ForCausalLM", "LMHeadModel")


@dataclass(frozen=True)
class LoadedModel:
    """`model` is of the class that the kind of task asks for, in float32 on the CPU, in training mode (dropout on),
    so evaluate after `model.eval()`. A quantized one is on a GPU, and stays there (`models.quantized`).

    `head` names the parameters that are not pre-trained: none of a language model; else those outside the
    encoder (the family's `base_model_prefix`) and those its checkpoint lacks. `weights_hash` is SHA-256 (hex)
    over names and bytes of all others, as loaded; `settings_hash` over all else that makes an answer: the config
    (its differences from the family's defaults), the tokenizer, and the buffers. `idle` names the linear layers
    that the model never calls, which get no adapter.
    """

    model: Any
    tokenizer: Any
    head: tuple[str, ...]
    weights_hash: str
    settings_hash: str
    idle: tuple[str, ...] = ()


def load(
    spec: ModelSpec, num_labels: int, label_names: Sequence[str] = (), *, kind: str = "classification"
) -> LoadedModel:
    """The model and tokenizer of `spec` for a kind of task, with `num_labels` outputs where it has classes.

    The global random state is left as it was. The head is that of seed 0; `draw_head` gives another. Weights
    come from safetensors unless `spec.allow_pickle`. Raises ModelError when anything is missing or unfit.
    """
    if sys.flags.optimize > 1:
        raise ModelError(
            "Python runs without docstrings (-OO or PYTHONOPTIMIZE=2), of which transformers makes its classes; "
            "start it without"
        )
    task = KINDS[kind]
    labels = task.settings(num_labels)
    hub.quiet()
    with private_rng(0):
        if spec.name == "tiny":
            model, tokenizer = tiny(spec, labels) if task.fresh_head else tiny_decoder(spec)
            missing = set[str]()
        else:
            model, tokenizer, missing = checkpoints.from_pretrained(spec, task, labels)
    if label_names:
        model.config.id2label = dict(enumerate(label_names))
        model.config.label2id = {name: i for i, name in enumerate(label_names)}
    _fit_tokenizer(spec.name, tokenizer, model)
    for module in model.modules():
        if isinstance(module, nn.Embedding) and "SinusoidalPositional" in type(module).__name__:
            module.requires_grad_(False)  # a table that no gradient reaches
    head = _head(model, missing) if task.fresh_head else ()
    model.train()
    draw_head(model, head, seed=0)
    soundness.check_weights(spec.name, model)
    weights_hash = _hash(model, head)  # a quantized layer casts its bias when it runs
    with private_rng(0), adapters.watched(model) as idle:
        soundness.check_answer(spec.name, model, tokenizer, writes=not task.fresh_head)
        if task.fresh_head:
            _fit_padding(spec.name, tokenizer, model)
        else:
            soundness.check_order(spec.name, model, tokenizer)
            # Behind a decoder's rows, where all else is padded, no token is seen.
            if task.writes or model.config.is_encoder_decoder:
                _check_padding(spec.name, tokenizer, model)
            if task.writes:
                stop_where_answers_end(model, tokenizer)
    return LoadedModel(
        model, tokenizer, head, weights_hash, _settings_hash(model, tokenizer), tuple(sorted(idle))
    )


def _head(model: Any, missing: Collection[str]) -> tuple[str, ...]:
    """The parameters to draw anew for a task: those that the checkpoint lacks, and all others outside the encoder,
    but for what a language model has there (ModernBERT's `head`, which classifiers go on from)."""
    prefix = model.base_model_prefix + "."
    classes = model.config.architectures
    kept = isinstance(classes, list) and any(str(name).endswith(LANGUAGE_MODELS) for name in classes)
    return tuple(
        name
        for name, _ in model.named_parameters()
        if name in missing or not (kept or name.startswith(prefix))
    )


def draw_head(model: Any, head: Sequence[str], seed: int) -> None:
    """Draw the parameters named `head` anew, in place, from the stream "head" of `seed`.

    The numbers have the distribution that the model family's own `_init_weights` gives; they are drawn on
    the CPU, so they are the same on every device. No other parameter and no global random state changes.
    """
    parameters = dict(model.named_parameters())
    drawn = {name: parameters[name] for name in head}
    homes = {name: parameter.data for name, parameter in drawn.items()}
    # transformers skips what is flagged as initialized: every other parameter, and modules without a head.
    fixed = [p for p in [*parameters.values(), *model.buffers()] if all(p is not q for q in drawn.values())]
    modules = [m for name, m in model.named_modules() if not any(_inside(key, name) for key in head)]
    for thing in (*fixed, *modules):
        thing._is_hf_initialized = True
    for thing in (*drawn.values(), *(m for m in model.modules() if all(m is not f for f in modules))):
        thing._is_hf_initialized = False
    try:
        for name, parameter in drawn.items():
            parameter.data = torch.full(homes[name].shape, float("nan"))
        with private_rng(stream_seed(seed, "head")):
            model.initialize_weights()
        for name, parameter in drawn.items():
            if not torch.isfinite(parameter.data).all():
                raise ModelError(f"{type(model).__name__} gives no initial distribution for its head {name}")
            homes[name].copy_(parameter.data)
    finally:
        for name, parameter in drawn.items():
            parameter.data = homes[name]


def _inside(parameter: str, module: str) -> bool:
    return not module or parameter.startswith(module + ".")


def _hash(model: nn.Module, head: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if name not in head:
            digest.update(f"{name}\0{tuple(parameter.shape)}\0".encode())
            digest.update(parameter.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


# Keys of a config that change no answer of the encoder: names, versions, and the head of the task.
NO_SETTINGS = frozenset((
    "_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "use_cache", "return_dict",
    "num_labels", "id2label", "label2id", "problem_type",
))  # fmt: skip


def _settings_hash(model: Any, tokenizer: Any) -> str:
    config = {key: value for key, value in model.config.to_diff_dict().items() if key not in NO_SETTINGS}
    frame = [tokenizer.padding_side, tokenizer.pad_token_id, tokenizer.pad_token_type_id]
    words: Any = sorted(tokenizer.get_vocab().items())
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        words = {k: v for k, v in json.loads(backend.to_str()).items() if k not in ("truncation", "padding")}
    digest = hashlib.sha256(json.dumps([config, frame, words], sort_keys=True, default=str).encode())
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, buffer in sorted(model.state_dict().items()):
        if name not in parameters:
            digest.update(f"{name}\0{buffer.dtype}{tuple(buffer.shape)}\0".encode())
            digest.update(buffer.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _fit_tokenizer(name: str, tokenizer: Any, model: Any) -> None:
    """Make tokenizer and model agree on padding and on the inputs that the model takes."""
    if not tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens):
        # transformers builds an empty tokenizer where the files are missing.
        raise ModelError(f"model {name} has no tokenizer files; save its tokenizer into the same folder")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise ModelError(
            f"the tokenizer of model {name} has neither a padding nor an end token; name one of its tokens as "
            "pad_token in its tokenizer_config.json"
        )
    model.config.pad_token_id = tokenizer.pad_token_id
    _check_vocabulary(name, tokenizer, _vectors(name, model))
    if not isinstance(tokenizer.model_max_length, int | float) or tokenizer.padding_side not in SIDES:
        raise ModelError(
            f"the tokenizer of model {name} has model_max_length={tokenizer.model_max_length!r:.40} and "
            f"padding_side={tokenizer.padding_side!r:.40}; mend its tokenizer_config.json"
        )
    if model.config.model_type == "xlnet":
        tokenizer.padding_side = "left"  # it answers from its last token
    # GPT-2 takes type ids too, but as words; XLNet reads them and states no count.
    types = 2 if model.config.model_type == "xlnet" else getattr(model.config, "type_vocab_size", 0)
    if types < 2 or "token_type_ids" not in signature(model.forward).parameters:
        tokenizer.model_input_names = [n for n in tokenizer.model_input_names if n != "token_type_ids"]
    if (positions := _positions(model)) is not None:
        tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
    if model.config.is_encoder_decoder:
        _end_rows(name, tokenizer, model.config.eos_token_id)


def _vectors(name: str, model: Any) -> int:
    """How many tokens the model has a vector for, in the table that transformers finds by its usual names."""
    try:
        return model.get_input_embeddings().num_embeddings
    except (AttributeError, NotImplementedError) as error:
        raise ModelError(
            f"model {name} ({model.config.model_type}) has no table with a vector for each token, which its rows "
            "are checked by; choose another model"
        ) from error


def _check_vocabulary(name: str, tokenizer: Any, known: int) -> None:
    """Raise ModelError where the tokenizer makes ids that the model, with `known` vectors, can't read."""
    words = {i: word for word, i in tokenizer.get_vocab().items()}
    made = max(len(tokenizer), 1 + max(words))
    if made <= known:
        return
    beyond = [words[i] for i in sorted(words) if i >= known]
    if beyond and set(beyond) <= {str(token) for token in tokenizer.added_tokens_decoder.values()}:
        raise ModelError(
            f"the tokenizer of model {name} adds {beyond[0]!r:.40} behind the {known} token ids that the model has "
            "vectors for; call resize_token_embeddings(len(tokenizer)) on the model and save both, or take it out"
        )
    raise ModelError(
        f"model {name} knows {known} token ids and its tokenizer makes {made}; they belong to different models"
    )


def _positions(model: Any) -> int | None:
    """How many tokens the model has positions for; None where any number will do.

    Families that count from behind the padding index (RoBERTa, CamemBERT, MPNet) say so in their table.
    """
    stated = getattr(model.config, "max_position_embeddings", None)
    limits = [stated] if isinstance(stated, int) and stated > 0 else []  # XLNet says -1: any length
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and "position" in name.rpartition(".")[2]:
            limits.append(
                module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
            )
    return min(limits, default=None)


def _end_rows(name: str, tokenizer: Any, end: int | None) -> None:
    """Have the tokenizer end each text with the token that a decoder answers from, where it does not."""
    if end is None or end in tokenizer("a")["input_ids"]:
        return
    from tokenizers import processors

    word = tokenizer.convert_ids_to_tokens(end)
    if not getattr(tokenizer, "is_fast", False) or not isinstance(word, str):
        raise ModelError(
            f"the tokenizer of model {name} does not end a text with token {end}, from which the model answers; "
            "save a tokenizer that does"
        )
    ends = processors.TemplateProcessing(
        single=f"$A {word}", pair=f"$A {word} $B {word}", special_tokens=[(word, end)]
    )
    own = tokenizer.backend_tokenizer.post_processor
    tokenizer.backend_tokenizer.post_processor = ends if own is None else processors.Sequence([own, ends])


def _fit_padding(name: str, tokenizer: Any, model: Any) -> None:
    """See that padding changes no answer, on the tokenizer's side or on the other one. Raises ModelError."""
    side = tokenizer.padding_side
    for tokenizer.padding_side in (side, *(other for other in SIDES if other != side)):
        if soundness.reads_masks(name, model, tokenizer):
            return
    raise _heedless(name, model)


def _check_padding(name: str, tokenizer: Any, model: Any) -> None:
    """Raise ModelError where the padding of prompts changes what a language model writes."""
    if not soundness.reads_masks(name, model, tokenizer, writes=True):
        raise _heedless(name, model)


def _heedless(name: str, model: Any) -> ModelError:
    return ModelError(
        f"model {name} ({model.config.model_type}) takes no heed of the attention mask: its answer to a row would "
        "depend on the rows beside it; choose another model"
    )
