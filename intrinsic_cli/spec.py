"""What a run is: frozen, plain records, their checks, and the identity that names a run's directory.

Standard library only, so that planning a thousand runs and `idim --help` load nothing heavy.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import string
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from functools import cached_property
from numbers import Integral
from typing import Any

from intrinsic_cli.errors import ConfigError, one_of
from intrinsic_cli.record import less_defaults, record, tree_of

BUILTIN_MODELS = ("minilm", "tiny")  # of `model.name`, beside hub ids and folders
SUBSPACES = ("full", "did", "said", "none")
NORMALIZE = ("global", "tensor")
GROUPS = ("layer", "module", "tensor")
HEADS = ("projected", "trained", "frozen")
ADAPTERS = (
    "none", "lora", "vera", "randlora", "ia3", "unilora", "tinylora", "fourierft", "loha", "lokr", "bitfit",
)  # fmt: skip
CACHES = ("auto", "store", "regenerate", "stream")
KERNELS = ("auto", "numba", "torch", "triton")
QUANTIZE = ("4bit", "8bit")
OVER_QUANTIZED = ("lora", "randlora", "ia3", "fourierft", "unilora")  # adapters that PEFT puts over either
WRITTEN = ("lm", "generation")  # kinds whose right answers are texts
TASK_KEYS: dict[str, tuple[str, ...]] = {  # of each kind, those of language models that it takes
    "classification": (), "regression": (), "lm": ("prompt", "answer", "chat", "pack"),
    "choice": ("prompt", "words", "chat"), "generation": ("prompt", "answer", "chat"),
}  # fmt: skip
TRACKERS = ("none", "tensorboard", "wandb", "trackio")
LONGEST_PART = 40  # characters of one part of a run's name: file systems stop at 255 bytes for the whole
LARGEST = 2**63 - 1  # of integers, which tensors, files and other languages can hold
CLIPS = ("weights", "trained")
PRECISIONS = ("auto", "fp32", "bf16", "pure_bf16")
MOST_PATTERNS = 1000  # of one key: each is held against the name of every tensor


def _one_of(key: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key}={value!r}{one_of(value, allowed)}")


def _at_least(
    key: str, value: float | None, low: float, *, strict: bool = False, most: float = math.inf
) -> None:
    if value is None:
        return
    most = min(most, LARGEST) if isinstance(value, int) else most
    if value > most:
        raise ConfigError(f"{key}={value} must be at most {most:g}")
    if not math.isfinite(value) or value < low or (strict and value == low):
        raise ConfigError(f"{key}={value} must be {'above' if strict else 'at least'} {low:g}")


def _few_patterns(key: str, patterns: tuple[str, ...]) -> None:
    if len(patterns) > MOST_PATTERNS:
        raise ConfigError(
            f"{key} has {len(patterns):,} patterns, and {MOST_PATTERNS:,} are the most; "
            "let one with * stand for many"
        )


def is_whole(value: object) -> bool:
    """Whether a value is a whole number, Python's or NumPy's; 3.0 and True are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def stream_seed(seed: int, name: str) -> int:
    """The 63-bit seed of the random stream `name` of a run: hash(seed, name), the same everywhere.

    Raises ConfigError where `seed` is no whole number: 3.0 and True would be other streams than 3 and 1.
    """
    if not is_whole(seed):
        raise ConfigError(f"seed={seed!r} is no whole number; write int(seed)")
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


# All of a name that may be one number: 1000, 2.5M and 1e5, which are read, and 1_000, 1,5, 1.2.3 and 1e-5, a part
# of which would be another number. In step_1000_seed_1 and ckpt_5_1000, `_` parts two.
_WRITTEN = (
    r"(?:\d{1,3}(?:[_' ]\d{3}(?!\d))+|\d+)(?:[.,]\d+)*(?:[eE][-+]?\d+[A-Za-z\d]*|[kKMB](?![A-Za-z\d]))?"
)
_READ = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)(?:[eE](\d\d?)|([kKMB]))?")
_STEPS = (rf"(?i:step|checkpoint|ckpt)s?[\W_]?({_WRITTEN})", rf"(?<!\d)({_WRITTEN})$")  # where it is a step
_POWERS = {None: 0, "k": 3, "K": 3, "M": 6, "B": 9}


def step_of(name: str) -> float | None:
    """The number behind `step`, `checkpoint` or `ckpt` in a revision's or a folder's name, else the one at its end:
    1000 of `step1000-tokens4B`, 1500000 of `1.5M`, 100000 of `ckpt-1e5`; None without, or where it may be another,
    as in `step-1_000`. An int where it is whole."""
    found = next(filter(None, (re.search(place, name) for place in _STEPS)), None)
    match = _READ.fullmatch(found[1]) if found else None
    if match is None:
        return None
    number, exponent, unit = match.groups()
    # Of floats, 2.3 times 10**6 would not be whole.
    value = Fraction(number) * 10 ** int(exponent or _POWERS[unit])
    return int(value) if value.denominator == 1 else float(value)


@dataclass(frozen=True)
class ModelSpec:
    """A pre-trained model: `name` is `minilm`, `tiny`, a hub id, or a local folder."""

    name: str
    revision: str | None = None
    num_hidden_layers: int | None = None
    allow_pickle: bool = False
    trust_remote_code: bool = False
    # GiB of weights that are fetched from the hub: what is more is refused before.
    download_limit: float = 20.0
    # Bits a weight of the linear layers, which then stay as they are; None leaves them floats.
    quantize: str | None = None
    # SHA-256 of a local folder's files, so that two folders of one name are two models; None for a hub id.
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("model.name is empty; give a hub id or a local folder")
        _at_least("model.num_hidden_layers", self.num_hidden_layers, 1)
        _at_least("model.download_limit", self.download_limit, 0, strict=True, most=2**20)
        if self.quantize is not None:
            _one_of("model.quantize", self.quantize, QUANTIZE)
            if self.name == "tiny":
                raise ConfigError(
                    f"model.quantize={self.quantize}: tiny is drawn and has no weights to read; choose another "
                    "model"
                )

    @property
    def label(self) -> str:
        """Short name for tables and directories: `roberta-base`, or `minilm-2l` for a prefix of layers."""
        return f"{self._last}-{self.num_hidden_layers}l" if self.num_hidden_layers else self._last

    @property
    def step(self) -> float | None:
        """The step of its pre-training, as its revision or else its name tells it; None where that tells none."""
        return step_of(self.revision or self._last)

    @property
    def _last(self) -> str:
        return self.name.rstrip("/").rsplit("/", 1)[-1]


@dataclass(frozen=True)
class TaskSpec:
    """A task on texts and where its rows come from.

    `kind` is one of TASK_KEYS; `regression` is the name that `kind=regression` began with, and goes with it.
    `path` is a hub id, a local folder or file, or None for rows of idim's own. `config` is the builder's
    configuration (`mrpc` of GLUE), or which of its own rows (`tasks.embedded`). `text` names one or two text
    columns.
    `labels` are the class names in the order of their ids; None reads them from the data.
    `metrics[0]` is the primary metric, which d90 uses.

    The rest is for language models. `prompt` is a template of columns, such as `{sentence} It was`, in which a
    backslash and n start a new line; None joins the text columns by line breaks. `answer` is the column of right
    answers (lm, generation); an lm without one is trained on whole texts, cut into pieces of `data.max_length`
    tokens or, with `pack`, joined into such pieces. `words` are pairs (class name or id, its words) of choice;
    None takes the class names. With `per_token`, the likelihoods of words are compared per token. `chat` puts the
    prompt into the model's chat template.
    """

    name: str
    path: str | None
    config: str | None
    text: tuple[str, ...]
    label: str
    train: str
    validation: str | None
    metrics: tuple[str, ...]
    regression: bool = False
    labels: tuple[str, ...] | None = None
    revision: str | None = None
    fingerprint: str | None = None
    kind: str = "classification"
    prompt: str | None = None
    answer: str | None = None
    words: tuple[tuple[str, str], ...] | None = None
    per_token: bool = False
    chat: bool = False
    pack: bool = False
    max_new_tokens: int = 32

    @property
    def title(self) -> str:
        """Short name for tables; own data that nobody gave a name are called as their file, folder or hub id."""
        if self.name != "custom" or self.path is None:
            return self.name
        last = self.path.rstrip("/").rpartition("/")[2]
        return re.sub(r"\.(csv|tsv|jsonl?|parquet)$", "", last, flags=re.IGNORECASE) or self.name

    def __post_init__(self) -> None:
        if self.regression and self.kind not in ("classification", "regression"):
            raise ConfigError(
                f"task.regression=true is a kind of its own; leave it out with task.kind={self.kind}"
            )
        object.__setattr__(self, "kind", "regression" if self.regression else self.kind)
        object.__setattr__(self, "regression", self.kind == "regression")
        _one_of("task.kind", self.kind, tuple(TASK_KEYS))
        _at_least("task.max_new_tokens", self.max_new_tokens, 1, most=1e5)
        self._check_words()
        if len(self.text) not in (1, 2):
            raise ConfigError(f"task.text={list(self.text)} must name one or two text columns")
        if not self.name.strip():
            raise ConfigError("task.name is empty; give a short name for tables")
        self._check_columns()
        if self.labels is not None and (len(self.labels) < 2 or len(set(self.labels)) < len(self.labels)):
            raise ConfigError(f"task.labels={list(self.labels)} must be two or more different class names")
        if not self.metrics:
            raise ConfigError("task.metrics is empty; its first entry is the metric that d90 uses")

    def _check_columns(self) -> None:
        key = "answer" if self.kind in WRITTEN else "label"
        target = getattr(self, key)
        if target != "" and all(self.read_columns) and len(set(self.columns)) == len(self.columns):
            return
        read = f"task.prompt={self.prompt!r}" if self.template else f"task.text={list(self.text)}"
        both = f"{read} must name" if target is None else f"{read} and task.{key}={target} must name"
        raise ConfigError(f"{both} different columns")

    def _check_words(self) -> None:
        """What the keys of language models ask of each other."""
        given = {name: getattr(self, name) for name in ("prompt", "answer", "words", "chat", "pack")}
        if foreign := [name for name, value in given.items() if value and name not in TASK_KEYS[self.kind]]:
            raise ConfigError(
                f"task.{foreign[0]} has no meaning with task.kind={self.kind}; leave it out or choose another kind"
            )
        if self.answer is None and (self.kind == "generation" or (self.kind == "lm" and self.prompt)):
            raise ConfigError(f"task.kind={self.kind} needs task.answer, the column of the right answers")
        if blank := [name for name, words in self.words or () if not words.strip()]:
            raise ConfigError(f"task.words says nothing for {blank[0]}; give each class words of its own")
        if self.answer is not None and self.pack:
            raise ConfigError("task.pack=true joins whole texts; leave it out where there is a task.answer")
        if self.prompt is not None and not self.template:
            raise ConfigError(
                f"task.prompt={self.prompt!r} names no column; write one as in task.prompt='{{sentence}} It was'"
            )

    @property
    def template(self) -> tuple[tuple[str, str | None], ...]:
        """`prompt` as pairs (text, the column that follows or None); () where it names no column."""
        try:
            parts = list(string.Formatter().parse((self.prompt or "").replace("\\n", "\n")))
        except ValueError as error:
            raise ConfigError(
                f"task.prompt={self.prompt!r} can't be read ({error}); write {{{{ and }}}} for braces"
            ) from error
        if any(spec or conversion or name == "" for _, name, spec, conversion in parts):
            raise ConfigError(f"task.prompt={self.prompt!r}: write columns as {{name}} and nothing more")
        pairs = tuple((text, name) for text, name, _, _ in parts)
        return pairs if any(name for _, name in pairs) else ()

    @property
    def read_columns(self) -> tuple[str, ...]:
        """The text columns that a row's input is made of: those of `prompt`, each once, or `text`."""
        return tuple(dict.fromkeys(name for _, name in self.template if name)) or self.text

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read."""
        target = self.answer if self.kind in WRITTEN else self.label
        return (*self.read_columns, *([target] if target else []))


@dataclass(frozen=True)
class DataSpec:
    """How much of the data is used. Counts are sentences (rows); lengths are tokens."""

    max_train: int | None = None
    max_eval: int | None = None
    max_length: int = 128
    # Rows taken out of the training split and scored beside the validation split, so that a learning
    # rate can be chosen on data that does not report the score.
    holdout: int = 0
    # Picks which rows `max_train`, `max_eval` and `holdout` take; the same for every seed of a study.
    seed: int = 0
    # GiB that a file may need when it is read: what unpacks to more is refused before memory is taken.
    read_limit: float = 2.0
    # Gives training rows each other's labels, in the order that this number draws: the null of task distances.
    permute_labels: int | None = None

    def __post_init__(self) -> None:
        _at_least("data.max_train", self.max_train, 1)
        _at_least("data.max_eval", self.max_eval, 1)
        _at_least("data.max_length", self.max_length, 4)
        _at_least("data.holdout", self.holdout, 0)
        _at_least("data.permute_labels", self.permute_labels, 0)
        _at_least("data.read_limit", self.read_limit, 0, strict=True, most=2**20)


@dataclass(frozen=True)
class SubspaceSpec:
    """Which weights move and how: `full` (all), `none`, `did` (θ_0 + Pθ) or `said` (θ_0 + λ_g Pθ)."""

    kind: str
    normalize: str = "global"
    groups: str = "layer"
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    head: str = "projected"
    # Adam's learning rates of what is trained beside θ: λ lives near 1 and a head's weights near 0.02,
    # whatever the scale of θ.
    lam_lr: float = 0.01
    head_lr: float = 1e-3

    def __post_init__(self) -> None:
        _one_of("subspace", self.kind, SUBSPACES)
        _one_of("subspace.normalize", self.normalize, NORMALIZE)
        _one_of("subspace.groups", self.groups, GROUPS)
        _one_of("subspace.head", self.head, HEADS)
        _few_patterns("subspace.include", self.include)
        _few_patterns("subspace.exclude", self.exclude)
        _at_least("subspace.lam_lr", self.lam_lr, 0, strict=True)
        _at_least("subspace.head_lr", self.head_lr, 0, strict=True)

    @property
    def has_theta(self) -> bool:
        """Whether a θ is trained, as neither `full` nor `none` has one."""
        return self.kind not in ("full", "none")


@dataclass(frozen=True)
class AdapterSpec:
    """Which numbers of a model exist to be moved: all weights (`none`), or those of an adapter and the head.

    `r` is the size that the method has (`models.adapters`: a rank, or a count of numbers), `alpha` its scale;
    None leaves both to the method. `target` are patterns of the names of linear layers (of `bitfit`: of layers
    with a bias), whole or their end: `query` is every layer called so. `args` are any other keys of the
    configuration that PEFT has for the method.
    """

    kind: str = "none"
    r: int | None = None
    alpha: float | None = None
    target: tuple[str, ...] = ("*",)
    args: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        _one_of("adapter", self.kind, ADAPTERS)
        _at_least("adapter.r", self.r, 1, most=1e9)
        _at_least("adapter.alpha", self.alpha, 0, strict=True)
        if not self.target:
            raise ConfigError(
                "adapter.target=[] leaves nothing to adapt; give patterns of layers, or leave it out"
            )
        _few_patterns("adapter.target", self.target)
        try:
            json.dumps(self.args, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"adapter.args={self.args} can't be kept in a file: {error}; give plain values"
            ) from error
        given = {"r": self.r, "alpha": self.alpha, "target": self.target != ("*",), "args": self.args}
        if self.kind == "none" and (extra := [key for key, value in given.items() if value]):
            raise ConfigError(f"adapter.{extra[0]} has no meaning with adapter=none; add adapter=lora, say")

    def __bool__(self) -> bool:
        """Whether there is an adapter."""
        return self.kind != "none"

    @property
    def label(self) -> str:
        """Short name for directories: `lora8`."""
        return f"{self.kind}{self.r or ''}"


@dataclass(frozen=True)
class ProjectionSpec:
    """The random matrix P: its kind, and how it is computed: whether its random numbers are stored or drawn
    anew each use (`cache`), and by what (`kernel`).

    `seed` of P and of the drawn head, so that runs of several training seeds move in one space, from one
    place; None is the run's own seed.
    """

    kind: str = "fastfood"
    cache: str = "auto"
    seed: int | None = None
    kernel: str = "auto"

    def __post_init__(self) -> None:
        _one_of("projection.cache", self.cache, CACHES)
        _one_of("projection.kernel", self.kernel, KERNELS)
        _at_least("projection.seed", self.seed, 0)


@dataclass(frozen=True)
class TrainSpec:
    """The training loop.

    `warmup` is the fraction of the steps in which the learning rate rises. `evals` evaluations are spread
    evenly over the run and the last one gives the score; with `patience`, the run stops after so many
    evaluations without a better score and the best one counts. `precision`: `bf16` computes in bfloat16 on
    float32 weights, `pure_bf16` also keeps the weights so (θ_0 and what is trained stay exact), `auto` is `bf16`
    where the machine has it. A step whose gradient is longer than `max_grad_norm` is scaled to that: the gradient
    of the weights with `clip="weights"`, the same in every space; that of θ, λ and head with `"trained"`, all
    there was before `clip` was recorded. `keep_weights` also saves the D weights of a full fine-tuning,
    and `score_train` scores the rows trained on too, for the generalization gap.
    """

    epochs: float = 3.0
    max_steps: int | None = None
    batch_size: int = 32
    eval_batch_size: int = 128
    accumulate: int = 1
    precision: str = "auto"
    warmup: float = 0.06
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    clip: str = "trained"
    evals: int = 1
    patience: int | None = None
    keep_weights: bool = False
    score_train: bool = False

    def __post_init__(self) -> None:
        _at_least("train.epochs", self.epochs, 0, strict=True, most=1e6)
        _at_least("train.max_steps", self.max_steps, 1, most=1e9)
        _at_least("train.batch_size", self.batch_size, 1)
        _at_least("train.eval_batch_size", self.eval_batch_size, 1)
        _at_least("train.accumulate", self.accumulate, 1)
        _at_least("train.weight_decay", self.weight_decay, 0)
        _at_least("train.max_grad_norm", self.max_grad_norm, 0, strict=True)
        _at_least("train.evals", self.evals, 1, most=1e4)
        _at_least("train.patience", self.patience, 1)
        if self.patience is not None and self.evals <= self.patience:
            raise ConfigError(
                f"train.patience={self.patience} can never stop a run with train.evals={self.evals}; "
                f"use train.evals={self.patience + 1} or more"
            )
        _one_of("train.precision", self.precision, PRECISIONS)
        _one_of("train.clip", self.clip, CLIPS)
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"train.warmup={self.warmup} is a fraction of the steps; use 0 to below 1")


@dataclass(frozen=True)
class RunSpec:
    """One training job. `d` counts everything trained where θ moves the weights; it is None where they are
    trained themselves: all of them, or those of an adapter, whose number is measured.

    With d = 0 (`subspace=none`) nothing is trained and the score is that of θ_0; its `lr` is 0.
    """

    model: ModelSpec
    task: TaskSpec
    subspace: SubspaceSpec
    lr: float
    d: int | None = None
    seed: int = 0
    projection: ProjectionSpec = field(default_factory=ProjectionSpec)
    train: TrainSpec = field(default_factory=TrainSpec)
    data: DataSpec = field(default_factory=DataSpec)
    # Where losses and scores are also sent while the run lasts.
    tracker: str = "none"
    adapter: AdapterSpec = field(default_factory=AdapterSpec)

    def __post_init__(self) -> None:
        _at_least("lr", self.lr, 0, strict=self.subspace.kind != "none")
        _at_least("seed", self.seed, 0)
        _one_of("tracker", self.tracker, TRACKERS)
        if self.model.quantize is not None:
            self._check_quantized()
        if self.subspace.kind == "full":
            if self.d is not None:
                raise ConfigError(
                    f"d={self.d} has no meaning with subspace=full; leave d out or choose did or said"
                )
        elif self.subspace.kind == "none":
            if self.d != 0 or self.lr != 0:
                raise ConfigError(f"d={self.d} lr={self.lr:g}: subspace=none trains nothing; both are 0")
        elif self.d is None:
            raise ConfigError(
                f"subspace={self.subspace.kind} needs d, the number of trained parameters: add d=500"
            )
        else:
            _at_least("d", self.d, 1)

    def _check_quantized(self) -> None:
        """Raise ConfigError where weights of a few bits would have to move, or to be cast."""
        key = f"model.quantize={self.model.quantize}"
        if self.subspace.kind != "none" and self.adapter.kind not in OVER_QUANTIZED:
            moves = self.adapter.kind in ("none", "bitfit")
            why = "moves the weights, and quantized ones can't" if moves else "does not fit quantized weights"
            raise ConfigError(
                f"{key}: adapter={self.adapter.kind} {why}; give one of adapter={', '.join(OVER_QUANTIZED)}, or "
                "leave model.quantize out"
            )
        if self.train.precision == "pure_bf16":
            raise ConfigError(
                f"{key} keeps its own weights, which train.precision=pure_bf16 would cast; use bf16"
            )

    @property
    def is_full(self) -> bool:
        """Whether this is full fine-tuning, to which all other spaces are compared."""
        return self.subspace.kind == "full" and not self.adapter

    @property
    def in_space(self) -> bool:
        """Whether this is a point of a curve: neither full fine-tuning nor the untrained model."""
        return self.subspace.has_theta or bool(self.adapter)

    @property
    def space_seed(self) -> int:
        """The seed of the drawn head, of P, and of what an adapter draws."""
        own = self.projection.seed
        return own if own is not None and self.subspace.has_theta else self.seed

    def settings(self) -> dict[str, Any]:
        """The scientific configuration: all that can change the score; no path, device or cache policy."""
        tree = tree_of(self)
        for part in ("model", "task"):
            if tree[part]["fingerprint"]:
                tree[part].pop("name" if part == "model" else "path")
        for key in ("cache", "kernel"):
            tree["projection"].pop(key)
        if self.projection.seed is None:  # runs were named so before P had a seed of its own
            tree["projection"].pop("seed")
        tree["data"].pop("read_limit")
        if self.task.regression:  # which named such runs before there was task.kind
            tree["task"].pop("kind")
        tree["train"].pop("eval_batch_size")
        tree["train"].pop("keep_weights")
        for key in ("allow_pickle", "download_limit"):
            tree["model"].pop(key)
        tree.pop("tracker")
        if not self.adapter:
            tree.pop("adapter")
        if not self.subspace.has_theta:
            tree.pop("projection")
            tree["subspace"] = {"kind": self.subspace.kind}
        if self.subspace.kind == "did":
            for key in ("groups", "lam_lr"):
                tree["subspace"].pop(key)
        if self.subspace.head != "trained":
            tree["subspace"].pop("head_lr", None)
        return tree

    def identity(self) -> dict[str, Any]:
        """`settings` less every value that is its key's default, so that a new key of the configuration names
        no run anew. A default is thereby part of old names: to change one, give the key another name."""
        return less_defaults(type(self), self.settings())

    @cached_property
    def _named_by(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """`settings` and `identity`, which all names are made of. Not to be changed."""
        settings = self.settings()
        return settings, less_defaults(type(self), settings)

    @cached_property
    def run_id(self) -> str:
        """Readable prefix + hash of the identity: the name of the run's directory."""
        return self._name(self._named_by[1])

    @cached_property
    def legacy_ids(self) -> tuple[str, ...]:
        """What earlier versions called the run's directory; empty where they did not know such a run."""
        settings, identity = self._named_by
        return (self._name(_legacy(settings)),) if _legacy(identity) == identity else ()

    def _name(self, tree: Mapping[str, Any]) -> str:
        canonical = json.dumps(tree, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(canonical.encode()).hexdigest()[:10]
        parts = [self.model.label, self.task.name, self.subspace.kind]
        if self.adapter:
            parts.append(self.adapter.label)
        if self.d is not None:
            parts.append(f"d{self.d}")
        parts += [f"lr{self.lr:g}", f"s{self.seed}", digest]
        return "-".join(re.sub(r"[^A-Za-z0-9._]+", "_", part)[:LONGEST_PART] for part in parts)

    @cached_property
    def study(self) -> str:
        """Hash of all that a d90 curve and its baseline share: everything but the space, d, lr and seed."""
        own = ("adapter", "subspace", "projection", "d", "lr", "seed")
        tree = {key: value for key, value in self._named_by[1].items() if key not in own}
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:10]

    @cached_property
    def space(self) -> str:
        """Hash of what the runs of a curve share beside their study: the adapter, the subspace and P, less what
        can't change a score there. Runs of one `projection.seed` repeat the training and not the space, so each has
        a curve of its own; an adapter that is trained itself has one over its sizes."""
        tree = {key: self._named_by[1].get(key, {}) for key in ("adapter", "subspace", "projection")}
        if self.subspace.kind == "full":
            tree["adapter"] = {key: value for key, value in tree["adapter"].items() if key != "r"}
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def curve(self) -> tuple[str, ...]:
        """What the runs of one d90 curve have in common, and no others: their study and their space. Full
        fine-tuning and the model before training are of no space and belong to every curve of their study."""
        return (self.study, self.space) if self.in_space else (self.study,)

    @property
    def cell(self) -> tuple[ModelSpec, TaskSpec, DataSpec]:
        """What is loaded once for all runs that have it in common: the base model and the rows."""
        return self.model, self.task, self.data

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dicts and lists, ready for JSON or YAML; `from_dict` reads them back."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> RunSpec:
        """The inverse of `to_dict`. Raises ConfigError at an unknown or missing key and a value of another type."""
        return record(cls, tree, "run")


def digest(run_id: str) -> str:
    """The end of a run's name, which says what the run is, whatever its model is called."""
    return run_id.rpartition("-")[2]


# All keys that named a run while names were made of every value. Never add one: a run that has a new key's value
# can't have such a name.
_LEGACY = {
    "model": "name revision num_hidden_layers trust_remote_code fingerprint",
    "task": "name path config text label train validation metrics regression labels revision fingerprint",
    "subspace": "kind normalize groups include exclude head lam_lr head_lr",
    "projection": "kind seed",
    "train": "epochs max_steps batch_size accumulate precision warmup weight_decay max_grad_norm evals patience",
    "data": "max_train max_eval max_length holdout seed",
    "lr": "", "d": "", "seed": "",
}  # fmt: skip


def _legacy(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a run's settings that earlier versions knew."""
    return {
        key: {k: v for k, v in value.items() if k in _LEGACY[key].split()}
        if isinstance(value, dict)
        else value
        for key, value in tree.items()
        if key in _LEGACY
    }
