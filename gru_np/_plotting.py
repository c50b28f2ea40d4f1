"""What all pictures share: matplotlib when it is first needed, and one look.

Pictures are read in grey and by colour-blind readers: one map of colours that grows evenly brighter
(cividis), and lines that differ in dash and mark, not in colour alone.
"""

from typing import Any

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
