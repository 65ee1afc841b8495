"""Pre-train small BERTs by masked language modelling on the training sentences of GLUE, pydoc-topic and other text.

A checkpoint is a folder `OUT/bert-WIDTH-step-STEP` that `model.name=` takes: weights, tokenizer, and
`pretraining.json` with the loss on held-out sentences. Every batch and mask is a function of (seed, step), so a
run that goes on where another stopped gives the same weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tokenizers import BertWordPieceTokenizer
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

from intrinsic_cli.hub import quiet
from intrinsic_cli.spec import stream_seed
from intrinsic_cli.tasks.pydoc import corpus as pydoc_corpus

FEWEST_WORDS = 4  # shorter phrases, of which SST-2 has thousands, leave nothing to guess from
HELD_OUT_SHARE = 0.02
MASKED_SHARE = 0.15
STEPS = [0, 500, 1000, 2000, 4000]
# Adam's rate for a matrix should go as 1 / width (Yang et al. 2022, arXiv 2203.03466); up to here one rate does.
WIDEST = 128
KEEP = 500  # steps after which what is needed to go on is kept anew
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@dataclass(frozen=True)
class Recipe:
    """What decides the weights, beside the text and the width."""

    layers: int = 2
    vocabulary: int = 6000
    length: int = 64  # tokens; longer sentences are cut
    batch: int = 64  # sentences
    # Up to width WIDEST. Constant after the warmup, so that a checkpoint doesn't depend on where the run ends.
    lr: float = 1e-3
    warmup: int = 200  # steps
    weight_decay: float = 0.01
    seed: int = 0


def sentences(glue: Path | None, text: Path | None = None) -> list[str]:
    """All sentences to train on, sorted, each once: of GLUE's training splits where `glue` is a folder, of
    pydoc-topic's, and the lines of the files `text`/*.txt (scripts/fetch-text). Those that also occur in a
    validation or test split of any task are left out, as one task's training split repeats another's."""
    rows = [(sentence, held) for sentence, _, held in pydoc_corpus()]
    for file in sorted(text.glob("*.txt")) if text else []:
        rows += [(line, False) for line in file.read_text("utf-8").splitlines()]
    for file in sorted(glue.glob("*/*.parquet")) if glue else []:
        table = pd.read_parquet(file).select_dtypes(["object", "string"])
        rows += [(text, not file.name.startswith("train")) for name in table for text in table[name]]
    forbidden = {_key(text) for text, held in rows if held}
    kept = {_key(text): text.strip() for text, held in rows if not held and len(text.split()) >= FEWEST_WORDS}
    return sorted(text for key, text in kept.items() if key not in forbidden)


def _key(text: str) -> str:
    return " ".join(text.lower().split())


def held_out(text: str) -> bool:
    """Whether a sentence is kept from training to measure the loss, by its hash."""
    digest = hashlib.blake2b(_key(text).encode(), digest_size=8, person=b"pretrain").digest()
    return int.from_bytes(digest, "little") < HELD_OUT_SHARE * 2**64


def tokenizer_of(out: Path, texts: Sequence[str], recipe: Recipe) -> BertTokenizerFast:
    """The lower-casing WordPiece tokenizer of all widths in `out`, of at most `recipe.vocabulary` pieces.

    It is trained once and kept in `out/tokenizer`: the library breaks ties between pieces by chance.
    """
    folder = out / "tokenizer"
    if not folder.is_dir():
        pieces = BertWordPieceTokenizer(lowercase=True)
        pieces.train_from_iterator(
            texts, vocab_size=recipe.vocabulary, special_tokens=SPECIAL, show_progress=False
        )
        tokenizer = BertTokenizerFast(tokenizer_object=pieces._tokenizer, model_max_length=128)
        publish(folder, tokenizer.save_pretrained)
    return BertTokenizerFast.from_pretrained(folder)


def batches(lengths: np.ndarray, recipe: Recipe, start: int) -> Iterator[np.ndarray]:
    """The rows of step `start` + 1 and all later: sentences of like length together, each once an epoch."""
    per_epoch = len(lengths) // recipe.batch
    if not per_epoch:
        raise SystemExit(
            f"pretrain-tiny: {len(lengths)} sentences are fewer than one batch of {recipe.batch}"
        )
    epoch, skip = divmod(start, per_epoch)
    while True:
        rng = np.random.default_rng(stream_seed(recipe.seed, f"pretrain epoch {epoch}"))
        # Stretches of 50 batches are sorted by length: little padding, and still another mix every epoch.
        order = rng.permutation(len(lengths))[: per_epoch * recipe.batch]
        for at in range(0, len(order), 50 * recipe.batch):
            stretch = order[at : at + 50 * recipe.batch]
            order[at : at + 50 * recipe.batch] = stretch[np.argsort(lengths[stretch], kind="stable")]
        yield from order.reshape(per_epoch, recipe.batch)[rng.permutation(per_epoch)][skip:]
        epoch, skip = epoch + 1, 0


def mask(ids: torch.Tensor, tokenizer: Any, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """BERT's corruption of ids (B, L): the corrupted ids, and a mask (B, L) of the positions to guess.

    Of the 15 % chosen, 80 % become [MASK], 10 % a random piece, 10 % stay.
    """
    ordinary = ids >= len(SPECIAL)
    chosen = ordinary & (torch.rand(ids.shape, generator=generator) < MASKED_SHARE)
    fate = torch.rand(ids.shape, generator=generator)
    random = torch.randint(len(SPECIAL), len(tokenizer), ids.shape, generator=generator)
    corrupted = torch.where(chosen & (fate < 0.8), tokenizer.mask_token_id, ids)
    return torch.where(chosen & (fate >= 0.9), random, corrupted), chosen


def loss_of(model: BertForMaskedLM, ids: torch.Tensor, tokenizer: Any, generator: torch.Generator) -> Any:
    """Mean cross-entropy, in nats, of the masked positions of ids (B, L). Only there are logits computed."""
    corrupted, chosen = mask(ids, tokenizer, generator)
    with torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported()):
        hidden = model.bert(corrupted, attention_mask=(ids != tokenizer.pad_token_id).long())[0]
        logits = model.cls(hidden[chosen])
    return cross_entropy(logits.float(), ids[chosen])


class Text:
    """Sentences as ids, padded batch by batch."""

    def __init__(self, texts: Sequence[str], tokenizer: Any, recipe: Recipe) -> None:
        rows = tokenizer(list(texts), truncation=True, max_length=recipe.length)["input_ids"]
        self.rows = [np.array(row) for row in rows]
        self.lengths = np.array([len(row) for row in rows])

    def batch(self, chosen: np.ndarray) -> torch.Tensor:
        ids = np.zeros((len(chosen), self.lengths[chosen].max()), dtype=np.int64)  # [PAD] is 0
        for i, row in enumerate(chosen):
            ids[i, : self.lengths[row]] = self.rows[row]
        return torch.from_numpy(ids)


@torch.no_grad()
def held_out_loss(model: BertForMaskedLM, text: Text, tokenizer: Any, recipe: Recipe) -> float:
    """The loss on held-out sentences; the same masks at every checkpoint of every width."""
    model.eval()
    generator = torch.Generator().manual_seed(stream_seed(recipe.seed, "pretrain held-out"))
    order = np.argsort(text.lengths, kind="stable")
    parts = [order[at : at + 256] for at in range(0, len(order), 256)]
    losses = [loss_of(model, text.batch(part), tokenizer, generator).item() for part in parts]
    model.train()
    return float(np.average(losses, weights=[text.lengths[part].sum() for part in parts]))


def pretrain(
    texts: Sequence[str], width: int, steps: Sequence[int], out: Path, recipe: Recipe = Recipe()
) -> list[Path]:
    """Train one width up to the last of `steps`, a checkpoint at each. Returns their folders.

    Goes on from `out/bert-WIDTH.resume` where that is; finished checkpoints stay as they are. Raises SystemExit
    where they come from other text or another recipe.
    """
    name = f"bert-{width}"
    recipe = replace(recipe, lr=recipe.lr * min(1.0, WIDEST / width))
    training = [text for text in texts if not held_out(text)]
    tokenizer = tokenizer_of(out, training, recipe)
    text = Text(training, tokenizer, recipe)
    rest = Text([text for text in texts if held_out(text)], tokenizer, recipe)
    made_from = {
        **asdict(recipe), "width": width, "sentences": len(training), "tokens_per_epoch": int(text.lengths.sum()),
        "text": _sha256("\n".join(texts)), "tokenizer": _sha256(json.dumps(tokenizer.get_vocab(), sort_keys=True)),
    }  # fmt: skip
    model = _new_model(width, tokenizer, recipe)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True
    )
    resume = out / f"{name}.resume"
    step = _restore(resume, made_from, model, optimizer)
    folders = {at: out / f"{name}-step-{at}" for at in sorted(steps)}
    if past := [folder.name for at, folder in folders.items() if at < step and not folder.is_dir()]:
        raise SystemExit(f"pretrain-tiny: {resume} is already past {past[0]}; remove it to begin again")
    began, ahead = time.perf_counter(), batches(text.lengths, recipe, step)
    model.train()

    def keep() -> None:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        _replace(resume, {"step": step, "made_from": made_from, **state})

    for at, folder in folders.items():
        for _ in tqdm(range(step, at), desc=folder.name, disable=not sys.stderr.isatty()):
            _train_step(step, text.batch(next(ahead)), model, optimizer, tokenizer, recipe)
            step += 1
            if step % KEEP == 0:
                keep()
        if not folder.is_dir():
            loss = held_out_loss(model, rest, tokenizer, recipe)
            size = sum(p.numel() for p in model.bert.parameters())
            told = json.dumps({"step": at, "held_out_loss": loss, "parameters": size, **made_from}, indent=1)
            publish(
                folder,
                model.save_pretrained,
                tokenizer.save_pretrained,
                lambda draft, told=told: (draft / "pretraining.json").write_text(told + "\n", "utf-8"),
            )
            keep()
            print(
                f"{folder.name}  held-out loss {loss:.3f} nats  {time.perf_counter() - began:.0f} s",
                flush=True,
            )
    return list(folders.values())


def _train_step(
    step: int, ids: torch.Tensor, model: Any, optimizer: Any, tokenizer: Any, recipe: Recipe
) -> None:
    generator = torch.Generator().manual_seed(stream_seed(recipe.seed, f"pretrain step {step}"))
    for group in optimizer.param_groups:
        group["lr"] = recipe.lr * min(1, (step + 1) / recipe.warmup)
    optimizer.zero_grad()
    loss_of(model, ids, tokenizer, generator).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def _new_model(width: int, tokenizer: Any, recipe: Recipe) -> BertForMaskedLM:
    # No dropout: models this small underfit.
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=recipe.layers,
        num_attention_heads=max(1, width // 32), intermediate_size=4 * width, max_position_embeddings=128,
        pad_token_id=tokenizer.pad_token_id, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    torch.manual_seed(stream_seed(recipe.seed, "pretrain weights"))
    return BertForMaskedLM(config)


def _restore(path: Path, made_from: dict[str, Any], model: Any, optimizer: Any) -> int:
    """Load what a run left to go on from. Returns its step, 0 where there is none."""
    if not path.is_file():
        return 0
    left = torch.load(path, weights_only=True)
    if left["made_from"] != made_from:
        differ = sorted(key for key in made_from if left["made_from"].get(key) != made_from[key])
        raise SystemExit(
            f"pretrain-tiny: {path} was made with another {', '.join(differ)}; choose another --out"
        )
    model.load_state_dict(left["model"])
    optimizer.load_state_dict(left["optimizer"])
    return left["step"]


def publish(folder: Path, *writers: Callable[[Path], object]) -> None:
    """Have `writers` fill `folder`, which appears when it is whole."""
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for write in writers:
        write(draft)
    draft.rename(folder)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _replace(path: Path, state: dict[str, Any]) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    torch.save(state, draft)
    draft.replace(path)


def _numbers(words: str) -> list[int]:
    return [int(word) for word in words.split(",")]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--glue", type=Path, help="folder of GLUE in the hub's layout; without it, pydoc-topic alone"
    )
    parser.add_argument("--text", type=Path, help="folder of more text, NAME.txt with a sentence a line")
    parser.add_argument("--out", type=Path, default=Path("outputs/pretrain"))
    parser.add_argument("--widths", type=_numbers, default=[32, 64, 128], metavar="W,...")
    parser.add_argument("--steps", type=_numbers, default=STEPS, metavar="N,...",
                        help="a checkpoint after each; more steps later continue")  # fmt: skip
    arguments = parser.parse_args(argv)
    if arguments.glue and not any(arguments.glue.glob("*/train-*.parquet")):
        parser.error(f"--glue {arguments.glue} has no TASK/train-*.parquet")
    if arguments.text and not any(arguments.text.glob("*.txt")):
        parser.error(f"--text {arguments.text} has no *.txt; scripts/fetch-text makes some")
    quiet()
    texts = sentences(arguments.glue, arguments.text)
    print(f"{len(texts)} sentences", flush=True)
    for width in arguments.widths:
        pretrain(texts, width, arguments.steps, arguments.out)


if __name__ == "__main__":
    main()
