"""The configuration travels with the package: in a wheel, and in a source tree."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
YAML = {path.relative_to(ROOT / "configs").as_posix() for path in (ROOT / "configs").rglob("*.yaml")}
LIST = """
from intrinsic_cli import __file__
from intrinsic_cli.cli.main import main
print(__file__)
raise SystemExit(main(["list", "tasks"]))
"""


def tasks_from(place, cwd):
    """(the package's folder, what `idim list tasks` names) where `place` comes first on the path."""
    done = subprocess.run(
        [sys.executable, "-c", LIST],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(place), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    where, *lines = done.stdout.splitlines()
    return Path(where).parent.parent, {line.split()[0] for line in lines}


TASKS = {name.removeprefix("task/").removesuffix(".yaml") for name in YAML if name.startswith("task/")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    try:
        setuptools = version("setuptools")
    except PackageNotFoundError:
        setuptools = "0"
    if int(setuptools.split(".")[0]) < 77:
        pytest.skip(f"setuptools {setuptools} can't build the wheel without network; it needs 77 or newer")
    source = tmp_path_factory.mktemp("source")  # a copy: a build leaves folders behind
    for name in ("pyproject.toml", "README.md", "intrinsic_cli", "configs"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    out = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        str(source),
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    done = subprocess.run([*command, "-w", str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [path] = out.glob("intrinsic_cli-*.whl")
    return path


def test_the_wheel_holds_every_module_and_every_config(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"intrinsic_cli/configs/{name}" for name in YAML} <= names
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "intrinsic_cli").rglob("*.py")}
    assert modules <= names
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "intrinsic_cli").rglob("*.html")}
    assert pages <= names


def test_an_unpacked_wheel_finds_its_configs(wheel, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    zipfile.ZipFile(wheel).extractall(site)
    elsewhere.mkdir()
    assert tasks_from(site, elsewhere) == (site, TASKS)


def test_the_source_tree_finds_its_configs_as_an_editable_install_does(tmp_path):
    assert tasks_from(ROOT, tmp_path) == (ROOT, TASKS)
