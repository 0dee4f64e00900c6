"""Words with dask.bag: dask_words.py FOLDER OUT [--workers N] [--counter].

Blocks of 32 MiB, processes as dask.bag has them by default. As its documentation counts words (`frequencies`), or with --counter the
fastest way that was found: a Counter for each block, joined in the end.
"""

import argparse
import os
from collections import Counter

import dask
import dask.bag as db


def count_block(lines):
    counts = Counter()
    for line in lines:
        counts.update(line.split())
    return counts


def join(blocks):
    counts = Counter()
    for block in blocks:
        counts.update(block)
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("out")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--counter", action="store_true")
    args = parser.parse_args()
    lines = db.read_text(f"{args.folder}/*.txt", blocksize="32MiB", encoding="ascii")
    if args.counter:
        counted = lines.reduction(count_block, join)
    else:
        counted = lines.str.split().flatten().frequencies()
    with dask.config.set(scheduler="processes", num_workers=args.workers):
        counts = dict(counted.compute())
    with open(args.out, "w", encoding="ascii") as out:
        out.writelines(f"{count} {word}\n" for word, count in sorted(counts.items(), key=lambda it: (-it[1], it[0])))
        out.flush()
        os.fsync(out.fileno())


if __name__ == "__main__":
    main()
