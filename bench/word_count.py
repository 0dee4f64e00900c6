"""How long does it take to count the words of 1 GiB of text? tilework's example against dask.bag and the shell's tools.

word_count.py [--mib 1024] [--reps 3] [--workers 2] [--tries 4]

cargo build --release -p tilework --example word_count; dask comes with bench/setup.sh --peers, GNU parallel from the system.

The text: all lines of the licences and Perl modules that Debian installs, ASCII only, shuffled anew for each time they are repeated
(by a seeded generator), in files of 64 MiB. So the vocabulary is that of the sources, and does not grow with the size. A word is what
stands between white space. Everybody writes the same file, `COUNT WORD` a line, by count and then by bytes, and fsyncs it.

A run during which other processes took more than 5 % of the CPU time is made again, up to --tries times; then the one with the least counts.
"""

import argparse
import hashlib
import os
import random
import re
import shutil
import sys
from pathlib import Path

import harness
from harness import BENCH, DATA, ROOT, Contender

SOURCES = [("/usr/share/common-licenses", "*"), ("/usr/share/perl", "**/*.pm"), ("/usr/share/perl", "**/*.pod")]
FILE_BYTES = 64 << 20
FOREIGN_CPU_MAX = 0.05
# What is white space to one program and not to another one: everything but the usual is left out.
UNUSUAL = re.compile(rb"[^ \t\n!-~]")
PROGRAM = Path(os.environ.get("TILEWORK_WORD_COUNT_BIN", ROOT / "target/release/examples/word_count"))


def source_lines():
    """The lines of all sources, in the order of their paths, without what is not ASCII text."""
    paths = sorted({path.resolve() for folder, names in SOURCES for path in Path(folder).glob(names) if path.is_file()})
    lines = [line for path in paths for line in UNUSUAL.sub(b"", path.read_bytes()).splitlines(keepends=True)]
    if sum(map(len, lines)) < 1 << 20:
        raise SystemExit("too little text in " + ", ".join(folder for folder, _ in SOURCES))
    return [line if line.endswith(b"\n") else line + b"\n" for line in lines]


def text(mib):
    """A folder of `mib` MiB, made once and kept; and what it was made of."""
    lines = source_lines()
    sha256 = hashlib.sha256(b"".join(lines)).hexdigest()
    folder = DATA / f"text_{mib}MiB_{sha256[:12]}"
    about = {"source_bytes": sum(map(len, lines)), "source_sha256": sha256, "mib": mib}
    if folder.exists():
        return folder, about
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    generator, left, shuffled = random.Random(1), mib << 20, []
    for i in range(-(-left // FILE_BYTES)):
        size = min(left, FILE_BYTES)
        left -= size
        with open(part / f"{i:03}.txt", "wb") as file:
            while size > 0:
                if not shuffled:
                    shuffled = lines[:]
                    generator.shuffle(shuffled)
                # The last line of a file may be cut, as a real file's may be.
                line = shuffled.pop()[:size]
                file.write(line)
                size -= len(line)
    part.rename(folder)
    return folder, about


def contenders(folder, workers):
    if not PROGRAM.exists():
        raise SystemExit(f"{PROGRAM} is missing: cargo build --release -p tilework --example word_count")
    if not shutil.which("parallel"):
        raise SystemExit("GNU parallel is missing: apt-get install parallel, or your system's way")
    out = {name: DATA / f"out_words_{name}.txt" for name in ("tilework", "dask", "dask_counter", "sort", "awk")}
    spec = ["--set", f"folder={folder}", "--set", f"reducers={workers}"]
    threads = ["--threads", workers]
    command = [PROGRAM, "run", "word-count", *spec, *threads, "-o", out["tilework"], "--overwrite", "--quiet", "--json"]
    found = [Contender("tilework", command, out["tilework"])]
    dask = [sys.executable, BENCH / "peers" / "dask_words.py", folder]
    found.append(Contender("dask.bag, frequencies", [*dask, out["dask"], "--workers", workers], out["dask"]))
    counter = [*dask, out["dask_counter"], "--workers", workers, "--counter"]
    found.append(Contender("dask.bag, a Counter a block", counter, out["dask_counter"]))
    shell = ["sh", BENCH / "peers" / "shell_words.sh", folder]
    for how in ("sort", "awk"):
        found.append(Contender(f"parallel, {how}", [*shell, out[how], workers, how], out[how]))
    return found


def interleave(contenders, reps, tries):
    """Runs in turn, each as undisturbed as it gets; the digests of the answers, of which each contender has one; runs made again."""
    watched = harness.Watched(timeout_s=900)
    runs, digests, n_again = {c.name: [] for c in contenders}, {}, 0
    for rep in range(reps):
        for c in contenders if rep % 2 == 0 else reversed(contenders):
            tried = []
            while len(tried) < tries and not (tried and tried[-1].foreign_cpu <= FOREIGN_CPU_MAX):
                harness.remove(c.out)
                os.sync()
                run = harness.run_once(c, watched)
                if run.exit_code != 0:
                    raise SystemExit(f"{c.name} ended with {run.exit_code}: {run.stderr}")
                digest = hashlib.sha256(c.out.read_bytes()).hexdigest()
                if digests.setdefault(c.name, digest) != digest:
                    raise SystemExit(f"{c.name}: two runs, two answers")
                print(f"{c.name}: {run.wall_s:.3f} s, foreign CPU {run.foreign_cpu:.0%}", file=sys.stderr)
                tried.append(run)
            runs[c.name].append(min(tried, key=lambda run: run.foreign_cpu))
            n_again += len(tried) - 1
            harness.remove(c.out)
    return runs, digests, n_again


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--tries", type=int, default=4)
    args = parser.parse_args()

    folder, about = text(args.mib)
    load = os.getloadavg()
    runs, digests, n_again = interleave(contenders(folder, args.workers), args.reps, args.tries)
    if len(set(digests.values())) != 1:
        raise SystemExit(f"the answers differ: {digests}")
    reports = [harness.report(run) for run in runs["tilework"]]
    tasks = {report["tasks_run"] for report in reports}
    ratios = {
        name: harness.quartiles([it.wall_s / ours.wall_s for it, ours in zip(its, runs["tilework"], strict=True)])
        for name, its in runs.items()
        if name != "tilework"
    }

    print(f"\n## Words of {args.mib} MiB, {args.workers} workers\n")
    print(harness.run_table(runs))
    print(f"\nAll answers are the same file. tilework: {', '.join(map(str, sorted(tasks)))} tasks. Load before: {load[0]:.2f}.")
    print(f"{n_again} runs were made again for others' use of the processor.\n")
    for name, (low, mid, high) in ratios.items():
        print(f"- {name}: {mid:.1f} times tilework's time (quartiles {low:.1f} to {high:.1f})")
    case = {**about, "workers": args.workers, "runs": runs, "runs_made_again": n_again, "time_over_tilework": ratios, "answer_sha256": digests}
    harness.save("word_count", [case], load_before=load)


if __name__ == "__main__":
    main()
