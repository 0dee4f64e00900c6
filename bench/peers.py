"""How do the peers do, file to file, at sizes where all fits in memory, and where it must not be used?

peers.py [--sizes 4096,8192] [--limited-size 8192] [--limit 768MiB] [--reps 5] [--name peers]

Free case: each peer at good settings of its own. Limited case: whoever has more anonymous memory than the limit, added
up over its processes, is killed as an OOM killer would; page cache and mapped files are free of charge. Peers with a
setting for their memory get one that fits. `bench/setup.sh --peers` installs them; one that is missing or fails is
listed with the last line it said. ScaLAPACK stands apart: no files, its own matrices, its own clock.
"""

import argparse
import importlib.metadata
import json
import os
import re
import shutil
import statistics
import subprocess
import sys

import numpy as np

import harness
from harness import BENCH, DATA, ROOT, Contender, Watched
from memory_budget import size_bytes

PACKAGES = ("numpy", "dask", "distributed", "cubed", "zarr", "blosc2")
DEBIAN_PACKAGES = ("libscalapack-openmpi-dev", "openmpi-bin", "libopenblas0-pthread")
PDGEMM = BENCH / "peers/build/pdgemm"
TIMEOUT_S = 300


# --- contenders --------------------------------------------------------------------------------------------------


def peer(name, program, a, b, ending, *flags):
    out = DATA / f"out_{re.sub('[^a-z0-9]+', '_', name)}{ending}"
    return Contender(name, [sys.executable, BENCH / "peers" / program, a, b, out, *flags], out)


def free_contenders(a, b):
    return [
        harness.tilework("tilework", a, b, DATA / "out_tilework.npy"),
        *harness.numpy_ways(a, b),
        peer("dask", "dask_blocks.py", a, b, ".npy", "--blocks", "2048,0,2048"),
        peer("cubed", "cubed_zarr.py", a, b, ".zarr", "--blocks", "2048,2048,2048"),
        peer("blosc2", "blosc2_files.py", a, b, ".b2nd"),
    ]


def limited_contenders(a, b, limit_bytes):
    # For each worker its part of the limit, less what dask's other processes and cubed itself take.
    worker_mib = max(64, (limit_bytes // 2**20 - 208) // os.cpu_count())
    task_mb = limit_bytes // os.cpu_count() // 10**6 - 18
    dask = ("--blocks", "1024,1024,1024", "--worker-memory", f"{worker_mib}MiB")
    cubed = ("--blocks", "1024,1024,1024", "--task-memory", f"{task_mb}MB")
    square = ("--chunk", "2048", "--block", "512")
    budget = f"{limit_bytes // 2**20}MiB"
    return [
        harness.tilework(f"tilework --memory {budget}", a, b, DATA / "out_tilework.npy", "--memory", budget),
        *harness.numpy_ways(a, b),
        peer("dask, blocks of 1024", "dask_blocks.py", a, b, ".npy", *dask),
        peer("cubed, blocks of 1024", "cubed_zarr.py", a, b, ".zarr", *cubed),
        peer("blosc2", "blosc2_files.py", a, b, ".b2nd"),
        peer("blosc2, chunks of 2048", "blosc2_files.py", a, b, ".b2nd", *square),
        peer("blosc2, chunks of 2048, no fast path", "blosc2_files.py", a, b, ".b2nd", *square, "--no-fast-path"),
    ]


def pdgemm(size):
    mpirun = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", os.cpu_count()]
    env = {"OPENBLAS_NUM_THREADS": "1"}
    return Contender("ScaLAPACK pdgemm, in memory", [*mpirun, PDGEMM, size, 128, 2], env=env)


# --- answers -----------------------------------------------------------------------------------------------------


def open_answer(path):
    if path.suffix == ".zarr":
        import zarr

        return zarr.open_array(path, mode="r")
    if path.suffix == ".b2nd":
        import blosc2

        return blosc2.open(str(path), mode="r")
    return harness.open_npy(path)


def seconds_multiplying(run):
    """Of a peer that copies its inputs first: the time of the multiplication alone."""
    lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith('{"phase"')]
    seconds = {line["phase"]: line["seconds"] for line in lines}
    return seconds["multiply"] if "convert" in seconds else None


def failure(run):
    """Why a run failed, without the paths of this machine."""
    # multiprocessing's tracker warns after the error itself.
    said = [line.strip() for line in run.stderr.splitlines() if line.strip() and "resource_tracker" not in line]
    last = re.sub(r"(/[\w.+-]+)+/", ".../", said[-1].replace(str(ROOT), "."))[:300] if said else ""
    ended = f"signal {-run.exit_code}" if run.exit_code < 0 else f"exit code {run.exit_code}"
    return run.stopped or ": ".join(part for part in (ended, last) if part)


def versions():
    found = {"BLAS of numpy": np.show_config(mode="dicts")["Build Dependencies"]["blas"]["version"]}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    for package in DEBIAN_PACKAGES:
        query = ["dpkg-query", "--show", "--showformat", "${Version}", package]
        answer = subprocess.run(query, capture_output=True, text=True) if shutil.which("dpkg-query") else None
        found[package] = (answer.stdout or None) if answer else None
    return found


# --- cases -------------------------------------------------------------------------------------------------------


def measure(size, contenders, reps, limit_bytes=0):
    a, b = inputs(size)
    runs, residuals = harness.interleave(
        contenders, reps, lambda c: harness.residual(a, b, c.out, open_answer), Watched(limit_bytes, TIMEOUT_S)
    )
    return {
        "size": size,
        "dtype": "f64",
        "limit_bytes": limit_bytes or None,
        "runs": runs,
        "residuals": residuals,
        "gflops": {name: 2 * size**3 / wall_s / 1e9 for name, wall_s in medians(runs).items()},
        "multiply_s": multiply_medians(runs),
        "failures": {name: failure(its[-1]) for name, its in runs.items() if its[-1].exit_code != 0},
    }


def measure_in_memory(size, reps):
    """ScaLAPACK: of each run the second product, the first having touched the memory."""
    contender = pdgemm(size)
    case = {"size": size, "dtype": "f64", "in_memory": True, "residuals": {}, "gflops": {}, "failures": {}}
    if not PDGEMM.exists() or not shutil.which("mpirun"):
        return {**case, "runs": {}, "failures": {contender.name: "not installed: bench/setup.sh --peers"}}
    runs, said = harness.interleave([contender], reps, watched=Watched(0, TIMEOUT_S))[0], []
    for run in runs[contender.name]:
        if run.exit_code != 0:
            return {**case, "runs": runs, "failures": {contender.name: failure(run)}}
        said.append(json.loads(run.stdout.splitlines()[-1]))
    seconds = statistics.median(each["seconds"][-1] for each in said)
    return {
        **case,
        "runs": runs,
        "residuals": {contender.name: max(each["residual"] for each in said)},
        "gflops": {contender.name: 2 * size**3 / seconds / 1e9},
        "said": said,
    }


def inputs(size):
    return tuple(harness.matrix(size, size, seed) for seed in (1, 2))


def medians(runs):
    return {name: harness.median(its, "wall_s") for name, its in runs.items() if its[-1].exit_code == 0}


def multiply_medians(runs):
    """Median seconds of the multiplication alone, of whoever copies its inputs first."""
    seconds = {name: [seconds_multiplying(run) for run in its if run.exit_code == 0] for name, its in runs.items()}
    return {name: statistics.median(its) for name, its in seconds.items() if its and its[0] is not None}


# --- output ------------------------------------------------------------------------------------------------------


def show(case):
    limit = f", at most {case['limit_bytes'] >> 20} MiB of anonymous memory" if case["limit_bytes"] else ""
    print(f"\n## {case['dtype']} {case['size']}, file to file{limit}\n")
    print("| | wall s: median (quartiles) | GF/s | multiply alone s | peak RSS MiB | anonymous MiB | residual | runs |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, its in case["runs"].items():
        rss, anon = (max(getattr(run, field) for run in its) / 2**20 for field in ("rss_bytes_max", "anon_bytes_max"))
        if name in case["failures"]:
            print(f"| {name} | failed: {case['failures'][name]} | | | {rss:.0f} | {anon:.0f} | | {len(its)} |")
            continue
        low, mid, high = harness.quartiles([run.wall_s for run in its])
        alone = f"{case['multiply_s'][name]:.2f}" if name in case["multiply_s"] else ""
        print(
            f"| {name} | {mid:.2f} ({low:.2f} to {high:.2f}) | {case['gflops'][name]:.1f} | {alone} "
            f"| {rss:.0f} | {anon:.0f} | {case['residuals'][name]:.1e} | {len(its)} |"
        )
    print(f"\nforeign CPU, most: {max(run.foreign_cpu for its in case['runs'].values() for run in its):.0%}")


def show_in_memory(case):
    for name, why in case["failures"].items():
        print(f"\n{name}, {case['size']}: {why}")
    for name, gflops in case["gflops"].items():
        print(f"\n{name}, {case['size']}, no files: {gflops:.1f} GF/s, residual {case['residuals'][name]:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="4096,8192")
    parser.add_argument("--limited-size", type=int, default=8192, help="0: no limited case")
    parser.add_argument("--limit", default="768MiB")
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--name", default="peers")
    args = parser.parse_args()

    cases, apart = [], []
    for size in map(int, args.sizes.split(",")):
        cases.append(measure(size, free_contenders(*inputs(size)), args.reps))
        show(cases[-1])
        apart.append(measure_in_memory(size, args.reps))
        show_in_memory(apart[-1])
    if args.limited_size:
        limit_bytes = size_bytes(args.limit)
        contenders = limited_contenders(*inputs(args.limited_size), limit_bytes)
        cases.append(measure(args.limited_size, contenders, args.reps, limit_bytes))
        show(cases[-1])
    harness.save(args.name, [*cases, *apart], versions=versions())


if __name__ == "__main__":
    main()
