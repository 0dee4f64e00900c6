"""What do very uneven tasks cost, by load and by round-robin? Blocks of rows of the Mandelbrot set on two workers of one process.

mandelbrot.py [--rows-per-task 16] [--factor 4] [--width 1536] [--height 1024] [--iterations 20000] [--reps 5]

Twice: workers alike, and worker 1 so many times as slow. The slowed build: CARGO_TARGET_DIR=target/test-slow cargo build --release
-p tilework --features test-slow --example mandelbrot. Its worker 1 sleeps after each task, so it takes no processor from the other one.

How long each task took and who computed it is read from the journal. Ideal is the mean of the tasks' time without sleep, all of them
together, over what both workers get done in a second: nobody waits for the other, and nothing else costs time.
"""

import argparse
import hashlib
import os
import struct
from pathlib import Path

import harness
from harness import DATA, ROOT, Contender

PROGRAM = Path(os.environ.get("TILEWORK_MANDELBROT", ROOT / "target/test-slow/release/examples/mandelbrot"))
MAGIC, COMMIT = b"TWJ1", 3


def commits(journal):
    """The tasks in a journal without damage (docs/journal-format.md): worker and seconds, by task."""
    data, at, tasks = journal.read_bytes(), 0, {}
    while at < len(data):
        if data[at : at + 4] != MAGIC:
            raise SystemExit(f"{journal}: no record at byte {at}")
        (length,) = struct.unpack_from("<I", data, at + 8)
        payload = data[at + 16 : at + 16 + length]
        if data[at + 5] == COMMIT:
            _epoch, _round, task, _attempt, worker, _checked, _crc, _residual, _bound, seconds = struct.unpack_from("<IIQBIBIddd", payload)
            tasks[task] = {"worker": worker, "seconds": seconds}
        at += 16 + length + 4
    return [tasks[task] for task in sorted(tasks)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows-per-task", type=int, default=16)
    parser.add_argument("--factor", type=int, default=4)
    parser.add_argument("--width", type=int, default=1536)
    parser.add_argument("--height", type=int, default=1024)
    parser.add_argument("--iterations", type=int, default=20000)
    parser.add_argument("--reps", type=int, default=5)
    args = parser.parse_args()
    DATA.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()
    cases = [case(factor, args) for factor in (1, args.factor)]
    for done in cases:
        print(f"\n## {args.width} x {args.height}, {done['tasks']} tasks, worker 1 {done['factor']} times as slow\n")
        print(harness.run_table(done["runs"]))
        for name, (low, mid, high) in done["time_over_ideal"].items():
            print(f"\n{name}: {mid:.3f} of the ideal time (quartiles {low:.3f} to {high:.3f})")
    harness.save("mandelbrot", cases, load_before=load)


def case(factor, args):
    slow = {"TILEWORK_TEST_SLOW": f"1:{factor}x"} if factor > 1 else {}

    def contender(assign):
        out = DATA / f"mandelbrot_{assign}.png"
        sizes = {"width": args.width, "height": args.height, "iterations": args.iterations, "rows_per_task": args.rows_per_task}
        fields = [part for name, value in sizes.items() for part in ("--set", f"{name}={value}")]
        line = [PROGRAM, "run", "mandelbrot", *fields, "--workers", "2", "--threads", "2", "--assign", assign]
        return Contender(assign, [*line, "--overwrite", "--restart", "--quiet", "-o", out], out, slow)

    contenders = [contender("dynamic"), contender("round-robin")]
    watched = harness.Watched()
    runs, tasks, digests = {c.name: [] for c in contenders}, {c.name: [] for c in contenders}, set()
    for rep in range(args.reps):
        for c in contenders if rep % 2 == 0 else reversed(contenders):
            harness.remove(c.out)
            run = harness.run_once(c, watched)
            if run.exit_code != 0:
                raise SystemExit(f"{c.name} ended with {run.exit_code}: {run.stderr}")
            runs[c.name].append(run)
            tasks[c.name].append(commits(c.out.with_name(c.out.name + ".tilework") / "journal"))
            digests.add(hashlib.sha256(c.out.read_bytes()).hexdigest())
    if len(digests) != 1:
        raise SystemExit(f"the pictures differ: {digests}")

    def ideal_s(its):
        work_s = sum(task["seconds"] / (factor if task["worker"] == 1 else 1) for task in its)
        return work_s / (1 + 1 / factor)

    ideal = {name: [ideal_s(its) for its in each] for name, each in tasks.items()}
    over = {name: [run.wall_s / best for run, best in zip(its, ideal[name], strict=True)] for name, its in runs.items()}
    middle = {name: sorted(range(args.reps), key=ratios.__getitem__)[args.reps // 2] for name, ratios in over.items()}
    return {
        "rows_per_task": args.rows_per_task,
        "factor": factor,
        "tasks": len(tasks["dynamic"][0]),
        "runs": runs,
        "ideal_s": ideal,
        "time_over_ideal": {name: harness.quartiles(ratios) for name, ratios in over.items()},
        # Of the run in the middle: what docs/assignment.svg shows.
        "ideal_s_of_middle": {name: ideal[name][middle[name]] for name in ideal},
        "tasks_of_middle": {name: tasks[name][middle[name]] for name in tasks},
        "picture_sha256": digests.pop(),
    }


if __name__ == "__main__":
    main()
