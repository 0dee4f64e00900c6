"""How much of a full product's time does a symmetric one take? A'A against multiply of the same file with itself.

gram.py [--shape 16384x4096] [--rows] [--reps 7] [--dtype f64]

`multiply` computes the same matrix, all of it, by `--transpose-a` (with --rows: `--transpose-b`); `gram` half of it.
"""

import argparse

import harness
from harness import DATA, TILEWORK, Contender


def measure(m, n, rows, reps, dtype):
    a = harness.matrix(m, n, 1, dtype)
    out = DATA / "out_gram.npy"
    flags = ["--rows"] if rows else []
    ours = Contender("gram", [TILEWORK, "gram", a, "-o", out, "--overwrite", "--quiet", "--json", *flags], out)
    full_out = DATA / "out_full.npy"
    full = harness.tilework("multiply", a, a, full_out, "--transpose-b" if rows else "--transpose-a")
    runs, _ = harness.interleave([ours, full], reps)
    pairs = zip(runs["gram"], runs["multiply"], strict=True)
    return {
        "m": m,
        "n": n,
        "rows": rows,
        "dtype": dtype,
        "runs": runs,
        "time_ratio": harness.quartiles([gram.wall_s / full.wall_s for gram, full in pairs]),
        "cpu_ratio": harness.median(runs["gram"], "cpu_s") / harness.median(runs["multiply"], "cpu_s"),
        "reports": {name: harness.report(its[-1]) for name, its in runs.items()},
    }


def show(case):
    print(f"\n## gram of {case['m']}x{case['n']}{' --rows' if case['rows'] else ''}, {case['dtype']}\n")
    print(harness.run_table(case["runs"]))
    low, mid, high = case["time_ratio"]
    print(f"\ngram / multiply: {mid:.3f} of its time (quartiles {low:.3f} to {high:.3f}), {case['cpu_ratio']:.3f} of its CPU")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="16384x4096", help="of A")
    parser.add_argument("--rows", action="store_true", help="AA' instead of A'A")
    parser.add_argument("--reps", type=int, default=7)
    parser.add_argument("--dtype", choices=list(harness.DTYPES), default="f64")
    args = parser.parse_args()
    m, n = map(int, args.shape.split("x"))
    case = measure(m, n, args.rows, args.reps, args.dtype)
    show(case)
    harness.save("gram", [case])


if __name__ == "__main__":
    main()
