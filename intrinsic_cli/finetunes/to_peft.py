"""A finished run as a folder of PEFT: `PeftModel.from_pretrained(base, folder)` gives the fine-tuned model.

A run over one of PEFT's adapters is that adapter, whatever moved its numbers, and is written exactly. What moved
the weights themselves becomes a LoRA: of each linear layer the best product of a given rank for the difference of
its weights, by singular values (Eckart and Young 1936), and of the rest nothing. A drawn head goes along whole.
The folder's README says how the base model was read: PEFT's own files have no place for its layers and its dtype.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from intrinsic_cli.errors import ConfigError, to_install
from intrinsic_cli.files import check_new, new_folder
from intrinsic_cli.finetunes.card import base_id
from intrinsic_cli.finetunes.file import FineTune
from intrinsic_cli.finetunes.rebuild import base_of, build
from intrinsic_cli.finetunes.scoring import answer
from intrinsic_cli.models import adapters, pretrained
from intrinsic_cli.models.checkpoints import DEPTHS
from intrinsic_cli.models.pretrained import LoadedModel
from intrinsic_cli.rundir import RunDir
from intrinsic_cli.spec import AdapterSpec, RunSpec
from intrinsic_cli.tasks import splits
from intrinsic_cli.tasks.task import task_of

README = """---
base_model: {base}
library_name: peft
---

A fine-tuning made by `idim`. It was scored with its base model loaded like this, in float32 and with these layers:

```python
import torch
from peft import PeftModel
from transformers import {kind}

base = {kind}.from_pretrained({base!r}, {words})
model = PeftModel.from_pretrained(base, "PATH OF THIS FOLDER").eval()
```
"""


@dataclass(frozen=True)
class Fidelity:
    """What an export of limited rank keeps: the share of the squared length of all that training moved, and the
    primary metric on `n` validation rows of the run, before and after."""

    rank: int
    kept: float
    metric: str
    before: float
    after: float
    n: int


def export(run: RunDir, out: Path, rank: int | None = None) -> Fidelity | None:
    """Write a finished run to the new folder `out`; None where the folder is the run exactly.

    `rank` is of the LoRA of a run without adapter, which needs it. Raises ConfigError, StoreError or ModelError.
    """
    if find_spec("peft") is None:
        raise ConfigError(f"--to peft needs peft, which is not installed; {to_install('peft')}")
    check_new("--to peft", out)
    found = FineTune.of_run(run)
    exact = found.adapter.kind in adapters.METHODS
    if exact and rank is not None:
        raise ConfigError(
            f"--rank {rank}: a run over adapter={found.adapter.kind} is written exactly; leave it out"
        )
    if not exact and (rank is None or rank < 1):
        raise ConfigError(
            f"{run.path} moved weights and no adapter, of which a LoRA keeps a part: give its rank, at least 1, "
            "as in --rank 8"
        )
    # Two models: one as it came, which PEFT wraps, and one as it was trained.
    start = _base(found)
    trained = build(found, _base(found))
    if rank is None:
        _write(_wrapped(found, start, found.adapter, trained), found, out)
        return None
    lora = AdapterSpec("lora", rank, float(rank))  # so that the product is scaled by 1
    moved = _difference(start.model, trained)
    wrapped = _wrapped(found, start, lora, trained)
    kept = _truncated(wrapped, moved, rank)
    result = run.result()
    assert result is not None
    fidelity = _compared(result.spec, found, start, trained, wrapped, rank, kept)
    _write(wrapped, found, out)
    return fidelity


def _base(found: FineTune) -> LoadedModel:
    """The base model with the drawn head."""
    base = base_of(found, own=True)
    pretrained.draw_head(base.model, base.head, found.seed)
    return base


def _wrapped(found: FineTune, base: LoadedModel, adapter: AdapterSpec, trained: nn.Module) -> Any:
    """PEFT's model around `base.model`, with the numbers of `trained` where that has the adapter, and its head."""
    import peft

    idle = base.idle if found.spared or not found.adapter else ()
    config = adapters.configuration(base.model, adapter, base.head, found.seed, idle)
    config.modules_to_save = sorted({name.rpartition(".")[0] for name in base.head}) or None
    if not base.head and not base.model.config.is_encoder_decoder:
        config.task_type = "CAUSAL_LM"
    wanted = set(config.target_modules)
    with warnings.catch_warnings(action="ignore"):  # transformers', of PEFT's calls
        wrapped = peft.get_peft_model(base.model, config)
    # Whoever loads the folder gets the same, so it can't be written otherwise.
    if odd := adapters.misplaced(wrapped.base_model.model, wanted, config):
        raise ConfigError(
            f"--to peft: PEFT takes layers of {type(base.model).__name__} for parts of its experts ({odd[0]}), "
            "so that its folder would be another model; idim export RUN --out FILE and idim apply FILE --out DIR "
            "write the model itself"
        )
    made = wrapped.peft_config[adapters.NAME]
    made.base_model_name_or_path, made.revision = base_id(found), found.model.revision
    own = dict(trained.named_parameters())
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            plain = name.removeprefix("base_model.model.").replace(f".modules_to_save.{adapters.NAME}.", ".")
            if parameter.requires_grad and plain in own:
                parameter.copy_(own[plain])
    return wrapped.eval()


def _difference(start: nn.Module, trained: nn.Module) -> dict[str, Tensor]:
    """What training added to each tensor, by name."""
    own = dict(start.named_parameters())
    return {name: (p - own[name]).detach().float() for name, p in trained.named_parameters()}


@torch.no_grad()
def _truncated(wrapped: Any, moved: dict[str, Tensor], rank: int) -> float:
    """Give each LoRA of `wrapped` the best product for its layer's difference, and return the share of the squared
    length of all differences that these and the head have. Raises ConfigError where no layer moved."""
    from peft.tuners.lora import LoraLayer

    kept = sum(float(moved[name].square().sum()) for name in moved if _in_head(wrapped, name))
    in_layers = 0.0
    modules = wrapped.base_model.model.named_modules()
    layers: list[tuple[str, Any]] = [
        (name, module) for name, module in modules if isinstance(module, LoraLayer)
    ]
    for name, layer in layers:
        difference = moved[f"{name}.weight"]
        if layer.fan_in_fan_out:
            difference = difference.T
        U, S, Vh = torch.linalg.svd(difference, full_matrices=False)
        n, root = min(rank, len(S)), S[:rank].sqrt()
        B, A = layer.lora_B[adapters.NAME].weight, layer.lora_A[adapters.NAME].weight
        B.zero_()
        A.zero_()
        B[:, :n], A[:n] = U[:, :n] * root, root[:, None] * Vh[:n]
        in_layers += float(S[:n].square().sum())
    if in_layers == 0:
        raise ConfigError(
            "the run moved no linear layer, so that a LoRA holds nothing of it; idim export --out writes it"
        )
    return (kept + in_layers) / sum(float(d.square().sum()) for d in moved.values())


def _in_head(wrapped: Any, name: str) -> bool:
    saved = wrapped.peft_config[adapters.NAME].modules_to_save or ()
    return name.rpartition(".")[0] in saved


def _compared(
    spec: RunSpec,
    found: FineTune,
    base: LoadedModel,
    trained: nn.Module,
    wrapped: Any,
    rank: int,
    kept: float,
) -> Fidelity:
    """Score both models on the validation rows of the run."""
    task, rows = task_of(spec.task), splits.load(spec.task, spec.data)
    encoded = task.encode(rows.validation, rows.label_names, base, spec.data.max_length)
    scores = [
        task.score(answer(task, model, encoded, found.precision, spec.train.eval_batch_size))[task.primary]
        for model in (trained, wrapped.get_base_model())  # PEFT's `generate` goes by the checkpoint's habits
    ]
    before, after = scores
    return Fidelity(rank, kept, task.primary, before, after, len(encoded))


def _write(wrapped: Any, found: FineTune, out: Path) -> None:
    with (
        new_folder("--to peft", out) as draft,
        warnings.catch_warnings(action="ignore"),
    ):  # PEFT's, of its own calls
        wrapped.save_pretrained(draft)
        (draft / "README.md").write_text(_how_to_load(wrapped, found), "utf-8")


def _how_to_load(wrapped: Any, found: FineTune) -> str:
    """The folder's README: what `from_pretrained` must be told beside the base model's name."""
    model, depth = wrapped.get_base_model(), found.model.num_hidden_layers
    said: dict[str, object] = {key: depth for key in DEPTHS if depth and hasattr(model.config, key)}
    if found.model.revision:
        said |= {"revision": found.model.revision}
    if wrapped.peft_config[adapters.NAME].modules_to_save:
        said |= {"num_labels": model.config.num_labels}
    words = [*(f"{key}={value!r}" for key, value in said.items()), "dtype=torch.float32"]
    return README.format(kind=type(model).__name__, base=base_id(found), words=", ".join(words))
