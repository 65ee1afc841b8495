"""Base models whose linear layers hold 4 or 8 bits a weight, by bitsandbytes (the extra `[quantize]`).

Such weights can't move, so an adapter is what is trained. They are read onto a CUDA GPU and stay there, as their
scales would be lost on the way. Embeddings, norms, biases and the head stay floats.

Sources: Dettmers et al. 2022 (arXiv 2208.07339) for 8 bits; Dettmers et al. 2023 (arXiv 2305.14314) for 4, as NF4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from intrinsic_cli.errors import ModelError, to_install
from intrinsic_cli.spec import ModelSpec

NEEDED = ("accelerate", "bitsandbytes")  # by transformers


def check(spec: ModelSpec) -> None:
    """Raise ModelError where weights are to be quantized and can't be here; called before any is read."""
    if spec.quantize is None:
        return
    if not torch.cuda.is_available():
        raise ModelError(
            f"model.quantize={spec.quantize} needs a CUDA GPU, and there is none here; leave it out, or give the "
            "command on a machine with one"
        )
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ModelError(
            f"model.quantize={spec.quantize} needs {missing[0]}, which is not installed; {to_install('quantize')}"
        )


def check_config(spec: ModelSpec, settings: Mapping[str, Any]) -> None:
    """Raise ModelError where config.json names a way to quantize that is not bitsandbytes', or one beside ours.

    The others read weights by packages, and by kernels of the hub, that nobody here has asked for.
    """
    given = settings.get("quantization_config")
    if given is None:
        return
    how = given.get("quant_method") if isinstance(given, Mapping) else given
    by_bits = isinstance(given, Mapping) and (given.get("load_in_4bit") or given.get("load_in_8bit"))
    if how != "bitsandbytes" and not (how is None and by_bits):
        raise ModelError(
            f"model {spec.name} is quantized by {how!r:.60}, as the quantization_config of its config.json says; "
            "only bitsandbytes' weights can be read: choose its weights as floats, or model.quantize for fewer bits"
        )
    if spec.quantize is not None:
        raise ModelError(
            f"model.quantize={spec.quantize}: model {spec.name} is quantized already, as its config.json says; "
            "leave model.quantize out, or choose its weights as floats"
        )


def most_numbers(settings: Mapping[str, Any], weights: int) -> int:
    """How many numbers `weights` bytes hold at most, by a config.json: two a byte of 4 bits each, else one."""
    given = settings.get("quantization_config")
    return weights * (2 if isinstance(given, Mapping) and given.get("load_in_4bit") else 1)


def config(bits: str, head: Sequence[str]) -> Any:
    """transformers' BitsAndBytesConfig for `4bit` (NF4, products in bfloat16) or `8bit`, which leaves the modules
    named `head` as they are; for none, a language model's output."""
    from transformers import BitsAndBytesConfig

    kept = {"llm_int8_skip_modules": list(head) or None}  # of 4 bits too, whatever it is called
    if bits == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, **kept)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16, **kept
    )


def options(spec: ModelSpec, head: Sequence[str]) -> dict[str, Any]:
    """What `from_pretrained` has to know beside the model; nothing where it is not quantized."""
    if spec.quantize is None:
        return {}
    return {
        "quantization_config": config(spec.quantize, head),
        "device_map": {"": torch.cuda.current_device()},
    }


def is_quantized(model: nn.Module) -> bool:
    """Whether `options` has read the model's weights."""
    return getattr(model, "quantization_method", None) is not None


def placed(model: Any, device: torch.device) -> Any:
    """`model` on `device`; a quantized one stays where it was read to."""
    return model if is_quantized(model) else model.to(device)


def lent(model: nn.Module) -> dict[int, Any]:
    """What a `copy.deepcopy` of a quantized model shares with it, by id: weights, and the scales of 8 bits."""
    if not is_quantized(model):
        return {}
    shared = [p for p in model.parameters() if not p.is_floating_point()]
    states = [module.state for module in model.modules() if hasattr(module, "state")]
    return {id(each): each for each in (*shared, *states)}


def count(model: nn.Module) -> int:
    """Numbers of a model: two for a byte of 4 bits."""
    return model.num_parameters() if is_quantized(model) else sum(p.numel() for p in model.parameters())  # type: ignore[operator]
