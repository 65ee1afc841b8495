"""Train an `nn.Module` in a random subspace: θ_D = θ_0 + P θ_d (DID) or θ_i = θ_{0,i} + λ_i (P θ)_i (SAID).

Weights are written in place once per step and gradients leave by hook, tensor by tensor, so no full gradient
and no optimizer state of size D ever exists, and the model keeps its class and the keys of its state_dict.

Source: Li et al. 2018 (arXiv 1804.08838) for DID; Aghajanyan et al. 2021 (arXiv 2012.13255), §3 for SAID.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from intrinsic_cli.errors import ConfigError
from intrinsic_cli.projections import make_projection
from intrinsic_cli.projections.contract import Projection, Scales, add_to_all, fold_all, fold_rows
from intrinsic_cli.spec import ProjectionSpec, SubspaceSpec, stream_seed
from intrinsic_cli.subspace.exact import Exact, narrowed
from intrinsic_cli.subspace.selection import free_dimensions, group_of, scale_names, select
from intrinsic_cli.subspace.streaming import Streamed, keep_no_freed_memory, layers_of, own_weights

# Gradients are folded when so many numbers have come: few starts of the threads or of a GPU, little memory held.
ENOUGH = {"cpu": 1 << 22, "cuda": 1 << 26}
# One hook takes the gradients of so many weights. A CPU's takes each tensor's as soon as it is there; a GPU
# waits for hooks, which cost as much time as a kernel of its backward pass.
HOOKED = {"cpu": 1, "cuda": 1 << 25}

# What compiling, checkpoints of activations and sharding write into the names of what they wrap.
WRAPPERS = ("_orig_mod.", "_checkpoint_wrapped_module.", "_fsdp_wrapped_module.")
# The weights that an open subspace moves. Kept beside them, as an attribute would go into copies and pickles.
_OWNED: WeakIdKeyDictionary = WeakIdKeyDictionary()


def _check_names(model: nn.Module) -> None:
    """Raise ConfigError at a wrapper, which renames the tensors: P and SAID's groups go by their names."""
    wrapped = any(mark in name for mark in WRAPPERS for name, _ in model.named_parameters())
    if wrapped or isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise ConfigError(
            f"Subspace({type(model).__name__}): P is drawn by the tensors' names, which this wrapper changes; give "
            "the model itself and wrap it afterwards, or compile it in place by model.compile()"
        )


def _check_free(moved: Mapping[str, nn.Parameter]) -> None:
    """Raise ConfigError at a weight that a subspace can't take, or that another has taken."""
    memory: dict[int, str] = {}
    for name, p in moved.items():
        if p.dtype == torch.float64:
            raise ConfigError(f"{name} is float64, and θ is float32; call model.float() first")
        if p in _OWNED:
            raise ConfigError(
                f"{name} is moved by another subspace that is still open, whose hooks would take its gradients; "
                "close() that one first, or write `with Subspace(...) as space:`"
            )
        first = memory.setdefault(p.data_ptr(), name) if p.data_ptr() else name
        if first != name:
            raise ConfigError(
                f"{name} and {first} are two parameters in one memory, which would be torn apart; tie them by "
                "giving both modules the same nn.Parameter"
            )


@dataclass
class _Slice:
    """One selected tensor: its rows of P, its share of the scale, and its group."""

    name: str
    weight: nn.Parameter
    start: Tensor  # θ_0, exact
    projection: Projection
    scale: float
    group: int
    index: int  # of this tensor among the selected


def _same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of four or eight bytes a number are alike, of which NaN is like itself."""
    return torch.equal(a.view(torch.int32), b.view(torch.int32))


def _square(values: Tensor) -> Tensor:
    """The squared length, in float32."""
    return torch.linalg.vector_norm(values, dtype=torch.float32).square()


class Full(nn.Module):
    """Every trainable weight of `model`, under the interface of `Subspace`: full fine-tuning, or an adapter.

    As with `Subspace`, the tensors that the model came with are left as they are: it gets copies to train. With
    `dtype` the model computes in it, and what is trained stays float32 (`Exact`).
    """

    version = None  # of the draw of P: there is no P

    def __init__(self, model: nn.Module, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self._named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        weights = list(self._named.values())
        starts = [p.data for p in weights]
        if dtype is not None:
            model.to(dtype)
        for p in weights:
            p.data = p.data.clone()
        self.direct = Exact(weights, starts)
        self.m = 0
        self.d = self.D = sum(p.numel() for p in weights)

    def named(self) -> dict[str, nn.Parameter]:
        """What is trained, by its name in the model."""
        return dict(zip(self._named, self.direct, strict=True))

    def moved(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Name and weight of every tensor that moves."""
        return iter(self._named.items())

    def write(self) -> None:
        """Round what is trained into weights of a coarser dtype; float32 weights are moved themselves."""
        self.direct.write()

    def end_pass(self) -> None:
        """Take the gradients of one backward pass off weights of a coarser dtype."""
        self.direct.take()

    def collect(self) -> None:
        """As `end_pass`: the gradients are where the optimizer looks for them."""
        self.direct.take()

    def close(self) -> None:
        """Nothing to do: the model is not held by hooks."""


class Subspace(nn.Module):
    """θ_d, and λ for SAID, of a model whose selected weights it owns until `close`.

    Args:
        model: any module; its selected weights are overwritten by `write`, in their own dtype and device.
        spec: `did` or `said`, with normalisation, groups, patterns and the treatment of the head; the bare
            word stands for the defaults.
        d: how many numbers are trained in all: θ, the m scales of SAID, and a head trained directly.
        seed: of P, unless `projection.seed` is set; each tensor draws from `stream_seed(seed, "P/" + name)`.
        projection: kind of P, its kernel, and how its random numbers are kept. `cache="stream"` keeps neither
            them nor the weights of the model's layers, which are made when a layer runs, forward and backward,
            with the same bits, and are NaN at other times until `close`. θ must not change between the two.
        head: names of the classification head's tensors.
        dtype: cast the model to it (bfloat16, say) while θ_0 and a directly trained head stay exact, so that
            the weights are rounded once per step and nothing is lost by accumulation. None leaves the model's
            own dtypes.
        version: of the draw of P; None is the newest.

    Attributes:
        version: of the draw of P; 1 where d is so small that all versions are the same matrix.
        theta: (d − m − head,) float32, starts at 0.  lam: (m,) float32, starts at 1, or None for DID.
        d, m, D: trained numbers, scales, and weights that P moves.
        passes: (2,) float32, of the step that was last collected: the squared lengths of the gradients of the
            weights that P moves, and of θ, each summed over the backward passes (`end_pass`).

    `parameters()` yields θ, λ and a directly trained head: all that an optimizer needs. Per step:
    `write()`, forward, backward (any number of times), `collect()`, optimizer step. The weights follow the
    last step's θ at the next `write`, or when the subspace is closed: `with Subspace(...) as space:`.

    `collect` replaces `theta.grad` and `lam.grad`, where a directly trained head's gradients add up until
    `zero_grad()`. A backward pass that is not to count, of a loss that is no number, say, is dropped by
    `space.zero_grad()`; the optimizer's own does not reach what has left the weights.
    To keep a state while it is open, copy a `state_dict()`, of the space (d numbers) or of the model. The space
    itself can't be copied, nor can a streamed model, and a copy of another one has frozen tensors, and embeddings
    with sparse gradients.

    Raises ConfigError where d leaves nothing for θ, at float64 weights, at those that another open subspace moves,
    at a wrapped model, and where `collect` finds θ or λ changed since `write`. A refused model is as it was.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: SubspaceSpec | str,
        d: int,
        seed: int = 0,
        projection: ProjectionSpec = ProjectionSpec(),  # noqa: B008 (frozen)
        head: Sequence[str] = (),
        dtype: torch.dtype | None = None,
        version: int | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise ConfigError(f"Subspace({model!r}): the first argument is the model, a torch.nn.Module")
        spec = SubspaceSpec(spec) if isinstance(spec, str) else spec
        if not spec.has_theta:
            raise ConfigError(f"Subspace(model, {spec.kind!r}) has no θ to train; choose did or said")
        _check_names(model)
        seed = seed if projection.seed is None else projection.seed
        free = free_dimensions(model, spec, d, head)
        moved, direct = select(model, spec, head)
        _check_free(moved)
        groups = scale_names(moved, spec, head)
        self.m = len(groups)
        self.d = d
        self.D = sum(p.numel() for p in moved.values())
        device = next(iter(moved.values())).device
        self.theta = nn.Parameter(torch.zeros(free, device=device))
        self.lam = nn.Parameter(torch.ones(self.m, device=device)) if self.m else None
        projections = {name: self._draw(name, p, seed, projection, version) for name, p in moved.items()}
        starts = self._take_over(model, moved, list(direct.values()), dtype)
        self._slices = [
            _Slice(
                name, p, starts[name], projections[name],
                scale=math.sqrt(p.numel() / self.D) if spec.normalize == "global" else 1.0,
                group=groups.index(group_of(name, spec.groups, head)) if groups else 0,
                index=index,
            )
            for index, (name, p) in enumerate(moved.items())
        ]  # fmt: skip
        self._kept = self._slices  # what `write` writes; the layers of the others make them when they run
        self._streams: list[Streamed] = []
        self._lead = self._slices[0].projection
        self.version = self._lead.version
        self._x = self._lead.encode(self.theta.detach())
        shares = [part.scale for part in self._slices]
        self._shares = torch.tensor(
            shares, dtype=torch.float64, device=device if device.type == "cuda" else "cpu"
        )
        self._groups = torch.tensor([part.group for part in self._slices], device=self._shares.device)
        self._enough = ENOUGH.get(device.type, ENOUGH["cpu"])
        self._begin_sums(device)
        self._hook_gradients(model, device)
        self._written = self._present()
        for part in self._slices:
            _OWNED[part.weight] = None
        self._open = True
        if projection.cache == "stream":
            self._stream(model)

    def _draw(
        self, name: str, p: nn.Parameter, seed: int, projection: ProjectionSpec, version: int | None
    ) -> Projection:
        """The rows of P that move the tensor `name`."""
        return make_projection(
            projection.kind,
            shape=(*p.shape, len(self.theta)),
            seed=stream_seed(seed, f"P/{name}"),
            cache="regenerate" if projection.cache == "stream" else projection.cache,
            version=version,
            kernel=projection.kernel,
        )

    def __enter__(self) -> Subspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise ConfigError(
            "a Subspace holds its model by hooks and can't be copied or pickled; copy its state_dict(), d numbers"
        )

    def _take_over(
        self,
        model: nn.Module,
        moved: Mapping[str, nn.Parameter],
        direct: Sequence[nn.Parameter],
        dtype: torch.dtype | None,
    ) -> dict[str, Tensor]:
        """Freeze all other weights, cast the model, and give what is trained tensors of its own. Returns θ_0.

        On a CPU the tensors that the model came with are θ_0, which others may share. A GPU has a copy of its own.
        """
        trained = [*moved.values(), *direct]
        keep = {id(p) for p in trained}
        self._frozen = [p for p in model.parameters() if p.requires_grad and id(p) not in keep]
        for p in self._frozen:
            p.requires_grad_(False)
        starts = {name: p.data.contiguous() for name, p in moved.items()}
        if any(start.is_cuda for start in starts.values()):
            starts = narrowed(starts)
        self._direct_starts = [(p, p.data) for p in direct]
        if dtype is not None:
            model.to(dtype)
        for p in trained:
            p.data = p.data.clone(memory_format=torch.contiguous_format)
        self.direct = Exact(direct, [start for _, start in self._direct_starts])
        return starts

    def _begin_sums(self, device: torch.device) -> None:
        """Zeros for the gradients of θ and λ, and nothing taken yet."""
        self._z = self._lead.accumulator(torch.float32, device)
        # SAID needs ⟨Pᵀg, θ⟩ of each group for its λ: a group's sum stays apart until another group's begins.
        self._group = 0
        self._taken: list[tuple[_Slice, Tensor]] = []
        self._group_z = torch.zeros_like(self._z) if self.m else self._z
        self._dlam = torch.zeros(self.m, device=device)
        self._square = torch.zeros((), device=device)  # of the gradients folded in this backward pass
        self._folded = False  # whether there were any
        self._waiting = False  # whether any were taken that `collect` has not handed on
        self._seen = torch.zeros_like(self.theta.data)  # θ's gradient as of the last `end_pass`
        self._passes = torch.zeros(2, device=device)
        self.passes = self._passes

    def _hook_gradients(self, model: nn.Module, device: torch.device) -> None:
        """Have the gradients taken off their tensors soon after they are there; `end_pass` takes the rest."""
        self._hooks = []
        enough = HOOKED.get(device.type, HOOKED["cpu"])
        waiting: list[_Slice] = []
        for part in reversed(self._slices):  # about the order in which gradients come
            part.weight.grad = None  # of a backward pass before this subspace
            waiting.append(part)
            if sum(p.weight.numel() for p in waiting) >= enough:
                take = partial(self._take, tuple(waiting))
                self._hooks.append(
                    part.weight.register_post_accumulate_grad_hook(lambda _, take=take: take())
                )
                waiting.clear()
        # A batch uses few rows of a word embedding: on a CPU its gradient comes as those rows.
        moved = {id(part.weight) for part in self._slices}
        self._embeddings = [
            module
            for module in model.modules()
            if isinstance(module, nn.Embedding) and id(module.weight) in moved and device.type != "cuda"
            and not module.sparse and not module.scale_grad_by_freq  # which torch does for dense ones alone
        ]  # fmt: skip
        for module in self._embeddings:
            module.sparse = True

    def _present(self) -> list[Tensor]:
        """θ and λ, to be held against later ones.

        On a GPU, where a look at them waits, how often autograd has seen them change in place. A fused optimizer's
        steps it does not see.
        """
        trained = [p for p in (self.theta, self.lam) if p is not None]
        return [torch.tensor([p._version]) if p.is_cuda else p.detach().clone() for p in trained]

    def _changed(self) -> bool:
        """Whether θ or λ is another than at the last `write`."""
        return not all(map(_same_bits, self._written, self._present()))

    @torch.no_grad()
    def _drop(self) -> None:
        """Forget the gradients that were not collected."""
        for part in self._slices:
            part.weight.grad = None
        self.direct.drop()
        self._taken.clear()
        for sums in (self._z, self._group_z, self._dlam, self._square, self._passes):
            sums.zero_()
        self._seen = torch.zeros_like(self._seen)  # the last one is θ's gradient
        self._folded = self._waiting = False

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients: of θ, λ and a directly trained head, and those that were not collected yet."""
        super().zero_grad(set_to_none)
        if self._open:
            self._drop()

    @torch.no_grad()
    def write(self) -> None:
        """Set every selected weight to θ_0 + λ P θ, from exact values, rounded once to its dtype.

        Those that are streamed get the new values when their layer runs. Gradients of another θ that were not
        collected are dropped.
        """
        waiting = self._waiting or any(part.weight.grad is not None for part in self._slices)
        if waiting and self._changed():
            self._drop()
        self._written = self._present()
        self._x = self._lead.encode(self.theta.detach())
        if self.lam is not None:  # which stays on a GPU
            self._factors = self._shares * self.lam.detach().to(self._shares)[self._groups]
        self._add(self._kept, [part.weight for part in self._kept])
        self.direct.write()

    def _add(self, parts: Sequence[_Slice], out: Sequence[Tensor]) -> None:
        """out ← θ_0 + λ P θ of `parts`, for θ and λ as the last `write` found them."""
        add_to_all(
            [part.projection for part in parts],
            [part.start for part in parts],
            self._x,
            self._scales(parts),
            out,
        )

    def _scales(self, parts: Sequence[_Slice]) -> Scales:
        """√c λ of each, as of the last `write`."""
        if self.lam is None:
            return [part.scale for part in parts]
        return (
            self._factors[[part.index for part in parts]] if len(parts) < len(self._slices) else self._factors
        )

    def _stream(self, model: nn.Module) -> None:
        """Leave the weights of each layer of `model` to the layer's own hooks."""
        keep_no_freed_memory()
        for layer in layers_of(model):
            own = own_weights(model, layer)
            parts = [part for part in self._kept if id(part.weight) in own]
            if parts:
                self._kept = [part for part in self._kept if id(part.weight) not in own]
                weights = [part.weight for part in parts]
                self._streams.append(Streamed(layer, weights, partial(self._make, parts)))

    def _make(self, parts: Sequence[_Slice], indices: Iterable[int]) -> list[Tensor]:
        chosen = [parts[i] for i in indices]
        out = [torch.empty(p.weight.shape, dtype=p.weight.dtype, device=p.weight.device) for p in chosen]
        self._add(chosen, out)
        return out

    @torch.no_grad()
    def _take(self, parts: Sequence[_Slice]) -> None:
        """Take the gradients that are there off their tensors, and fold what was taken once it is worth a start."""
        for part in parts:
            grad = part.weight.grad
            if grad is None:
                continue
            part.weight.grad = None
            self._waiting = True
            if part.group != self._group:
                self._close_group()
                self._group = part.group
            if grad.is_sparse:
                rows, values = grad._indices()[0], grad._values()
                self._square.add_(_square(grad.coalesce()._values()))
                fold_rows(part.projection, rows, values, part.scale, self._group_z)
                self._folded = True
                continue
            self._taken.append((part, grad.contiguous()))
        if sum(grad.numel() for _, grad in self._taken) >= self._enough:
            self._fold()

    def _fold(self) -> None:
        """Add the gradients taken so far to the open group's sum, and let them go."""
        if not self._taken:
            return
        parts, grads = [part for part, _ in self._taken], [grad for _, grad in self._taken]
        self._square += fold_all(
            [p.projection for p in parts], grads, [p.scale for p in parts], self._group_z
        )
        self._taken.clear()
        self._folded = True

    def _close_group(self) -> None:
        """Add the open group's sum to the gradients of its λ and of θ. For DID the sum is θ's own."""
        self._fold()
        if self.lam is None:
            return
        self._dlam[self._group] += (self._group_z @ self._x).sum()
        self._z.addcmul_(self._group_z, self.lam[self._group])
        self._group_z.zero_()

    @torch.no_grad()
    def end_pass(self) -> None:
        """Close one of several backward passes of a step, so that `passes` tells each one's gradients apart."""
        self._take(self._slices)
        self._close_group()
        self.direct.take()
        if not self._folded:  # since the last call
            return
        self._folded = False
        seen = self._lead.decode(self._z)
        self._passes += torch.stack([self._square, _square(seen - self._seen)])
        self._seen = seen
        self._square.zero_()

    @torch.no_grad()
    def collect(self) -> None:
        """Move what the backward passes folded since the last call into `theta.grad` and `lam.grad`.

        Raises ConfigError where θ or λ has changed since `write`: the gradients are those of other weights.
        """
        if self._changed():
            self._drop()
            raise ConfigError(
                "θ has changed since the weights were written, so these gradients belong to other weights; call "
                "write() before each forward pass"
            )
        self.end_pass()
        self.passes, self._passes = self._passes, torch.zeros_like(self._passes)
        self.theta.grad, self._seen = self._seen, torch.zeros_like(self._seen)
        self._z.zero_()
        self._waiting = False
        if self.lam is not None:
            self.lam.grad = self._dlam.clone()
            self._dlam.zero_()

    def named(self) -> dict[str, nn.Parameter]:
        """What is trained, as files name it: `theta`, `lam`, and `head.0` and so on."""
        scales = {} if self.lam is None else {"lam": self.lam}
        return {"theta": self.theta, **scales, **{f"head.{i}": p for i, p in enumerate(self.direct)}}

    def moved(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Name and weight of every tensor that P moves, each once."""
        return ((part.name, part.weight) for part in self._slices)

    @torch.no_grad()
    def close(self, *, restore: bool = False) -> None:
        """Leave the model with the weights that θ and λ say now, or with `restore` with θ_0 again, and let go of
        it: remove the hooks and thaw what was frozen. Closing twice is closing once."""
        try:
            if self._open and not restore:
                self.write()  # whatever has become of θ
        finally:
            self._let_go()
        if restore:
            for part in self._slices:
                part.weight.data.copy_(part.start)
            for p, start in self._direct_starts:
                p.copy_(start)

    def _let_go(self) -> None:
        """Take off the model all that makes it another than before, but for its numbers."""
        if self._open:
            for part in self._slices:
                part.weight.grad = None  # of a backward pass that nobody collected
                _OWNED.pop(part.weight, None)
        self._open = False
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        for p in self._frozen:
            p.requires_grad_(True)
        for module in self._embeddings:
            module.sparse = False
        for stream in self._streams:
            stream.close()
        self._streams.clear()
        self._kept = self._slices
