"""What all pictures share: matplotlib when it is first needed, and one look.

Pictures are read in grey and by colour-blind readers: one map of colours that grows evenly brighter
(cividis), and lines that differ in dash and mark, not in colour alone.
"""

from typing import Any, Literal

COLORS = "cividis"
# (colour, dash, mark): dark to light, so that grey alone tells the first three apart.
LINES = (
    ("#00224e", "-", "o"),
    ("#c2742c", "--", "s"),
    ("#6b6d76", ":", "^"),
    ("#a59c74", "-.", "D"),
    ("#1f77b4", (0, (1, 1)), "v"),
    ("#000000", (0, (5, 1)), "P"),
)


def pyplot(who: str) -> Any:
    """Import matplotlib.pyplot, or say in one line which extra brings it."""
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ImportError(f"{who} needs matplotlib: pip install 'gru_np[plot]'") from error
    return plt


def axes_for(who: str, axes: Any, size: tuple[float, float] = (6.0, 3.6)) -> Any:
    """Give the caller's axes, or new ones in a figure of this size in inches."""
    plt = pyplot(who)
    return plt.subplots(figsize=size, layout="constrained")[1] if axes is None else axes


def label_y(axes: Any, text: str) -> None:
    """Write a label beside the y axis, smaller if the axes are not tall enough for it."""
    tall = 72 * axes.get_position().height * axes.figure.get_size_inches()[1]
    # A letter is about half as wide as its size; mathematics counts its signs too, to be safe.
    axes.set_ylabel(text, fontsize=min(10.0, tall / (0.52 * len(text))))


def finish(axes: Any, xlabel: str, ylabel: str, grid: Literal["both", "y"] = "both") -> None:
    """Label curves, with a light grid, no frame, and a legend that suits the size of the axes."""
    axes.set_xlabel(xlabel)
    label_y(axes, ylabel)
    axes.grid(axis=grid, color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    wide = axes.get_position().width * axes.figure.get_size_inches()[0]
    axes.legend(frameon=False, fontsize=min(9.0, max(6.0, 2.4 * wide)), loc="best")


def style(k: int, points: int) -> dict[str, Any]:
    """Colour, dash and mark of the k-th line; a mark at about eight of its points."""
    color, dash, mark = LINES[k % len(LINES)]
    return {
        "color": color,
        "linestyle": dash,
        "marker": mark,
        "markersize": 4,
        "linewidth": 1.6,
        "markevery": (k % 3, max(1, points // 8)) if points > 12 else 1,
    }
