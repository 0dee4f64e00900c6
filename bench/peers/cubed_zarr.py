"""cubed on threads of one BLAS thread each, zarr files in and out: cubed_zarr.py A B OUT.zarr [options].

The inputs are copied from .npy to uncompressed zarr first, a phase of its own; the answer stays zarr.
"""

import argparse
import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import cubed
import numpy as np
import zarr
from durable import block_edges, fsync_tree, phase, remove


def to_zarr(npy_path, zarr_path, chunks):
    values = np.load(npy_path, mmap_mode="r")
    copy = zarr.create_array(zarr_path, shape=values.shape, dtype=values.dtype, chunks=chunks, compressors=None)
    for i in range(0, values.shape[0], chunks[0]):
        for j in range(0, values.shape[1], chunks[1]):
            block = slice(i, i + chunks[0]), slice(j, j + chunks[1])
            copy[block] = values[block]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("a")
    parser.add_argument("b")
    parser.add_argument("out")
    parser.add_argument("--blocks", default="2048,2048,2048", help="rows,depth,cols; 0 is the whole axis")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--task-memory", default="4GB", help="what cubed allows one task")
    args = parser.parse_args()

    (m, k), (_, n) = (np.load(path, mmap_mode="r").shape for path in (args.a, args.b))
    rows, depth, cols = block_edges(args.blocks, (m, k, n))
    a_zarr, b_zarr, scratch = (args.out + ending for ending in (".a", ".b", ".work"))
    with phase("convert"):
        to_zarr(args.a, a_zarr, (rows, depth))
        to_zarr(args.b, b_zarr, (depth, cols))
    spec = cubed.Spec(
        work_dir=scratch,
        allowed_mem=args.task_memory,
        reserved_mem="150MB",
        zarr_compressor=None,
        executor_name="threads",
        executor_options={"max_workers": args.workers},
    )
    with phase("multiply"):
        a, b = cubed.from_zarr(a_zarr, spec=spec), cubed.from_zarr(b_zarr, spec=spec)
        cubed.to_zarr(a @ b, args.out)
        fsync_tree(args.out)
    remove(a_zarr, b_zarr, scratch)


if __name__ == "__main__":
    main()
