"""Draws docs/speed.svg, docs/memory.svg and docs/bytes.svg from what sizes.py and peers.py left in results/, and docs/assignment.svg
from what mandelbrot.py left.

plots.py [--results bench/results] [--out docs]
The same results give the same bytes. Backgrounds are transparent and colours neither light nor dark, for any page.
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

from harness import BENCH, ROOT  # noqa: E402

OURS, LIGHT_OURS, NUMPY, MUTED, TEXT = "#2f81f7", "#1f9e8f", "#d9730d", "#8b949e", "#768390"
WIDTH_IN, HEIGHT_IN = 6.4, 3.4
LABEL_GAP_PT = 13
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tilework",
    "font.family": ["sans-serif"],
    "font.size": 10,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


# --- figures -----------------------------------------------------------------------------------------------------


def speed(sizes, peers):
    figure, axes = new_figure("GF/s, file to file", sizes)
    labels = []
    for name in peer_names(peers):
        points = [(case["size"], case["gflops"][name]) for case in free_cases(peers) if name in case["gflops"]]
        labels.append(line(axes, points, name, MUTED, linewidth=1, markersize=3))
    numpy = [(case["size"], case["gflops"][case["faster_numpy"]]) for case in sizes["cases"]]
    labels.append(line(axes, middles(axes, numpy, NUMPY), "numpy, the faster way", NUMPY))
    ours = [(case["size"], case["gflops"]["tilework"]) for case in sizes["cases"]]
    labels.append(line(axes, middles(axes, ours, OURS), "tilework", OURS))
    if sizes["peak_gflops"]:
        labels.append(level(axes, sizes, sizes["peak_gflops"], f"peak of {sizes['machine']['cores']} cores"))
    axes.set_ylim(bottom=0)
    direct_labels(axes, labels)
    return figure


def memory(sizes, _peers):
    figure, axes = new_figure("peak memory", sizes, of_bytes=True)
    tight = f"tilework --memory {sizes['memory']}"

    def peaks(name):
        return [(case["size"], case["rss_bytes_max"][name]) for case in sizes["cases"]]

    matrices = [(case["size"], case["matrices_bytes"]) for case in sizes["cases"]]
    labels = [
        line(axes, matrices, "the three matrices", MUTED, "--"),
        line(axes, peaks("numpy load"), "numpy", NUMPY),
        line(axes, peaks("tilework"), "tilework, default", OURS),
        line(axes, peaks(tight), f"tilework, {spaced(sizes['memory'])}", LIGHT_OURS),
    ]
    direct_labels(axes, labels)
    return figure


def bytes_moved(sizes, _peers):
    title = f"bytes read and written, with memory for {spaced(sizes['memory'])}"
    figure, axes = new_figure(title, sizes, of_bytes=True)
    tight = f"tilework --memory {sizes['memory']}"
    moved = [(case["size"], case["bytes_moved"][tight]) for case in sizes["cases"]]
    least = [(case["size"], case["bytes_bound"][tight]) for case in sizes["cases"]]
    labels = [
        line(axes, least, "least possible", MUTED, "--"),
        line(axes, moved, "tilework", OURS),
    ]
    for (_, done), at in zip(moved, least, strict=True):
        ratio = f"× {done / at[1]:.2f}"
        axes.annotate(ratio, at, (4, -3), textcoords="offset points", ha="left", va="top", color=OURS)
    axes.margins(x=0.16, y=0.12)
    direct_labels(axes, labels)
    return figure


def assignment(mandelbrot):
    """What each worker did when: tasks as bars, one after the other."""
    case = max(mandelbrot["cases"], key=lambda case: case["factor"])
    names = list(case["tasks_of_middle"])
    longest_s = max(run["wall_s"] for runs in case["runs"].values() for run in runs)
    figure, all_axes = plt.subplots(len(names), sharex=True, figsize=(WIDTH_IN, 0.95 * len(names) + 0.75))
    figure.subplots_adjust(left=0.14, right=0.97, bottom=0.2, top=0.9, hspace=0.75)
    for name, axes in zip(names, all_axes, strict=True):
        ends = {}
        for number, task in enumerate(case["tasks_of_middle"][name]):
            worker, begin = task["worker"], ends.get(task["worker"], 0)
            ends[worker] = begin + task["seconds"]
            color = (OURS, LIGHT_OURS)[worker % 2]
            axes.barh(worker, task["seconds"], left=begin, height=0.72, color=color, edgecolor="white", linewidth=0.6)
            if task["seconds"] > 0.035 * longest_s:
                axes.text(begin + task["seconds"] / 2, worker, str(number), ha="center", va="center", color="white", fontsize=8)
        axes.axvline(case["ideal_s_of_middle"][name], color=MUTED, linestyle="--", linewidth=1.2)
        axes.set_title(name, loc="left", fontsize=10, color=TEXT)
        axes.set_yticks(sorted(ends), [f"worker {worker}" for worker in sorted(ends)])
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
    all_axes[-1].set_xlabel("seconds; dashed: nobody waits for anybody")
    return figure


# --- drawing -----------------------------------------------------------------------------------------------------


def new_figure(title, sizes, of_bytes=False):
    figure, axes = plt.subplots(figsize=(WIDTH_IN, HEIGHT_IN))
    figure.subplots_adjust(left=0.11, right=0.73, bottom=0.14, top=0.9)
    axes.set_title(title, loc="left", fontsize=10, color=TEXT)
    axes.set_xscale("log", base=2)
    if of_bytes:
        axes.set_yscale("log", base=4)
        axes.yaxis.set_major_formatter(lambda value, _: bytes_text(value))
    n = [case["size"] for case in sizes["cases"]]
    axes.set_xticks(n, [str(size) for size in n])
    axes.minorticks_off()
    axes.set_xlabel("rows and columns of each matrix")
    return figure, axes


def line(axes, points, label, color, style="-", linewidth=2, markersize=5):
    x, y = zip(*points, strict=True)
    marker = "o" if style == "-" else None
    axes.plot(x, y, style, color=color, linewidth=linewidth, marker=marker, markersize=markersize, clip_on=False)
    return x[-1], y[-1], label, color


def middles(axes, points, color):
    """Draws each point's quartiles and gives its median."""
    for size, (low, _, high) in points:
        axes.plot([size, size], [low, high], color=color, linewidth=1.2, clip_on=False)
    return [(size, mid) for size, (_, mid, _) in points]


def level(axes, sizes, value, label):
    axes.axhline(value, color=MUTED, linestyle="--", linewidth=1.2)
    return sizes["cases"][-1]["size"], value, f"{label}: {value:.0f}", MUTED


def direct_labels(axes, labels):
    """Names each line at its right end; names too near to each other move apart."""
    axes.figure.canvas.draw()
    right = axes.get_xlim()[1]
    ends = [axes.transData.transform((x, y))[1] * 72 / axes.figure.dpi for x, y, _, _ in labels]
    for (_, y, label, color), end, place in zip(labels, ends, apart(ends), strict=True):
        offset = (6, place - end)
        axes.annotate(label, (right, y), offset, textcoords="offset points", va="center", color=color)


def apart(heights):
    """The same heights in the same order, moved as little as keeps LABEL_GAP_PT between neighbours."""
    places = list(heights)
    order = sorted(range(len(heights)), key=heights.__getitem__)
    for _ in range(100):
        for low, high in zip(order, order[1:]):
            push = max(0, LABEL_GAP_PT - (places[high] - places[low])) / 2
            places[low] -= push
            places[high] += push
    return places


def bytes_text(value):
    return f"{value / 2**30:g} GiB" if value >= 2**30 else f"{value / 2**20:g} MiB"


def spaced(memory):
    """256MiB as 256 MiB."""
    return f"{memory[:-3]} {memory[-3:]}"


# --- results -----------------------------------------------------------------------------------------------------


def free_cases(peers):
    return [case for case in peers["cases"] if case.get("limit_bytes") is None and not case.get("in_memory")]


def peer_names(peers):
    names = [name for case in free_cases(peers) for name in case["gflops"]]
    return [name for name in dict.fromkeys(names) if not name.startswith(("tilework", "numpy"))]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=BENCH / "results")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    args = parser.parse_args()
    plt.rcParams.update(STYLE)
    sizes = json.loads((args.results / "sizes.json").read_text())
    peers_path = args.results / "peers.json"
    peers = json.loads(peers_path.read_text()) if peers_path.exists() else {"cases": []}
    figures = {name: draw(sizes, peers) for name, draw in {"speed": speed, "memory": memory, "bytes": bytes_moved}.items()}
    figures["assignment"] = assignment(json.loads((args.results / "mandelbrot.json").read_text()))
    for name, figure in figures.items():
        path = args.out / f"{name}.svg"
        figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})
        print(f"written: {path}")


if __name__ == "__main__":
    main()
