"""How many parameters a model has, as far as a plan can tell without a network, torch, or reading the weights."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

from intrinsic_cli.errors import ModelError
from intrinsic_cli.paths import local_path
from intrinsic_cli.spec import ModelSpec

UNKNOWN = 110.0  # millions, of a hub model that is not below: that of BERT base
MILLIONS = {
    "minilm": 22.7, "tiny": 0.035,
    "albert/albert-base-v2": 11.7, "albert/albert-large-v2": 17.7, "albert/albert-xlarge-v2": 58.7,
    "albert/albert-xxlarge-v2": 223, "facebook/bart-base": 139, "facebook/bart-large": 406,
    "google-bert/bert-base-cased": 108, "google-bert/bert-base-uncased": 109,
    "google-bert/bert-large-cased": 334, "google-bert/bert-large-uncased": 335,
    "microsoft/deberta-v3-small": 141, "microsoft/deberta-v3-base": 184, "microsoft/deberta-v3-large": 434,
    "distilbert/distilbert-base-uncased": 66.4, "distilbert/distilroberta-base": 82.1,
    "google/electra-small-discriminator": 13.5, "google/electra-base-discriminator": 109,
    "google/electra-large-discriminator": 334,
    "openai-community/gpt2": 124, "openai-community/gpt2-medium": 355, "openai-community/gpt2-large": 774,
    "openai-community/gpt2-xl": 1558,
    "meta-llama/Llama-3.2-1B": 1236, "meta-llama/Llama-3.2-3B": 3213, "meta-llama/Llama-3.1-8B": 8030,
    "EleutherAI/pythia-70m": 70.4, "EleutherAI/pythia-160m": 162, "EleutherAI/pythia-410m": 405,
    "EleutherAI/pythia-1b": 1012, "EleutherAI/pythia-1.4b": 1415, "EleutherAI/pythia-2.8b": 2775,
    "Qwen/Qwen2.5-0.5B": 494, "Qwen/Qwen2.5-1.5B": 1544, "Qwen/Qwen2.5-3B": 3086, "Qwen/Qwen2.5-7B": 7616,
    "Qwen/Qwen3-0.6B-Base": 596, "Qwen/Qwen3-1.7B-Base": 1721,
    "FacebookAI/roberta-base": 125, "FacebookAI/roberta-large": 355,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 135, "HuggingFaceTB/SmolLM2-360M": 362,
    "HuggingFaceTB/SmolLM2-1.7B": 1711,
    "google-t5/t5-small": 60.5, "google-t5/t5-base": 223, "google-t5/t5-large": 738,
    "FacebookAI/xlm-roberta-base": 278, "FacebookAI/xlm-roberta-large": 560,
    "xlnet/xlnet-base-cased": 117, "xlnet/xlnet-large-cased": 360,
}  # fmt: skip


def parameters(model: ModelSpec) -> float:
    """Of a local folder what its safetensors files hold, of a known model its size to three digits, else that of
    a usual one: the same wherever and whenever a study is planned."""
    folder = None if model.name in MILLIONS else local_path(model.name, "model.name", ModelError)
    counted = _counted(folder, model.fingerprint) if folder is not None else 0
    return counted or 1e6 * MILLIONS.get(model.name, UNKNOWN)


@cache
def _counted(folder: Path, fingerprint: str | None) -> int:
    """The numbers in the safetensors files of a folder as it is under `fingerprint`; 0 where there are none to be
    read, which is an error of the run and not of its learning rate."""
    from safetensors import SafetensorError, safe_open

    total = 0
    for file in sorted(folder.glob("model*.safetensors")):
        try:
            with safe_open(file, "np") as weights:
                total += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
        except (SafetensorError, OSError):
            return 0
    return total
