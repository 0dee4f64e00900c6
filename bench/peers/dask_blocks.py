"""dask.array with one BLAS thread per worker: dask_blocks.py A B OUT.npy [options].

Blocks are read from the .npy files and written to one: no conversion. Workers are threads of this process, or with
--worker-memory processes of dask's local cluster, which can keep to a limit.
"""

import argparse
import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import dask
import dask.array as da
from durable import NpyFile, block_edges, fsync_tree, phase, remove


def multiply(a_path, b_path, out_path, blocks):
    a, b = NpyFile(a_path), NpyFile(b_path)
    rows, depth, cols = block_edges(blocks, (*a.shape, b.shape[1]))
    with phase("multiply"):
        x = da.from_array(a, chunks=(rows, depth), asarray=True)
        y = da.from_array(b, chunks=(depth, cols), asarray=True)
        da.store(x @ y, NpyFile.create(out_path, (a.shape[0], b.shape[1]), a.dtype), lock=False)
        fsync_tree(out_path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("a")
    parser.add_argument("b")
    parser.add_argument("out")
    parser.add_argument("--blocks", default="2048,0,2048", help="rows,depth,cols; 0 is the whole axis")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--worker-memory", help="what one worker may have, for example 280MiB")
    args = parser.parse_args()
    if not args.worker_memory:
        with dask.config.set(scheduler="threads", num_workers=args.workers):
            return multiply(args.a, args.b, args.out, args.blocks)

    from dask.distributed import Client, LocalCluster

    scratch = args.out + ".work"
    cluster = LocalCluster(
        n_workers=args.workers,
        threads_per_worker=1,
        memory_limit=args.worker_memory,
        dashboard_address=None,
        local_directory=scratch,
    )
    with cluster, Client(cluster):
        multiply(args.a, args.b, args.out, args.blocks)
    remove(scratch)


if __name__ == "__main__":
    main()
