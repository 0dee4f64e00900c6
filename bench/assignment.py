"""What does a slow worker cost, by load and by round-robin? Two workers of one process, one of them four times as slow.

assignment.py [--size 4096] [--factor 4] [--memory 64MiB] [--reps 5] [--slowed target/test-slow/release/tilework]

The slowed build: CARGO_TARGET_DIR=target/test-slow cargo build --release --features test-slow. Its worker 1 sleeps after each
task, so it takes no processor from the other one. Ideal is the time without a slow worker times 2 / (1 + 1/factor).
"""

import argparse
from pathlib import Path

import harness
from harness import DATA, ROOT


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--factor", type=int, default=4)
    parser.add_argument("--memory", default="64MiB", help="small, so that there are many tasks")
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--slowed", type=Path, default=ROOT / "target/test-slow/release/tilework")
    args = parser.parse_args()

    a, b = (harness.matrix(args.size, args.size, seed) for seed in (1, 2))
    common = ["--workers", "2", "--threads", "2", "--memory", args.memory]
    slow = {"TILEWORK_TEST_SLOW": f"1:{args.factor}x"}

    def contender(name, assign, env):
        out = DATA / f"out_{name.replace(' ', '_')}.npy"
        made = harness.tilework(name, a, b, out, *common, "--assign", assign, binary=args.slowed)
        made.env = env
        return made

    contenders = [
        contender("even", "dynamic", {}),
        contender("slow dynamic", "dynamic", slow),
        contender("slow round-robin", "round-robin", slow),
    ]
    runs, residuals = harness.interleave(contenders, args.reps, lambda c: harness.residual(a, b, c.out))
    stretch = 2 / (1 + 1 / args.factor)
    ratios = {
        name: harness.quartiles([it.wall_s / (even.wall_s * stretch) for it, even in zip(its, runs["even"], strict=True)])
        for name, its in runs.items()
        if name != "even"
    }
    reports = {name: harness.report(its[-1]) for name, its in runs.items()}

    print(f"\n## f64 {args.size}, two workers, one {args.factor} times as slow\n")
    print(harness.run_table(runs))
    for name, (low, mid, high) in ratios.items():
        tasks = ", ".join(f"worker {w['worker']}: {w['tasks']} tasks" for w in reports[name]["workers"])
        print(f"\n{name}: {mid:.3f} of the ideal time (quartiles {low:.3f} to {high:.3f}); {tasks}")
    case = {
        "size": args.size,
        "factor": args.factor,
        "runs": runs,
        "residuals": residuals,
        "time_over_ideal": ratios,
        "reports": reports,
    }
    harness.save("assignment", [case])


if __name__ == "__main__":
    main()
