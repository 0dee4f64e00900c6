"""How fast is tilework, file to file, against the faster of numpy's two ways, both with the answer on the disk?

file_to_file.py [--sizes 4096,8192] [--reps 7] [--dtype f64] [--name file_to_file]
"""

import argparse

import harness
from harness import DATA


def measure(size, reps, dtype):
    a, b = (harness.matrix(size, size, seed, dtype) for seed in (1, 2))
    durable = harness.numpy_ways(a, b)
    loose = [
        harness.numpy_program("numpy load, no fsync", "numpy_load.py", a, b),
        harness.numpy_program("numpy mmap, no fsync", "numpy_mmap.py", a, b),
    ]
    ours = harness.tilework("tilework", a, b, DATA / "out_tilework.npy")
    runs, residuals = harness.interleave(
        [ours, *durable, *loose], reps, after_first=lambda c: harness.residual(a, b, c.out)
    )

    wall_s = {name: harness.median(its, "wall_s") for name, its in runs.items()}
    best_durable = min(wall_s[c.name] for c in durable)
    best_loose = min(wall_s[c.name] for c in loose)
    return {
        "size": size,
        "dtype": dtype,
        "runs": runs,
        "residuals": residuals,
        "gflops": {name: 2 * size**3 / wall / 1e9 for name, wall in wall_s.items()},
        "ratio_to_faster_numpy": best_durable / wall_s["tilework"],
        "ratio_to_faster_numpy_without_fsync": best_loose / wall_s["tilework"],
    }


def show(case):
    print(f"\n## {case['dtype']} {case['size']}, file to file\n")
    print(harness.run_table(case["runs"]))
    print("\n| | GF/s | residual |\n| --- | --- | --- |")
    for name, residual in case["residuals"].items():
        print(f"| {name} | {case['gflops'][name]:.1f} | {residual:.1e} |")
    print(f"\nfaster durable numpy / tilework: {case['ratio_to_faster_numpy']:.3f}")
    print(f"faster numpy without fsync / tilework: {case['ratio_to_faster_numpy_without_fsync']:.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="4096,8192")
    parser.add_argument("--reps", type=int, default=7)
    parser.add_argument("--dtype", choices=list(harness.DTYPES), default="f64")
    parser.add_argument("--name", default="file_to_file")
    args = parser.parse_args()
    cases = []
    for size in map(int, args.sizes.split(",")):
        cases.append(measure(size, args.reps, args.dtype))
        show(cases[-1])
    harness.save(args.name, cases)


if __name__ == "__main__":
    main()
