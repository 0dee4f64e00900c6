"""What the peers share: a matrix in a .npy file read and written by block, times of phases, and durable answers."""

import json
import os
import shutil
import time
from contextlib import contextmanager

import numpy as np


class NpyFile:
    """Array-like over a .npy file. Only its path travels between processes; a block is copied when asked for."""

    def __init__(self, path):
        self.path = path
        values = np.load(path, mmap_mode="r")
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

    @classmethod
    def create(cls, path, shape, dtype):
        np.lib.format.open_memmap(path, "w+", dtype=dtype, shape=shape)
        return cls(path)

    def __getitem__(self, index):
        return np.array(np.load(self.path, mmap_mode="r")[index])

    def __setitem__(self, index, block):
        np.load(self.path, mmap_mode="r+")[index] = block


@contextmanager
def phase(name):
    """Prints how long it took, as one line of JSON."""
    started = time.perf_counter()
    yield
    print(json.dumps({"phase": name, "seconds": time.perf_counter() - started}), flush=True)


def block_edges(text, shape):
    """Edges `rows,depth,cols` of the blocks, none larger than its axis; 0 is the whole axis."""
    return tuple(min(int(edge) or axis, axis) for edge, axis in zip(text.split(","), shape, strict=True))


def fsync_tree(path):
    """Returns when a file, or every file and folder below a folder, is on the disk; its name too."""
    folders = [folder for folder, _, _ in os.walk(path)]
    files = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names] or [path]
    for each in [*files, *folders, os.path.dirname(os.path.abspath(path))]:
        fd = os.open(each, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)


def remove(*paths):
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
        if os.path.exists(path):
            os.remove(path)
