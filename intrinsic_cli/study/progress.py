"""What is said of runs while they are trained: those under way, in a bar on a terminal or a line now and then, and
how each ended."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from intrinsic_cli.errors import printable
from intrinsic_cli.render import duration
from intrinsic_cli.result import RunState
from intrinsic_cli.rundir import QUIET, RunDir
from intrinsic_cli.spec import RunSpec
from intrinsic_cli.store import Store

EVERY = 30.0  # seconds between two lines
NAMED = 3  # runs in a line


def under_way(specs: Iterable[RunSpec], store: Store) -> str:
    """Those of `specs` that somebody trains now, with their steps: `1 running: RUN step 40 of 90`; "" for none."""
    runs = map(store.run, specs)
    running = [run for run in runs if run.state is RunState.RUNNING]
    told = [_one(run) for run in running[:NAMED]]
    more = [f"and {len(running) - NAMED} more"] if len(running) > NAMED else []
    return f"{len(running)} running: {', '.join([*told, *more])}" if running else ""


def _one(run: RunDir) -> str:
    silence = run.silence()
    late = f" ({duration(silence)} ago)" if silence > QUIET else ""
    return f"{run.path.name} {run.progress() or 'step 0'}{late}"


def outcome(spec: RunSpec, store: Store) -> str:
    """The score of a finished run, or why it has none, in a few words."""
    run = store.run(spec)
    if run.state is RunState.FAILED:
        error = run.error()
        if error.get("expected"):
            return f"failed: {error['message']}"
        return f"failed: {error.get('error')}: {error['message']} (traceback in {run.path})"
    if (end := run.pruned()) is not None and run.state is RunState.PRUNED:
        return f"pruned at step {end['step']}: {end['reason']}"
    result = run.result()
    if result is None:
        return f"failed, and its folder {run.path} could not take the reason"
    return f"{result.metric} {result.score:.4f}  {result.total_seconds:.0f} s"


class _Unfinished:
    """The runs of `specs`, a list that may grow, that have no result: a run that has one is not looked at again."""

    def __init__(self, specs: Sequence[RunSpec], store: Store) -> None:
        self._specs, self._store = specs, store
        self._done: set[RunSpec] = set()

    def now(self) -> dict[RunSpec, RunState]:
        left = [spec for spec in dict.fromkeys(self._specs) if spec not in self._done]
        states = {spec: self._store.run(spec).state for spec in left}
        self._done.update(spec for spec, state in states.items() if state is RunState.DONE)
        return {spec: state for spec, state in states.items() if state is not RunState.DONE}


def to_stderr(line: str) -> None:
    """Say one line. That nobody can hear it ends no study."""
    with suppress(OSError):
        print(printable(line), file=sys.stderr, flush=True)


@contextmanager
def lines(
    specs: Sequence[RunSpec], store: Store, say: Callable[[str], None], every: float = EVERY
) -> Iterator[None]:
    """Say what is under way `every` so many seconds, as long as the block lasts."""
    unfinished = _Unfinished(specs, store)

    def tell() -> None:
        if line := under_way(unfinished.now(), store):
            say(line)

    with _again_and_again(tell, every):
        yield


@contextmanager
def bar(specs: Sequence[RunSpec], store: Store) -> Iterator[Callable[[str], None]]:
    """A bar over all runs on stderr. Yields a function that says a line above it."""
    from tqdm import tqdm

    unfinished = _Unfinished(specs, store)
    with tqdm(total=len(specs), unit="run", leave=False) as shown:

        def look() -> None:
            left = unfinished.now()
            shown.total = len(set(specs))
            shown.n = shown.total - sum(not state.over for state in left.values())
            shown.set_postfix_str(under_way(left, store).partition(":")[0])

        with _again_and_again(look, 2.0):
            yield lambda line: shown.write(line, file=shown.fp)


@contextmanager
def _again_and_again(act: Callable[[], None], every: float) -> Iterator[None]:
    over = threading.Event()

    def loop() -> None:
        while not over.wait(every):
            act()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(1.0)  # a file system that does not answer keeps nobody here


@contextmanager
def shown(
    specs: Sequence[RunSpec], store: Store, *, terminal: bool, slots: int
) -> Iterator[Callable[[str], None]]:
    """What suits stderr: lines, a bar over runs, or nothing where the one run that is trained has its own bar."""
    if not terminal:
        with lines(specs, store, to_stderr):
            yield to_stderr
    elif slots > 1:
        with bar(specs, store) as say:
            yield say
    else:
        yield to_stderr
