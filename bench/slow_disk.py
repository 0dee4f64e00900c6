"""On a slow disk, is the time the larger of compute and disk?

slow_disk.py [--size 8192] [--memory 256MiB] [--rates bound,balanced] [--reps 5]

The disk is slowed by slow_disk.c, preloaded into tilework: every byte through pread and pwrite passes one queue at the
given rate, also bytes that the page cache holds. So the disk alone takes the bytes of tilework's report over the rate;
compute alone is the run without a slow disk, its inputs in the page cache. Rates: MB/s, or `balanced` (the disk as long
as compute) or `bound` (twice as long), both from a warm run before. The shim's count is held against the report.
"""

import argparse
import json
import shutil
import subprocess

import harness
from harness import BENCH, DATA

SHIM = DATA / "slow_disk.so"
LOG = DATA / "slow_disk.json"
# How many times as long as compute the disk takes.
NAMED_RATES = {"balanced": 1, "bound": 2}


def build():
    DATA.mkdir(parents=True, exist_ok=True)
    source = BENCH / "slow_disk.c"
    command = ["cc", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", SHIM, source, "-pthread", "-ldl"]
    subprocess.run(command, check=True)


def bytes_of(report):
    return report["bytes_read"] + report["bytes_written"]


def bytes_per_s(rate, run):
    """Of MB/s, or of a name: the bytes of a run on the fast disk over a multiple of its time."""
    if rate in NAMED_RATES:
        return round(bytes_of(harness.report(run)) / (NAMED_RATES[rate] * run.wall_s))
    return round(float(rate) * 1e6)


def measure(size, memory, rate, reps):
    a, b = (harness.matrix(size, size, seed) for seed in (1, 2))
    free = harness.tilework("as it is", a, b, DATA / "out_free.npy", "--memory", memory)
    slow = harness.tilework("slow disk", a, b, DATA / "out_slow.npy", "--memory", memory)
    _, warm = harness.interleave([free], 2)[0][free.name]
    rate_bytes_per_s = bytes_per_s(rate, warm)
    # By `env`, so that what measures is not slowed too.
    shim = {"LD_PRELOAD": SHIM, "SLOW_DISK_RATE": rate_bytes_per_s, "SLOW_DISK_LOG": LOG}
    slow.command = ["env", *(f"{name}={value}" for name, value in shim.items()), *slow.command]

    def check(contender):
        if contender is slow:
            counts.append(json.loads(LOG.read_text()))
        return harness.residual(a, b, contender.out)

    counts = []
    runs, residuals = harness.interleave([free, slow], reps, check)
    disk_s = [bytes_of(harness.report(run)) / rate_bytes_per_s for run in runs[slow.name]]
    rounds = zip(runs[free.name], runs[slow.name], disk_s, strict=True)
    return {
        "size": size,
        "dtype": "f64",
        "memory": memory,
        "rate_bytes_per_s": rate_bytes_per_s,
        "runs": runs,
        "residuals": residuals,
        "compute_s": harness.median(runs[free.name], "wall_s"),
        "disk_s": harness.quartiles(disk_s)[1],
        "ratio_to_larger": harness.quartiles([both.wall_s / max(fast.wall_s, disk) for fast, both, disk in rounds]),
        "bytes_by_report": bytes_of(harness.report(runs[slow.name][0])),
        "bytes_by_shim": counts[0]["read"] + counts[0]["written"],
    }


def show(case):
    rate = case["rate_bytes_per_s"] / 1e6
    print(f"\n## f64 {case['size']} within {case['memory']} on a disk of {rate:.0f} MB/s\n")
    print(harness.run_table(case["runs"]))
    low, mid, high = case["ratio_to_larger"]
    slow_s = harness.median(case["runs"]["slow disk"], "wall_s")
    print(f"\ncompute {case['compute_s']:.2f} s, disk {case['disk_s']:.2f} s, both {slow_s:.2f} s")
    print(f"time / larger of compute and disk: {mid:.3f} (quartiles {low:.3f} to {high:.3f})")
    print(f"bytes by the shim / by the report: {case['bytes_by_shim'] / case['bytes_by_report']:.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--memory", default="256MiB")
    parser.add_argument("--rates", default="bound,balanced")
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--name", default="slow_disk")
    args = parser.parse_args()
    if not shutil.which("cc"):
        raise SystemExit("no C compiler: slow_disk.c is compiled by `cc`")
    build()
    cases = []
    for rate in args.rates.split(","):
        cases.append(measure(args.size, args.memory, rate, args.reps))
        show(cases[-1])
    harness.save(args.name, cases)


if __name__ == "__main__":
    main()
