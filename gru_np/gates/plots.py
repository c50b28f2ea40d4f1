"""Pictures of a trace. They need matplotlib (extra `plot`), return the axes, and show nothing.

Every map of colours is cividis, which grows evenly brighter and looks alike to colour-blind
readers; lines differ in dash and mark as well.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gru_np import _plotting
from gru_np._aliases import Array
from gru_np._checks import require_choice
from gru_np.gates.readings import singular_values
from gru_np.gates.trace import LayerTrace

SIGNALS = {"r": "reset gate r", "z": "update gate z", "n": "new gate n", "h": "state h"}
VISIBLE = {" ": "␣", "\n": "↵", "\t": "→", "\r": "←", "": "∅"}
MONO = "DejaVu Sans Mono"  # the font that matplotlib brings along


def _show(label: str) -> str:
    """Make white space visible."""
    return VISIBLE.get(label, label.replace("\n", "↵").replace("\t", "→"))


def _signal(read: LayerTrace, of: str, row: int) -> tuple[Array, list[str]]:
    """Give one signal of one row, (T, H), and its labels, in the order of the input."""
    order = np.argsort(read.positions)
    values = np.where(
        read.valid[row][:, None], read.h[row, 1:] if of == "h" else getattr(read, of)[row], np.nan
    )
    return values[order], [read.labels[row][t] for t in order]


def _range(read: LayerTrace, of: str, values: Array) -> tuple[float, float]:
    """Give the ends of the colour scale: of the activation, if it has any."""
    saved = read.saved
    of_gate = {"sigmoid": (0.0, 1.0), "hard_sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
    ends = of_gate.get(saved.recurrent_activation if of in "rz" else saved.activation)
    if ends is None:
        size = float(np.nanmax(np.abs(values), initial=1e-6))
        return -size, size
    return ends


def plot_gates(
    read: LayerTrace,
    of: Sequence[str] = ("r", "z", "h"),
    row: int = 0,
    units: Sequence[int] | None = None,
    sort: bool = True,
    axes: Any = None,
) -> Any:
    """Draw gates as maps of unit against time, under the text or the times that were read.

    Parameters
    ----------
    read : LayerTrace
    of : sequence of {"r", "z", "n", "h"}
        One map for each.
    row : int
        Which sequence of the batch.
    units : sequence of int, optional
        Which units; all if not given.
    sort : bool
        Put the units with the longest memory, that is the largest mean z, at the top.
    axes : sequence of axes, optional
        Where to draw, one for each map; new ones if not given.

    Returns
    -------
    array of axes

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from gru_np import GRU, Sequential, gates
    >>> read = gates.trace(Sequential([GRU(4)], seed=0), np.ones((1, 9, 2)))["gru"]
    >>> [str(axis.get_ylabel()) for axis in gates.plot_gates(read, of=["z"])]
    ['unit']
    """
    for name in of:
        require_choice("plot_gates", "of", name, list(SIGNALS))
    chosen = np.arange(read.units) if units is None else np.asarray(units)
    if sort:
        mean_z = np.nan_to_num(read.z).sum(axis=(0, 1))[chosen]
        chosen = chosen[np.argsort(-mean_z, kind="stable")]
    T = len(read.positions)
    if axes is None:
        plt = _plotting.pyplot("plot_gates")
        wide = float(np.clip(0.14 * T, 4.5, 14))
        tall = float(np.clip(0.16 * len(chosen), 1.1, 3.2))
        _, axes = plt.subplots(
            len(of), 1, figsize=(wide + 1.6, tall * len(of) + 0.9), squeeze=False, sharex=True,
            layout="constrained",
        )  # fmt: skip
    axes = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
    for k, (axis, name) in enumerate(zip(axes, of, strict=True)):
        values, labels = _signal(read, name, row)
        low, high = _range(read, name, values)
        image = axis.imshow(
            values[:, chosen].T, cmap=_plotting.COLORS, vmin=low, vmax=high, aspect="auto",
            interpolation="nearest",
        )  # fmt: skip
        bar = axis.figure.colorbar(image, ax=axis, pad=0.012, aspect=12, ticks=[low, high])
        tall = _points_tall(axis)
        longest = max(len(SIGNALS[other]) for other in of)
        bar.set_label(SIGNALS[name], fontsize=min(9.0, tall / (0.55 * longest)))
        bar.ax.tick_params(labelsize=min(8.0, tall / 4))
        axis.set_ylabel("unit", fontsize=min(9.0, tall / 3))
        _label_units(axis, chosen, tall)
        axis.tick_params(length=2)
        if k == 0:
            _label_steps(axis, labels)
        else:
            axis.tick_params(top=False, bottom=False, labeltop=False, labelbottom=False)
    return axes


def _points_tall(axis: Any) -> float:
    """Give the height of an axis in points."""
    return float(72 * axis.get_position().height * axis.figure.get_size_inches()[1])


def _label_units(axis: Any, units: Array, tall: float) -> None:
    """Write the numbers of units beside a map: all of them, or as many as there is room for."""
    every = -(-len(units) // int(np.clip(tall / 9, 1, 16)))
    axis.set_yticks(range(0, len(units), every), units[::every], fontsize=7)


def _label_steps(axis: Any, labels: Sequence[str]) -> None:
    """Write what was read above a map: every token, or as many as there is room for."""
    shown = [_show(label) for label in labels]
    longest = max(map(len, shown), default=1)
    width = axis.figure.get_size_inches()[0] - 1.6
    room = 72 * width / max(len(shown), 1)  # points for each step
    size = float(np.clip(room * (1.5 if longest == 1 else 0.85), 5, 9))
    # A single character needs 0.6 of its size in width, turned text all of it.
    need = size * (0.62 if longest == 1 else 1.15)
    every = max(1, int(np.ceil(need / room)))
    if longest == 1 and every > 1:
        shown, longest = [str(t) for t in range(len(shown))], 2
        every = max(1, len(shown) // 20)
    axis.tick_params(top=True, bottom=False, labeltop=True, labelbottom=False)
    axis.set_xticks(
        range(0, len(shown), every), shown[::every], fontsize=size, family=MONO,
        rotation=90 if longest > 1 else 0, parse_math=False,
    )  # fmt: skip


def plot_unit(
    read: LayerTrace,
    unit: int,
    of: str = "h",
    row: int = 0,
    width: int = 64,
    axes: Any = None,
) -> Any:
    """Write the text that was read, each token on the colour of one unit's state after it.

    Parameters
    ----------
    read : LayerTrace
    unit : int
    of : {"h", "r", "z", "n"}
        State, or one of the gates.
    row : int
        Which sequence of the batch.
    width : int
        Characters a line.
    axes : axes, optional

    Returns
    -------
    axes

    Notes
    -----
    After Karpathy, Johnson, Fei-Fei 2015, arXiv:1506.02078, figure 2.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from gru_np import GRU, Sequential, gates
    >>> read = gates.trace(Sequential([GRU(4)], seed=0), np.ones((1, 9, 2)))["gru"]
    >>> gates.plot_unit(read, 2).get_title()
    'state h of unit 2 of gru'
    """
    require_choice("plot_unit", "of", of, list(SIGNALS))
    values, labels = _signal(read, of, row)
    shown = [_show(label) for label in labels]
    gap = 0 if max(map(len, shown), default=1) == 1 else 1
    places, column, line = [], 0, 0
    for label, text in zip(labels, shown, strict=True):
        if column and column + len(text) > width:
            column, line = 0, line + 1
        places.append((column, line))
        column += len(text) + gap
        if label == "\n":
            column, line = 0, line + 1
    lines = line + (column > 0)
    width = max(24, *(x + len(text) for (x, _), text in zip(places, shown, strict=True)))
    axes = _plotting.axes_for("plot_unit", axes, (0.115 * width + 1.2, 0.24 * lines + 0.7))
    from matplotlib import patches

    low, high = _range(read, of, values)
    shade = axes.figure.colorbar(
        _mappable(low, high), ax=axes, pad=0.015, aspect=max(6, 3 * lines), ticks=[low, high]
    )
    shade.ax.tick_params(labelsize=8)
    # Half an inch of margin and the scale take about 1.2 inches of what is not text.
    points = 72 * (axes.figure.get_size_inches()[0] - 1.2) / width
    colors = _plotting.pyplot("plot_unit").get_cmap(_plotting.COLORS)
    for (x, y), text, value in zip(places, shown, values[:, unit], strict=True):
        share = (float(value) - low) / (high - low)
        face = "white" if np.isnan(share) else colors(share)
        axes.add_patch(patches.Rectangle((x, y), len(text), 1, facecolor=face, edgecolor="none"))
        axes.text(
            x + len(text) / 2, y + 0.5, text, ha="center", va="center", family=MONO,
            color="white" if share < 0.55 else "black", fontsize=min(10.0, points / 0.64),
            parse_math=False,
        )  # fmt: skip
    axes.set(xlim=(0, width), ylim=(lines, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(f"{SIGNALS[of]} of unit {unit} of {read.name}", fontsize=10)
    return axes


def _mappable(low: float, high: float) -> Any:
    from matplotlib import cm, colors

    return cm.ScalarMappable(colors.Normalize(low, high), _plotting.COLORS)


def plot_flow(
    curves: Mapping[str, Any],
    ylabel: str = "gradient, relative to the last state",
    xlabel: str = "steps back",
    axes: Any = None,
) -> Any:
    """Draw norms of gradients against distance in time, on a logarithmic scale.

    Parameters
    ----------
    curves : dict of str to (K,) array
        From `gradient_flow` or `LayerTrace.norms_by_distance`, by the name for the legend. What is
        exactly zero has vanished and is not drawn.
    ylabel, xlabel : str
    axes : axes, optional

    Returns
    -------
    axes

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from gru_np import gates
    >>> gates.plot_flow({"gated": [1, 0.9, 0.8], "plain": [1, 0.1, 0.01]}).get_yscale()
    'log'
    """
    axes = _plotting.axes_for("plot_flow", axes)
    for k, (name, values) in enumerate(curves.items()):
        values = np.asarray(values, float)
        values = np.where(values > 0, values, np.nan)
        axes.plot(values, label=name, **_plotting.style(k, len(values)))
    axes.set_yscale("log")
    axes.axhline(1, color="0.6", linewidth=0.8, zorder=0)
    _plotting.finish(axes, xlabel, ylabel, grid="y")
    return axes


def plot_singular_values(
    read: LayerTrace, row: int = 0, end: int | None = None, axes: Any = None
) -> Any:
    """Draw the singular values of ∂h_end / ∂h_t along a sequence.

    Parameters
    ----------
    read : LayerTrace
    row : int
        Which sequence of the batch.
    end : int, optional
        Which state, 0..T; None is the last.
    axes : axes, optional

    Returns
    -------
    axes

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from gru_np import GRU, Sequential, gates
    >>> read = gates.trace(Sequential([GRU(4)], seed=0), np.ones((1, 9, 2)))["gru"]
    >>> gates.plot_singular_values(read).get_xlabel()
    't'
    """
    values = singular_values(read, row, end)
    axes = _plotting.axes_for("plot_singular_values", axes)
    floor = np.finfo(float).tiny
    values = np.maximum(values, floor)
    axes.fill_between(
        range(len(values)), values[:, -1], values[:, 0], color="0.88", label="all of them"
    )
    for k, (name, column) in enumerate({"largest": 0, "median": values.shape[1] // 2}.items()):
        axes.plot(values[:, column], label=name, **_plotting.style(k, len(values)))
    axes.axhline(1, color="0.6", linewidth=0.8, zorder=0)
    axes.set_yscale("log")
    seen = values[values > 1e-12]
    axes.set_ylim(max(1e-12, seen.min(initial=1) / 2), max(2.0, 2 * values.max()))
    axes.set_xlabel("t")
    _plotting.label_y(axes, f"singular values of ∂h$_{{{len(values) - 1}}}$ / ∂h$_t$")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=9, loc="lower right", framealpha=1, edgecolor="0.8")
    return axes


def plot_cell(read: LayerTrace, step: int, unit: int = 0, row: int = 0, axes: Any = None) -> Any:
    """Draw the diagram of a GRU cell with the numbers of one unit at one step written into it.

    Parameters
    ----------
    read : LayerTrace
    step : int
        Which step, in the order of reading; negative counts from the end.
    unit, row : int
        Whose numbers.
    axes : axes, optional

    Returns
    -------
    axes

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from gru_np import GRU, Sequential, gates
    >>> read = gates.trace(Sequential([GRU(4)], seed=0), np.ones((1, 9, 2)))["gru"]
    >>> gates.plot_cell(read, step=3, unit=1).get_title()
    "gru, unit 1, step 3, reading '3'"
    """
    axes = _plotting.axes_for("plot_cell", axes, (8.2, 4.6))
    step = range(len(read.positions))[step]
    if not read.valid[row, step]:
        raise ValueError(
            f"plot_cell: step {step} of row {row} is masked, so its gates do not exist"
        )
    H = read.units

    def number(array: Array, gate: int = 0) -> float:
        return float(array[row, step, gate * H + unit])

    h, h_next = number(read.h), float(read.h[row, step + 1, unit])
    r, z, n = number(read.r), number(read.z), number(read.n)
    a_hn = number(read.a_hh, 2)
    draw = _Diagram(axes)
    z_at, r_at, n_at = 2.5, 5.0, 9.2
    rail, middle, gate = 4.6, 3.2, 1.7
    # the rail: what is kept of the old state, and what is new
    draw.arrow((0.9, rail), (z_at - 0.22, rail), f"{h:+.3f}")
    draw.arrow((z_at + 0.22, rail), (n_at - 0.22, rail), f"z h = {z * h:+.3f}")
    draw.arrow((n_at + 0.22, rail), (10.9, rail), f"{h_next:+.3f}")
    draw.word((0.55, rail), "h", 13)
    draw.word((11.2, rail), "h'", 13)
    # z multiplies the old state, 1 - z the new
    draw.arrow((z_at, gate + 0.38), (z_at, rail - 0.22))
    draw.arrow((z_at, middle), (r_at - 0.3, middle), head=False)
    draw.arrow((r_at + 0.3, middle), (n_at - 0.22, middle), f"1 − z = {1 - z:.3f}")
    draw.arrow((n_at, gate + 0.38), (n_at, middle - 0.22))
    draw.arrow((n_at, middle + 0.22), (n_at, rail - 0.22))
    draw.word((n_at + 0.15, (middle + rail) / 2), f"{(1 - z) * n:+.3f}", 9, "left")
    # r opens the way from the state to the candidate
    mul = (6.25, gate)
    draw.arrow((r_at + 0.62, gate), (mul[0] - 0.22, gate))
    draw.arrow((mul[0], 0.62), (mul[0], gate - 0.22))
    if read.reset_after:
        draw.word((mul[0], 0.42), "$a_{hn}$ =\n" + f"{a_hn:+.3f}", 9, va="top")
        draw.arrow((mul[0] + 0.22, gate), (n_at - 0.62, gate), f"{r * a_hn:+.3f}")
    else:
        draw.word((mul[0], 0.42), f"h =\n{h:+.3f}", 9, va="top")
        draw.arrow((mul[0] + 0.22, gate), (6.9, gate))
        draw.box((7.2, gate), "$W_{hn}$", half=0.3)
        draw.arrow((7.5, gate), (n_at - 0.62, gate), f"{a_hn:+.3f}")
    for x, name, value, k in ((z_at, "z", z, 1), (r_at, "r", r, 0), (n_at, "n", n, 2)):
        bound = "tanh" if name == "n" else "σ"
        named = {"tanh": "tanh", "sigmoid": "σ"}
        used = read.saved.activation if name == "n" else read.saved.recurrent_activation
        bound = named.get(used, used.replace("_", " "))
        draw.box((x, gate), f"{name} = {bound}(·)\n{value:.3f}")
        draw.arrow((x, 0.62), (x, gate - 0.38))
        a_i = number(read.a_ih, k)
        text = f"$a_{{i{name}}}$ = {a_i:+.3f}"
        if name != "n":
            text += f"\n$a_{{h{name}}}$ = {number(read.a_hh, k):+.3f}"
        draw.word((x, 0.42), text, 9, va="top")
    for place, sign in (
        ((z_at, rail), "×"), ((n_at, rail), "+"), ((n_at, middle), "×"), (mul, "×"),
    ):  # fmt: skip
        draw.circle(place, sign)
    draw.box((r_at, middle), "1 −", half=0.3)
    axes.set(xlim=(0.2, 11.5), ylim=(-0.35, 5.0), xticks=[], yticks=[])
    axes.set_aspect("equal")
    axes.spines[:].set_visible(False)
    label = read.labels[row][step]
    axes.set_title(
        f"{read.name}, unit {unit}, step {step}, reading {label!r}", fontsize=10, parse_math=False
    )
    return axes


class _Diagram:
    """Boxes, circles, arrows and words in black and white."""

    def __init__(self, axes: Any):
        self.axes = axes
        # The words were set for axes 6.3 inches wide; in smaller ones they shrink with the boxes.
        wide = axes.get_position().width * axes.figure.get_size_inches()[0]
        self.scale = min(1.0, wide / 6.3)

    def arrow(self, start: Any, end: Any, label: str = "", head: bool = True) -> None:
        self.axes.annotate(
            "", xy=end, xytext=start,
            arrowprops={"arrowstyle": "-|>" if head else "-", "color": "0.25", "linewidth": 1.2,
                        "shrinkA": 0, "shrinkB": 0, "mutation_scale": 11 * self.scale},
        )  # fmt: skip
        if label:
            middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.1)
            self.word(middle, label, 9, va="bottom")

    def word(
        self, at: Any, text: str, size: float = 9, ha: str = "center", va: str = "center"
    ) -> None:
        self.axes.text(*at, text, fontsize=size * self.scale, ha=ha, va=va, linespacing=1.3)

    def box(self, at: Any, text: str, half: float = 0.62) -> None:
        from matplotlib import patches

        corner = (at[0] - half, at[1] - 0.38)
        self.axes.add_patch(
            patches.FancyBboxPatch(
                corner, 2 * half, 0.76, boxstyle="round,pad=0,rounding_size=0.12",
                facecolor="0.93", edgecolor="0.25", linewidth=1.2, zorder=2,
            )
        )  # fmt: skip
        self.axes.text(*at, text, fontsize=9 * self.scale, ha="center", va="center", zorder=3)

    def circle(self, at: Any, sign: str) -> None:
        from matplotlib import patches

        self.axes.add_patch(
            patches.Circle(at, 0.22, facecolor="white", edgecolor="0.25", linewidth=1.2, zorder=2)
        )
        self.axes.text(
            *at, sign, fontsize=12 * self.scale, ha="center", va="center_baseline", zorder=3
        )
