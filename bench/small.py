"""What does a tiny product cost? CPU time of the whole process, where nothing but overhead is left.

small.py [--reps 50]
"""

import argparse

import harness
from harness import DATA


def measure(size, reps):
    a, b = (harness.matrix(size, size, seed) for seed in (1, 2))
    ours = harness.tilework("tilework", a, b, DATA / "out_small.npy")
    runs, residuals = harness.interleave([ours], reps, lambda c: harness.residual(a, b, c.out))
    cpu_ms = [1000 * q for q in harness.quartiles([run.cpu_s for run in runs["tilework"]])]
    wall_ms = [1000 * q for q in harness.quartiles([run.wall_s for run in runs["tilework"]])]
    return {"size": size, "runs": runs, "residuals": residuals, "cpu_ms": cpu_ms, "wall_ms": wall_ms}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reps", type=int, default=50)
    args = parser.parse_args()
    cases = [measure(size, args.reps) for size in (1, 2)]
    print("\n| size | CPU ms: median (quartiles) | wall ms: median (quartiles) |\n| --- | --- | --- |")
    for case in cases:
        (c1, c2, c3), (w1, w2, w3) = case["cpu_ms"], case["wall_ms"]
        size = case["size"]
        print(f"| {size}x{size} | {c2:.2f} ({c1:.2f} to {c3:.2f}) | {w2:.2f} ({w1:.2f} to {w3:.2f}) |")
    harness.save("small", cases)


if __name__ == "__main__":
    main()
