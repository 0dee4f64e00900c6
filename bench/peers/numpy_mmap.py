"""numpy with its inputs as memory maps: numpy_mmap.py A B OUT [--out memory|map] [--fsync]."""

import argparse
import os

import numpy as np

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("a")
parser.add_argument("b")
parser.add_argument("out")
parser.add_argument("--out", dest="kind", choices=["memory", "map"], default="memory", help="where C is computed")
parser.add_argument("--fsync", action="store_true", help="return only when the answer is on the disk")
args = parser.parse_args()

a, b = np.load(args.a, mmap_mode="r"), np.load(args.b, mmap_mode="r")
if args.kind == "map":
    c = np.lib.format.open_memmap(args.out, "w+", dtype=a.dtype, shape=(a.shape[0], b.shape[1]))
    np.matmul(a, b, out=c)
    if args.fsync:
        c.flush()
        with open(args.out, "rb+") as out:
            os.fsync(out.fileno())
else:
    c = a @ b
    with open(args.out, "wb") as out:
        np.save(out, c)
        out.flush()
        if args.fsync:
            os.fsync(out.fileno())
