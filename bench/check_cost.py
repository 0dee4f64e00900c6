"""What do the check and the journal cost? The same product by two builds, one of them without either.

check_cost.py [--size 8192] [--reps 7] [--unchecked target/bench-unchecked/release/tilework] [--uneven]
The second build: CARGO_TARGET_DIR=target/bench-unchecked cargo build --release --features bench-unchecked

--uneven: instead, what the second look at rows that stand out costs at worst, where each tile has four and more of them.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np

import harness
from harness import DATA, ROOT


def uneven(size):
    """A and B of which some rows of each tile of C are nearly all one element."""
    paths = [harness.matrix(size, size, seed) for seed in (1, 2)]
    copies = []
    for path, spike in zip(paths, (1.0, 1e6), strict=True):
        copy = path.with_name(f"uneven_{path.name}")
        if not copy.exists():
            shutil.copyfile(path, copy)
            elements = np.load(copy, mmap_mode="r+")
            line = elements[:, 0] if spike == 1.0 else elements[0, :]
            line[:] = 0
            line[5::128] = spike
            elements.flush()
        copies.append(copy)
    return copies


def second_look(args):
    even = harness.tilework("even", *(harness.matrix(args.size, args.size, seed) for seed in (1, 2)), DATA / "out_even.npy")
    worst = harness.tilework("uneven", *uneven(args.size), DATA / "out_uneven.npy")
    runs, _ = harness.interleave([even, worst], args.reps, lambda _: None)
    pairs = zip(runs["uneven"], runs["even"], strict=True)
    cost_percent = harness.quartiles([100 * (with_it.wall_s / without.wall_s - 1) for with_it, without in pairs])
    print(f"\n## f64 {args.size}: rows that stand out in each tile against none\n")
    print(harness.run_table(runs))
    print("\ncost in wall time: {1:+.1f} % (quartiles {0:+.1f} to {2:+.1f})".format(*cost_percent))
    harness.save("second_look", [{"size": args.size, "dtype": "f64", "runs": runs, "wall_cost_percent": cost_percent}])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--reps", type=int, default=7)
    parser.add_argument("--unchecked", type=Path, default=ROOT / "target/bench-unchecked/release/tilework")
    parser.add_argument("--uneven", action="store_true")
    args = parser.parse_args()
    if args.uneven:
        return second_look(args)

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
