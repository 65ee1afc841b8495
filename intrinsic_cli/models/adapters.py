"""Adapters: other numbers to train than a model's own weights, by the library PEFT (the extra `[peft]`).

`attach` changes what there is to train and nothing of what the model computes, but for the small start of
Uni-LoRA. The pre-trained tensors stay where they are: no copy is made, and none of their bits changes. A frozen
weight has no gradient, so the backward pass makes none.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from intrinsic_cli.errors import ConfigError, near
from intrinsic_cli.models import quantized
from intrinsic_cli.models.drawn import private_rng
from intrinsic_cli.spec import AdapterSpec, stream_seed

NAME = "default"  # of the one adapter of a model, to PEFT


@dataclass(frozen=True)
class Method:
    """How PEFT makes an adapter: the class of its configuration, and what its keys are called.

    `size` is what `adapter.r` sets and `alpha` what `adapter.alpha` does; None where the method has none. `draw` is
    the seed of what the method draws by itself, and `usual` what is set here unless `adapter.args` says otherwise.
    """

    config: str
    size: str | None = None
    alpha: str | None = None
    draw: str | None = None
    usual: Mapping[str, Any] = field(default_factory=dict)


METHODS = {
    "lora": Method("LoraConfig", "r", "lora_alpha"),
    "vera": Method("VeraConfig", "r", draw="projection_prng_key"),
    "randlora": Method("RandLoraConfig", "r", "randlora_alpha", draw="projection_prng_key"),
    "ia3": Method("IA3Config", usual={"feedforward_modules": []}),
    "unilora": Method("UniLoraConfig", "theta_d_length", draw="proj_seed"),
    "tinylora": Method("TinyLoraConfig", "u", draw="projection_seed"),
    "fourierft": Method(
        "FourierFTConfig", "n_frequency", "scaling", "random_loc_seed", {"init_weights": True}
    ),
    "loha": Method("LoHaConfig", "r", "alpha"),
    "lokr": Method("LoKrConfig", "r", "alpha"),
}
# Keys of PEFT that are decided here: which layers, and which other tensors are trained.
OURS = (
    "target_modules", "target_parameters", "modules_to_save", "layers_to_transform", "layers_pattern",
    "layer_replication", "trainable_token_indices", "task_type", "peft_type", "auto_mapping", "inference_mode",
    "base_model_name_or_path", "revision", "peft_version",
    "megatron_config", "megatron_core",  # the name of a module to import, which a file may not choose
)  # fmt: skip
RANKS = (
    "lora",
    "vera",
    "randlora",
    "loha",
    "lokr",
)  # of which `adapter.r` is one; of others, a count of numbers
# Starts of LoRA that leave the pre-trained model as it is; PEFT's others subtract from its weights, or add noise.
STARTS = (True, "gaussian", "orthogonal")


def attach(
    model: nn.Module, spec: AdapterSpec, head: Sequence[str] = (), seed: int = 0, idle: Sequence[str] = ()
) -> None:
    """Leave the numbers of an adapter, and those of the head, as all of `model` that requires a gradient.

    Args:
        model: on the CPU, so that what is drawn is the same on every device; changed in place. Its class stays,
            and a layer with an adapter holds the old one as its `base_layer`.
        head: names of the parameters that were not pre-trained; they get no adapter.
        seed: of what the adapter draws: its stream is "adapter".
        idle: names of linear layers that the model never calls as ones (`watched`); they get no adapter.

    Raises ConfigError where a pattern matches no layer, and where the adapter does not fit the model.
    """
    if not spec:
        return
    if spec.kind == "bitfit":
        _train_biases(model, spec, head)
    else:
        _adapt(model, configuration(model, spec, head, seed, idle), spec, seed)
    named = dict(model.named_parameters())
    for name in head:
        named[name].requires_grad_(True)


@contextmanager
def watched(model: nn.Module) -> Iterator[set[str]]:
    """The names of the linear layers that the model never calls as ones, known once the block, where it answers, is
    left.

    Where a model's code reads such a layer's weight by itself, as Mamba's does of `dt_proj`, an adapter in its
    place would never act, and would be added to the weight in the end. Where a class of its own takes or gives
    something else than vectors of the weight's sizes, as routers of mixtures do, none can stand in its place. A
    layer counts as called where one of its kind is, by its name but for the numbers: a few rows reach some experts
    of a mixture, and some layers of a model that drops them.
    """
    linear = _linear(model)
    called, idle = set[str](), set[str]()

    def note(name: str, layer: nn.Module, args: Any, kwargs: Any, given: Any) -> None:
        if _is_plain(layer, next(iter((*args, *kwargs.values())), None), given):
            called.add(_kind(name))

    hooks = [
        model.get_submodule(name).register_forward_hook(partial(note, name), with_kwargs=True)
        for name in linear
    ]
    try:
        yield idle
        idle.update(name for name in linear if _kind(name) not in called)
    finally:
        for hook in hooks:
            hook.remove()


def _is_plain(layer: Any, taken: Any, given: Any) -> bool:
    """Whether a linear layer takes (..., in) and gives (..., out) of its weight's sizes."""
    sizes = (layer.in_features, layer.out_features) if isinstance(layer, nn.Linear) else layer.weight.shape
    if not (isinstance(taken, torch.Tensor) and isinstance(given, torch.Tensor)):
        return False
    return (*taken.shape[:-1], *sizes) == (*given.shape[:-1], taken.shape[-1], given.shape[-1])


def _kind(name: str) -> str:
    """A layer's name with no numbers in it."""
    return re.sub(r"\d+", "#", name)


def configuration(
    model: nn.Module, spec: AdapterSpec, head: Sequence[str], seed: int, idle: Sequence[str] = ()
) -> Any:
    """PEFT's configuration of an adapter for the linear layers of `model`, less the `idle`. Raises ConfigError."""
    import peft
    from transformers.pytorch_utils import Conv1D

    method = METHODS[spec.kind]
    config = getattr(peft, method.config)
    known = {f.name for f in fields(config)} - {*OURS, method.size, method.alpha}
    if unknown := sorted(set(spec.args) - known):
        raise ConfigError(
            f"adapter.args has {unknown[0]!r}, which is no key of PEFT's {method.config}{near(unknown[0], known)}"
            " or is set by adapter.r, adapter.alpha or adapter.target"
        )
    if spec.args.get("init_lora_weights", True) not in STARTS:
        raise ConfigError(
            f"adapter.args init_lora_weights={spec.args['init_lora_weights']!r} would change the pre-trained "
            f"weights; use one of {', '.join(map(str, STARTS))}"
        )
    if noise := [key for key in ("init_weights", "init_ia3_weights") if not spec.args.get(key, True)]:
        raise ConfigError(
            f"adapter.args {noise[0]}={spec.args[noise[0]]} would begin at noise, and not at the pre-trained "
            "model; leave it out"
        )
    names = _targets(model, spec, head, idle)
    _check_size(model, spec, names)
    if spec.args.get("lora_bias") and (bare := [n for n in names if model.get_submodule(n).bias is None]):
        raise ConfigError(
            f"adapter.args lora_bias={spec.args['lora_bias']}: {bare[0]} has no bias that it could be merged into; "
            "leave it out"
        )
    values = {"target_modules": names, **method.usual, **spec.args}
    if "feedforward_modules" in spec.args:
        values["feedforward_modules"] = _match(names, spec.args["feedforward_modules"], "adapted layer")
    if method.draw is not None:
        values.setdefault(method.draw, stream_seed(seed, "adapter/draw") % 2**31)
    for key, name, value in (("r", method.size, spec.r), ("alpha", method.alpha, spec.alpha)):
        if value is None:
            continue
        if name is None:
            raise ConfigError(f"adapter.{key}={value:g}: adapter={spec.kind} has none; leave it out")
        values[name] = value
    if "fan_in_fan_out" in known and isinstance(model.get_submodule(names[0]), Conv1D):
        values.setdefault("fan_in_fan_out", True)
    with _fitting(spec, model):
        return config(**values)


def _targets(model: nn.Module, spec: AdapterSpec, head: Sequence[str], idle: Sequence[str]) -> list[str]:
    """The layers that get an adapter. Raises ConfigError where a pattern has none, or none that one acts on."""
    layers = _linear(model, head)
    refused = _refused(model, spec, layers)
    acting = [name for name in layers if name not in refused and name not in idle]
    for pattern in spec.target:
        some = _match(layers, [pattern], "linear layer")
        if not set(some) & set(acting):
            why = (
                f"which PEFT gives no adapter={spec.kind}, as code for GPUs reads their weights alone"
                if some[0] in refused
                else "which it never calls as linear ones where it answers a row, so that no adapter can act there"
            )
            raise ConfigError(
                f"adapter.target={pattern!r} names layers of {type(model).__name__} ({some[0]}), {why}; "
                "leave it out"
            )
    return _match(acting, spec.target, "linear layer")


def _refused(model: Any, spec: AdapterSpec, layers: Sequence[str]) -> set[str]:
    """Those of `layers` that PEFT refuses by their names: in a Mamba, what its kernels for GPUs never call."""
    from peft.tuners import tuners_utils

    check = getattr(tuners_utils, "_check_lora_target_modules_mamba", None)  # not of every PEFT
    found: set[str] = set()
    if check is None:
        return found
    for name in layers:
        try:
            check(SimpleNamespace(peft_type=spec.kind.upper()), model, name.rpartition(".")[2])
        except ValueError:
            found.add(name)
    return found


def _check_size(model: nn.Module, spec: AdapterSpec, names: Sequence[str]) -> None:
    """Refuse an adapter of several times the model's own numbers, before they are made: a file can state any."""
    D = quantized.count(model)
    widest = max(_width(model.get_submodule(name)) for name in names)
    most = 4 * D // widest if spec.kind in RANKS else D
    patterns = (spec.args.get(key) for key in ("rank_pattern", "n_frequency_pattern"))
    asked = [
        spec.r,
        spec.args.get("r"),
        *(v for each in patterns if isinstance(each, dict) for v in each.values()),
    ]
    for value in asked:
        if isinstance(value, int | float) and value > most:
            raise ConfigError(
                f"adapter={spec.kind} of size {value:,} would have more numbers than "
                f"{'four of ' if spec.kind in RANKS else ''}{type(model).__name__}; take at most {most:,}"
            )


def _width(layer: Any) -> int:
    """Numbers that a linear layer takes and gives."""
    return layer.in_features + layer.out_features if isinstance(layer, nn.Linear) else sum(layer.weight.shape)


def _adapt(model: nn.Module, config: Any, spec: AdapterSpec, seed: int) -> None:
    """Put PEFT's layers in the place of the model's own."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    wanted = set(config.target_modules)
    with _fitting(spec, model), private_rng(stream_seed(seed, "adapter")), _layers_as_named():
        # By the tuner itself, as `inject_adapter_in_model` takes no method whose layers share their numbers.
        PEFT_TYPE_TO_TUNER_MAPPING[config.peft_type](model, config, NAME)
    if odd := misplaced(model, wanted, config):
        raise ConfigError(
            f"adapter={spec.kind}: PEFT adapts other layers of {type(model).__name__} than those asked for "
            f"({', '.join(odd[:3])}); leave them out of adapter.target"
        )
    if spec.kind == "lora":
        from intrinsic_cli.models.lora import in_one_product

        in_one_product(model)


def misplaced(model: nn.Module, wanted: set[str], config: Any) -> list[str]:
    """The layers that have an adapter and are not `wanted`, or have none and are; but for those that PEFT's
    `config` excludes."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = {name for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)}
    return sorted(adapted - wanted if getattr(config, "exclude_modules", None) else adapted ^ wanted)


@contextmanager
def _layers_as_named() -> Iterator[None]:
    """Keep PEFT from reading names such as `gate_proj` as parts of a mixture's experts, which they were before
    transformers 5: it means to load LoRA files of that time, and takes the adapters off dense layers so named."""
    from peft.utils import transformers_weight_conversion as conversion

    name = "convert_peft_config_for_transformers"
    if not hasattr(conversion, name):  # of a later PEFT; `misplaced` tells whether it does so otherwise
        yield
        return
    before = getattr(conversion, name)
    setattr(conversion, name, lambda *_, **__: None)
    try:
        yield
    finally:
        setattr(conversion, name, before)


@contextmanager
def _fitting(spec: AdapterSpec, model: nn.Module) -> Iterator[None]:
    """Say PEFT's errors about a model or a value in a line, and nothing of what it warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except ConfigError:
            raise
        except Exception as error:  # whatever a method of the library finds wrong with a model or a value
            reason = " ".join(str(error).split())[:250]
            way = (
                "change adapter.args, or leave such layers out of adapter.target" if spec.kind == "lora" else
                "adapter=lora fits every linear layer"
            )  # fmt: skip
            raise ConfigError(
                f"adapter={spec.kind} (r={spec.r}, alpha={spec.alpha}, args={dict(spec.args)}) does not fit "
                f"{type(model).__name__}: {reason}; {way}"
            ) from error


def _train_biases(model: nn.Module, spec: AdapterSpec, head: Sequence[str]) -> None:
    """BitFit (Ben Zaken et al. 2021, arXiv 2106.10199): the biases of all layers, those of norms included."""
    for key, value in (("r", spec.r), ("alpha", spec.alpha), ("args", spec.args or None)):
        if value is not None:
            raise ConfigError(f"adapter.{key}={value}: adapter=bitfit has none; leave it out")
    biases = {
        name: module.bias
        for name, module in model.named_modules()
        if isinstance(getattr(module, "bias", None), nn.Parameter) and f"{name}.bias" not in head
    }
    if not biases:
        raise ConfigError(
            f"adapter=bitfit does not fit {type(model).__name__}, which has no biases; adapter=ia3 is as small"
        )
    chosen = _match(list(biases), spec.target, "layer with a bias")
    model.requires_grad_(False)
    for name in chosen:
        biases[name].requires_grad_(True)


def _linear(model: nn.Module, head: Sequence[str] = ()) -> list[str]:
    """The names of the linear layers, less the head and the layer that gives a language model's answers."""
    from transformers.pytorch_utils import Conv1D

    answers: Any = getattr(model, "get_output_embeddings", None)
    output = answers() if answers else None
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not output and f"{name}.weight" not in head
    ]


def _match(names: Sequence[str], patterns: Sequence[str], what: str) -> list[str]:
    """Those of `names` that match a pattern, whole or at their end. Raises ConfigError where a pattern has none."""
    found: set[str] = set()
    for pattern in patterns:
        some = {name for name in names if fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")}
        if not some:
            last = sorted({name.rpartition(".")[2] for name in names})
            raise ConfigError(
                f"adapter.target={pattern!r} matches no {what}; there are {', '.join(last[:12]) or 'none'}"
            )
        found |= some
    return [name for name in names if name in found]


def merge(model: nn.Module) -> None:
    """Add the adapters to the weights of their layers, in place, and leave the ordinary model.

    The tensors of the pre-trained weights change: for a model that shares them with no other.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in [*model.named_modules()]:
        if isinstance(module, BaseTunerLayer):
            layer: Any = module
            layer.merge()
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, layer.get_base_layer())
    model.requires_grad_(True)
