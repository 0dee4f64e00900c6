"""numpy with all in memory: numpy_load.py A B OUT [--fsync]."""

import argparse
import os

import numpy as np

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("a")
parser.add_argument("b")
parser.add_argument("out")
parser.add_argument("--fsync", action="store_true", help="return only when the answer is on the disk")
args = parser.parse_args()

c = np.load(args.a) @ np.load(args.b)
with open(args.out, "wb") as out:
    np.save(out, c)
    out.flush()
    if args.fsync:
        os.fsync(out.fileno())
