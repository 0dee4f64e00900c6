"""How do speed, memory and bytes moved grow with the size? Square matrices, file to file, the answer on the disk.

sizes.py [--sizes 1024,2048,4096,8192] [--memory 256MiB] [--reps 5] [--dtype f64] [--peak-gflops X]

tilework, with its default memory and with a small one, against numpy's ways. The peak is that of multiply-add
instructions alone on all cores at once, from the example `peak` (cargo build --release -p tilework-kernel --example
peak), or what --peak-gflops says.
"""

import argparse
import os
import re
import subprocess

import harness
from harness import DATA, ROOT

PEAK = ROOT / "target/release/examples/peak"


# --- peak --------------------------------------------------------------------------------------------------------


def peak_of_output(text, dtype):
    """GF/s of the widest instructions in the example's table: `simd dtype peak ...`."""
    rows = re.findall(rf"^\S+ +{dtype} +([0-9.]+)", text, re.MULTILINE)
    if not rows:
        raise SystemExit(f"no {dtype} row in what {PEAK.name} printed:\n{text}")
    return max(map(float, rows))


def peak_gflops(dtype):
    """All cores at once: what they share, clock and power among it, is shared here too."""
    if not PEAK.exists():
        print(f"no peak: {PEAK.relative_to(ROOT)} is not built, and no --peak-gflops", flush=True)
        return None
    command = [PEAK, str(len(os.sched_getaffinity(0)))]
    return peak_of_output(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout, dtype)


# --- sizes -------------------------------------------------------------------------------------------------------


def measure(size, memory, reps, dtype):
    a, b = (harness.matrix(size, size, seed, dtype) for seed in (1, 2))
    ours = harness.tilework("tilework", a, b, DATA / "out_tilework.npy")
    tight = harness.tilework(f"tilework --memory {memory}", a, b, DATA / "out_tight.npy", "--memory", memory)
    theirs = harness.numpy_ways(a, b)
    runs, residuals = harness.interleave([ours, tight, *theirs], reps, lambda c: harness.residual(a, b, c.out))
    gflops = {
        name: harness.quartiles([2 * size**3 / run.wall_s / 1e9 for run in its]) for name, its in runs.items()
    }
    reports = {c.name: harness.report(runs[c.name][-1]) for c in (ours, tight)}
    return {
        "size": size,
        "dtype": dtype,
        "runs": runs,
        "residuals": residuals,
        "gflops": gflops,
        "faster_numpy": max((c.name for c in theirs), key=lambda name: gflops[name][1]),
        "matrices_bytes": 3 * size**2 * int(harness.DTYPES[dtype][-1]),
        "rss_bytes_max": {name: max(run.rss_bytes_max for run in its) for name, its in runs.items()},
        "bytes_moved": {name: report["bytes_read"] + report["bytes_written"] for name, report in reports.items()},
        "bytes_bound": {name: report["bytes_bound"] for name, report in reports.items()},
        "reports": reports,
    }


def show(case):
    print(f"\n## {case['dtype']} {case['size']}, file to file\n")
    print(harness.run_table(case["runs"]))
    print("\n| | GF/s (quartiles) | residual | bytes moved / least possible |\n| --- | --- | --- | --- |")
    for name, (low, mid, high) in case["gflops"].items():
        moved = case["bytes_moved"].get(name)
        ratio = f"{moved / case['bytes_bound'][name]:.3f}" if moved else ""
        print(f"| {name} | {mid:.1f} ({low:.1f} to {high:.1f}) | {case['residuals'][name]:.1e} | {ratio} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="1024,2048,4096,8192")
    parser.add_argument("--memory", default="256MiB")
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--dtype", choices=list(harness.DTYPES), default="f64")
    parser.add_argument("--peak-gflops", type=float, help="of all cores, instead of measuring it")
    parser.add_argument("--name", default="sizes")
    args = parser.parse_args()
    peak = args.peak_gflops or peak_gflops(args.dtype)
    print(f"peak of all cores, {args.dtype}: {f'{peak:.1f} GF/s' if peak else 'not known'}")
    cases = []
    for size in map(int, args.sizes.split(",")):
        cases.append(measure(size, args.memory, args.reps, args.dtype))
        show(cases[-1])
    harness.save(args.name, cases, peak_gflops=peak, memory=args.memory)


if __name__ == "__main__":
    main()
