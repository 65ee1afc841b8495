"""The compile cache: whatever befalls its files, a process goes on and computes the same."""

import os
import shutil
import subprocess
import sys

import pytest

MODULE = """
import logging
logging.basicConfig(format="%(message)s", level=logging.INFO)
from intrinsic_cli.projections.compiled import cached_njit

@cached_njit()
def twice(x):
    return 2 * x

if __name__ == "__main__":
    assert twice(21) == 42
    print(sum(twice.stats.cache_hits.values()), "hits")
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    path = tmp_path_factory.mktemp("module") / "kernel.py"
    path.write_text(MODULE)
    return path


@pytest.fixture(scope="module")
def compute(module):
    """Compute with the compile cache in a folder; returns what was printed, and what was said."""

    def call(cache, **options):
        env = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
        done = subprocess.run(
            [sys.executable, module], capture_output=True, text=True, env=env, check=True, **options
        )
        return done.stdout, done.stderr

    return call


@pytest.fixture(scope="module")
def filled(compute, tmp_path_factory):
    cache = tmp_path_factory.mktemp("filled")
    assert compute(cache)[0] == "0 hits\n"
    assert compute(cache)[0] == "1 hits\n"
    return cache


def files(cache, ending):
    return sorted(cache.rglob(f"*.{ending}"))


DAMAGES = {
    "empty": lambda data: b"",
    "torn": lambda data: data[: len(data) // 2],
    "torn late": lambda data: data[:-1],
    "zeros at the end": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    "one bit": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
    "another pickle": lambda data: b"cno_such_module\\nname\\n.",
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_a_damaged_file_is_made_anew(compute, filled, tmp_path, damage, ending):
    cache = shutil.copytree(filled, tmp_path / "cache")
    (path,) = files(cache, ending)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    compute(cache)
    assert compute(cache)[0] == "1 hits\n"


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_the_folder_is_the_users_own(compute, tmp_path):
    (tmp_path / "idim").mkdir()
    (tmp_path / "idim").chmod(0o777)
    compute(tmp_path)
    for folder in (tmp_path / "idim", *(tmp_path / "idim").iterdir()):
        assert folder.stat().st_mode & 0o022 == 0
    assert files(tmp_path, "nbc")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to give a folder away"
)
def test_another_users_folder_is_not_used(compute, tmp_path):
    (tmp_path / "idim").mkdir()
    os.chown(tmp_path / "idim", 12345, -1)
    printed, said = compute(tmp_path)
    assert printed == "0 hits\n"
    assert f"the compile cache {tmp_path / 'idim'} is another user's and is not used" in said
    assert not list((tmp_path / "idim").iterdir())


def test_a_folder_that_cannot_be_made_is_done_without(compute, tmp_path):
    (tmp_path / "idim").write_text("a file")
    assert compute(tmp_path)[0] == "0 hits\n"


def test_a_full_disk_ends_nothing(compute, tmp_path):
    # A limit on the size of files stands for the disk: a write beyond it fails as one on a full disk does.
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    printed, _ = compute(tmp_path, preexec_fn=limit)
    assert printed == "0 hits\n"
    assert compute(tmp_path)[0] == "0 hits\n"
    assert compute(tmp_path)[0] == "1 hits\n"
    assert not list(tmp_path.rglob("*.tmp.*"))
