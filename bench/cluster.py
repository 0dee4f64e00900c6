"""What does a cluster cost on one machine? Two worker processes of one thread against one process with two workers.

cluster.py [--size 8192] [--reps 5] [--memory 2GiB] [--slowed target/test-slow/release/tilework] [--slow-size 4096] [--empty 100000]

Each part starts a cluster of its own on loopback (nats-server that syncs every write, a driver, two workers) and ends it. The
slow part needs the slowed build (see assignment.py), the empty part `cargo build --release -p tilework-nats --example empty_tasks`.
"""

import argparse
import json
import shutil
import socket
import subprocess
import tempfile
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
    parser.add_argument("--empty", type=int, default=100_000)
    parser.add_argument("--empty-program", type=Path, default=ROOT / "target/release/examples/empty_tasks")
    parser.add_argument("--only", choices=["one", "slow", "empty"], help="one part alone; its results are not written")
    args = parser.parse_args()
    parts = {"one": against_one_process, "slow": one_slow_worker, "empty": empty_tasks}
    if args.only:
        parts[args.only](args)
        return
    harness.save("cluster", [part(args) for part in parts.values()])


if __name__ == "__main__":
    main()
