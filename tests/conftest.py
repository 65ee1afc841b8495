"""What several test files share: small data files, small specs, one thread per test process, no terminal."""

import os
import signal

# A script's background job is started without Ctrl-C, and so would be every command that is tested by it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Before torch is imported, and for child processes too: parallel test processes would fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Readline sets it in the process that starts the test processes, and tables would be cut to it.
os.environ.pop("COLUMNS", None)

import pytest
from hypothesis import settings
from support.rows import write_task

from intrinsic_cli.cli import main as cli
from intrinsic_cli.paths import fingerprint
from intrinsic_cli.spec import AdapterSpec, DataSpec, ModelSpec, RunSpec, SubspaceSpec, TaskSpec, TrainSpec

# A busy machine is slow, not wrong.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def task_folder(tmp_path_factory):
    """A task of two easy classes: 96 training and 40 validation rows."""
    return write_task(tmp_path_factory.mktemp("data") / "task", 96, 40)


@pytest.fixture(scope="session")
def make_spec(task_folder):
    """Specs of short runs of the tiny model on `task_folder`: `make_spec(kind="said", d=100, epochs=2)`.

    Keywords go to the part of the spec that has a field of that name.
    """

    def make(kind="did", d=200, lr=0.1, seed=0, **options):
        if kind == "full":
            d = None
        if kind == "none":
            d, lr = 0, 0.0
        path = options.pop("path", task_folder)
        adapter = options.pop("adapter", AdapterSpec())
        task = {"name": "easy", "config": None, "text": ("text",), "label": "label", "train": "train",
                "validation": "validation", "metrics": ("accuracy",)}  # fmt: skip
        parts = {
            "model": (ModelSpec, {"name": "tiny"}),
            "task": (TaskSpec, task | {"path": str(path), "fingerprint": fingerprint(path)}),
            "subspace": (SubspaceSpec, {"kind": kind}),
            "train": (TrainSpec, {"max_steps": 6, "batch_size": 16, "precision": "fp32"}),
            "data": (DataSpec, {"max_length": 32}),
        }
        built = {}
        for name, (build, values) in parts.items():
            own = {key: options.pop(key) for key in list(options) if key in build.__dataclass_fields__}
            built[name] = build(**values | own)
        assert not options, f"no part of a spec has {options}"
        return RunSpec(d=d, lr=lr, seed=seed, adapter=adapter, **built)

    return make


@pytest.fixture
def idim(capsys):
    """Call the command line; returns (exit status, stdout, stderr)."""

    def call(*words):
        status = cli.main(list(map(str, words)))
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call
