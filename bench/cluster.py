"""What does a cluster cost on one machine? Two worker processes of one thread against one process with two workers.

cluster.py [--size 8192] [--reps 5] [--memory 2GiB] [--slowed target/test-slow/release/tilework] [--slow-size 4096] [--empty 100000] [--overhead-sizes 4096 8192]

Each part starts a cluster of its own on loopback (nats-server that syncs every write, a driver, two workers) and ends it. The
slow part needs the slowed build (see assignment.py), the empty part `cargo build --release -p tilework-nats --example empty_tasks`.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import harness
from harness import DATA, ROOT, TILEWORK


@contextmanager
def cluster(binary, memory, env=None):
    """A cluster of two workers of one thread; yields its client's join file."""
    folder = Path(tempfile.mkdtemp(prefix="tilework-bench-"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = folder / "cluster"
    up = [binary, "cluster", "up", here, "--port", port, "--workers", 2, "--threads", 1]
    up += ["--memory", memory, "--data-root", f"data={DATA}", "--detach", "--quiet"]
    try:
        subprocess.run([str(part) for part in up], env=harness.environment(env or {}), check=True)
        yield here / "client.join"
    finally:
        subprocess.run([str(binary), "cluster", "down", str(here), "--quiet"], check=True)
        shutil.rmtree(folder)


def over(runs, name, base):
    pairs = zip(runs[name], runs[base], strict=True)
    return harness.quartiles([mine.wall_s / its.wall_s for mine, its in pairs])


def against_one_process(args):
    a, b = (harness.matrix(args.size, args.size, seed) for seed in (1, 2))
    with cluster(TILEWORK, args.memory) as join:
        contenders = [
            harness.tilework("cluster", a, b, DATA / "out_cluster.npy", "--cluster", join),
            harness.tilework("one process", a, b, DATA / "out_one.npy", "--workers", "2", "--threads", "2"),
        ]
        runs, residuals = harness.interleave(contenders, args.reps, lambda c: harness.residual(a, b, c.out))
    low, mid, high = over(runs, "cluster", "one process")
    reports = {name: harness.report(its[-1]) for name, its in runs.items()}
    report = reports["cluster"]
    busy_s = sum(worker["seconds_busy"] for worker in report["workers"])
    overhead_ms = 1e3 * (report["seconds"] * 2 - busy_s) / report["tasks"]
    print(f"\n## f64 {args.size}: two workers of one thread\n")
    print(harness.run_table(runs))
    print(f"\ncluster over one process: {mid:.3f} (quartiles {low:.3f} to {high:.3f});")
    print(f"{report['tasks']} tasks, {overhead_ms:.1f} ms each beside computing, reading back and ending included")
    return {
        "size": args.size,
        "runs": runs,
        "residuals": residuals,
        "cluster_over_one_process": [low, mid, high],
        "overhead_per_task_ms": overhead_ms,
        "reports": reports,
    }


def one_slow_worker(args):
    a, b = (harness.matrix(args.slow_size, args.slow_size, seed) for seed in (1, 2))
    factor = 4
    runs, reports = {}, {}
    for name, env in (("even", {}), ("slow", {"TILEWORK_TEST_SLOW": f"1:{factor}x"})):
        with cluster(args.slowed, "64MiB", env) as join:
            ways = ["dynamic"] if name == "even" else ["dynamic", "round-robin"]
            contenders = [
                harness.tilework(
                    f"{name} {way}", a, b, DATA / f"out_{name}_{way}.npy", "--cluster", join, "--assign", way, binary=args.slowed
                )
                for way in ways
            ]
            its, _ = harness.interleave(contenders, args.reps)
            runs.update(its)
    stretch = 2 / (1 + 1 / factor)
    even_s = harness.median(runs["even dynamic"], "wall_s")
    ratios = {}
    print(f"\n## f64 {args.slow_size}, two worker processes, one {factor} times as slow\n")
    print(harness.run_table(runs))
    for name, its in runs.items():
        reports[name] = harness.report(its[-1])
        if name == "even dynamic":
            continue
        ratios[name] = harness.quartiles([run.wall_s / (even_s * stretch) for run in its])
        low, mid, high = ratios[name]
        tasks = ", ".join(f"worker {w['worker']}: {w['tasks']} tasks" for w in reports[name]["workers"])
        print(f"\n{name}: {mid:.3f} of the ideal time (quartiles {low:.3f} to {high:.3f}); {tasks}")
    return {"size": args.slow_size, "factor": factor, "runs": runs, "time_over_ideal": ratios, "reports": reports}


def fsync_s(folder, n_bytes, reps=30):
    """Median time of writing that many bytes into a file that has its place on the disk already, and making them durable."""
    path = folder / "fsync_probe"
    data = os.urandom(n_bytes)
    times = []
    file = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        os.posix_fallocate(file, 0, n_bytes)
        os.fsync(file)
        for _ in range(reps):
            started = time.perf_counter()
            os.pwrite(file, data, 0)
            os.fdatasync(file)
            times.append(time.perf_counter() - started)
    finally:
        os.close(file)
        path.unlink()
    return statistics.median(times)


def overhead_per_task(args):
    """What a task costs beside computing: two products whose tiles are alike, and so many more tasks in one of them."""
    k = 64
    inputs = {size: (harness.matrix(size, k, 1), harness.matrix(k, size, 2)) for size in args.overhead_sizes}
    with cluster(TILEWORK, "24MiB") as join:
        contenders = [
            harness.tilework(f"{size}", a, b, DATA / f"out_{size}.npy", "--cluster", join)
            for size, (a, b) in inputs.items()
        ]
        runs, _ = harness.interleave(contenders, args.reps)
        reports = {name: [harness.report(run) for run in its] for name, its in runs.items()}
        small, large = (str(size) for size in args.overhead_sizes)
        n_tasks = {name: its[0]["tasks"] for name, its in reports.items()}
        tile_bytes = 8 * args.overhead_sizes[1] ** 2 // n_tasks[large]
        # A task: its tile, its commit, its message, the message's acknowledgement.
        data_s, record_s, message_s = fsync_s(DATA, tile_bytes), fsync_s(DATA, 150), fsync_s(join.parent, 200)
    syncs_ms = 1e3 * (data_s + record_s + 2 * message_s)
    idle_s = {
        name: [2 * its["seconds"] - sum(w["seconds_busy"] for w in its["workers"]) for its in found]
        for name, found in reports.items()
    }
    more_tasks = n_tasks[large] - n_tasks[small]
    pairs = zip(idle_s[small], idle_s[large], strict=True)
    overhead_ms = harness.quartiles([1e3 * (more - few) / more_tasks for few, more in pairs])
    low, mid, high = overhead_ms
    print(f"\n## {n_tasks[small]} and {n_tasks[large]} tasks of {tile_bytes / 2**20:.1f} MiB, two worker processes\n")
    print(harness.run_table(runs))
    print(f"\na task beside computing: {mid:.1f} ms of a worker (quartiles {low:.1f} to {high:.1f}), reading back included;")
    print(f"fsyncs alone: {syncs_ms:.1f} ms (tile {1e3 * data_s:.1f}, commit {1e3 * record_s:.1f}, two of messages {2e3 * message_s:.1f})")
    return {
        "sizes": args.overhead_sizes,
        "runs": runs,
        "tasks": n_tasks,
        "tile_bytes": tile_bytes,
        "overhead_per_task_ms": overhead_ms,
        "fsync_ms": {"tile": 1e3 * data_s, "commit": 1e3 * record_s, "message": 1e3 * message_s},
        "fsyncs_per_task_ms": syncs_ms,
    }


def empty_tasks(args):
    program = args.empty_program
    found = []
    print(f"\n## {args.empty} empty tasks through nats-server, every write synced\n")
    for n_workers in (1, 2):
        answer = subprocess.run([program, str(args.empty), str(n_workers)], check=True, stdout=subprocess.PIPE)
        measured = json.loads(answer.stdout)
        found.append(measured)
        print(f"{n_workers} workers: {measured['tasks_per_s']} tasks a second")
    return {"n_tasks": args.empty, "runs": {}, "measured": found}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--memory", default="2GiB", help="of each worker process")
    parser.add_argument("--slowed", type=Path, default=ROOT / "target/test-slow/release/tilework")
    parser.add_argument("--slow-size", type=int, default=4096)
    parser.add_argument("--overhead-sizes", type=int, nargs=2, default=[4096, 8192], help="of the products of few and of many tasks")
    parser.add_argument("--empty", type=int, default=100_000)
    parser.add_argument("--empty-program", type=Path, default=ROOT / "target/release/examples/empty_tasks")
    parser.add_argument("--only", choices=["one", "overhead", "slow", "empty"], help="one part alone; its results are not written")
    args = parser.parse_args()
    parts = {"one": against_one_process, "overhead": overhead_per_task, "slow": one_slow_worker, "empty": empty_tasks}
    if args.only:
        parts[args.only](args)
        return
    harness.save("cluster", [part(args) for part in parts.values()])


if __name__ == "__main__":
    main()
