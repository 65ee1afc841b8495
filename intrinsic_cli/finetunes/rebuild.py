"""From a portable fine-tune and its base model back to the fine-tuned model, its scores, or a folder."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from intrinsic_cli.errors import ModelError, StoreError
from intrinsic_cli.files import check_new, new_folder, write_whole, writing
from intrinsic_cli.finetunes.file import SUFFIX, FineTune
from intrinsic_cli.models import adapters, pretrained
from intrinsic_cli.models.pretrained import LoadedModel
from intrinsic_cli.projections import versions
from intrinsic_cli.rundir import RunDir
from intrinsic_cli.spec import ModelSpec
from intrinsic_cli.subspace.attach import Full, Subspace
from intrinsic_cli.training.device import Compute
from intrinsic_cli.training.inputs import Inputs

log = logging.getLogger(__name__)


def load(
    source: str | Path | FineTune, model: str | None = None, *, trust_remote_code: bool = False
) -> tuple[Any, Any]:
    """The fine-tuned model, in evaluation mode on the CPU, and its tokenizer, from a file or a FineTune.

    `model` is another place of the base model (a folder, say); its weights must be the same. No code that a
    file names is run unless `trust_remote_code`. The weights are, bit for bit, those at the end of training
    on this kind of machine; so are the logits in the precision of training, which for `bf16` is under
    `torch.autocast("cpu", torch.bfloat16)`. Raises StoreError or ModelError.
    """
    found = source if isinstance(source, FineTune) else FineTune.read(source)
    base = base_of(found, model, trust_remote_code=trust_remote_code)
    return build(found, base), base.tokenizer


def base_of(
    found: FineTune, model: str | None = None, *, trust_remote_code: bool = False, own: bool = False
) -> LoadedModel:
    """The base model of a fine-tune. Of one's `own` run stands what it says of code, pickles and downloads.

    Raises ModelError where its weights, tokenizer or settings are not those of training.
    """
    spec = replace(found.model, fingerprint=None)
    if not own:
        usual = ModelSpec(model or spec.name)
        spec = replace(
            spec, name=usual.name, revision=None if model else spec.revision, allow_pickle=usual.allow_pickle,
            trust_remote_code=trust_remote_code, download_limit=usual.download_limit,
        )  # fmt: skip
    try:
        base = pretrained.load(spec, len(found.labels), found.labels, kind=found.kind)
    except ModelError as error:
        if model is None:
            raise
        raise ModelError(str(error).replace("model.name=", "--model ")) from error  # as it was given
    if base.weights_hash != found.weights_hash:
        raise ModelError(
            f"the weights of {spec.name} (SHA-256 {base.weights_hash[:12]}…) are not those this fine-tune "
            f"belongs to ({found.weights_hash[:12]}…); give their folder as the model"
        )
    if found.settings_hash is None:
        log.warning(
            "the file is of an earlier version, which recorded no tokenizer and config of its base model: see that "
            "%s has those of the training",
            spec.name,
        )
    elif base.settings_hash != found.settings_hash:
        raise ModelError(
            f"{spec.name} has the weights that this fine-tune belongs to, but another tokenizer, config.json or "
            "buffers; give the folder it was trained from, read by the same version of transformers"
        )
    return base


def build(found: FineTune, base: LoadedModel) -> Any:
    """`base.model` itself, turned into the fine-tuned model and set to evaluation mode."""
    pretrained.draw_head(base.model, base.head, found.seed)
    if found.head_hash is not None and head_hash(base) != found.head_hash:
        raise ModelError(
            f"this version of transformers or torch draws another head for {found.model.name} than the one "
            "trained from; use the versions of the training"
        )
    adapters.attach(base.model, found.adapter, base.head, found.seed, base.idle if found.spared else ())
    itself = found.subspace.kind == "full"  # the adapter's numbers were trained and no θ
    dtype = torch.bfloat16 if found.precision == "pure_bf16" else None
    space = Full(base.model, dtype) if itself else attach(found, base.model, base.head)
    with closing(space):
        place(space, found.tensors)
    # A sum is not finite where a term is not, and costs a tenth of looking at each.
    if not all(math.isfinite(weight.detach().sum()) for _, weight in space.moved()):
        raise StoreError(f"θ moves weights of {found.model.name} beyond float32; the file is damaged")
    return base.model.eval()


def head_hash(base: LoadedModel) -> str:
    """SHA-256 of the drawn head."""
    parameters = dict(base.model.named_parameters())
    digest = hashlib.sha256()
    for name in base.head:
        digest.update(f"{name}\0".encode() + parameters[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def attach(found: FineTune, model: nn.Module, head: Sequence[str]) -> Subspace:
    """The subspace of `found` on a model whose head is drawn. Raises StoreError where P can't be drawn here."""
    known = versions(found.projection.kind)
    if found.version not in known:
        raise StoreError(
            f"the fine-tune has draw version {found.version} of {found.projection.kind}, "
            f"and this idim draws up to version {known[-1]}; use the idim that wrote it"
        )
    return Subspace(
        model, found.subspace, found.d, found.seed, replace(found.projection, cache="regenerate"),
        head=head, version=found.version, dtype=torch.bfloat16 if found.precision == "pure_bf16" else None,
    )  # fmt: skip


@contextmanager
def rebuilt(found: FineTune, inputs: Inputs) -> Iterator[tuple[nn.Module, Subspace]]:
    """The model of a fine-tune on the device in use, made of it and a run's base model alone, and its subspace as
    long as the block lasts. Raises as `attach` and `place`."""
    model = inputs.fresh_model(found.seed).to(Compute.here(found.precision).device)
    with closing(attach(found, model, inputs.head)) as space:
        place(space, found.tensors)
        yield model, space


@torch.no_grad()
def place(space: Full | Subspace, tensors: Mapping[str, Tensor]) -> None:
    """Set θ, λ and a trained head, and write the weights. Raises StoreError where shapes do not fit."""
    targets = space.named()
    wanted = {name: tuple(p.shape) for name, p in targets.items()}
    shapes = {name: tuple(t.shape) for name, t in tensors.items()}
    if shapes != wanted:
        raise StoreError(f"the fine-tune has {shapes} where its base model takes {wanted}")
    for name, target in targets.items():
        target.copy_(tensors[name])
    space.write()


def export(run: RunDir, out: Path) -> Path:
    """Write the fine-tune of a finished run to `out`, a file, or a folder that gets `RUN.safetensors`.

    The base model is loaded to record the head that its library draws. Raises StoreError or ModelError.
    """
    found = FineTune.of_run(run)
    with writing("--out", out, "file"):
        if out.is_dir() or out.suffix != SUFFIX:
            out = out / f"{run.path.resolve().name}{SUFFIX}"
    base = base_of(found, own=True)
    pretrained.draw_head(base.model, base.head, found.seed)
    content = replace(found, head_hash=head_hash(base)).to_bytes()
    with writing("--out", out, "file"):
        out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, content)
    return out


def apply(
    source: str | Path, out: Path, model: str | None = None, *, trust_remote_code: bool = False
) -> None:
    """Write the fine-tuned model and its tokenizer as an ordinary Hugging Face folder. Its config says under `idim`
    how a language model is asked, and which columns another one read (`FineTune.asks`).

    Raises StoreError where `out` is a file or a folder that is not empty or the base model is quantized, and as
    `load`.
    """
    check_new("--out", out)
    found = FineTune.read(source)
    if found.model.quantize is not None:
        raise StoreError(
            f"{source} is of {found.model.name} with model.quantize={found.model.quantize}, to whose weights no "
            "adapter can be added exactly; idim export RUN --to peft DIR writes the adapter itself"
        )
    network, tokenizer = load(found, model, trust_remote_code=trust_remote_code)
    adapters.merge(network)
    if found.asks:
        network.config.idim = {"kind": found.kind, "task": found.task, **found.asks}
    with new_folder("--out", out) as draft:
        network.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
