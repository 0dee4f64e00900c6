"""What do the check and the journal cost? The same product by two builds, one of them without either.

check_cost.py [--size 8192] [--reps 7] [--unchecked target/bench-unchecked/release/tilework]
The second build: CARGO_TARGET_DIR=target/bench-unchecked cargo build --release --features bench-unchecked
"""

import argparse
from pathlib import Path

import harness
from harness import DATA, ROOT


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--reps", type=int, default=7)
    parser.add_argument("--unchecked", type=Path, default=ROOT / "target/bench-unchecked/release/tilework")
    args = parser.parse_args()

    a, b = (harness.matrix(args.size, args.size, seed) for seed in (1, 2))
    checked = harness.tilework("checked", a, b, DATA / "out_checked.npy")
    unchecked = harness.tilework("unchecked", a, b, DATA / "out_unchecked.npy", binary=args.unchecked)
    runs, residuals = harness.interleave([checked, unchecked], args.reps, lambda c: harness.residual(a, b, c.out))

    # Each pair ran side by side: the median of their ratios is steadier than the ratio of two medians.
    pairs = zip(runs["checked"], runs["unchecked"])
    cost_percent = harness.quartiles([100 * (with_it.wall_s / bare.wall_s - 1) for with_it, bare in pairs])
    pairs = zip(runs["checked"], runs["unchecked"])
    cpu_percent = harness.quartiles([100 * (with_it.cpu_s / bare.cpu_s - 1) for with_it, bare in pairs])

    print(f"\n## f64 {args.size}: check and journal against neither\n")
    print(harness.run_table(runs))
    for what, (low, mid, high) in {"wall": cost_percent, "CPU": cpu_percent}.items():
        print(f"\ncost in {what} time: {mid:+.2f} % (quartiles {low:+.2f} to {high:+.2f})")
    case = {"size": args.size, "dtype": "f64", "runs": runs, "residuals": residuals}
    harness.save("check_cost", [{**case, "wall_cost_percent": cost_percent, "cpu_cost_percent": cpu_percent}])


if __name__ == "__main__":
    main()
