"""How the work on many tensors is done: types of the weights, threads, empty blocks, in place."""

import random
import signal
import threading
import time
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from intrinsic_cli.projections import KINDS, make_projection
from intrinsic_cli.projections.contract import add_to_all, fold_all, fold_rows
from intrinsic_cli.projections.kernels.numba.threads import _openmp, in_openmp, in_pool, run_all

SIZES = (1, 48, 384, 150_000, 600_001)


def randn(size, seed, dtype=torch.float32):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("source", "target"),
    [("bfloat16", "bfloat16"), ("float32", "bfloat16"), ("bfloat16", "float32"), ("float16", "float16"),
     ("float32", "float16"), ("float16", "bfloat16")],
)  # fmt: skip
def test_short_weights_are_read_exactly_and_rounded_to_nearest(make, kind, source, target):
    P = make(kind, shape=(700, 40), seed=2)
    w0 = randn(700, 0, getattr(torch, source))
    theta = randn(40, 1)
    exact = torch.empty(700)
    P.add_to(w0.float(), P.encode(theta), 0.3, exact)
    out = torch.empty(700, dtype=getattr(torch, target))
    P.add_to(w0, P.encode(theta), 0.3, out)
    assert torch.equal(out, exact.to(out.dtype))  # torch rounds to nearest, ties to even


@pytest.mark.parametrize(
    ("dtype", "half", "largest", "least"),
    [(torch.bfloat16, 2**-8, 3.4e38, 1e-40), (torch.float16, 2**-11, 65_520.0, 3e-8)],
)
def test_rounding_of_ties_infinities_and_nan(make, dtype, half, largest, least):
    P = make("fastfood", shape=(8, 1), seed=2)
    w0 = torch.tensor(
        [1 + half, 1 + 3 * half, -1 - half, largest, -largest, float("inf"), float("nan"), least]
    )
    out = torch.empty(8, dtype=dtype)
    P.add_to(w0, P.encode(torch.zeros(1)), 1.0, out)
    torch.testing.assert_close(out, w0.to(dtype), rtol=0, atol=0, equal_nan=True)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_gradients_are_folded_in_float32(make, kind, dtype):
    P = make(kind, shape=(700, 40), seed=2)
    v = randn(700, 0, dtype)
    z = P.fold(v)
    assert z.dtype == torch.float32
    assert torch.equal(z, P.fold(v.float()))


def test_in_place_and_out_of_place_agree(make):
    P = make("fastfood", shape=(5000, 100), seed=2)
    w0, x = randn(5000, 0), P.encode(randn(100, 1))
    out = torch.empty(5000)
    P.add_to(w0, x, 0.5, out)
    P.add_to(w0, x, 0.5, w0)
    assert torch.equal(w0, out)


@pytest.mark.parametrize("kind", ["fastfood", "sorf", "sparse", "signs"])
def test_bits_do_not_depend_on_the_number_of_threads(kind, threads):
    Ps = [make_projection(kind, shape=(D, 300), seed=i, kernel="numba") for i, D in enumerate(SIZES)]
    w0, v = [randn(D, 1) for D in SIZES], [randn(D, 2) for D in SIZES]
    theta = randn(300, 3)
    results = []
    for count in (1, 2, 5):
        threads(count)
        out = [torch.empty(D) for D in SIZES]
        add_to_all(Ps, w0, Ps[0].encode(theta), [1.0] * len(Ps), out)
        z = Ps[0].accumulator(torch.float32)
        for P, gradient in zip(Ps, v, strict=True):
            P.fold(gradient, 1.0, z)
        results.append((torch.cat(out), z))
    for out, z in results[1:]:
        assert torch.equal(out, results[0][0])
        assert torch.equal(z, results[0][1])


@pytest.mark.parametrize("kind", ["fastfood", "sorf", "sparse", "signs"])
def test_together_and_one_by_one_give_the_same_bits(make, kind):
    Ps = [make(kind, shape=(D, 300), seed=i) for i, D in enumerate(SIZES)]
    v, scales = [randn(D, 2) for D in SIZES], [1.0, 2.0, 0.5, -1.0, 3.0]
    together, one_by_one = Ps[0].accumulator(torch.float32), Ps[0].accumulator(torch.float32)
    fold_all(Ps, v, scales, together)
    for P, gradient, scale in zip(Ps, v, scales, strict=True):
        P.fold(gradient, scale, one_by_one)
    assert torch.equal(together, one_by_one)


@pytest.mark.parametrize("kind", KINDS)
def test_mostly_zero_gradients_are_folded_right(make, kind):
    # An embedding's gradient: few rows are not zero, also in the last, short block.
    D, d = 3000, 100
    P = make(kind, shape=(D, d), seed=2)
    v = torch.zeros(D, dtype=torch.float64)
    v[[0, 700, 701, D - 1]] = torch.tensor([1.0, -2.0, 3.0, 4.0], dtype=torch.float64)
    theta = randn(d, 1, torch.float64)
    assert float(theta @ P.rmatvec(v)) == pytest.approx(float(P.matvec(theta) @ v), rel=1e-10)
    assert not P.fold(torch.zeros(D)).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("count", "width", "d", "used"),
    [
        (7, 5, 3, [6, 0, 6, 3, 6]),  # blocks of several rows, the last cut
        (9, 64, 16, [8]),  # whole blocks, the last row alone
        (40, 48, 60, [39, 2, 2, 17, 38]),  # rows that begin inside one block and end in another
        (3, 700, 33, [2, 0, 2]),  # rows of many blocks
        (4000, 100, 40, [3999, 0, 1234, 1235, 3, 0]),  # several pieces of work, most of them empty
        (5, 4, 3, []),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_rows_alone_fold_like_the_matrix_they_are_of(make, kind, count, width, d, used, dtype):
    P = make(kind, shape=(count * width, d), seed=5)
    rows = torch.tensor(used, dtype=torch.int64)
    values = randn(len(used) * width, 6, dtype).view(-1, width)
    arithmetic = torch.float64 if dtype == torch.float64 else torch.float32
    whole = torch.zeros(count, width, dtype=arithmetic)
    for row, value in zip(used, values, strict=True):
        whole[row] += value.to(arithmetic)
    expected = P.fold(whole.view(-1), 0.7)
    assert expected.any() == bool(used)
    assert torch.equal(fold_rows(P, rows, values, 0.7, P.accumulator(arithmetic)), expected)


def test_a_nan_in_a_gradient_is_not_lost(make):
    P = make("fastfood", shape=(1000, 100), seed=2)
    v = torch.zeros(1000)
    v[500] = float("nan")
    assert P.rmatvec(v).isnan().all()


WAYS = [pytest.param(in_pool, id="pool")]
if (gnu := _openmp()) is not None:
    WAYS.append(pytest.param(partial(in_openmp, gnu), id="openmp"))


@pytest.mark.parametrize("way", WAYS)
def test_a_job_is_called_in_all_threads_at_once(way):
    everybody = threading.Barrier(3, timeout=60)
    called = []

    def job(_):
        everybody.wait()
        called.append(threading.get_ident())

    way(job, 3)
    assert threading.get_ident() in called
    assert len(called) == len(set(called)) == 3


@pytest.mark.parametrize(("count", "begun"), [(1, [0]), (2, [0, 1, 2])])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_stops_its_thread_and_is_raised(error, count, begun, threads):
    threads(count)

    def work(item):
        done.append(item)
        if item == 0:
            raise error("from a piece of work")

    done: list[int] = []
    with pytest.raises(error, match="piece of work"):
        run_all(work, [0, 1, 2])
    assert sorted(done) == begun


def test_a_call_that_openmp_could_not_make_is_no_result(threads, monkeypatch):
    threads(2)
    gnu = SimpleNamespace(GOMP_parallel=lambda *_: None)  # as where a signal's exception comes before the job
    monkeypatch.setattr("intrinsic_cli.projections.kernels.numba.threads._openmp", lambda: gnu)
    with pytest.raises(KeyboardInterrupt):
        run_all(print, [0, 1])


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_no_interrupt_is_lost_whenever_it_comes(threads):
    threads(2)
    P = make_projection("fastfood", shape=(1 << 18, 1000), seed=0, kernel="numba")
    theta = randn(1000, 1)
    expected = P.matvec(theta)
    rng = random.Random(0)
    over = threading.Event()

    def work(after):
        deadline = time.monotonic() + 5
        signal.setitimer(signal.ITIMER_REAL, after)
        while time.monotonic() < deadline:
            assert torch.equal(P.matvec(theta), expected)

    def contend():  # for the interpreter's lock, so that many a signal comes while a call waits for it
        while not over.is_set():
            pass

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    contender = threading.Thread(target=contend)
    contender.start()
    try:
        for _ in range(100):
            with pytest.raises(KeyboardInterrupt):
                work(rng.uniform(1e-3, 2e-2))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        over.set()
        contender.join()
