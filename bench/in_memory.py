"""How fast are 1000 products of 256x256 through the library's API, against numpy's rate?

in_memory.py [--sizes 256] [--dtypes f64,f32] [--products 1000] [--reps 7] [--program PATH]

Both multiply the same two matrices again and again into memory that is there already, all cores each, after a warm-up. Start
and import do not count. The ratio is taken per round, of two runs next to each other.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import harness
from harness import BENCH, ROOT, Contender

PROGRAM = ROOT / "target/release/examples/small_products"


def measure(program, size, dtype, products, reps):
    shape = [size, products, 1, dtype]
    ours = Contender("tilework", [program, *shape])
    theirs = Contender("numpy", [sys.executable, BENCH / "peers/numpy_products.py", *shape])
    runs, _ = harness.interleave([ours, theirs], reps)

    reports = {name: [json.loads(run.stdout) for run in its] for name, its in runs.items()}
    sums = [report["sum"] for its in reports.values() for report in its]
    if not all(math.isclose(total, sums[0], rel_tol=1e-4, abs_tol=1e-4 * size**2) for total in sums):
        raise SystemExit(f"the products differ: sums {sums}")
    rates = {name: [report["products_per_second"] for report in its] for name, its in reports.items()}
    return {
        "size": size,
        "dtype": dtype,
        "products": products,
        "runs": runs,
        "products_per_second": rates,
        "gflops": {name: [report["gflops"] for report in its] for name, its in reports.items()},
        "ratio_to_numpy": harness.quartiles([us / them for us, them in zip(rates["tilework"], rates["numpy"])]),
    }


def show(case):
    print(f"\n## {case['products']} products of {case['dtype']} {case['size']}x{case['size']}, in memory\n")
    print("| | products per s: median (quartiles) | GF/s | foreign CPU, most |\n| --- | --- | --- | --- |")
    for name, rates in case["products_per_second"].items():
        low, mid, high = harness.quartiles(rates)
        gflops = harness.quartiles(case["gflops"][name])[1]
        foreign = max(run.foreign_cpu for run in case["runs"][name])
        print(f"| {name} | {mid:.0f} ({low:.0f} to {high:.0f}) | {gflops:.1f} | {foreign:.0%} |")
    low, mid, high = case["ratio_to_numpy"]
    print(f"\ntilework's rate / numpy's: {mid:.3f} ({low:.3f} to {high:.3f})")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="256")
    parser.add_argument("--dtypes", default="f64,f32")
    parser.add_argument("--products", type=int, default=1000)
    parser.add_argument("--reps", type=int, default=7)
    parser.add_argument("--program", type=Path, default=PROGRAM, help="the example, where it is elsewhere")
    parser.add_argument("--name", default="in_memory")
    args = parser.parse_args()
    if not args.program.exists():
        raise SystemExit("not built: cargo build --release -p tilework-linalg --example small_products")
    cases = []
    for size in map(int, args.sizes.split(",")):
        for dtype in args.dtypes.split(","):
            cases.append(measure(args.program, size, dtype, args.products, args.reps))
            show(cases[-1])
    harness.save(args.name, cases)


if __name__ == "__main__":
    main()
