"""Models whose numbers are drawn, not trained: so small that nothing need be fetched to try all of the rest on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from intrinsic_cli.models import checkpoints
from intrinsic_cli.spec import ModelSpec, stream_seed


@contextmanager
def private_rng(seed: int) -> Iterator[None]:
    """Seed the CPU's generator for a while. `torch.manual_seed` would also reseed every GPU for good."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


def tiny(spec: ModelSpec, labels: dict[str, Any]) -> tuple[Any, Any]:
    """A random BERT with 2 layers of width 32 over byte tokens; the same weights in every process."""
    from transformers import BertConfig, BertForSequenceClassification

    checkpoints.no_revision(spec)
    tokenizer = _byte_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=256, pad_token_id=0, **labels,
    )  # fmt: skip
    checkpoints.set_layers(config, spec)
    with private_rng(stream_seed(0, "tiny")):
        model = BertForSequenceClassification(config)
    return model, tokenizer


def tiny_decoder(spec: ModelSpec) -> tuple[Any, Any]:
    """A random Llama with 2 layers of width 32 over byte tokens, that ends texts by [SEP]."""
    from transformers import LlamaConfig, LlamaForCausalLM

    checkpoints.no_revision(spec)
    tokenizer = _byte_tokenizer(bos_token="[CLS]", eos_token="[SEP]")
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=64, max_position_embeddings=256, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, tie_word_embeddings=True,
    )  # fmt: skip
    checkpoints.set_layers(config, spec)
    with private_rng(stream_seed(0, "tiny")):
        model = LlamaForCausalLM(config)
    return model, tokenizer


def _byte_tokenizer(**special_tokens: str) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*special, *letters])}
    bytewise = Tokenizer(models.BPE(vocabulary, merges=[], unk_token="[UNK]"))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    bytewise.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return PreTrainedTokenizerFast(
        tokenizer_object=bytewise, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]",
        model_max_length=256, model_input_names=["input_ids", "token_type_ids", "attention_mask"], **special_tokens,
    )  # fmt: skip
