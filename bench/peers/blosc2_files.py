"""blosc2.matmul from file to file: blosc2_files.py A B OUT.b2nd [--chunk EDGE --block EDGE] [--no-fast-path].

The inputs are copied from .npy to uncompressed .b2nd first, a phase of its own; the answer stays .b2nd.
Without edges blosc2 chooses its own chunks and blocks. Equal square blocks take a fast path, which in 4.14.1 is wrong
in memory where there is more than one chunk, and crashes on files: --no-fast-path avoids it.
"""

import argparse
import importlib

import blosc2
import numpy as np
from durable import fsync_tree, phase, remove


def to_b2nd(npy_path, path, **layout):
    values = np.load(npy_path, mmap_mode="r")
    copy = blosc2.empty(values.shape, dtype=values.dtype, urlpath=path, mode="w", **layout)
    for i in range(0, values.shape[0], copy.chunks[0]):
        copy[i : i + copy.chunks[0]] = np.ascontiguousarray(values[i : i + copy.chunks[0]])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("a")
    parser.add_argument("b")
    parser.add_argument("out")
    parser.add_argument("--chunk", type=int)
    parser.add_argument("--block", type=int)
    parser.add_argument("--no-fast-path", action="store_true")
    args = parser.parse_args()

    if args.no_fast_path:
        importlib.import_module("blosc2.linalg").try_miniexpr = False
    layout = {"cparams": {"clevel": 0}}  # random numbers don't compress
    if args.chunk:
        layout["chunks"] = (args.chunk, args.chunk)
    if args.block:
        layout["blocks"] = (args.block, args.block)
    a_path, b_path = args.out + ".a", args.out + ".b"
    with phase("convert"):
        to_b2nd(args.a, a_path, **layout)
        to_b2nd(args.b, b_path, **layout)
    with phase("multiply"):
        a, b = (blosc2.open(path, mode="r") for path in (a_path, b_path))
        blosc2.matmul(a, b, urlpath=args.out, mode="w", **layout)
        fsync_tree(args.out)
    remove(a_path, b_path)


if __name__ == "__main__":
    main()
