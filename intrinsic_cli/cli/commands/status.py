"""`idim status`: show what is done, running, failed and pending."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from intrinsic_cli.cli.arguments import folder, tell
from intrinsic_cli.errors import one_line

if TYPE_CHECKING:
    from intrinsic_cli.rundir import Look

SUMMARY = "show what is done, running, failed and pending"
EXAMPLES = """\
  idim status outputs/
  idim status outputs/ --failed                # the failed runs alone, and why
  idim status outputs/ --json | jq '.counts'"""


def configure(parser: argparse.ArgumentParser) -> None:
    folder(parser)
    parser.add_argument("--failed", action="store_true", help="the failed runs alone")
    parser.add_argument("--json", action="store_true", help="counts and runs as JSON")


def execute(arguments: argparse.Namespace) -> int:
    import json

    from intrinsic_cli.result import RunState
    from intrinsic_cli.settings import natural
    from intrinsic_cli.store import Store

    survey = Store(arguments.dir).survey()
    records = [record_of(look) for look in sorted(survey.runs, key=lambda look: natural(look.path.name))]
    counts = Counter(record["state"] for record in records)
    shown = [r for r in records if r["state"] == RunState.FAILED] if arguments.failed else records
    if arguments.json:
        left_out = [{"path": str(path), "reason": reason} for path, reason in survey.left_out]
        print(json.dumps({"counts": counts, "runs": shown, "left_out": left_out}, indent=1, allow_nan=False))
        return 0
    counts["left out"] = len(survey.left_out)
    counts["interrupted"] = sum(r["state"] == RunState.PENDING and "step" in r for r in records)
    tell(_summary(counts, [r["seconds"] for r in records if "seconds" in r]))
    for record in shown:
        tell("  ".join([f"{record['state']:8} {one_line(record['run_id'])}", *words(record)]))
    for path, reason in () if arguments.failed else survey.left_out:
        tell(f"left out {one_line(str(path))}  {one_line(reason)}")
    return 0


def record_of(look: Look) -> dict[str, Any]:
    """What there is to say of a run."""
    from intrinsic_cli.result import RunState
    from intrinsic_cli.rundir import QUIET, RunDir

    run = RunDir(look.path)
    found: dict[str, Any] = {"run_id": look.path.name, "path": str(look.path), "state": str(look.state)}
    if (result := look.result) is not None:
        return found | {"metric": result.metric, "score": result.score, "seconds": result.total_seconds}
    if look.reason:
        return found | {"message": look.reason}
    if look.state is RunState.RUNNING and (silence := run.silence()) > QUIET:
        found["silent"] = silence
    at = run.progress() if look.state is RunState.RUNNING else run.resumes_at()
    return found if at is None else found | {"step": at.step, "steps": at.steps}


def words(record: dict[str, Any]) -> list[str]:
    """What a line says of a run behind its state: the score, the reason, or how far it is."""
    from intrinsic_cli.history import Progress
    from intrinsic_cli.render import duration
    from intrinsic_cli.result import RunState

    if "score" in record:
        return [f"{record['metric']} {record['score']:.4f}"]
    if "message" in record:
        return [one_line(record["message"])]
    told = [str(Progress(record["step"], record["steps"]))] if "step" in record else []
    if told and record["state"] == RunState.PENDING:
        told = [f"interrupted at {told[0]}; the same command continues there"]
    told += [f"no step for {duration(record['silent'])}"] if "silent" in record else []
    return [", ".join(told)] if told else []


def _summary(counts: Counter[str], seconds: Sequence[float]) -> str:
    """`6 done, 1 running, 0 failed, 2 pending; about 4 min to go …`."""
    from intrinsic_cli.render import duration
    from intrinsic_cli.result import RunState

    told: list[str] = [RunState.DONE, RunState.RUNNING, RunState.FAILED, RunState.PENDING]
    told += [state for state in (RunState.PRUNED, RunState.UNREADABLE, "left out") if counts[state]]
    some = f" ({counts['interrupted']} interrupted)" if counts["interrupted"] else ""
    line = ", ".join(f"{counts[state]} {state}{some * (state == RunState.PENDING)}" for state in told)
    to_go = counts[RunState.PENDING] + counts[RunState.RUNNING]
    if not to_go or not seconds:
        return line
    workers = max(1, counts[RunState.RUNNING])
    left = to_go / workers * sum(seconds) / len(seconds)
    return (
        f"{line}; about {duration(left)} to go with {workers} at once, as long as the runs that are done took"
    )
