"""Is tilework as fast on odd shapes, file to file, against the faster of numpy's ways with the answer on the disk?

shapes.py [--case tall,deep,flat] [--shape MxKxN ...] [--reps 5] [--dtype f64]
tall: 200000x512 by 512x512; deep: 2048x131072 by 131072x2048; flat: 64x8192 by 8192x8192.
"""

import argparse

import harness
from harness import DATA

SHAPES = {"tall": (200_000, 512, 512), "deep": (2048, 131_072, 2048), "flat": (64, 8192, 8192)}


def measure(name, shape, reps, dtype):
    m, k, n = shape
    a, b = harness.matrix(m, k, 1, dtype), harness.matrix(k, n, 2, dtype)
    theirs = harness.numpy_ways(a, b)
    ours = harness.tilework("tilework", a, b, DATA / "out_tilework.npy")
    runs, residuals = harness.interleave([ours, *theirs], reps, lambda c: harness.residual(a, b, c.out))

    wall_s = {name: harness.median(its, "wall_s") for name, its in runs.items()}
    faster = min((c.name for c in theirs), key=wall_s.get)
    # Each pair ran in the same round: the median of their ratios is steadier than the ratio of two medians.
    pairs = zip(runs[faster], runs["tilework"], strict=True)
    return {
        "case": name,
        "m": m,
        "k": k,
        "n": n,
        "dtype": dtype,
        "runs": runs,
        "residuals": residuals,
        "gflops": {name: 2 * m * k * n / wall / 1e9 for name, wall in wall_s.items()},
        "faster_numpy": faster,
        "ratio_to_faster_numpy": harness.quartiles([numpy.wall_s / its.wall_s for numpy, its in pairs]),
        "report": harness.report(runs["tilework"][-1]),
    }


def show(case):
    m, k, n = case["m"], case["k"], case["n"]
    print(f"\n## {case['case']}: {m}x{k} by {k}x{n}, {case['dtype']}\n")
    print(harness.run_table(case["runs"]))
    print("\n| | GF/s | residual |\n| --- | --- | --- |")
    for name, residual in case["residuals"].items():
        print(f"| {name} | {case['gflops'][name]:.1f} | {residual:.1e} |")
    low, mid, high = case["ratio_to_faster_numpy"]
    print(f"\n{case['faster_numpy']} / tilework: {mid:.3f} (quartiles {low:.3f} to {high:.3f})")


def parse_shape(text):
    m, k, n = map(int, text.split("x"))
    return m, k, n


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", default="tall,deep,flat", help="names of the list above; empty: none")
    parser.add_argument("--shape", type=parse_shape, action="append", default=[], metavar="MxKxN", help="one more")
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--dtype", choices=list(harness.DTYPES), default="f64")
    parser.add_argument("--name", help="of the results [default: shapes, with the type if it is f32]")
    args = parser.parse_args()
    shapes = {name: SHAPES[name] for name in args.case.split(",") if name}
    shapes |= {"x".join(map(str, shape)): shape for shape in args.shape}
    cases = []
    for name, shape in shapes.items():
        cases.append(measure(name, shape, args.reps, args.dtype))
        show(cases[-1])
    harness.save(args.name or {"f64": "shapes", "f32": "shapes_f32"}[args.dtype], cases)


if __name__ == "__main__":
    main()
