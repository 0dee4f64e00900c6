"""What does a tight memory budget cost, and is it kept?

memory_budget.py [--size 8192] [--memory 256MiB] [--reps 5] [--dtype f64]
"""

import argparse
import re

import harness
from harness import DATA

UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def size_bytes(text):
    number, unit = re.fullmatch(r"(\d+)(KiB|MiB|GiB)", text).groups()
    return int(number) * UNITS[unit]


def bytes_ratio(runs):
    """(bytes tilework says, bytes the kernel counted in its calls) over the lower bound of tilework's plan."""
    its_own = harness.report(runs[-1])
    bound = its_own["bytes_bound"]
    said = its_own["bytes_read"] + its_own["bytes_written"]
    counted = runs[-1].read_bytes + runs[-1].written_bytes
    return said / bound, counted / bound


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--memory", default="256MiB")
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--dtype", choices=list(harness.DTYPES), default="f64")
    parser.add_argument("--name", default="memory_budget")
    args = parser.parse_args()

    a, b = (harness.matrix(args.size, args.size, seed, args.dtype) for seed in (1, 2))
    tight = harness.tilework(f"--memory {args.memory}", a, b, DATA / "out_tight.npy", "--memory", args.memory)
    free = harness.tilework("default", a, b, DATA / "out_default.npy")
    runs, residuals = harness.interleave([tight, free], args.reps, lambda c: harness.residual(a, b, c.out))

    rss_bytes = max(run.rss_bytes_max for run in runs[tight.name])
    budget_bytes = size_bytes(args.memory)
    time_ratio = harness.median(runs[tight.name], "wall_s") / harness.median(runs[free.name], "wall_s")
    ratios = {name: bytes_ratio(its) for name, its in runs.items()}

    print(f"\n## {args.dtype} {args.size} within {args.memory}\n")
    print(harness.run_table(runs))
    print(f"\npeak RSS / budget: {rss_bytes / budget_bytes:.3f} ({'kept' if rss_bytes <= budget_bytes else 'BROKEN'})")
    print(f"time / time with the default: {time_ratio:.3f}")
    for name, (said, counted) in ratios.items():
        print(f"{name}: bytes / bytes_bound {said:.3f} by its report, {counted:.3f} by the kernel's count")
    harness.save(
        args.name,
        [
            {
                "size": args.size,
                "dtype": args.dtype,
                "budget_bytes": budget_bytes,
                "runs": runs,
                "residuals": residuals,
                "budget_kept": rss_bytes <= budget_bytes,
                "time_ratio": time_ratio,
                "bytes_ratio": {n: {"by_report": s, "by_kernel": k} for n, (s, k) in ratios.items()},
                "reports": {name: harness.report(its[-1]) for name, its in runs.items()},
            }
        ],
    )


if __name__ == "__main__":
    main()
