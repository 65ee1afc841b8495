from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.models import pretrained
from intrinsic_cli.spec import ModelSpec
from intrinsic_cli.tasks.batches import CHUNK, batches, collate, tokenize
from intrinsic_cli.tasks.rows import Encoded, Part


@pytest.fixture(scope="module")
def tokenizer():
    return pretrained.load(ModelSpec("tiny"), 2).tokenizer


def rows_of(lengths, *, side="right", types=False, pad_id=9, pad_type=3):
    """Row i holds the ids i*100, i*100 + 1, …, so every token says where it belongs."""
    ids = [np.arange(length) + 100 * i for i, length in enumerate(lengths)]
    flat = np.concatenate(ids) if ids else np.zeros(0)
    return Encoded(
        ids=flat.astype(np.int32),
        types=(flat % 2).astype(np.int8) if types else None,
        starts=np.cumsum([0, *lengths]),
        labels=np.arange(len(lengths)),
        pad_id=pad_id,
        pad_type=pad_type,
        padding_side=side,
    )


LENGTHS = st.lists(st.integers(1, 30), max_size=300)


@given(LENGTHS, st.integers(1, 9), st.integers(0, 2**31))
@settings(deadline=None, max_examples=60)
def test_every_row_occurs_exactly_once_per_epoch(lengths, batch_size, seed):
    encoded = rows_of(lengths)
    for generator in (None, torch.Generator().manual_seed(seed)):
        made = batches(encoded, batch_size, generator)
        assert Counter(i for batch in made for i in batch) == Counter(range(len(lengths)))
        sizes = Counter(map(len, made))
        assert sum(count for size, count in sizes.items() if size != batch_size) <= 1


def test_training_batches_hold_rows_of_similar_length_in_random_order():
    lengths = np.random.default_rng(0).integers(5, 100, 4000).tolist()
    encoded = rows_of(lengths)
    made = batches(encoded, 16, torch.Generator().manual_seed(0))
    assert sorted(i for batch in made for i in batch) == list(range(4000))  # over several windows

    def padding(groups):
        return sum(max(lengths[i] for i in g) * len(g) - sum(lengths[i] for i in g) for g in groups) / sum(
            lengths
        )

    shuffled = torch.randperm(4000, generator=torch.Generator().manual_seed(0)).tolist()
    assert padding(made) < padding([shuffled[i : i + 16] for i in range(0, 4000, 16)]) / 10
    widths = [max(lengths[i] for i in batch) for batch in made]
    assert abs(np.corrcoef(np.arange(len(widths)), widths)[0, 1]) < 0.2


def test_a_generator_fixes_the_batches_and_moves_on():
    encoded = rows_of(list(range(1, 200)))
    one, two = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    first = batches(encoded, 8, one)
    assert first == batches(encoded, 8, two)
    assert first != batches(encoded, 8, one)  # the next epoch


def test_evaluation_batches_come_longest_first():
    assert batches(rows_of([3, 9, 1, 7, 5]), 2) == [[1, 3], [4, 0], [2]]


def test_collate_pads_on_the_right_to_the_longest_row():
    batch = collate(rows_of([2, 1, 3], types=True), [2, 1])
    assert batch["input_ids"].tolist() == [[200, 201, 202], [100, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 1, 0], [0, 3, 3]]
    assert batch["labels"].tolist() == [2, 1]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_collate_pads_on_the_left_where_the_tokenizer_does():
    batch = collate(rows_of([2, 4], side="left"), [0, 1])
    assert batch["input_ids"].tolist() == [[9, 9, 0, 1], [100, 101, 102, 103]]
    assert batch["attention_mask"].tolist() == [[0, 0, 1, 1], [1, 1, 1, 1]]
    assert "token_type_ids" not in batch


def test_tokens_and_padding_are_the_tokenizers_own(tokenizer):
    part = Part(["short", "a longer text, é", "x" * 90], ["second", "b", "y"], [0, 1, 0])
    ours = collate(tokenize(part, tokenizer, 40), [0, 1, 2])
    theirs = tokenizer(
        part.texts, part.pairs, truncation=True, max_length=40, padding=True, return_tensors="pt"
    )
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert torch.equal(ours[name], theirs[name]), name


def test_labels_keep_their_kind(tokenizer):
    assert (
        collate(tokenize(Part(["a"], None, [2.5]), tokenizer, 8, np.float32), [0])["labels"].dtype
        == torch.float32
    )
    assert collate(tokenize(Part(["a"], None, [2]), tokenizer, 8), [0])["labels"].dtype == torch.int64
    assert len(tokenize(Part([], None, []), tokenizer, 8)) == 0


def test_rows_beyond_one_chunk_keep_their_order(tokenizer):
    texts = [str(i) for i in range(CHUNK + 2)]
    encoded = tokenize(Part(texts, None, [0] * len(texts)), tokenizer, 16)
    last = collate(encoded, [CHUNK + 1])["input_ids"][0]
    assert tokenizer.decode(last, skip_special_tokens=True) == str(CHUNK + 1)


def test_a_length_that_the_model_cannot_read_is_refused(tokenizer):
    with pytest.raises(ConfigError, match=r"data\.max_length=257 is above the 256 tokens"):
        tokenize(Part(["a"], None, [0]), tokenizer, 257)
