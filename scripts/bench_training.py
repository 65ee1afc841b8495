"""What a training step, its memory, a sweep and the loop itself cost, each beside what it is compared with.

Every comparison alternates its two sides in one process, or in processes of their own where memory or
start-up is measured, and quotes medians and ratios. `scripts/bench` runs this and prints the table.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from figure import Figure

ROOT = Path(__file__).resolve().parents[1]
GLUE = ROOT.parent / "shared" / "glue"


def overrides(precision: str, *more: str) -> list[str]:
    """MRPC where its files lie beside the project, the embedded task elsewhere."""
    task = ["task=mrpc", f"task.path={GLUE}"] if (GLUE / "mrpc").is_dir() else ["task=pydoc-topic"]
    return [*task, "model=minilm", f"train.precision={precision}", *more]


class Stepper:
    """The loop's own parts, one step at a time on fixed batches, each part timed."""

    PARTS = ("write", "forward", "backward", "update")

    def __init__(self, words: list[str], inputs=None) -> None:
        import torch

        from intrinsic_cli.planning import compose, specs
        from intrinsic_cli.planning.words import parse
        from intrinsic_cli.subspace.attach import Full, Subspace
        from intrinsic_cli.tasks.batches import batches, collate
        from intrinsic_cli.training import inputs as loading
        from intrinsic_cli.training.device import Compute
        from intrinsic_cli.training.trainer import make_optimizer

        self.spec = specs.run_spec(compose.compose_config("run", parse(words)))
        self.inputs = inputs or loading.load(self.spec)
        self.compute = Compute.here(self.spec.train.precision)
        self.model = self.inputs.fresh_model(0, self.spec.adapter).train()
        dtype = self.compute.weights
        if self.spec.subspace.kind == "full":
            self.space = Full(self.model, dtype)
        else:
            self.space = Subspace(
                self.model, self.spec.subspace, self.spec.d, 0, self.spec.projection, self.inputs.head, dtype
            )
        self.optimizer = make_optimizer(self.space, self.spec)
        self.trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        order = torch.Generator().manual_seed(0)
        rows = batches(self.inputs.train, self.spec.train.batch_size, order)[:12]
        self.batches = [collate(self.inputs.train, r) for r in rows]

    def step(self, i: int) -> tuple[float, ...]:
        """Seconds of each of PARTS."""
        from intrinsic_cli.training.clipping import clip

        batch = self.batches[i % len(self.batches)]
        times = [time.perf_counter()]
        self.space.write()
        times.append(time.perf_counter())
        with self.compute.autocast():
            loss = self.model(**batch).loss
        times.append(time.perf_counter())
        loss.backward()
        times.append(time.perf_counter())
        self.space.collect()
        clip(self.space, self.trained, self.spec.train)
        self.optimizer.step()
        self.optimizer.zero_grad()
        times.append(time.perf_counter())
        return tuple(b - a for a, b in pairwise(times))


def step_figures(quick: bool, precision: str) -> list[Figure]:
    """Target 2: a subspace step ÷ a full fine-tuning step, MiniLM, batch 32."""
    # Full fine-tuning keeps float32 copies of such weights; people use bf16, so it is compared with that.
    pure = precision == "pure_bf16"
    full = Stepper(overrides("bf16" if pure else precision, "subspace=full"))
    did = Stepper(overrides(precision, "subspace=did", "d=1000"), full.inputs)
    for i in range(3):
        full.step(i), did.step(i)
    pairs = [(full.step(i), did.step(i)) for i in range(8 if quick else 96)]
    ratios = [sum(b) / sum(a) for a, b in pairs]
    name = f"step, subspace ÷ full, {precision}"
    figures = [Figure(name, statistics.median(ratios), "×", None if pure else 1.0)]
    low, _, high = statistics.quantiles(ratios, n=4)
    figures += [Figure(f"{name}, a quarter below", low, "×"), Figure(f"{name}, a quarter above", high, "×")]
    for side, which in enumerate(("full", "subspace")):
        for k, part in enumerate(Stepper.PARTS):
            median = statistics.median(pair[side][k] for pair in pairs)
            figures.append(Figure(f"step, {precision}, {which}: {part}", 1e3 * median, "ms"))
    return figures


class PlainLoRA(Stepper):
    """The same loop around what PEFT's users train: LoRA of all linear layers, with the head."""

    def __init__(self, words: list[str], inputs) -> None:
        import peft
        import torch

        super().__init__(words, inputs)
        self.space.close()
        base = copy.deepcopy(self.inputs.base.model)  # `fresh_model` lends the weights
        config = peft.LoraConfig("SEQ_CLS", r=8, target_modules="all-linear", modules_to_save=["classifier"])
        self.model = peft.get_peft_model(base, config).train()
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-3, fused=True)


def adapter_figures(quick: bool) -> list[Figure]:
    """P over LoRA's factors (r = 8, d = 1,000) ÷ full fine-tuning, and ÷ LoRA by plain PEFT, in float32."""
    full = Stepper(overrides("fp32", "subspace=full"))
    over = Stepper(overrides("fp32", "subspace=did", "adapter=lora", "adapter.r=8", "d=1000"), full.inputs)
    plain = PlainLoRA(overrides("fp32", "subspace=full"), full.inputs)
    for i in range(3):
        full.step(i), over.step(i), plain.step(i)
    rounds = [(full.step(i), over.step(i), plain.step(i)) for i in range(8 if quick else 96)]
    name = "step, did over lora"
    figures = []
    for side, other, target in ((0, "full", 0.8), (2, "lora by peft", 1.02)):
        ratios = [sum(each[1]) / sum(each[side]) for each in rounds]
        low, _, high = statistics.quantiles(ratios, n=4)
        figures += [
            Figure(f"{name} ÷ {other}", statistics.median(ratios), "×", target),
            Figure(f"{name} ÷ {other}, a quarter below", low, "×"),
            Figure(f"{name} ÷ {other}, a quarter above", high, "×"),
        ]
    # P is all of `write`, and of the update what `collect` and the hooks fold: measured apart from the model.
    share = statistics.median(_of_p(over) / sum(each[1]) for each in rounds)
    figures.append(Figure(f"{name}: share of P and its adjoint", share, "×", 0.01))
    for side, which in enumerate(("full", "did over lora", "lora by peft")):
        for k, part in enumerate(Stepper.PARTS):
            median = statistics.median(each[side][k] for each in rounds)
            figures.append(Figure(f"step, {which}: {part}", 1e3 * median, "ms"))
    return figures


def _of_p(stepper: Stepper) -> float:
    """Seconds of one P θ written into the weights, and of one adjoint of gradients that are there."""
    import torch

    space = stepper.space
    weights = [weight for _, weight in space.moved()]
    grads = [torch.ones_like(weight) for weight in weights]
    began = time.perf_counter()
    space.write()
    for part, grad in zip(space._slices, grads, strict=True):
        part.weight.grad = grad
        space._take([part])
    space.collect()
    took = time.perf_counter() - began
    space.theta.grad = None
    return took


def memory_worker(kind: str, precision: str, cache: str, steps: str) -> None:
    """Print the peak resident MiB of some steps beyond the libraries' own, and the seconds of the fastest."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from intrinsic_cli.projections import make_projection
    from intrinsic_cli.spec import ProjectionSpec, SubspaceSpec
    from intrinsic_cli.subspace.attach import Full, Subspace
    from intrinsic_cli.training import inputs, trainer  # noqa: F401 (part of the base)

    def status(field: str) -> float:
        text = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(field)) / 1024

    # The compiler and the compiled kernels are libraries' base as much as torch's are.
    small = make_projection("fastfood", shape=(1 << 12, 1000), seed=0)
    small.rmatvec(small.matvec(torch.ones(1000)))
    base = status("VmRSS")
    model = BertForSequenceClassification(BertConfig()).train()
    dtype = torch.bfloat16 if precision == "pure_bf16" else None
    if kind == "full":
        space = Full(model)
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    else:
        space = Subspace(model, SubspaceSpec("did"), 1000, 0, ProjectionSpec(cache=cache), dtype=dtype)
        optimizer = torch.optim.Adam([space.theta], lr=0.1)
    ids = torch.randint(0, 30000, (8, 64))
    took = []
    for _ in range(int(steps)):
        began = time.perf_counter()
        space.write()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids[:, 0] % 2).loss
        loss.backward()
        space.collect()
        optimizer.step()
        optimizer.zero_grad()
        took.append(time.perf_counter() - began)
    print(json.dumps({"peak": status("VmHWM") - base, "seconds": min(took)}))


def memory_figures(quick: bool) -> list[Figure]:
    """Target 3: peak memory of DID ÷ full AdamW on a BERT-base-sized model, 8 rows of 64 tokens."""

    steps = "2" if quick else "6"

    def measure(*words: str, **environment: str) -> dict[str, float]:
        here = str(ROOT / "scripts")
        code = f"import sys; sys.path.insert(0, {here!r}); from bench_training import memory_worker as work; work"
        done = subprocess.run(
            [sys.executable, "-c", f"{code}(*{(*words, steps)!r})"],
            env=os.environ | environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return json.loads(done.stdout.splitlines()[-1])

    full = measure("full", "fp32", "auto")
    # Streaming has the allocator give freed memory back; full fine-tuning could be told to do so as well.
    frugal = measure("full", "fp32", "auto", MALLOC_MMAP_THRESHOLD_=str(1 << 20))
    figures = [
        Figure("memory, full AdamW, fp32", full["peak"], "MiB"),
        Figure("step of it", 1e3 * full["seconds"], "ms"),
        Figure("memory, full AdamW, fp32, freed memory given back", frugal["peak"], "MiB"),
        Figure("step of it, freed memory given back", 1e3 * frugal["seconds"], "ms"),
    ]
    for precision in ("fp32",) if quick else ("fp32", "pure_bf16"):
        target = 0.6 if precision == "fp32" else None
        for cache in ("stream",) if quick else ("store", "regenerate", "stream"):
            did = measure("did", precision, cache)
            name = f"memory, DID {precision} {cache}"
            figures.append(Figure(f"{name} ÷ full", did["peak"] / full["peak"], "×", target))
            if cache == "stream":
                ratio = did["peak"] / frugal["peak"]
                figures.append(Figure(f"{name} ÷ full, freed memory given back", ratio, "×", target))
            figures.append(Figure(f"step of it, {cache}, {precision}", 1e3 * did["seconds"], "ms"))
    return figures


def run_memory_figures(quick: bool) -> list[Figure]:
    """Target 3 for `idim run` as a process of its own, which also holds the pre-trained weights and the data.

    A run of the tiny model on the same data stands for the interpreter's and the libraries' own memory.
    """
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    from intrinsic_cli.models.checkpoints import minilm_folder

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "bert-base-sized"
        BertForSequenceClassification(BertConfig()).save_pretrained(model)
        AutoTokenizer.from_pretrained(minilm_folder()).save_pretrained(model)

        def peak(*words: str) -> float:
            idim("run", *overrides("fp32"), *words, "data.max_train=64", "data.max_eval=16", "data.max_length=64",
                 "train.batch_size=8", "train.max_steps=4", f"output_dir={folder}/out")  # fmt: skip
            [result] = Path(folder, "out").rglob("result.json")
            mib = json.loads(result.read_text())["peak_memory_mb"]
            shutil.rmtree(f"{folder}/out")
            return mib

        base = peak("model=tiny", "subspace=full")
        over_lora = ("subspace=did", "adapter=lora", "adapter.r=8", "d=1000")
        with_peft = peak("model=tiny", *over_lora)  # importing it is part of the libraries' own
        full = peak(f"model.name={model}", "subspace=full") - base
        figures = [Figure("memory, idim run, full AdamW, fp32", full, "MiB")]
        for cache in ("stream",) if quick else ("store", "regenerate", "stream"):
            did = peak(f"model.name={model}", "subspace=did", "d=1000", f"projection.cache={cache}") - base
            figures.append(Figure(f"memory, idim run, DID fp32 {cache} ÷ full", did / full, "×", 0.6))
        over = peak(f"model.name={model}", *over_lora) - with_peft
        figures.append(Figure("memory, idim run, DID over LoRA fp32 ÷ full", over / full, "×", 0.5))
    return figures


def idim(*words: str) -> None:
    """Run the command in a process of its own."""
    code = "import sys; from intrinsic_cli.cli.main import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"idim {' '.join(words)} failed:\n{done.stderr}")


def sweep_figures(quick: bool) -> list[Figure]:
    """Target 6: wall time of the command ÷ the training times its 20 runs report."""
    count, steps = (4, 8) if quick else (20, 20)
    with tempfile.TemporaryDirectory() as folder:
        words = overrides(
            "auto", f"seed=[{','.join(map(str, range(count // 2)))}]", "d=[300,3000]", f"train.max_steps={steps}",
            "data.max_eval=200", "baseline.run=false", f"output_dir={folder}",
        )  # fmt: skip
        began = time.perf_counter()
        idim("sweep", *words)
        wall = time.perf_counter() - began
        trained = [json.loads(p.read_text())["seconds"]["total"] for p in Path(folder).glob("*/result.json")]
    assert len(trained) == count, f"{len(trained)} of {count} runs finished"
    target = None if quick else 1.15  # the start of the command is a larger part of fewer runs
    return [Figure(f"sweep of {count} runs, wall ÷ training", wall / sum(trained), "×", target)]


class Race:
    """Full fine-tuning for an epoch by this project's loop and by Hugging Face's Trainer."""

    def __init__(self, precision: str, rows: int) -> None:
        from intrinsic_cli.planning import compose, specs
        from intrinsic_cli.planning.words import parse
        from intrinsic_cli.training import inputs as loading

        words = overrides(
            precision, "subspace=full", f"data.max_train={rows}", "data.max_eval=32", "train.epochs=1"
        )
        self.spec = specs.run_spec(compose.compose_config("run", parse(words)))
        self.inputs = loading.load(self.spec)
        encoded = self.inputs.train
        self.rows = []
        for i, (lo, hi) in enumerate(pairwise(encoded.starts)):
            row = {"input_ids": encoded.ids[lo:hi].tolist(), "labels": int(encoded.labels[i])}
            if encoded.types is not None:
                row["token_type_ids"] = encoded.types[lo:hi].tolist()
            self.rows.append(row)

    def ours(self) -> float:
        """Seconds of training, without the evaluation."""

        from intrinsic_cli.training.trainer import Trainer

        seconds = Trainer(self.spec, self.inputs).run().seconds
        return seconds["total"] - seconds["evaluation"]

    def theirs(self) -> float:
        """Seconds of `Trainer.train` on the same rows, batch size, steps, precision and optimizer."""
        from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments

        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=self.spec.train.batch_size,
                num_train_epochs=1,
                learning_rate=self.spec.lr,
                weight_decay=self.spec.train.weight_decay,
                bf16=self.spec.train.precision == "bf16",
                use_cpu=True,
                save_strategy="no",
                logging_steps=10,
                report_to=[],
                disable_tqdm=True,
            )
            trainer = Trainer(
                model=copy.deepcopy(self.inputs.base.model),  # `fresh_model` lends the weights
                args=arguments,
                train_dataset=self.rows,
                data_collator=DataCollatorWithPadding(self.inputs.base.tokenizer),
            )
            trainer.remove_callback(PrinterCallback)  # standard output is the table's
            began = time.perf_counter()
            trainer.train()
            return time.perf_counter() - began


def trainer_figures(quick: bool) -> list[Figure]:
    """Target 7: full fine-tuning by this loop ÷ by Trainer."""
    figures = []
    for precision in ("bf16",) if quick else ("fp32", "bf16"):
        race = Race(precision, 160 if quick else 1600)
        if not quick:
            race.ours()
            race.theirs()
        ratio = statistics.median(race.ours() / race.theirs() for _ in range(1 if quick else 3))
        figures.append(Figure(f"full fine-tuning, this loop ÷ Trainer, {precision}", ratio, "×", 1.0))
    return figures
