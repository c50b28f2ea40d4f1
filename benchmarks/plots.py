"""Two pictures: ratios on a logarithmic scale, and the roofline. Readable in grey."""

from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import Any

from .contestants import CONTESTANTS, OURS
from .goals import threads_text
from .report import shown
from .statistics import best_rival, seconds_by

# Shape tells rivals apart, grey only helps.
SHAPES, GREYS = "ovsD^PX<>ph*d8", ("0.0", "0.35", "0.15", "0.55", "0.25", "0.45", "0.05", "0.6")
SECTIONS = {"forward": "forward", "training": "forward + backward"}


def write(results: dict[str, Any], path: Path) -> list[Path]:
    """Draw what the results allow, beside `path`; nothing without matplotlib."""
    if find_spec("matplotlib") is None:
        return []
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    written = []
    for name, draw in {"ratios": ratios, "roofline": roofline}.items():
        figure = draw(results)
        if figure is not None:
            target = path.with_name(f"{path.stem}-{name}.png")
            figure.savefig(target, dpi=130)
            pyplot.close(figure)
            written.append(target)
    return written


def marks() -> dict[str, tuple[str, str]]:
    """Give each rival a shape and a grey, for however many there are."""
    rivals = [name for name, entry in CONTESTANTS.items() if entry.rival]
    return {name: (m, g) for name, m, g in zip(rivals, cycle(SHAPES), cycle(GREYS), strict=False)}


def _counts(results: dict[str, Any]) -> list[str]:
    """Numbers of threads that have layer timings."""
    sections = results["sections"]
    return list(dict.fromkeys(n for s in SECTIONS for n in sections.get(s, {})))


def ratios(results: dict[str, Any]) -> Any:
    """How many times as long each rival takes, shape by shape; above 1 we are ahead."""
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, NullFormatter

    panels = [
        (section, n, found)
        for section in SECTIONS
        for n in _counts(results)
        if (found := results["sections"].get(section, {}).get(n))
        and any(OURS in seconds_by("median", r["contestants"]) for r in found.values())
    ]
    if not panels:
        return None
    columns = len({n for _, n, _ in panels})
    lines = -(-len(panels) // columns)
    figure, axes = pyplot.subplots(
        lines, columns, figsize=(6.2 * columns, 3.9 * lines), squeeze=False, sharey=True,
        layout="constrained",
    )  # fmt: skip
    drawn = {}
    for axis, (section, n, found) in zip(axes.flat, panels, strict=False):
        for k, record in enumerate(found.values()):
            seconds = seconds_by("median", record["contestants"])
            if OURS not in seconds:
                continue
            for name, (mark, grey) in marks().items():
                if name in seconds:
                    (drawn[name],) = axis.plot(
                        k, seconds[name] / seconds[OURS], mark, color=grey, markersize=6,
                        markerfacecolor="none" if name.startswith(("keras", "flax")) else grey,
                    )  # fmt: skip
        axis.axhline(1, color="0", linewidth=1)
        axis.set_yscale("log")
        for which in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
            which(FuncFormatter(lambda v, _: f"{v:g}" if f"{v:e}"[0] in "125" else ""))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xticks(range(len(found)), [shown(s) for s in found], rotation=40, ha="right")
        axis.tick_params(which="both", labelsize=8)
        axis.grid(axis="y", which="both", color="0.9", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.set_title(f"{SECTIONS[section]}, {threads_text(n)}", fontsize=10)
    for axis in axes[:, 0]:
        axis.set_ylabel("time / time of gru_np", fontsize=9)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    order = [name for name in marks() if name in drawn]
    figure.legend(
        [drawn[name] for name in order], order, loc="outside lower center", ncols=4, fontsize=8
    )
    figure.suptitle("B, T, I, H; above the line gru_np is faster", fontsize=10)
    return figure


def roofline(results: dict[str, Any]) -> Any:
    """GFLOP/s over operations a byte, forward, under what the machine can do.

    Bytes are those a forward pass must move (`problems.Shape.bytes_moved`): W_hh at every step.
    """
    from matplotlib import pyplot

    counts = [
        n for n in _counts(results)
        if n in results["peak"] and results["sections"].get("forward", {}).get(n)
    ]  # fmt: skip
    if not counts:
        return None
    figure, axes = pyplot.subplots(
        1, len(counts), figsize=(6.4 * len(counts), 5.6), squeeze=False, layout="constrained"
    )
    for axis, n in zip(axes.flat, counts, strict=True):
        peak = results["peak"][n]
        x = [0.2, 300.0]
        roofs = (("L2 read GB/s", "-."), ("L3 read GB/s", "--"), ("triad GB/s", ":"))
        for name, style in roofs:
            roof = [min(v * peak[name], peak["GFLOP/s"]) for v in x]
            knee = peak["GFLOP/s"] / peak[name]
            label = f"{name.split()[0].replace('triad', 'memory')} {peak[name]:.0f} GB/s"
            axis.plot(
                [x[0], knee, x[1]], [roof[0], peak["GFLOP/s"], roof[1]], style, color="0.4",
                linewidth=1, label=label,
            )  # fmt: skip
        axis.axhline(
            peak["GFLOP/s"], color="0", linewidth=1.2, label=f"FMA {peak['GFLOP/s']:.0f} GFLOP/s"
        )
        for k, (label, record) in enumerate(results["sections"]["forward"][n].items()):
            at = record["operations"] / record["bytes_moved"]
            seconds = seconds_by("median", record["contestants"])
            speed = {name: record["operations"] / s / 1e9 for name, s in seconds.items()}
            rival = best_rival("median", record["contestants"])
            if rival:
                axis.plot(at, speed[rival], "o", color="0.35", markerfacecolor="none", zorder=3)
            if OURS in speed:
                axis.plot(at, speed[OURS], "o", color="0", zorder=4)
                axis.annotate(
                    str(k + 1), (at, speed[OURS]), textcoords="offset points", xytext=(4, 5),
                    fontsize=8,
                )  # fmt: skip
            axis.plot([], [], " ", label=f"{k + 1}: {shown(label)}")
        axis.plot([], [], "o", color="0", label="gru_np")
        axis.plot([], [], "o", color="0.35", markerfacecolor="none", label="best rival")
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlim(*x)
        axis.set_xlabel("floating-point operations per byte", fontsize=9)
        axis.set_title(f"forward, {threads_text(n)}", fontsize=10)
        axis.grid(which="both", color="0.92", linewidth=0.5)
        axis.set_axisbelow(True)
        axis.tick_params(labelsize=8)
        axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=4)
    axes[0, 0].set_ylabel("GFLOP/s", fontsize=9)
    return figure
