"""Sweeps of 20 runs whose processes are killed at random points, again and again.

`IDIM_KILLS=200 scripts/test -s -k storm` does as many as docs/reliability.md reports.
"""

import os
import random
import subprocess
import time
from contextlib import suppress

import psutil
import pytest
from support.processes import end, idim, results, science, workers

KILLS = int(os.environ.get("IDIM_KILLS", "6"))
RUNS = 20


@pytest.fixture(scope="module")
def words(task_folder):
    return ["sweep", "model=tiny", "task=custom", f"task.path={task_folder}", "data.max_length=32",
            "train.batch_size=16", "train.max_steps=40", "train.precision=fp32",
            "d=20,30,40,50,60,70,80,90,100", "seed=0,1", "baseline.lr=1e-3", "launcher.retries=1000"]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    began = time.perf_counter()
    status, table, _ = end(idim(*words, f"output_dir={folder}"))
    assert status == 0
    found = science(folder)
    assert len(found) == RUNS
    return found, table, time.perf_counter() - began


def stamps(folder):
    """When each result was published."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/result.json")}


def storm(words, folder, kills, span, rng):
    """Sweep with up to `kills` kills, `span` seconds apart at most. Returns how many there were, by victim."""
    killed = {"worker": 0, "driver": 0, "both": 0}
    published = {}
    driver = idim(*words, f"output_dir={folder}")
    while sum(killed.values()) < kills:
        with suppress(subprocess.TimeoutExpired):
            driver.wait(timeout=rng.uniform(0, span))
            break  # the sweep has ended in spite of it all
        victim = rng.choices(["worker", "driver", "both"], [6, 1, 1])[0]
        alive = workers(driver)
        if victim == "worker" and not alive:
            continue
        for process in alive if victim != "driver" else ():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if victim != "worker":
            driver.kill()
            driver.communicate()
            driver = idim(*words, f"output_dir={folder}")
        killed[victim] += 1
        now = stamps(folder)
        assert published.items() <= now.items()  # nothing lost, nothing done twice
        published = now
    status, table, said = end(driver)
    assert status == 0, said
    assert published.items() <= stamps(folder).items()
    return killed, table


def test_a_storm_of_kills_leaves_the_table_of_an_undisturbed_sweep(words, undisturbed, tmp_path):
    expected, table, seconds = undisturbed
    rng = random.Random(0)
    total = {"worker": 0, "driver": 0, "both": 0}
    sweeps = resumed = 0
    while sum(total.values()) < KILLS:
        folder = tmp_path / str(sweeps)
        killed, found = storm(words, folder, KILLS - sum(total.values()), seconds / 4, rng)
        assert found == table
        assert science(folder) == expected
        assert not list(folder.glob("*/.*.tmp"))
        total = {victim: total[victim] + killed[victim] for victim in total}
        sweeps += 1
        resumed += sum(bool(record["resumed"]) for record in results(folder).values())
    print(f"\n{sum(total.values())} kills over {sweeps} sweeps of {RUNS} runs: {total}; "
          f"{resumed} runs went on from a snapshot")  # fmt: skip
    assert sum(total.values()) == KILLS
