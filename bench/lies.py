"""How many wrong results does the check of a tile find? Draws docs/detection.svg: by the bit of an element that was flipped.

lies.py [--program PATH | --told FILE | --draw]

The program: cargo build --release -p tilework-linalg --features test-lies --example lies. It may take an hour, and tells its parts apart:
what it printed of them, run one by one, is taken with --told. With --draw what is in results/ is only drawn again. The picture needs
matplotlib (setup.sh --peers).
"""

import argparse
import json
import math
import subprocess
from pathlib import Path

import harness
from harness import BENCH, ROOT

PROGRAM = ROOT / "target/release/examples/lies"
RESULT = BENCH / "results/lies.json"
PICTURE = ROOT / "docs/detection.svg"
MANTISSA_BITS = {"f64": 52, "f32": 23}


def measure(program):
    """What the program says; it fails if a lie passed that could not."""
    return subprocess.run([program], stdout=subprocess.PIPE, text=True, check=True).stdout


def keep(text):
    """Writes the result: a JSON object a line, of a kind of lie or of all bits."""
    told = [json.loads(line) for line in text.splitlines()]
    result = {
        "bench": "lies",
        "machine": harness.machine(),
        "kinds": [each for each in told if "lie" in each],
        "bits": [each for each in told if "bits" in each],
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written: {RESULT.relative_to(ROOT)}")


def table(kinds):
    """All depths and matrices of a type and kind of lie together."""
    lines = [
        "| dtype | lie | above the limit | outside the bound | passing it by chance, at most | caught | below the limit | caught |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for dtype in ("f64", "f32"):
        of_type = [each for each in kinds if each["dtype"] == dtype]
        for lie in dict.fromkeys(each["lie"] for each in of_type):
            told = [each for each in of_type if each["lie"] == lie]

            def total(name, told=told):
                return sum(each[name] for each in told)

            by_chance = f"{total('passing_expected_at_most'):,.3g}"
            counts = [f"{total(name):,}" for name in ("above", "above_by_bound")]
            caught = [f"{total(name):,}" for name in ("above_caught", "below", "below_caught")]
            lines.append(f"| {dtype} | {lie} | " + " | ".join([*counts, by_chance, *caught]) + " |")
    return "\n".join(lines)


def draw(bits):
    import plots
    from plots import LIGHT_OURS, MUTED, NUMPY, OURS, TEXT, plt

    plt.rcParams.update(plots.STYLE)
    figure, both = plt.subplots(2, figsize=(plots.WIDTH_IN, 5.2))
    figure.subplots_adjust(left=0.11, right=0.97, bottom=0.17, top=0.9, hspace=0.62)
    colors = (OURS, LIGHT_OURS, NUMPY)
    for axes, dtype in zip(both, ("f64", "f32"), strict=True):
        mantissa = MANTISSA_BITS[dtype]
        curves = [each for each in bits if each["dtype"] == dtype]
        n_bits = len(curves[0]["bits"])
        axes.axvspan(mantissa - 0.5, n_bits - 1.5, color=MUTED, alpha=0.13, linewidth=0)
        for begin, end, name in ((-0.5, mantissa - 0.5, "mantissa"), (mantissa - 0.5, n_bits - 1.5, "exponent")):
            axes.text((begin + end) / 2, 1.06, name, ha="center", va="bottom", color=TEXT, fontsize=9)
        axes.text(n_bits - 1, 1.06, "sign", ha="center", va="bottom", color=TEXT, fontsize=9)
        for curve, color in zip(curves, colors, strict=True):
            x = [bit["bit"] for bit in curve["bits"]]
            y = [bit["caught"] / max(1, bit["lies"]) for bit in curve["bits"]]
            label = f"{curve['k']} deep, {curve['columns']} columns wide"
            axes.plot(x, y, color=color, linewidth=1.6, marker="o", markersize=2.6, label=label, clip_on=False)
            # A flipped bit changes a typical element, of the size of the root of k, by the limit.
            limit = mantissa + math.log2(curve["limit"] / math.sqrt(curve["k"]))
            if limit < mantissa:
                axes.axvline(limit, color=color, linestyle="--", linewidth=1.1)
        axes.set_title(f"{dtype}: share of lies that were caught", loc="left", fontsize=10, color=TEXT, pad=20)
        axes.set_xlim(-0.5, n_bits - 0.5)
        axes.set_ylim(0, 1)
        axes.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
        axes.set_xticks(range(0, n_bits, 8 if n_bits == 64 else 4))
    both[1].set_xlabel("bit that was flipped; dashed: it changes a typical element by the detection limit")
    handles, labels = both[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False, fontsize=8, handlelength=1.4, columnspacing=1.2)
    figure.savefig(PICTURE, transparent=True, metadata={"Date": None, "Creator": None})
    print(f"written: {PICTURE.relative_to(ROOT)}")
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=Path, default=PROGRAM)
    parser.add_argument("--told", type=Path)
    parser.add_argument("--draw", action="store_true")
    args = parser.parse_args()
    if args.told:
        keep(args.told.read_text())
    elif not args.draw:
        keep(measure(args.program))
    result = json.loads(RESULT.read_text())
    print(table(result["kinds"]))
    draw(result["bits"])


if __name__ == "__main__":
    main()
