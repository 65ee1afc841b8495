"""README and `--help` show commands that exist, with keys and choices that exist."""

import re
import shlex
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import torch
from support.made_runs import save, study

import intrinsic_cli
from intrinsic_cli.cli import commands
from intrinsic_cli.cli import main as cli
from intrinsic_cli.errors import to_install
from intrinsic_cli.planning import checkpoints, compose, study_file
from intrinsic_cli.planning.words import expand, parse

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def typed(text):
    """The words of every `idim` command in a text, without comments, pipes and redirections."""
    for line in text.replace("\\\n", " ").splitlines():
        for match in re.finditer(
            r"(?:^|[\s$(])idim ((?:" + "|".join(commands.NAMES) + r")\b[^`#|>&\n\"]*)", line
        ):
            words = [w for w in shlex.split(match[1]) if w not in ("...", "…")]
            if all(w.isascii() for w in words):
                yield words


def shown():
    for page in PAGES:
        for block in re.findall(r"```(?:sh|console)\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
            for words in typed(block):
                yield pytest.param(words, id=f"{page.name}: {' '.join(words)}")
    for name in commands.NAMES:
        command = commands.COMMANDS[name]
        for words in typed(command.EXAMPLES):
            yield pytest.param(words, id=f"--help of {name}: {' '.join(words)}")


@pytest.mark.long
@pytest.mark.parametrize("words", list(shown()))
def test_every_command_that_is_shown_can_be_typed(words, tmp_path, monkeypatch):
    words = [w.rstrip(";") for w in words if not w.startswith("$(")]
    arguments = cli.build_parser().parse_args([w.rstrip(")") for w in words])
    if arguments.command in ("run", "sweep"):
        words = [
            word for word in arguments.overrides if not word.endswith(study_file.SUFFIXES)
        ]  # of study files
        for overrides in expand(study_file.preset(parse(words))):
            compose.compose_config(arguments.command, overrides)
    if arguments.command == "trajectory":
        monkeypatch.chdir(tmp_path)
        for step in (1000, 2000):
            (tmp_path / "checkpoints" / f"step-{step}").mkdir(parents=True)
        for overrides in expand(checkpoints.overrides(study_file.preset(parse(arguments.overrides)))):
            compose.compose_config("sweep", overrides)


def test_commands_are_found_in_readme_and_help():
    ids = [param.id for param in shown()]
    assert sum(i.startswith("README") for i in ids) >= 10
    assert {i.split(":")[0].split()[-1] for i in ids if i.startswith("--help")} >= set(commands.NAMES)


def test_a_page_names_every_key_of_the_records_and_every_file_of_a_run():
    from intrinsic_cli import rundir
    from intrinsic_cli.reports.records import KEYS

    page = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    for name in (
        *KEYS,
        rundir.CONFIG,
        rundir.RESULT,
        rundir.HISTORY,
        rundir.THETA,
        rundir.ERROR,
        rundir.SNAPSHOT,
    ):
        assert f"`{name}`" in page


def test_every_subcommand_has_an_example_in_its_help(capsys):
    for name in commands.NAMES:
        with pytest.raises(SystemExit) as stop:
            cli.build_parser().parse_args([name, "--help"])
        assert stop.value.code == 0
        assert f"idim {name}" in capsys.readouterr().out.split("examples:")[1]


def test_links_of_the_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def installed(text):
    """The names behind `pip install` in a text, less options and paths; a command ends with its line or code."""
    for line in re.findall(r"pip install\b([^`#\n)|;&]*)", text):
        for word in re.findall(r"[^\s\"']+", re.sub(r" -c \S+", "", line)):
            if match := re.fullmatch(r"([A-Za-z][\w-]*)(\[[\w,]*\])?(==[\w.]+)?", word):
                yield match[1].lower()


def test_only_this_project_and_what_it_needs_is_ever_installed():
    """The name `idim` at the package index is another project's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needs = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    known = {re.match(r"[\w.-]+", need)[0].lower() for need in needs} | {project["name"]}
    texts = [*PAGES, *(ROOT / "intrinsic_cli").rglob("*.py"), *(ROOT / "scripts").iterdir()]
    told = {
        (name, path.name)
        for path in texts
        if path.is_file()
        for name in installed(path.read_text(encoding="utf-8"))
    }
    assert {pair for pair in told if pair[0] not in known} == set()
    assert any(name == project["name"] for name, _ in told)
    assert set(installed(to_install("ray"))) == {project["name"]}
    assert set(installed("pip install -c x.txt -e . 'idim[ray]'")) == {"idim"}


def test_every_extra_that_a_page_names_is_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = set(project["optional-dependencies"])
    for page in PAGES:
        named = re.findall(rf"(?:`|{project['name']})\[(\w+)\](?:`|\")", page.read_text(encoding="utf-8"))
        assert set(named) <= known, page.name


def test_readme_is_short_and_shows_one_picture():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.split()) <= 900
    assert readme.count("![") == 1


def python_of(page):
    return "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S))


@pytest.mark.long
def test_the_notebook_prints_what_it_shows(tmp_path, monkeypatch, capsys):
    """Each cell of docs/python.md in turn, in one namespace."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    cells = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", page, re.S)
    assert len(cells) == page.count("```python") == page.count("```text")
    told: dict[str, object] = {}
    for code, shown in cells:
        exec(code, told)
        # A sweep's own table stands before what a cell prints.
        assert capsys.readouterr().out.endswith(shown), code


def test_the_python_of_the_readme_runs_and_leaves_the_last_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(study({100: 0.60, 400: 0.84}, 0.80), tmp_path / "outputs")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(40, 30), torch.nn.ReLU(), torch.nn.Linear(30, 1))
    start = [p.detach().clone() for p in model.parameters()]
    x = torch.randn(3, 8, 40)
    told = {
        "torch": torch,
        "model": model,
        "batches": x,
        "loss": lambda model, batch: model(batch).square().mean(),
    }
    exec(python_of(ROOT / "README.md"), told)
    left = [p.detach().clone() for p in model.parameters()]
    with torch.no_grad():  # θ_0, then θ_0 + P θ of the last step, once more
        for p, value in zip(model.parameters(), start, strict=True):
            p.copy_(value)
    again = intrinsic_cli.Subspace(model, "did", d=1000, seed=0)
    with torch.no_grad():
        again.theta.copy_(told["space"].theta)
    again.write()
    assert all(torch.equal(a, p) for a, p in zip(left, model.parameters(), strict=True))
    assert not torch.equal(left[0], start[0])
    said = python_of(ROOT / "README.md").split("d90([")[1].split(".d_t")[0]
    assert eval(f"d90([{said}", told).d_t == 200
