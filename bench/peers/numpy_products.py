"""Multiplies the same two matrices in memory again and again; the counterpart of the example `small_products`.

numpy_products.py SIZE PRODUCTS ROUNDS DTYPE
"""

import json
import statistics
import sys
import time

import numpy as np


def filled(size, first, dtype):
    """Numbers in [-0.5, 0.5), the same ones as in the example."""
    at = np.arange(first, first + size * size, dtype=np.uint32)
    return (at * np.uint32(2_654_435_761) / 2**32 - 0.5).astype(dtype).reshape(size, size)


def main():
    size, products, rounds = map(int, sys.argv[1:4])
    dtype = {"f64": np.float64, "f32": np.float32}[sys.argv[4]]
    a, b = filled(size, 0, dtype), filled(size, size * size, dtype)
    c = np.empty((size, size), dtype)
    for _ in range(products // 10 + 1):
        np.matmul(a, b, out=c)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(products):
            np.matmul(a, b, out=c)
        seconds.append(time.perf_counter() - start)
    rate = products / statistics.median(seconds)
    result = {
        "products_per_second": rate,
        "gflops": rate * 2 * size**3 / 1e9,
        "seconds": sorted(seconds),
        "sum": float(c.sum(dtype=np.float64)),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
