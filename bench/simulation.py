"""How good is `tilework simulate`? Its forecasts for this machine beside what the same runs take.

simulation.py [--size 4096] [--memory 64MiB] [--reps 3] [--slowed target/test-slow/release/tilework]

One worker on one thread gives the rate that all forecasts use. Then two workers on two threads, even and with one of them four
times as slow, by load and by round-robin. A worker can't be killed alone here: it is a part of the process.
"""

import argparse
import json
import subprocess
from pathlib import Path

import harness
from harness import DATA, ROOT, median

FACTOR = 4


def forecast(binary, size, workers, gflops, tile_bytes, slow, assign):
    # 0.6 of a worker's memory is what the forecast gives its tile.
    command = [binary, "simulate", "--json", "--workers", workers, "--worker-memory", int(tile_bytes / 0.6) + 1]
    command += ["--worker-gflops", gflops, "--one-slow", slow, "--assign", assign, "multiply", size, size, size]
    answer = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(answer.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--memory", default="64MiB")
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--slowed", type=Path, default=ROOT / "target/test-slow/release/tilework")
    parser.add_argument("--name", default="simulation", help="of the results")
    args = parser.parse_args()

    a, b = (harness.matrix(args.size, args.size, seed) for seed in (1, 2))

    def contender(name, workers, assign, slow):
        flags = ["--workers", str(workers), "--threads", str(workers), "--memory", args.memory, "--assign", assign]
        made = harness.tilework(name, a, b, DATA / f"out_{name.replace(' ', '_')}.npy", *flags, binary=args.slowed)
        made.env = {"TILEWORK_TEST_SLOW": f"1:{FACTOR}x"} if slow else {}
        return made

    cases = {
        "one worker": (1, "dynamic", False),
        "two workers": (2, "dynamic", False),
        "two, one slow, dynamic": (2, "dynamic", True),
        "two, one slow, round-robin": (2, "round-robin", True),
    }
    contenders = [contender(name.replace(",", ""), *case) for name, case in cases.items()]
    runs, residuals = harness.interleave(contenders, args.reps, lambda c: harness.residual(a, b, c.out))
    flops = 2 * args.size**3
    rate = flops / median(runs["one worker"], "wall_s") / 1e9

    rows = []
    print(f"\n## f64 {args.size}, {args.memory}, forecasts from {rate:.1f} GF/s of one worker\n")
    print("| | measured s | forecast s | error |\n| --- | --- | --- | --- |")
    for name, (workers, assign, slow) in cases.items():
        its = runs[name.replace(",", "")]
        tile_bytes = 8 * args.size**2 / harness.report(its[-1])["tasks"]
        found = forecast(args.slowed, args.size, workers, rate, tile_bytes, FACTOR if slow else 1, assign)
        measured, expected = median(its, "wall_s"), found["seconds"][1]
        print(f"| {name} | {measured:.2f} | {expected:.2f} | {expected / measured - 1:+.1%} |")
        rows.append({"name": name, "measured_s": measured, "forecast": found, "error": expected / measured - 1})
    case = {"size": args.size, "memory": args.memory, "rate_gflops": rate, "runs": runs, "residuals": residuals}
    harness.save(args.name, [{**case, "rows": rows}])


if __name__ == "__main__":
    main()
