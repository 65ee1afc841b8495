"""What counts as a run, and whatever may lie where a run's files are: read with limits, told, never in the way."""

import json
import os
import shutil
import sys
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import made_runs

from intrinsic_cli import claims, files
from intrinsic_cli.cli import main as cli
from intrinsic_cli.errors import StoreError
from intrinsic_cli.reports.curves import group
from intrinsic_cli.result import RunState
from intrinsic_cli.rundir import (
    BOUND,
    CONFIG,
    ERROR,
    HISTORY,
    LIMITS,
    MOST,
    OUTCOMES,
    PRUNED,
    RESULT,
    SNAPSHOT,
    THETA,
    RunDir,
)
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.store import Store

STUDY = made_runs.study({100: 0.6, 400: 0.84}, 0.8)


@pytest.fixture
def store(tmp_path):
    return made_runs.save(STUDY, tmp_path / "outputs")


def names(store):
    return sorted(look.path.name for look in store.survey().runs)


def one_of(store, kind="did"):
    return next(look.path for look in store.survey().runs if look.spec.subspace.kind == kind)


def summary(store, capsys):
    status = cli.main(["summarize", str(store.root), "--format", "json"])
    return status, json.loads(capsys.readouterr().out)


# --- what counts ------------------------------------------------------------------------------------------


def test_a_folder_counts_once_and_by_its_name(store, capsys, caplog):
    before = summary(store, capsys)
    run = one_of(store)
    shutil.copytree(run, store.root / "RUN copy")
    shutil.copytree(store.root, store.root.parent / "backup")
    shutil.move(store.root.parent / "backup", store.root / "backup")
    shutil.copytree(run, store.root / f"{run.name}-bak")
    survey = store.survey()
    assert len(survey.runs) == len(STUDY)
    assert all(look.path.parent == store.root for look in survey.runs)
    told = {path.relative_to(store.root).as_posix(): reason for path, reason in survey.left_out}
    assert told["RUN copy"] == told[f"{run.name}-bak"] == told[f"backup/{run.name}"] == f"a copy of {run}"
    assert len(told) == len(STUDY) + 3
    assert summary(store, capsys) == before
    assert f"{len(told)} folders count as no run" in caplog.text
    assert "RUN copy" in caplog.text


def test_a_copy_with_other_scores_is_told_as_one(tmp_path):
    for folder, score in (("a", 0.7), ("b", 0.8)):
        made_runs.save([made_runs.result(100, score), made_runs.result(200, 0.9)], tmp_path / folder)
    first, second = (reason for _, reason in Store(tmp_path).survey().left_out)
    assert first.startswith(f"the same run as {tmp_path / 'a'}")
    assert first.endswith(", with other scores")
    assert second.startswith(f"a copy of {tmp_path / 'a'}")


def test_one_model_under_two_labels_is_one_model(tmp_path):
    """A copy of a model's folder makes the same runs, which are no more seeds."""
    twins = [
        made_runs.result(100, 0.7, seed=1, changes={"model": {"name": name, "fingerprint": "f" * 64}})
        for name in ("a/bert", "b/bert-copy")
    ]
    store = made_runs.save(twins, tmp_path)
    [look] = store.survey().runs
    [(path, reason)] = store.survey().left_out
    assert (path.name, reason) == (twins[1].run_id, f"a copy of {look.path}")
    (look.path / "result.json").unlink()  # what has a result counts
    assert [run.run_id for run in store.results()] == [twins[1].run_id]


def test_the_folder_of_one_run_is_a_store_of_it(store):
    run = one_of(store)
    [look] = Store(run).survey().runs
    assert (look.path, look.state) == (run, RunState.DONE)
    assert Store(run).run(look.spec).path == run


def test_what_is_left_out_is_said_once_by_a_store(store, caplog):
    shutil.copytree(one_of(store), store.root / "RUN copy")
    for _ in range(3):
        store.results()
    assert caplog.text.count("count as no run") == 1


def test_a_renamed_folder_is_named_and_counts_no_more(store):
    run = one_of(store)
    run.rename(store.root / "my favourite")
    assert len(store.results()) == len(STUDY) - 1
    [(path, reason)] = store.survey().left_out
    assert (path.name, reason) == ("my favourite", f"its name is not its run's, {run.name}")


def test_folders_moved_away_and_linked_back_count(store, tmp_path):
    before = names(store)
    for path in [store.root / name for name in before[:4]]:
        shutil.move(path, tmp_path / "archive" / path.name)
        path.symlink_to(tmp_path / "archive" / path.name)
    (store.root / "loop").symlink_to(store.root)
    (store.root / "a second way").symlink_to(tmp_path / "archive" / before[0])
    survey = store.survey()
    assert (names(store), survey.left_out) == (before, ())
    assert len(store.results()) == len(STUDY)


def test_a_sweep_finds_what_the_table_counts(store):
    spec = STUDY[0].spec
    deep = store.root / "2025" / "spring" / spec.run_id
    shutil.move(store.root / spec.run_id, deep)
    there = Store(store.root)
    assert there.run(spec).path == deep
    assert there.run(spec).state is RunState.DONE
    assert len(there.results()) == len(STUDY)
    new = replace(spec, seed=99)
    assert there.run(new).path == store.root / new.run_id


def test_a_sweep_finds_the_finished_runs_of_a_model_under_another_label(tmp_path):
    one, twin = (
        made_runs.result(100, 0.7, seed=1, changes={"model": {"name": name, "fingerprint": "f" * 64}})
        for name in ("a/bert", "b/bert-copy")
    )
    made_runs.save([one], tmp_path)
    assert one.run_id != twin.run_id
    found = Store(tmp_path).run(twin.spec)
    assert (found.path.name, found.state) == (one.run_id, RunState.DONE)
    assert found.result().score == 0.7
    (found.path / RESULT).unlink()  # what is not finished is begun under its own name
    assert Store(tmp_path).run(twin.spec).path.name == twin.run_id
    made_runs.save([one], tmp_path)
    found.path.rename(tmp_path / twin.run_id.replace("bert-copy", "something-else"))  # nobody's name
    assert Store(tmp_path).run(twin.spec).path.name == twin.run_id


def test_a_sweep_takes_the_folder_nearest_to_the_root_whatever_it_is_called(store):
    spec = next(run.spec for run in STUDY if run.spec.legacy_ids)
    today, before = store.root / "a" / "b" / spec.run_id, store.root / "c" / spec.legacy_ids[0]
    shutil.copytree(store.root / spec.run_id, before)
    shutil.copytree(store.root / spec.run_id, today)
    shutil.rmtree(store.root / spec.run_id)
    there = Store(store.root)
    assert there.run(spec).path == before
    assert before in {look.path for look in there.survey().runs}


@pytest.mark.parametrize(("first", "second"), [("m1", "m2"), (".", "z/m2"), ("m", ".")])
@pytest.mark.parametrize("left", [{}, {ERROR: '{"error": "RunError", "message": "killed"}'}, {RESULT: "{"}])
def test_a_finished_run_goes_before_an_unfinished_folder_of_it(store, tmp_path, first, second, left):
    """As after two machines' folders were copied into one."""
    name = STUDY[0].spec.run_id
    shutil.move(store.root / name, tmp_path / name)
    begun, done = store.root / first / name, store.root / second / name
    for place in (begun, done):
        shutil.copytree(tmp_path / name, place)
    (begun / RESULT).unlink()
    for file, text in left.items():
        (begun / file).write_text(text)
    there = Store(store.root)
    assert there.run(STUDY[0].spec).path == done
    survey = there.survey()
    assert done in {look.path for look in survey.runs}
    assert survey.left_out == ((begun, f"an unfinished folder of the run in {done}"),)


def test_a_result_of_another_run_goes_before_nothing(store, tmp_path):
    one, other = STUDY[0].spec, STUDY[1].spec
    shutil.move(store.root / one.run_id, tmp_path / one.run_id)
    shutil.copytree(store.root / other.run_id, store.root / "a" / one.run_id)
    shutil.copytree(tmp_path / one.run_id, store.root / "b" / one.run_id)
    for _ in range(2):
        assert Store(store.root).run(one).path == store.root / "b" / one.run_id
        (store.root / one.run_id).mkdir(exist_ok=True)  # an empty folder is no run
    (store.root / "b" / one.run_id / RESULT).unlink()
    assert Store(store.root).run(one).state is not RunState.UNREADABLE


def test_a_folder_of_another_program_is_no_run(store):
    (store.root / "model").mkdir()
    (store.root / "model" / CONFIG).write_text('{"model_type": "bert"}')
    (store.root / "tables").mkdir()
    (store.root / "tables" / RESULT).write_text("[1, 2")
    survey = store.survey()
    assert (len(survey.runs), survey.left_out) == (len(STUDY), ())


def test_a_result_under_another_runs_name_is_not_taken_for_its_own(store):
    one, other = STUDY[0].spec, STUDY[1].spec
    shutil.rmtree(store.root / one.run_id)
    (store.root / other.run_id).rename(store.root / one.run_id)
    with pytest.raises(StoreError, match=f"is of another run, {other.run_id}"):
        store.run(one).result()
    assert store.run(one).state is RunState.UNREADABLE
    assert [reason for _, reason in store.survey().left_out] == [f"its name is not its run's, {other.run_id}"]


def test_scores_of_other_rows_weights_or_precision_are_not_averaged(tmp_path):
    changes = [{"data_hash": "f" * 64}, {"model_hash": "e" * 64}, {"precision": "bf16"}]
    others = [replace(r, **change) for change in changes for r in STUDY]
    curves = group([*STUDY, *others])
    assert len(curves) == 4
    assert all((len(c.runs), len(c.baseline)) == (6, 3) for c in curves)
    assert len({c.name for c in curves}) == 4
    assert any("data_hash=ffffffff" in c.row for c in curves)
    assert any("precision=bf16" in c.row for c in curves)


# --- what may lie there -----------------------------------------------------------------------------------

DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
KINDS = {
    "empty": lambda path: path.write_bytes(b""),
    "torn": lambda path: path.write_bytes(b'{"score": 0.'),
    "binary": lambda path: path.write_bytes(bytes(range(256))),
    "deep": lambda path: path.write_bytes(DEEP),
    "nested": lambda path: path.write_bytes(b"[" * 200 + b"]" * 200),
    "NaN": lambda path: path.write_bytes(b'{"step": 1, "score": NaN}'),
    "digits": lambda path: path.write_bytes(b'{"step": ' + b"9" * 5000 + b"}"),
    "a list": lambda path: path.write_bytes(b"[]"),
    "a number": lambda path: path.write_bytes(b"7"),
    "surrogate": lambda path: path.write_bytes(rb'{"message": "\ud800", "run_id": "\ud800"}'),
    "a pipe": os.mkfifo,
    "a folder": lambda path: path.mkdir(),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a loop": lambda path: path.symlink_to(path),
    "a hole": lambda path: os.truncate(os.open(path, os.O_WRONLY | os.O_CREAT), 3 << 30),
}


def put(path, kind):
    path.unlink(missing_ok=True)
    KINDS[kind](path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_of_any_kind_is_listed_with_its_reason_and_the_rest_is_shown(store, kind, capsys, caplog):
    run = one_of(store)
    put(run / RESULT, kind)
    assert cli.main(["status", str(store.root)]) == 0
    printed = capsys.readouterr().out.splitlines()
    [line] = [line for line in printed if run.name in line]
    assert line.startswith(f"unreadable {run.name}  ")
    assert RESULT in line
    assert len(printed) == len(STUDY) + 1
    assert printed[0].startswith(f"{len(STUDY) - 1} done, 0 running, 0 failed, 0 pending, 1 unreadable")
    status, [record] = summary(store, capsys)
    assert (status, record["runs"]) == (0, 5)
    assert f"1 of {len(STUDY)} runs can't be read" in caplog.text
    page = store.root / "report.html"
    assert cli.main(["report", str(store.root)]) == 0
    assert "unreadable" in page.read_text()
    with suppress(StoreError):
        store.run(RunSpec.from_dict(json.loads((run / CONFIG).read_text()))).result()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [BOUND, LIMITS, OUTCOMES, PRUNED, THETA])
def test_a_file_of_any_kind_is_shown_by_its_size(store, name, kind, capsys):
    put(one_of(store) / name, kind)
    assert cli.main(["show", str(one_of(store))]) == 0
    assert f"{name}  " in capsys.readouterr().out
    for words in (["status"], ["compare", "--against", "bound"]):
        assert cli.main([words[0], str(store.root), *words[1:]]) in (0, 2)
        assert "unforeseen" not in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [CONFIG, ERROR, HISTORY, SNAPSHOT, ".lock", ".lease"])
def test_no_file_of_any_kind_ends_a_command_or_hides_a_finished_run(store, name, kind, capsys):
    run = one_of(store)
    before = summary(store, capsys)
    put(run / name, kind)
    assert cli.main(["status", str(store.root)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"{len(STUDY)} done, 0 running, 0 failed, 0 pending"
    assert summary(store, capsys) == before
    if name == HISTORY:  # which the page alone reads
        assert cli.main(["report", str(store.root)]) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [CONFIG, ERROR, HISTORY, SNAPSHOT])
def test_an_unfinished_run_with_a_file_of_any_kind_is_counted(store, name, kind, capsys):
    run = one_of(store)
    (run / RESULT).unlink()
    put(run / name, kind)
    assert cli.main(["status", str(store.root)]) == 0
    printed = capsys.readouterr().out.splitlines()
    state = {CONFIG: "unreadable", ERROR: "failed"}.get(name, "pending")
    [line] = [line for line in printed if run.name in line]
    assert line.split()[0] == state
    assert (name in line) == (name in (CONFIG, ERROR) and (name, kind) != (ERROR, "surrogate"))
    assert RunDir(run).snapshot() is None


def test_a_run_that_lost_its_configuration_is_counted(store, capsys):
    done, pending = one_of(store), one_of(store, "full")
    (done / CONFIG).unlink()
    (pending / CONFIG).unlink()
    (pending / RESULT).unlink()
    assert cli.main(["status", str(store.root)]) == 0
    printed = capsys.readouterr().out
    assert f"unreadable {pending.name}  {CONFIG} is missing" in printed
    assert f"{len(STUDY) - 1} done, 0 running, 0 failed, 0 pending, 1 unreadable" in printed


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into anything")
def test_another_users_runs_are_counted_and_named(store, capsys):
    run = one_of(store)
    run.chmod(0)
    try:
        assert cli.main(["status", str(store.root)]) == 0
        assert f"unreadable {run.name}" in capsys.readouterr().out
        assert len(store.results()) == len(STUDY) - 1
    finally:
        run.chmod(0o700)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from([RESULT, CONFIG, ERROR]), st.data())
def test_any_value_anywhere_in_a_file_is_read_or_said(tmp_path, name, data):
    spec = STUDY[0].spec
    run = RunDir(tmp_path / spec.run_id, spec)
    run.plan(spec)
    whole = {
        RESULT: STUDY[0].to_dict(),
        CONFIG: spec.to_dict(),
        ERROR: {"message": "nan", "error": "RunError"},
    }
    tree = json.loads(json.dumps(whole[name]))
    part = tree
    while isinstance(part[key := data.draw(st.sampled_from(sorted(part)))], dict) and data.draw(
        st.booleans()
    ):
        part = part[key] or part
    part[key] = data.draw(JSON)
    (run.path / name).write_text(json.dumps(tree))
    look = run.look()
    assert look.state in RunState
    assert look.reason.isprintable()
    (run.path / name).unlink()


def test_a_history_line_that_is_no_numbers_is_named(store):
    run = RunDir(one_of(store))
    for line in ('{"step": 1, "loss": "low"}', '{"loss": 1}', "[1]", '{"step": null}', '{"step": 1e999}'):
        (run.path / HISTORY).write_text('{"step": 1, "loss": 2}\n' + line + "\n")
        with pytest.raises(StoreError, match=rf"{HISTORY}, line 2 is damaged"):
            run.history()
    assert run.state is RunState.DONE  # the run itself stands


def test_files_longer_than_a_run_writes_are_not_held(store):
    run = RunDir(one_of(store))
    os.truncate(run.path / RESULT, MOST[RESULT] + 1)
    assert "longer than the 64 MB" in run.look().reason


# --- what changes while it is looked at -------------------------------------------------------------------


@contextmanager
def at_call(function, path, act):
    """Have somebody else `act` at the moment when `function` is called first for `path`, or for its run."""
    acts = [act]

    def look(frame, event, _):
        if event != "call" or frame.f_code is not function.__code__ or not acts:
            return
        if path in [*frame.f_locals.values(), getattr(frame.f_locals.get("self"), "path", None)]:
            acts.pop()()

    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(None)
    assert not acts


@pytest.mark.parametrize("how", ["in place", "by rename"])
@pytest.mark.parametrize("name", [RESULT, CONFIG, ERROR])
def test_a_file_that_is_written_while_it_is_read_is_read_again(store, name, how):
    run = RunDir(one_of(store))
    if name == ERROR:
        run.fail(ValueError("too bad"))
    if name != RESULT:
        (run.path / RESULT).unlink()
    before, whole = run.look(), (run.path / name).read_bytes()
    (run.path / name).write_bytes(whole[:40])

    def write():
        new = run.path / ("new" if how == "by rename" else name)
        new.write_bytes(whole)
        new.replace(run.path / name)

    with at_call(files._whole_json, run.path / name, write):
        assert run.look() == before


def test_a_file_that_changes_for_ever_ends_nobody(store):
    run = RunDir(one_of(store))

    def tear(frame, event, _):
        if event == "call" and frame.f_code is files.parse_json.__code__:
            with (run.path / RESULT).open("ab") as file:
                file.write(b"{")

    (run.path / RESULT).write_bytes(b"{")
    sys.setprofile(tear)
    try:
        assert run.state is RunState.UNREADABLE
    finally:
        sys.setprofile(None)


def test_a_run_that_ends_while_it_is_looked_at_is_done(store):
    path = one_of(store)
    result = (path / RESULT).read_bytes()
    (path / RESULT).unlink()
    with at_call(claims.claimed, path, lambda: (path / RESULT).write_bytes(result)):
        assert RunDir(path).state is RunState.DONE
    (path / RESULT).unlink()
    (path / RESULT).symlink_to(path / "nowhere")
    assert RunDir(path).state is RunState.PENDING


def test_a_run_that_is_forgotten_while_it_is_looked_for_is_none(store):
    path = one_of(store)
    with at_call(RunDir.look, path, lambda: shutil.rmtree(path)):
        assert path not in [look.path for look in store.survey().runs]
    assert len(store.survey().runs) == len(STUDY) - 1
