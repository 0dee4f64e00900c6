"""How does speed grow from one thread to all, beside the growth of the machine's own peak?

threads.py [--size 8192] [--reps 7] [--dtype f64]

The peak is that of multiply-add instructions alone, on one core and on all at once, from the example `peak` (cargo build
--release -p tilework-kernel --example peak), before and after the products, the better of each.
"""

import argparse
import os
import subprocess

import harness
from harness import DATA
from sizes import PEAK, peak_of_output


def peak(threads, dtype):
    if not PEAK.exists():
        raise SystemExit(f"{PEAK} is missing: cargo build --release -p tilework-kernel --example peak")
    command = [PEAK, str(threads)]
    return peak_of_output(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout, dtype)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--reps", type=int, default=7)
    parser.add_argument("--dtype", choices=list(harness.DTYPES), default="f64")
    args = parser.parse_args()

    a, b = (harness.matrix(args.size, args.size, seed, args.dtype) for seed in (1, 2))
    counts = [1, len(os.sched_getaffinity(0))]
    contenders = [
        harness.tilework(f"{count} threads", a, b, DATA / f"out_{count}.npy", "--threads", str(count))
        for count in counts
    ]
    before = [peak(count, args.dtype) for count in counts]
    runs, residuals = harness.interleave(contenders, args.reps, lambda c: harness.residual(a, b, c.out))
    after = [peak(count, args.dtype) for count in counts]
    peaks = [max(pair) for pair in zip(before, after)]
    one, many = (runs[contender.name] for contender in contenders)
    scaling = harness.quartiles([x.wall_s / y.wall_s for x, y in zip(one, many, strict=True)])
    peak_scaling = peaks[1] / peaks[0]
    case = {
        "size": args.size,
        "dtype": args.dtype,
        "threads": counts,
        "runs": runs,
        "residuals": residuals,
        "peak_gflops": peaks,
        "scaling": scaling,
        "peak_scaling": peak_scaling,
        "share_of_peak_scaling": [speedup / peak_scaling for speedup in scaling],
    }
    print(f"\n## {args.dtype} {args.size} on {counts[0]} and {counts[1]} threads\n")
    print(harness.run_table(runs))
    low, mid, high = case["share_of_peak_scaling"]
    print(f"\nspeed grows {scaling[1]:.3f}x, the peak {peak_scaling:.3f}x ({peaks[0]:.1f} to {peaks[1]:.1f} GF/s):")
    print(f"{mid:.3f} of the peak's growth (quartiles {low:.3f} to {high:.3f})")
    harness.save("threads", [case])


if __name__ == "__main__":
    main()
