"""Make tests/golden: portable fine-tunes of every draw version, and facts about them from an oracle.

The facts come from P as `oracle.py` has it, plain float64 arithmetic and torch's own `functional_call`; of the
package only the tiny base model is used. `python -m support.make_golden`, in `tests`, writes those that are not
there: old files must keep loading.
"""

import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from support.oracle import MATRICES, fastfood_rows
from torch.func import functional_call

from intrinsic_cli.finetunes.file import FineTune
from intrinsic_cli.finetunes.rebuild import head_hash
from intrinsic_cli.models import pretrained
from intrinsic_cli.spec import ModelSpec, ProjectionSpec, SubspaceSpec

FOLDER = Path(__file__).parents[1] / "golden"
SEED = 3
SENTENCES = ("a quiet day", "LOUD noises!")
LOOKED_AT = (
    "bert.embeddings.word_embeddings.weight",
    "bert.encoder.layer.1.output.LayerNorm.bias",
    "classifier.weight",
)


def p_seed(name):
    digest = hashlib.blake2b(f"{SEED}/P/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def group(name):
    """The layer of a tensor, by hand: embeddings, two layers, pooler, head."""
    if name.startswith("classifier"):
        return "head"
    return ".".join(name.split(".")[: 4 if ".layer." in name else 2])


def project(projection, version, size, seed, theta):
    """P θ by the oracle."""
    if len(theta) > 4096:
        return fastfood_rows(range(size), size, seed, version, theta)
    options = {"version": version} if projection == "fastfood" else {}
    return MATRICES[projection](size, len(theta), seed, **options) @ theta


def facts(kind, projection, normalize, size, version):
    """θ of `size` numbers, λ, and by the oracle: some moved weights and the logits of SENTENCES in float64."""
    base = pretrained.load(ModelSpec("tiny"), 2, label_names=("calm", "loud"))
    pretrained.draw_head(base.model, base.head, SEED)
    theta = np.random.default_rng(5).normal(size=size).astype(np.float32)
    start = {name: p.detach().double().numpy() for name, p in base.model.named_parameters()}
    groups = list(dict.fromkeys(map(group, start)))
    lam = (1 + 0.1 * np.arange(len(groups))).astype(np.float32) if kind == "said" else None
    D = sum(w.size for w in start.values())
    moved = {}
    for name, weights in start.items():
        moves = project(projection, version, weights.size, p_seed(name), theta.astype(float))
        scale = math.sqrt(weights.size / D) if normalize == "global" else 1.0
        scale *= 1.0 if lam is None else lam[groups.index(group(name))]
        moved[name] = torch.from_numpy(weights + scale * moves.reshape(weights.shape))
    network = base.model.double().eval()
    with torch.no_grad():
        logits = functional_call(
            network, moved, kwargs=base.tokenizer(list(SENTENCES), padding=True, return_tensors="pt")
        )
    told = {
        name: moved[name].flatten()[:: max(1, moved[name].numel() // 7)][:7].tolist() for name in LOOKED_AT
    }
    return theta, lam, {"weights": told, "logits": logits.logits.tolist()}


def write(name, kind, projection, normalize, size=24, version=1):
    if (FOLDER / f"{name}.json").exists():
        return
    theta, lam, told = facts(kind, projection, normalize, size, version)
    base = pretrained.load(ModelSpec("tiny"), 2, label_names=("calm", "loud"))
    pretrained.draw_head(base.model, base.head, SEED)
    tensors = {"theta": torch.from_numpy(theta)} | ({} if lam is None else {"lam": torch.from_numpy(lam)})
    found = FineTune(
        model=ModelSpec("tiny"), weights_hash=base.weights_hash, head_hash=head_hash(base),
        subspace=SubspaceSpec(kind, normalize), projection=ProjectionSpec(projection, seed=SEED), version=version,
        precision="fp32", max_length=64, labels=("calm", "loud"), kind="classification", task="easy",
        metric="accuracy", score=0.5, n_eval=40, tensors=tensors,
    )  # fmt: skip
    (FOLDER / f"{name}.safetensors").write_bytes(found.to_bytes())
    (FOLDER / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    write("did-fastfood-v1", "did", "fastfood", "global")
    write("said-sorf-v1", "said", "sorf", "tensor")
    write("did-fastfood-5000-v1", "did", "fastfood", "tensor", size=5000)
    write("did-fastfood-5000-v2", "did", "fastfood", "tensor", size=5000, version=2)
    write("did-fastfood-v3", "did", "fastfood", "global", version=3)
    write("did-fastfood-5000-v3", "did", "fastfood", "tensor", size=5000, version=3)
    write("said-signs-v1", "said", "signs", "tensor")
    sys.exit(0)
