"""On a machine with a GPU: the same run there and on the CPU has the same training curve."""

import pytest
import torch
from torch import nn

from intrinsic_cli.subspace.attach import Subspace
from intrinsic_cli.training import inputs
from intrinsic_cli.training.device import Compute
from intrinsic_cli.training.trainer import Trainer


def curve(spec, loaded, device):
    losses = []

    def log(**record):
        losses.extend([record["loss"]] if "loss" in record else [])

    compute = Compute(torch.device(device), spec.train.precision)
    return losses, Trainer(spec, loaded, log=log, compute=compute).run()


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@needs_cuda
def test_starts_that_bfloat16_holds_take_two_bytes_a_number():
    def takes(exact):
        torch.manual_seed(0)
        model = nn.Linear(4096, 1024, device="cuda")
        if exact:
            model.bfloat16().float()
        before = torch.cuda.memory_allocated()
        with Subspace(model, "did", 100, dtype=torch.bfloat16):
            return torch.cuda.memory_allocated() - before

    takes(True)  # what the kernel keeps is there from now on
    assert takes(False) - takes(True) == pytest.approx(2 * 4097 * 1024, rel=0.01)


@needs_cuda
@pytest.mark.parametrize("kind", ["did", "said"])
def test_training_curves_agree_between_cpu_and_gpu(make_spec, kind):
    spec = make_spec(kind, d=100, max_steps=30)
    loaded = inputs.load(spec)
    for module in loaded.base.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # its masks come from the device's own generator
    on_gpu, gpu = curve(spec, loaded, "cuda")
    on_cpu, cpu = curve(spec, loaded, "cpu")
    assert (cpu.device, gpu.device.split(":")[0]) == ("cpu", "cuda")
    assert len(on_cpu) == 3
    assert on_gpu == pytest.approx(on_cpu, rel=1e-3)
    torch.testing.assert_close(gpu.tensors["theta"], cpu.tensors["theta"], rtol=0, atol=1e-2)
