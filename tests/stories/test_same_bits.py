"""The same words make the same bits in another process, and another kernel the same P."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from intrinsic_cli.cli import main as cli
from intrinsic_cli.projections import KINDS, make_projection
from intrinsic_cli.training.inputs import Loader
from intrinsic_cli.training.trainer import Trainer

SCRIPT = """
import sys, torch
from intrinsic_cli.projections import make_projection
torch.manual_seed(999)
P = make_projection({kind!r}, shape=(5000, 300), seed=21)
theta = torch.arange(300, dtype=torch.float32).sin()
for part in (P.matvec(theta), P.rmatvec(torch.arange(5000.0).cos())):
    sys.stdout.buffer.write(part.numpy().tobytes())
"""


@pytest.mark.parametrize("kind", KINDS)
def test_another_process_gets_the_same_bits(kind):
    P = make_projection(kind, shape=(5000, 300), seed=21)
    mine = P.matvec(torch.arange(300, dtype=torch.float32).sin()), P.rmatvec(torch.arange(5000.0).cos())
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(kind=kind)], capture_output=True, check=True)
    assert done.stdout == b"".join(part.numpy().tobytes() for part in mine)


def theta_of(folder):
    [path] = folder.rglob("theta.safetensors")
    return load_file(path)


def test_same_command_same_bits_also_in_another_process(make_spec, task_folder, tmp_path, capsys):
    def words(out, seed):
        return [
            "run", "model=tiny", "task=custom", f"task.path={task_folder}", "subspace=said", "d=200",
            "lr=0.1", f"seed={seed}", "train.max_steps=8", "train.batch_size=16",
            f"output_dir={tmp_path / out}",
        ]  # fmt: skip

    code = "from intrinsic_cli.cli.main import main; raise SystemExit(main())"
    done = subprocess.run([sys.executable, "-c", code, *words("other", 5)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    torch.manual_seed(99)
    torch.rand(7)
    before = make_spec("full", lr=1e-3, precision="pure_bf16")  # another run before, of another precision
    Trainer(before, Loader()(before), log=lambda **_: None).run()
    assert cli.main(words("here", 5)) == 0
    assert cli.main(words("seed", 6)) == 0
    assert done.stdout.splitlines()[0] == capsys.readouterr().out.splitlines()[0]
    other, here, seed = (theta_of(tmp_path / name) for name in ("other", "here", "seed"))
    assert other.keys() == here.keys() == {"theta", "lam"}
    assert all(torch.equal(other[key], here[key]) for key in other)
    assert here["theta"].any()
    assert not torch.equal(here["theta"], seed["theta"])
    [history] = (tmp_path / "here").rglob("history.jsonl")
    assert [json.loads(line)["step"] for line in history.read_text().splitlines()] == [8, 8]


BROKEN = {
    "no numba at all": ("import sys; sys.modules['numba'] = None", KINDS),
    "no compilation": ("import os; os.environ['NUMBA_DISABLE_JIT'] = '1'", KINDS),
    "a compiler without these vectors": ("import llvmlite.ir; llvmlite.ir.VectorType = None", ("sorf",)),
    "a machine that computes something else": (
        """
from intrinsic_cli.projections import draws
honest, draws.MIX1 = draws.MIX1, 5
import intrinsic_cli.projections.kernels.numba
draws.MIX1 = honest
""",
        ("sorf",),
    ),
}
PRODUCTS = """
import json, logging, sys, torch
logging.basicConfig(format="%(message)s")
from intrinsic_cli.errors import ConfigError
from intrinsic_cli.projections import make_projection
for kind in sys.argv[1:]:
    P = make_projection(kind, shape=(200, 30), seed=5)
    print(json.dumps(P.matvec(torch.ones(30, dtype=torch.float64)).tolist()))
try:
    make_projection(kind, shape=(200, 30), seed=5, kernel="numba").matvec(torch.ones(30))
except ConfigError as error:
    print("refused:", error)
"""


@pytest.mark.parametrize("broken", BROKEN)
def test_where_numba_does_not_work_torch_goes_on_with_one_warning(broken, tmp_path):
    change, kinds = BROKEN[broken]
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    words = [sys.executable, "-c", change + PRODUCTS, *kinds]
    done = subprocess.run(words, capture_output=True, text=True, env=env, check=True)
    *products, refused = done.stdout.splitlines()
    ones = torch.ones(30, dtype=torch.float64)
    for kind, product in zip(kinds, products, strict=True):
        expected = make_projection(kind, shape=(200, 30), seed=5).matvec(ones)
        torch.testing.assert_close(torch.tensor(json.loads(product)).double(), expected, rtol=0, atol=1e-6)
    assert done.stderr.count("going on with torch operations") == 1, done.stderr
    assert refused.startswith("refused: projection.kernel=numba ")
