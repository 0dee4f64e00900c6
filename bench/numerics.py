"""How large are the errors and residuals, against their bounds? Prints the table of docs/numerics.md.

For each inner dimension, 48 x k by k x 48 with normal and with positive elements: the largest error of an element in
units of u |A||B| (reference: 80-bit long double, rounding 2^-64), its bound, and the check's residual and bound.
"""

import argparse
import json
import os
import subprocess
import tempfile

import numpy as np

import harness

SIDE = 48


def measure(tilework, dtype, k, kind, folder):
    rng = np.random.default_rng(k)
    draw = rng.standard_normal if kind == "normal" else rng.random
    a, b = draw((SIDE, k)).astype(dtype), draw((k, SIDE)).astype(dtype)
    paths = [os.path.join(folder, name) for name in ("A.npy", "B.npy", "C.npy")]
    np.save(paths[0], a)
    np.save(paths[1], b)
    command = [tilework, "multiply", paths[0], paths[1], "-o", paths[2], "--overwrite", "--json"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    exact = a.astype(np.longdouble) @ b.astype(np.longdouble)
    magnitude = np.abs(a).astype(np.longdouble) @ np.abs(b).astype(np.longdouble)
    unit = float(np.finfo(dtype).eps) / 2
    error = float(np.max(np.abs(np.load(paths[2]) - exact) / magnitude)) / unit
    bound = min(k, 256) + -(-k // 256) + 1
    return dict(dtype=np.dtype(dtype).name, k=k, elements=kind, error_u=error, error_bound_u=bound,
                residual=report["residual_max"], residual_bound=report["residual_bound"])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depths", default="64,256,1024,4096,16384,65536")
    options = parser.parse_args()
    tilework = str(harness.TILEWORK)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for dtype in (np.float64, np.float32):
            for k in map(int, options.depths.split(",")):
                for kind in ("normal", "positive"):
                    rows.append(measure(tilework, dtype, k, kind, folder))
    print("| dtype | k | elements | error / (u abs(A) abs(B)) | bound | residual | bound |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for r in rows:
        print(f"| {r['dtype']} | {r['k']} | {r['elements']} | {r['error_u']:.2f} | {r['error_bound_u']} | "
              f"{r['residual']:.1e} | {r['residual_bound']:.1e} |")
    results = dict(machine=harness.machine(), rows=rows)
    path = harness.BENCH / "results" / "numerics.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
