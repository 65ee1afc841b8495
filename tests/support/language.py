"""Small models of other kinds over the bytes of the built-in tiny model."""

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


def save_mixture(folder: Path) -> Path:
    """A random DeepSeek-V3: a dense layer, and one of four experts in one tensor with a shared one beside."""
    tokenizer = pretrained.load(ModelSpec("tiny"), 0, kind="lm").tokenizer
    hf.set_seed(0)
    config = hf.DeepseekV3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, moe_intermediate_size=16,
        num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, n_shared_experts=1, n_routed_experts=4,
        num_experts_per_tok=2, n_group=1, topk_group=1, first_k_dense_replace=1, q_lora_rank=8, kv_lora_rank=8,
        qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        max_position_embeddings=128,
    )  # fmt: skip
    hf.DeepseekV3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_state_space(folder: Path, kind: str) -> Path:
    """A random Mamba or Jamba of two layers (Jamba: one of attention, one of four experts), whose code reads the
    weight of `dt_proj` and never calls the layer."""
    tokenizer = pretrained.load(ModelSpec("tiny"), 0, kind="lm").tokenizer
    hf.set_seed(0)
    words = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    size = {"hidden_size": 32, "num_hidden_layers": 2, **words}
    if kind == "mamba":
        model: hf.PreTrainedModel = hf.MambaForCausalLM(hf.MambaConfig(state_size=4, **size))
    else:
        config = hf.JambaConfig(
            intermediate_size=48, num_attention_heads=2, num_key_value_heads=1, num_experts=4,
            num_experts_per_tok=1, expert_layer_period=2, expert_layer_offset=1, attn_layer_period=2,
            attn_layer_offset=1, mamba_d_state=4, use_mamba_kernels=False, **size,
        )  # fmt: skip
        model = hf.JambaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
