"""Measures commands side by side: wall time, CPU time, peak memory and bytes of each run.

Contenders take turns, so that a slow minute of the machine hurts all of them; before each run `sync` empties the
write-back of the one before. Every run notes the share of CPU time that was not its own, and a table says the largest.
"""

import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
DATA = Path(os.environ.get("TILEWORK_BENCH_DATA", BENCH / "data"))
TILEWORK = Path(os.environ.get("TILEWORK_BIN", ROOT / "target/release/tilework"))
# These slow OpenBLAS down or change its blocking: no honest baseline keeps them.
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
DTYPES = {"f64": "<f8", "f32": "<f4"}


@dataclass
class Contender:
    """A command and the file it leaves."""

    name: str
    command: list
    out: Path | None = None
    env: dict = field(default_factory=dict)


@dataclass
class Run:
    """One measured run of a contender."""

    exit_code: int
    wall_s: float
    cpu_s: float
    rss_bytes_max: int
    read_bytes: int
    written_bytes: int
    foreign_cpu: float
    stdout: str
    # Only where the whole tree of processes was watched.
    anon_bytes_max: int | None = None
    stopped: str | None = None
    stderr: str = ""


@dataclass
class Watched:
    """How a tree of processes is watched: it is ended past so much anonymous memory (0: no limit) or time."""

    limit_bytes: int = 0
    timeout_s: float = 600


# --- one run -----------------------------------------------------------------------------------------------------


def environment(extra):
    kept = {name: value for name, value in os.environ.items() if name not in UNSET}
    return {**kept, **extra}


def run_once(contender, watched=None):
    """Runs the command to its end and measures it. stderr goes where ours goes, or with `watched` into the run."""
    stdout_path, stderr_path = DATA / "stdout.txt", DATA / "stderr.txt"
    tree = ["--tree", watched.limit_bytes, watched.timeout_s] if watched else []
    measure = [sys.executable, "-I", "-S", BENCH / "measure.py", *tree, stdout_path, *contender.command]
    with open(stderr_path, "wb") as stderr:
        answer = subprocess.run(
            [str(part) for part in measure],
            env=environment(contender.env),
            stdout=subprocess.PIPE,
            stderr=stderr if watched else None,
            check=True,
        )
    texts = {"stdout": stdout_path.read_text(errors="replace"), "stderr": stderr_path.read_text(errors="replace")}
    return Run(**texts, **json.loads(answer.stdout))


def interleave(contenders, reps, after_first=None, watched=None):
    """`reps` runs of each contender in turn, and whatever `after_first` says of each one's first output.

    A failure ends the program, but not that of a watched contender: it stands in the runs, and once is enough.
    """
    DATA.mkdir(parents=True, exist_ok=True)
    runs = {c.name: [] for c in contenders}
    notes = {}
    lost = set()
    for rep in range(reps):
        # Every other round goes backwards: nobody always runs behind the same neighbour.
        for c in contenders if rep % 2 == 0 else reversed(contenders):
            if c.name in lost:
                continue
            remove(c.out)
            os.sync()
            run = run_once(c, watched)
            runs[c.name].append(run)
            if run.exit_code != 0:
                if not watched:
                    raise SystemExit(f"{c.name} ended with {run.exit_code}: {' '.join(map(str, c.command))}")
                lost.add(c.name)
            elif after_first and c.name not in notes:
                notes[c.name] = after_first(c)
            remove(c.out)
            print(f"{c.name}: {run.wall_s:.3f} s, foreign CPU {run.foreign_cpu:.0%}", file=sys.stderr)
    return runs, notes


def remove(out):
    """Removes an answer and what a contender may have left beside it under the same name."""
    if out is not None:
        subprocess.run(["rm", "-rf", *out.parent.glob(f"{out.name}*")], check=True)


# --- matrices ----------------------------------------------------------------------------------------------------


def matrix(rows, cols, seed, dtype="f64", band_rows=512):
    """A matrix of standard normals, written once in bands and kept."""
    DATA.mkdir(parents=True, exist_ok=True)
    path = DATA / f"{dtype}_{rows}x{cols}_seed{seed}.npy"
    if path.exists():
        return path
    rng = np.random.default_rng(seed)
    part = path.with_suffix(".part")
    values = np.lib.format.open_memmap(part, "w+", dtype=DTYPES[dtype], shape=(rows, cols))
    for start in range(0, rows, band_rows):
        band = values[start : start + band_rows]
        band[:] = rng.standard_normal(band.shape)
    values.flush()
    del values
    part.rename(path)
    return path


def times_vector(values, vector, band_rows=1024):
    """`values @ vector` in f64, a band of rows at a time."""
    bands = range(0, values.shape[0], band_rows)
    return np.concatenate([np.asarray(values[i : i + band_rows], dtype="f8") @ vector for i in bands])


def open_npy(path):
    return np.load(path, mmap_mode="r")


def residual(a_path, b_path, c_path, open_answer=open_npy):
    """Freivalds: the norm of C·x - A·(B·x) over the norm of A·(B·x), for one random x."""
    a, b, c = open_npy(a_path), open_npy(b_path), open_answer(c_path)
    if c.shape != (a.shape[0], b.shape[1]):
        return float("inf")
    x = np.random.default_rng(7).standard_normal(b.shape[1])
    want = times_vector(a, times_vector(b, x))
    return float(np.linalg.norm(times_vector(c, x) - want) / np.linalg.norm(want))


# --- results -----------------------------------------------------------------------------------------------------


def quartiles(values):
    """Lower quartile, median, upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    return tuple(statistics.quantiles(values, n=4, method="inclusive"))


def median(runs, measure):
    return statistics.median(getattr(run, measure) for run in runs)


def machine():
    """What a reader needs to know of the machine, and nothing that names it."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    first = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(cpuinfo))}
    flags = first.get("flags", "").split()
    return {
        "cpu": first.get("model name", platform.machine()),
        "simd": [flag for flag in ("avx2", "fma", "avx512f") if flag in flags],
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": re.match(r"[0-9.]*", platform.release()).group(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "date": datetime.date.today().isoformat(),
    }


def run_table(runs):
    """A markdown table: one row per contender."""
    lines = [
        "| | wall s: median (quartiles) | CPU s | peak RSS MiB | read MiB | written MiB | runs | foreign CPU, most |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, its in runs.items():
        low, mid, high = quartiles([run.wall_s for run in its])
        cells = [
            name,
            f"{mid:.3f} ({low:.3f} to {high:.3f})",
            f"{median(its, 'cpu_s'):.3f}",
            f"{max(run.rss_bytes_max for run in its) / 2**20:.0f}",
            f"{median(its, 'read_bytes') / 2**20:.0f}",
            f"{median(its, 'written_bytes') / 2**20:.0f}",
            str(len(its)),
            f"{max(run.foreign_cpu for run in its):.0%}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def save(name, cases, **more):
    """Writes bench/results/NAME.json: the machine, and each case with its runs and what was derived of them."""
    path = BENCH / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    result = {"bench": name, "machine": machine(), **more, "cases": [plain(case) for case in cases]}
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\nwritten: {path.relative_to(ROOT)}")


def plain(case):
    runs = {name: [figures(run) for run in its] for name, its in case["runs"].items()}
    return {**case, "runs": runs}


def figures(run):
    """What was measured of a run, without what it printed."""
    texts = ("stdout", "stderr")
    return {key: value for key, value in asdict(run).items() if key not in texts and value is not None}


# --- contenders ----------------------------------------------------------------------------------------------------


def tilework(name, a, b, out, *flags, binary=None):
    """A contender that multiplies with tilework, durably, and reports as JSON on standard output."""
    binary = binary or TILEWORK
    if not Path(binary).exists():
        raise SystemExit(f"{binary} is missing: cargo build --release, or name one in TILEWORK_BIN")
    command = [binary, "multiply", a, b, "-o", out, "--overwrite", "--quiet", "--json", *flags]
    return Contender(name, command, out)


def report(run):
    """tilework's own report: the last line of its output that is JSON, or all of it."""
    text = run.stdout.strip()
    try:
        return json.loads(text)
    except ValueError:
        return json.loads(text.splitlines()[-1])


def numpy_program(name, program, a, b, *flags):
    out = DATA / f"out_{name.replace(' ', '_').replace(',', '')}.npy"
    return Contender(name, [sys.executable, BENCH / "peers" / program, a, b, out, *flags], out)


def numpy_ways(a, b):
    """numpy's ways from file to file with the answer on the disk. The baseline is the fastest of them."""
    return [
        numpy_program("numpy load", "numpy_load.py", a, b, "--fsync"),
        numpy_program("numpy mmap", "numpy_mmap.py", a, b, "--fsync"),
        numpy_program("numpy mmap to map", "numpy_mmap.py", a, b, "--out", "map", "--fsync"),
    ]
