"""The house: which rooms there are, and that imports point down only. Read off the import statements."""

import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from support.scripts import load

ROOT = Path(__file__).parents[2]
ROOMS = (
    "bounds", "cli", "finetunes", "models", "planning", "projections", "reports", "statistics", "study", "subspace",
    "tasks", "training",
)  # fmt: skip
GROUND = (
    "claims", "errors", "files", "history", "hub", "outcomes", "paths", "record", "registry", "render", "result",
    "rundir", "sealed", "settings", "spec", "store",
)  # fmt: skip
MOST_FLOORS = 8  # from cli to the ground

house = load("house")


def test_every_module_lies_in_a_room():
    assert house.rooms() == sorted(ROOMS)
    assert set(house.ground()) <= set(GROUND)


def test_imports_point_down_only():
    order = list(TopologicalSorter(house.arrows()).static_order())  # raises CycleError at a circle
    assert order[-1] == "cli"


def test_there_are_few_floors():
    assert house.floors(house.arrows())["cli"] + 1 <= MOST_FLOORS  # and the ground


def test_the_picture_is_that_of_the_imports():
    assert house.PICTURE.read_text(encoding="utf-8") == house.draw(), "run python scripts/house.py"


@pytest.mark.parametrize("room", ["study", "finetunes", "reports"])
def test_what_a_study_leaves_and_what_is_told_of_it_do_not_know_each_other(room):
    assert not house.arrows()[room] & ({"study", "finetunes", "reports"} - {room})


def test_planning_alone_knows_hydra():
    users = {
        path.relative_to(house.PACKAGE).parts[0]
        for path in house.PACKAGE.rglob("*.py")
        if any(name.split(".")[0] == "hydra" for name in house.imported(path))
    }
    assert users == {"planning"}


@pytest.mark.parametrize("room", ["planning", "statistics", "reports", *house.ground()])
def test_rooms_without_torch_load_none(room):
    folder = house.PACKAGE / room
    names = [f"{room}.{path.stem}" for path in folder.glob("*.py")] if folder.is_dir() else [room]
    code = "".join(f"import intrinsic_cli.{name.removesuffix('.__init__')}\n" for name in names)
    code += "import sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_tests_have_the_same_rooms():
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("test_*.py"))}
    assert folders == {*ROOMS, "ground", "stories", "hostile"}
