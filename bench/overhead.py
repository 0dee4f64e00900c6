"""What does a task cost that does nothing, and a barrier? One process, on this machine's disk.

overhead.py [--tasks 100000] [--many 1000000] [--rounds 200] [--reps 5]

Needs `cargo build --release -p tilework --example empty`, and strace for the number of syncs: they are counted in runs of their own,
in which only they are traced. CPU is that of the whole process, its start and end included.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness
from harness import BENCH, Contender, run_once

EMPTY = Path(os.environ.get("TILEWORK_EMPTY", harness.ROOT / "target/release/examples/empty"))
GROUP_S = 5e-3


def command(folder, tasks, rounds, *flags):
    # Always the same name, so that a run discards what the last one left.
    line = [EMPTY, "run", "empty", "--set", f"tasks={tasks}", "--set", f"rounds={rounds}", "-o", folder / "out.json"]
    return [str(part) for part in [*line, "--restart", "--overwrite", "--quiet", *flags]]


def runs_of(reps, *args):
    contender = Contender(" ".join(str(arg) for arg in args[1:]), command(*args))
    return [run_once(contender) for _ in range(reps)]


def n_syncs(*args):
    with tempfile.NamedTemporaryFile() as counts:
        strace = ["strace", "-f", "--seccomp-bpf", "-c", "-e", "trace=fsync,fdatasync", "-o", counts.name]
        started = time.perf_counter()
        subprocess.run([*strace, *command(*args)], check=True)
        seconds = time.perf_counter() - started
        lines = Path(counts.name).read_text().splitlines()
    return sum(int(line.split()[3]) for line in lines if re.search(r" f(data)?sync$", line)), seconds


def sync_ms(folder, n=200):
    """What appending and syncing a record takes here."""
    path, times = folder / "raw", []
    with open(path, "wb") as file:
        for _ in range(n):
            started = time.perf_counter()
            file.write(b"x" * 70)
            file.flush()
            os.fdatasync(file.fileno())
            times.append(1e3 * (time.perf_counter() - started))
    return harness.quartiles(times)


def tasks(folder, n, reps, workers):
    flags = ["--workers", str(workers), "--threads", str(workers)]
    runs = runs_of(reps, folder, n, 1, *flags)
    start = runs_of(3, folder, 1, 1, *flags)
    idle_s = statistics.median(run.cpu_s for run in start)
    syncs, traced_s = n_syncs(folder, n, 1, *flags)
    return {
        "tasks": n,
        "workers": workers,
        "cpu_us_per_task": harness.quartiles([1e6 * (run.cpu_s - idle_s) / n for run in runs]),
        "wall_us_per_task": harness.quartiles([1e6 * run.wall_s / n for run in runs]),
        "rss_bytes_max": max(run.rss_bytes_max for run in runs),
        "syncs": syncs,
        "syncs_per_5_ms": syncs * GROUP_S / traced_s,
        "runs": {"empty": runs},
    }


def barriers(folder, rounds, reps):
    runs = runs_of(reps, folder, 1, rounds)
    syncs, _ = n_syncs(folder, 1, rounds)
    return {
        "rounds": rounds,
        "wall_ms_per_round": harness.quartiles([1e3 * run.wall_s / rounds for run in runs]),
        "cpu_ms_per_round": harness.quartiles([1e3 * run.cpu_s / rounds for run in runs]),
        "syncs_per_round": syncs / rounds,
        "sync_ms": sync_ms(folder),
        "runs": {"rounds": runs},
    }


def memory(folder, n):
    """Peak memory of the driver and its workers: with one task, stopped before the barrier, and to the end."""
    one = run_once(Contender("one", command(folder, 1, 1)))
    # Stopped while its tasks run; the next command goes on, so this one's journal is discarded by the next --restart.
    part = Contender("part", command(folder, n, 1, "--time-limit", "8s"))
    stopped = subprocess.run(
        [sys.executable, "-I", str(BENCH / "measure.py"), "/dev/null", *part.command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    stopped = json.loads(stopped.stdout)
    if stopped["exit_code"] != 75:
        raise SystemExit(f"{n} tasks were done within the limit: {stopped}")
    whole = run_once(Contender("whole", command(folder, n, 1)))
    per_task = lambda rss: (rss - one.rss_bytes_max) / n
    return {
        "tasks": n,
        "bytes_of_one": one.rss_bytes_max,
        "bytes_per_task_while_running": per_task(stopped["rss_bytes_max"]),
        "bytes_per_task_with_barrier": per_task(whole.rss_bytes_max),
        "cpu_us_per_task": 1e6 * (whole.cpu_s - one.cpu_s) / n,
        "runs": {"whole": [whole]},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--name", default="overhead", help="of the results")
    args = parser.parse_args()
    harness.DATA.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="tilework-overhead-", dir=os.environ.get("TILEWORK_BENCH_DATA")) as folder:
        folder = Path(folder)
        cases = [tasks(folder, args.tasks, args.reps, workers) for workers in (1, 2)]
        cases += [barriers(folder, args.rounds, args.reps), memory(folder, args.many)]
    for case in cases:
        print(json.dumps({key: value for key, value in case.items() if key != "runs"}))
    harness.save(args.name, cases, load_before=load, load_after=os.getloadavg())


if __name__ == "__main__":
    main()
