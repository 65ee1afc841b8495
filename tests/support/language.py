"""A small encoder-decoder over the bytes of the built-in tiny model."""

from pathlib import Path

import transformers as hf

from intrinsic_cli.models import pretrained
from intrinsic_cli.spec import ModelSpec


def save_t5(folder: Path) -> Path:
    """A random T5 of two layers, the same at each call."""
    tokenizer = pretrained.load(ModelSpec("tiny"), 0, kind="lm").tokenizer
    hf.set_seed(0)
    config = hf.T5Config(
        d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, vocab_size=len(tokenizer), pad_token_id=0,
        eos_token_id=2, decoder_start_token_id=0,
    )  # fmt: skip
    hf.T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
