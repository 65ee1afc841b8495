"""PEFT's linear layer with LoRA, computed in one product: y = x (W + s B A)ᵀ + b, with s = α / r.

W + s B A is made where it is used, forward and backward, which costs r / width of a product with the weights, and
is not kept. That is faster than PEFT's y = x Wᵀ + b + s (x Aᵀ) Bᵀ, whose thin products and sums pass over every
activation. With g = ∂L/∂y the gradients are ∂L/∂A = s (g B)ᵀ x and ∂L/∂B = s gᵀ (x Aᵀ): none is of W's size. g B is
worth no pass over g of its own: it is the last r columns of g [W + s B A, B].
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import layer as peft
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D


class _Product(torch.autograd.Function):
    """x (k, m), W (n, m), b (n,) or None, A (r, m), B (n, r) -> (k, n). W and b are constants.

    Rows stand in a matrix, as of more axes `linear` makes a view, and what a function of one's own makes as a view
    may not be changed in place, as DeBERTa does.
    """

    @staticmethod
    def forward(ctx, x: Tensor, W: Tensor, b: Tensor | None, A: Tensor, B: Tensor, s: float) -> Tensor:
        ctx.save_for_backward(x, W, A, B)
        ctx.s = s
        return nn.functional.linear(x, torch.addmm(W, B, A, alpha=s), b)

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor):
        x, W, A, B = ctx.saved_tensors
        m, r = A.shape[1], A.shape[0]
        if ctx.needs_input_grad[0]:
            beside = W.new_empty(W.shape[0], m + r)
            torch.addmm(W, B, A, alpha=ctx.s, out=beside[:, :m])
            beside[:, m:] = B
            both = g @ beside
            of_x, of_product = both[:, :m], both[:, m:]
        else:
            of_x, of_product = None, g @ B
        of_A = of_product.mul(ctx.s).T @ x if ctx.needs_input_grad[3] else None
        # With the thin matrix on the left, and its rows whole, it takes half of the time.
        of_B = ((x @ A.T).mul_(ctx.s).T.contiguous() @ g).T if ctx.needs_input_grad[4] else None
        return of_x, None, None, of_A, of_B, None


class Linear(peft.Linear):
    """PEFT's layer; what it computes otherwise (in bfloat16, merged, with other arguments) it still does itself."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        weight = self.base_layer.weight
        plain = not (args or kwargs or self.merged or self.disable_adapters) and x.dtype == weight.dtype
        if not plain or weight.dtype == torch.bfloat16 or torch.is_autocast_enabled(x.device.type):
            return super().forward(x, *args, **kwargs)
        [name] = self.active_adapters
        A, B = self.lora_A[name].weight, self.lora_B[name].weight
        W = weight.T if self.fan_in_fan_out else weight
        rows = x.reshape(-1, x.shape[-1])
        made = _Product.apply(rows, W, self.base_layer.bias, A, B, self.scaling[name])
        return made.view(*x.shape[:-1], made.shape[-1])


def in_one_product(model: nn.Module) -> None:
    """Let every layer of `model` with a LoRA, and nothing more of PEFT's than that, compute so."""
    for module in model.modules():
        if type(module) is not peft.Linear:
            continue
        drops = any(not isinstance(each, nn.Identity) for each in module.lora_dropout.values())
        frozen = not any(p.requires_grad for p in module.base_layer.parameters())
        # A class with arithmetic of its own keeps it.
        plain = type(module.base_layer).forward in (nn.Linear.forward, Conv1D.forward)
        if frozen and plain and not (drops or module.lora_variant or any(module.lora_bias.values())):
            module.__class__ = Linear
