"""A fine-tune as one small file: θ, λ, a trained head, and what P, θ_0 and the head are to be rebuilt from.

The file is a safetensors file with the tensors `theta`, `lam` (SAID) and `head.0`, `head.1`, ... (a head
trained directly), or those of an adapter that was trained itself and of the head, by name; all float32, and one
metadata entry, `idim`, that holds the rest as JSON. What is read is checked against the file's own size before
anything is built, so a hostile file costs no memory.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from intrinsic_cli.errors import IdimError, StoreError
from intrinsic_cli.files import opened, parse_json
from intrinsic_cli.projections import KINDS
from intrinsic_cli.record import record
from intrinsic_cli.rundir import THETA, RunDir, missing_run
from intrinsic_cli.spec import PRECISIONS, AdapterSpec, ModelSpec, ProjectionSpec, SubspaceSpec, TaskSpec
from intrinsic_cli.tasks.task import KINDS as TASKS
from intrinsic_cli.training.theta import fingerprint

FORMAT = 1
SUFFIX = ".safetensors"
MAX_HEADER = 1 << 20  # bytes; that of two labels is about a thousand
MAX_LABELS = 1000
MAX_ASKS = 100_000  # characters
MAX_SIZE = 1 << 30  # bytes: 268 million trained numbers
HEADS = {False: "classification", True: "regression"}  # `regression` of a file
NO_VERSION = 1  # of the draw of P, where there is no P
AGAIN = "copy the run again, or delete its folder and run its sweep again"  # the way out of damage to a run
# What a TaskSpec says of how a language model is asked, and of what counts as right.
ASKS = ("text", "metrics", "prompt", "answer", "words", "per_token", "chat", "pack", "max_new_tokens")
JOINERS = "\u200c\u200d"  # of Persian and Indic letters, and of emoji
COLUMNS = ("text",)  # `task.text` of data of one's own, where nothing is said
SPACE = ("kind", "normalize", "groups", "include", "exclude", "head")  # of a SubspaceSpec; the rest trains


@dataclass(frozen=True)
class FineTune:
    """A fine-tuned model without its base model.

    model, weights_hash     the base model, and SHA-256 of its pre-trained weights (`LoadedModel`).
    settings_hash           of its config, tokenizer and buffers; None in files of earlier versions.
    head_hash               of the freshly drawn head; None until a base model was at hand.
    projection, version     of P; `projection.seed`, of P and the drawn head, is never None here.
    precision               that training computed in: `fp32`, `bf16` or `pure_bf16`.
    labels                  class names in the order of their ids; () where the answers are no classes.
    kind                    of task (`tasks.task.KINDS`).
    asks                    of language models: the keys of ASKS that are not as by default; of others the columns
                            `text`, where they are not COLUMNS, and in files of earlier versions nothing.
    task, metric, score, n_eval     what it was trained on, and how well it does; the last two may be None.
    tensors                 `theta` (d − m − head,), `lam` (m,), `head.i`: float32, finite, on the CPU; those of the
                            adapter and the head, by their names in the model, where `subspace` is `full`.
    adapter                 whose numbers θ moves, or that was trained itself.
    spared                  whether it is on no layer that the model never calls, of those that have such layers: in
                            files of earlier versions it is on all.
    """

    model: ModelSpec
    weights_hash: str
    head_hash: str | None
    subspace: SubspaceSpec
    projection: ProjectionSpec
    version: int
    precision: str
    max_length: int
    labels: tuple[str, ...]
    kind: str
    task: str
    metric: str
    score: float | None
    n_eval: int | None
    tensors: Mapping[str, Tensor] = field(repr=False, compare=False)
    settings_hash: str | None = None
    adapter: AdapterSpec = field(default_factory=AdapterSpec)
    asks: Mapping[str, Any] = field(default_factory=dict)
    spared: bool = False

    def __post_init__(self) -> None:
        _check(self)

    @property
    def seed(self) -> int:
        """Of P and of the drawn head."""
        assert self.projection.seed is not None
        return self.projection.seed

    @property
    def d(self) -> int:
        """How many numbers were trained in all."""
        return sum(t.numel() for t in self.tensors.values())

    @classmethod
    def of_run(cls, run: RunDir) -> FineTune:
        """What a finished run trained. Raises StoreError where it has not finished or is full fine-tuning."""
        result = run.result()
        if result is None:
            hint = missing_run(run.path) or "; `idim status DIR` lists those that are"
            raise StoreError(f"{run.path} is no finished run{hint}")
        spec = result.spec
        if spec.subspace.kind == "none":
            raise StoreError(
                f"{run.path} trained nothing (d=0): its model is {spec.model.name} as it came; "
                "subspace=did d=1000 makes a run that can be exported"
            )
        if spec.is_full:
            kept = (
                f"they lie in {run.path / THETA}" if spec.train.keep_weights else
                "train.keep_weights=true keeps those"
            )  # fmt: skip
            raise StoreError(
                f"{run.path} is full fine-tuning, which is no θ and a seed but all {result.D:,} weights; "
                f"{kept}, and subspace=did d=1000 makes a run that can be exported"
            )
        tensors, metadata = _open(run.path / THETA, AGAIN)
        if result.theta_hash not in (None, fingerprint(tensors)):
            raise StoreError(
                f"{run.path / THETA} is not what the run learned, by the hash in its result; {AGAIN}"
            )
        version = result.projection_version if spec.subspace.kind != "full" else NO_VERSION
        if result.model_hash is None or version is None:
            raise StoreError(f"{run.path} does not say which weights and which P it was trained with")
        return cls(
            model=spec.model, weights_hash=result.model_hash, head_hash=None,
            subspace=spec.subspace,
            projection=replace(spec.projection, seed=spec.space_seed),
            version=version, precision=result.precision,
            max_length=spec.data.max_length, labels=result.label_names,
            kind=spec.task.kind, task=spec.task.name, metric=result.metric,
            score=result.score, n_eval=result.n_eval, tensors=tensors, settings_hash=result.settings_hash,
            adapter=spec.adapter, asks=asks_of(spec.task), spared=metadata.get("spared") == "true",
        )  # fmt: skip

    @classmethod
    def read(cls, path: str | Path) -> FineTune:
        """The file at `path`. Raises StoreError where it is missing, cut short, or not such a file."""
        tensors, metadata = _open(Path(path), "export or copy it again")
        if "idim" not in metadata:
            raise StoreError(f"{path} is not a portable fine-tune; `idim export RUN --out FILE` writes one")
        try:
            tree = parse_json(metadata["idim"].encode())
            if tree.pop("check") != checksum(tree, tensors):
                raise StoreError(f"{path} is damaged: its content does not fit its checksum; copy it again")
            found = tree.pop("format")
            if found != FORMAT:
                raise StoreError(f"{path} is of format {found!r}; this idim reads format {FORMAT}")
            if "regression" in tree:
                tree["kind"] = HEADS[tree.pop("regression")]
            return record(cls, {**tree, "tensors": tensors}, "fine-tune", StoreError)
        except StoreError:
            raise
        except (IdimError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            reason = " ".join(str(error).split())[:200]
            raise StoreError(f"{path} is damaged or not a portable fine-tune ({reason})") from error

    def to_bytes(self) -> bytes:
        """The content of the file."""
        tree = {
            "format": FORMAT,
            **{k: v for k, v in asdict(replace(self, tensors={})).items() if k != "tensors"},
        }
        if self.kind in HEADS.values():  # where format 1 began
            tree["regression"] = tree.pop("kind") == HEADS[True]
        if self.settings_hash is None:
            del tree["settings_hash"]
        if not self.asks:
            del tree["asks"]
        for key in ("adapter", "spared"):  # without, files are as in earlier versions
            if not getattr(self, key):
                del tree[key]
        base, space = tree["model"], tree["subspace"]
        kept = ("name", "revision", "num_hidden_layers", "quantize")
        tree["model"] = {k: base[k] for k in kept if base[k] is not None}
        tree["subspace"] = {k: space[k] for k in SPACE}
        tree["projection"] = {k: tree["projection"][k] for k in ("kind", "seed")}
        tree["check"] = checksum(tree, self.tensors)
        return save({k: t.contiguous() for k, t in self.tensors.items()}, metadata={"idim": _json(tree)})


def asks_of(task: TaskSpec) -> dict[str, Any]:
    """`FineTune.asks` of a task, as JSON holds it."""
    if task.kind in HEADS.values():
        return {} if task.text == COLUMNS else {"text": list(task.text)}
    usual = {f.name: f.default for f in fields(TaskSpec)}
    own = {name: getattr(task, name) for name in ASKS if getattr(task, name) != usual[name]}
    return {
        key: dict(v) if key == "words" else list(v) if isinstance(v, tuple) else v for key, v in own.items()
    }


def checksum(tree: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """64 bits (hex) over the metadata and the tensors: finds damage, and is no seal against malice."""
    digest = hashlib.blake2b(_json(tree).encode("utf-8", "surrogatepass"), digest_size=8)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _json(tree: Mapping[str, Any]) -> str:
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":"))


def _open(path: Path, again: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file, once its header is known to be small and its own; `again` is the
    way out of damage."""
    try:
        with opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            length = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))[0]
    except FileNotFoundError as error:
        raise StoreError(f"can't read {path}: No such file or directory") from error
    if size < 10 or length > min(size, MAX_HEADER):
        raise StoreError(f"{path} is damaged or no safetensors file; {again}")
    if size > MAX_SIZE:
        raise StoreError(f"{path} has {size:,} bytes, and {MAX_SIZE:,} are the most of a fine-tune; {again}")
    try:
        with safe_open(path, "pt") as file:  # refuses tensors that do not fill the file exactly
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            return tensors, file.metadata() or {}
    except SafetensorError as error:
        raise StoreError(f"{path} is damaged ({error}); {again}") from error


def _is_name(word: str) -> bool:
    """Whether a text holds nothing that a terminal obeys; spaces and joiners of any script are letters of names."""
    return all(c.isprintable() or c in JOINERS or unicodedata.category(c) == "Zs" for c in word)


def _check(found: FineTune) -> None:
    """Raise StoreError where a field is not what its class says; a file can hold anything."""
    words = [found.model.name, found.model.revision or "", found.task, found.metric, *found.labels]
    words += [*found.subspace.include, *found.subspace.exclude, *found.adapter.target]
    if odd := [word for word in words if not (isinstance(word, str) and _is_name(word))]:
        raise StoreError(
            f"the name {odd[0]!r:.60} in a portable fine-tune holds characters that control a terminal; rename it "
            "in the data"
        )
    numbers = (found.model.num_hidden_layers or 1, found.projection.seed, found.max_length)
    limits = (1 << 16, 1 << 64, 1 << 31)
    for number, limit in zip(numbers, limits, strict=True):
        if type(number) is not int or not 0 <= number < limit:
            raise StoreError(f"{number!r:.60} in a portable fine-tune is out of range")
    known = ASKS if found.kind not in HEADS.values() else ("text",)
    if not set(found.asks) <= set(known) or len(_json(found.asks)) > MAX_ASKS:
        raise StoreError(
            f"asks={sorted(found.asks)!r:.60} of a portable fine-tune are not how its kind of model is asked"
        )
    columns = found.asks.get("text", [])
    if not (isinstance(columns, list) and all(isinstance(name, str) for name in columns)):
        raise StoreError(f"text={columns!r:.60} of a portable fine-tune names no columns")
    if found.kind not in TASKS:
        raise StoreError(f"task kind {found.kind!r:.60} is not known; use the idim that wrote the file")
    if len(found.labels) > MAX_LABELS or bool(found.labels) != TASKS[found.kind].classes:
        raise StoreError(f"{len(found.labels)} labels do not fit a task of {found.kind}")
    if len(set(found.labels)) != len(found.labels):
        raise StoreError("the labels of a portable fine-tune are not different from each other")
    if found.score is not None and not math.isfinite(found.score):
        raise StoreError(f"score={found.score} of a portable fine-tune is not finite")
    if found.precision not in PRECISIONS[1:] or found.projection.kind not in KINDS:
        raise StoreError(
            f"precision={found.precision!r:.60} or projection={found.projection.kind!r:.60} is not known"
        )
    _check_tensors(found.tensors, found.subspace, found.adapter)


def _check_tensors(tensors: Mapping[str, Tensor], spec: SubspaceSpec, adapter: AdapterSpec) -> None:
    if not tensors:  # of `to_bytes`, which writes them apart
        return
    if spec.kind == "full" and adapter:  # their names are those of the model, which are compared with it
        for name, tensor in tensors.items():
            _check_numbers(name, tensor)
        return
    wanted = {"theta"} | ({"lam"} if spec.kind == "said" else set())
    heads = {f"head.{i}" for i in range(len(tensors) - len(wanted))} if spec.head == "trained" else set()
    if not spec.has_theta or set(tensors) != wanted | heads:
        raise StoreError(f"{sorted(tensors)} are not the tensors of subspace={spec.kind}, head={spec.head}")
    for name, tensor in tensors.items():
        _check_numbers(name, tensor, row=name in wanted)


def _check_numbers(name: str, tensor: Tensor, *, row: bool = False) -> None:
    if tensor.dtype != torch.float32 or not tensor.numel() or (row and tensor.ndim != 1):
        raise StoreError(f"{name} is {tensor.dtype} {tuple(tensor.shape)}, not a row of float32")
    if not torch.isfinite(tensor).all():
        raise StoreError(f"{name} holds numbers that are not finite")
