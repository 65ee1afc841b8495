"""Hold the weights of a layer only while it runs, forward and backward: memory for time, with the same bits.

Autograd would keep a weight from the forward to the backward pass. Here it keeps a note instead, and the weight
is made once more when the backward pass asks for it.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from intrinsic_cli.errors import ConfigError


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The layers that `model` runs one after another: the members of its outermost `ModuleList`s, or of the lists
    that those hold, which nobody calls."""
    lists = {name: m for name, m in model.named_modules() if isinstance(m, nn.ModuleList)}
    outermost = [m for name, m in lists.items() if not any(name.startswith(f"{above}.") for above in lists)]
    return [layer for layers in outermost for layer in _members(layers)]


def _members(layers: nn.ModuleList | nn.ModuleDict) -> Iterator[nn.Module]:
    for layer in layers.values() if isinstance(layers, nn.ModuleDict) else layers:
        yield from _members(layer) if isinstance(layer, nn.ModuleList | nn.ModuleDict) else (layer,)


def own_weights(model: nn.Module, layer: nn.Module) -> set[int]:
    """The ids of the parameters that no module outside `layer` has."""
    outside: set[nn.Module] = set()  # what can be reached without `layer`: a module may be in several layers
    found = [model]
    while found:
        module = found.pop()
        if module is not layer and module not in outside:
            outside.add(module)
            found += module.children()
    elsewhere = {id(p) for module in outside for p in module.parameters(recurse=False)}
    return {id(p) for p in layer.parameters()} - elsewhere


def keep_no_freed_memory() -> None:
    """Have glibc give freed tensors back to the system: they fall apart in its heap and never fit again.

    The heap then grows by a third of a training step. Costs a page fault per page of an activation. Elsewhere
    nothing is done.
    """
    mmap_threshold, one_mib = -3, 1 << 20
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(mmap_threshold, one_mib)


class Streamed:
    """`weights` of `layer`, which hold numbers only while the layer is called; at other times they are NaN.

    Args:
        make: the present values of the weights with these indices, the same in a backward pass as in the
            forward pass before it.

    A module that reads a weight without running its layer gets NaN and not a stale number.
    """

    def __init__(
        self,
        layer: nn.Module,
        weights: Sequence[nn.Parameter],
        make: Callable[[Iterable[int]], list[Tensor]],
    ) -> None:
        self._weights, self._make = weights, make
        self._absent = [torch.tensor(torch.nan).to(w).expand(w.shape) for w in weights]
        self._places: dict[int, int] = {}
        # In place of hooks, which a model that calls `layer.forward` itself would pass by, as SqueezeBERT does.
        self._layer, self._own, self._of_others = layer, layer.forward, vars(layer).get("forward")
        layer.forward = self._forward
        self._open = True
        self._release()

    def close(self) -> None:
        """Let the layer go, with its weights in place."""
        self._open = False
        # Others who have put theirs around it since may put it back later: it then calls the layer's own alone.
        if vars(self._layer).get("forward") == self._forward:
            del self._layer.forward
            if self._of_others is not None:
                self._layer.forward = self._of_others
        self._fill()

    def _forward(self, *args: Any, **options: Any) -> Any:
        if not self._open:
            return self._own(*args, **options)
        if self._layer.training and getattr(self._layer, "gradient_checkpointing", False):
            raise ConfigError(
                f"projection.cache=stream makes the weights of a {type(self._layer).__name__} when it runs, and "
                "gradient checkpointing runs it anew past that; call model.gradient_checkpointing_disable(), or "
                "take projection.cache=auto"
            )
        self._fill()
        self._places = {w.untyped_storage().data_ptr(): i for i, w in enumerate(self._weights)}
        try:
            with saved_tensors_hooks(self._pack, self._unpack):
                return self._own(*args, **options)
        finally:
            self._release()

    def _fill(self) -> None:
        with torch.inference_mode(False), torch.no_grad():  # these tensors outlive an evaluation
            for weight, value in zip(self._weights, self._make(range(len(self._weights))), strict=True):
                weight.data = value

    def _release(self) -> None:
        for weight, absent in zip(self._weights, self._absent, strict=True):
            weight.data = absent

    def _pack(self, saved: Tensor):
        i = self._places.get(saved.untyped_storage().data_ptr())
        return saved if i is None else (i, saved.size(), saved.stride(), saved.storage_offset())

    def _unpack(self, packed) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        i, *view = packed
        with torch.no_grad():
            return self._make([i])[0].as_strided(*view)
