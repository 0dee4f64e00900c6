"""How fast is tilework, file to file, against the faster of numpy's two ways, both with the answer on the disk?

file_to_file.py [--sizes 4096,8192] [--reps 7] [--dtype f64] [--no-loose] [--name file_to_file]
"""

import argparse

import harness
from harness import DATA


def measure(size, reps, dtype, with_loose):
    a, b = (harness.matrix(size, size, seed, dtype) for seed in (1, 2))
    durable = harness.numpy_ways(a, b)
    loose = [
        harness.numpy_program("numpy load, no fsync", "numpy_load.py", a, b),
        harness.numpy_program("numpy mmap, no fsync", "numpy_mmap.py", a, b),
    ]
    ours = [
        harness.tilework("tilework", a, b, DATA / "out_tilework.npy"),
        harness.tilework("tilework auto", a, b, DATA / "out_auto.npy", "--algorithm", "auto"),
    ]
    runs, residuals = harness.interleave(
        [*ours, *durable, *(loose if with_loose else [])], reps, after_first=lambda c: harness.residual(a, b, c.out)
    )

    wall_s = {name: harness.median(its, "wall_s") for name, its in runs.items()}
    fastest = min((c.name for c in durable), key=wall_s.get)
    return {
        "size": size,
        "dtype": dtype,
        "runs": runs,
        "residuals": residuals,
        "gflops": {name: 2 * size**3 / wall / 1e9 for name, wall in wall_s.items()},
        "fastest_durable_numpy": fastest,
        "ratios_to_it": {c.name: ratios(runs[fastest], runs[c.name]) for c in ours},
    }


def ratios(theirs, ours):
    """Quartiles over rounds of their time divided by ours."""
    return harness.quartiles([their.wall_s / our.wall_s for their, our in zip(theirs, ours)])


def show(case):
    print(f"\n## {case['dtype']} {case['size']}, file to file\n")
    print(harness.run_table(case["runs"]))
    print("\n| | GF/s | residual |\n| --- | --- | --- |")
    for name, residual in case["residuals"].items():
        print(f"| {name} | {case['gflops'][name]:.1f} | {residual:.1e} |")
    for name, (low, mid, high) in case["ratios_to_it"].items():
        print(f"\n{case['fastest_durable_numpy']} / {name}: {mid:.3f} (quartiles {low:.3f} to {high:.3f})")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="4096,8192")
    parser.add_argument("--reps", type=int, default=7)
    parser.add_argument("--dtype", choices=list(harness.DTYPES), default="f64")
    parser.add_argument("--no-loose", action="store_true", help="leave out numpy without fsync")
    parser.add_argument("--name", default="file_to_file")
    args = parser.parse_args()
    cases = []
    for size in map(int, args.sizes.split(",")):
        cases.append(measure(size, args.reps, args.dtype, not args.no_loose))
        show(cases[-1])
    harness.save(args.name, cases)


if __name__ == "__main__":
    main()
