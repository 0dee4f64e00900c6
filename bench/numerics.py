"""How large are the errors and residuals, against their bounds? Prints the tables of docs/numerics.md.

For each inner dimension k, SIDE x k by k x SIDE with normal and with positive elements: the largest error of an element
and its bound, and the check's residual and bound. The classical product's error is in units of u |A||B|, element by
element; Strassen's, whose bound knows only the largest elements, in units of u k max|A| max|B|, with the classical one
beside it in the same unit. The reference is in 80-bit long double (rounding 2^-64, 2000 times finer than f64).
"""

import argparse
import json
import os
import subprocess
import tempfile

import numpy as np

import harness

SIDE = 192
KC = 512


def multiply(tilework, paths, algorithm):
    command = [tilework, "multiply", *paths[:2], "-o", paths[2], "--algorithm", algorithm, "--overwrite", "--json"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return np.load(paths[2]), dict(residual=report["residual_max"], residual_bound=report["residual_bound"])


def measure(tilework, dtype, k, kind, folder):
    rng = np.random.default_rng(k)
    draw = rng.standard_normal if kind == "normal" else rng.random
    a, b = draw((SIDE, k)).astype(dtype), draw((k, SIDE)).astype(dtype)
    paths = [os.path.join(folder, name) for name in ("A.npy", "B.npy", "C.npy")]
    np.save(paths[0], a)
    np.save(paths[1], b)
    exact = a.astype(np.longdouble) @ b.astype(np.longdouble)
    magnitude = np.abs(a).astype(np.longdouble) @ np.abs(b).astype(np.longdouble)
    unit = float(np.finfo(dtype).eps) / 2
    case = dict(dtype=np.dtype(dtype).name, k=k, elements=kind)
    classical, classical_check = multiply(tilework, paths, "classical")
    strassen, strassen_check = multiply(tilework, paths, "strassen")
    largest = float(k * np.abs(a).max() * np.abs(b).max())

    def error_in(found, scale):
        return float(np.max(np.abs(found - exact) / scale)) / unit

    # As linalg's `element_error_bound`, without its factor 1.05 for second-order terms.
    own = dict(error_u=error_in(classical, magnitude), error_bound_u=min(k, KC) + -(-k // KC) + 1)
    normwise = dict(
        error_u=error_in(strassen, largest),
        error_bound_u=16 * (min(k, KC) + 3 + 4 * -(-k // (2 * KC))),
        classical_error_u=error_in(classical, largest),
    )
    return {**case, **own, **classical_check}, {**case, **normwise, **strassen_check}


def show(title, rows, columns):
    print(f"\n## {title}\n\n| " + " | ".join(columns) + " |\n| " + " | ".join("---" for _ in columns) + " |")
    for row in rows:
        cells = (row[column] for column in columns)
        print("| " + " | ".join(f"{cell:.2g}" if isinstance(cell, float) else str(cell) for cell in cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depths", default="64,512,4096,65536")
    options = parser.parse_args()
    tilework = str(harness.TILEWORK)
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        for dtype in (np.float64, np.float32):
            for k in map(int, options.depths.split(",")):
                for kind in ("normal", "positive"):
                    pairs.append(measure(tilework, dtype, k, kind, folder))
    classical, strassen = ([pair[i] for pair in pairs] for i in range(2))
    common = ["dtype", "k", "elements", "error_u", "error_bound_u"]
    show("classical", classical, [*common, "residual", "residual_bound"])
    show("strassen", strassen, [*common, "classical_error_u", "residual", "residual_bound"])
    results = dict(machine=harness.machine(), classical=classical, strassen=strassen)
    path = harness.BENCH / "results" / "numerics.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
