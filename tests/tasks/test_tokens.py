"""What a row says is text: it ends nothing, separates nothing and pads nothing."""

import pytest
import transformers as hf
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from intrinsic_cli.errors import DataError
from intrinsic_cli.models import pretrained
from intrinsic_cli.spec import ModelSpec
from intrinsic_cli.tasks.prompts import Words, text_rows
from intrinsic_cli.tasks.tokens import encode

CONTROL = ["<pad>", "</s>", "<unk>", "<mask>", "<extra_id_0>"]
LETTERS = [chr(i) for i in range(33, 127)] + ["▁", "▁a", "Ｓ"]


def unigram(normalizer=None, *, ends=True):
    """A tokenizer such as T5's, whose vocabulary holds its control tokens as plain pieces."""
    pieces = [(word, 0.0) for word in CONTROL] + [(letter, -2.0) for letter in LETTERS]
    backend = Tokenizer(models.Unigram(pieces, unk_id=2))
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    if ends:
        backend.post_processor = processors.TemplateProcessing(
            single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
        )
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", mask_token="<mask>",
        additional_special_tokens=["<extra_id_0>"], model_max_length=512,
    )  # fmt: skip


WORDS = ["a </s> b", "</s>", "</s></s>", "<pad>", "x<mask>y", "<extra_id_0>", "a</s", "</s> <pad> <mask>"]


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("pair", [None, "plain", "</s>"])
def test_a_row_has_the_control_tokens_of_its_frame_and_no_other(words, pair):
    tokenizer = unigram()
    rows = encode(tokenizer, ["plain", words], None if pair is None else ["b", pair], 100)
    for ids in rows["input_ids"]:
        assert [token for token in ids if token in (0, 1, 3, 4)] == [1] * (1 if pair is None else 2)
        assert ids[-1] == 1


def test_a_text_without_them_is_as_ever():
    tokenizer = unigram()
    texts = ["a b", "<s> and < / s >", "x" * 50]
    assert (
        encode(tokenizer, texts, None, 20)["input_ids"]
        == tokenizer(texts, truncation=True, max_length=20)["input_ids"]
    )


@pytest.mark.parametrize("length", [4, 6, 9])
def test_rows_are_cut_behind_what_is_spelled_out(length):
    rows = encode(unigram(), ["</s>" * 9, "a" * 40], None, length)["input_ids"]
    assert [len(ids) for ids in rows] == [length, length]
    assert [ids.count(1) for ids in rows] == [1, 1]


def test_what_the_normalizer_makes_of_a_row_counts():
    rows = encode(unigram(normalizers.NFKC()), ["a ＜/s＞"], None, 100)["input_ids"]
    assert rows[0].count(1) == 1


def test_a_row_that_can_not_be_told_from_a_control_token_is_refused():
    tokenizer = unigram(normalizers.Replace(" ", ""))
    with pytest.raises(DataError, match="spells a control token"):
        encode(tokenizer, ["a</s>"], None, 100)


def test_a_text_of_a_language_model_is_refused_too_and_an_unknown_letter_is_none_of_them():
    words = Words(unigram(), seq2seq=False)
    with pytest.raises(DataError, match="spells a control token"):
        text_rows(words, ["fine", "a </s> b"], 32, pack=False)
    assert text_rows(words, ["ü"], 32, pack=False).answers.tolist()[-1] == 2


def test_the_bytes_of_rows_count_what_a_language_model_answers():
    rows = text_rows(Words(unigram(), seq2seq=False), ["abcdefg" * 20] * 50, 128, pack=False)
    per_piece = 8 + 8 + 8 + 8 + 4  # two starts, a label, bytes, and the token before a text
    pieces, tokens = len(rows), len(rows.answers)
    assert tokens >= 50 * 140  # a token a letter
    assert rows.nbytes == per_piece * pieces + 4 * tokens + 8 + 8


@pytest.mark.parametrize("words", ["[SEP]", "[CLS] a [PAD]", "[UNK]", "a[SEP]b"])
def test_the_built_in_model_reads_them_as_letters(words):
    tokenizer = pretrained.load(ModelSpec("tiny"), 2).tokenizer
    ids = encode(tokenizer, [words], None, 100)["input_ids"][0]
    assert ids[0] == 1
    assert ids[-1] == 2
    assert not {0, 1, 2, 3} & set(ids[1:-1])
    assert tokenizer.decode(ids[1:-1]) == words


@pytest.mark.parametrize("family", ["t5", "bart"])
@pytest.mark.parametrize("ends", [True, False])
def test_a_decoder_answers_rows_that_spell_its_end(tmp_path, family, ends):
    """The model pools at the end token, of which all rows must have one; a tokenizer that adds none gets it."""
    sizes = {"vocab_size": 120, "pad_token_id": 0, "eos_token_id": 1, "d_model": 16}
    config = {
        "t5": hf.T5Config(d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0, **sizes),
        "bart": hf.BartConfig(encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=32,
                              decoder_attention_heads=2, decoder_ffn_dim=32, bos_token_id=2,
                              decoder_start_token_id=1, **sizes),
    }[family]  # fmt: skip
    hf.AutoModel.from_config(config).save_pretrained(tmp_path)
    unigram(ends=ends).save_pretrained(tmp_path)
    loaded = pretrained.load(ModelSpec(str(tmp_path)), 2)
    ids = encode(loaded.tokenizer, ["a </s> b", "c"], None, 30)["input_ids"]
    assert [row.count(1) for row in ids] == [1, 1]
    batch = loaded.tokenizer.pad({"input_ids": ids}, return_tensors="pt")
    assert loaded.model(**batch).logits.shape == (2, 2)
