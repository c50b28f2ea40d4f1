"""The gradient checker as a lesson: what it sees when a gradient is wrong, and how well it sees.

    bugs.py     mistakes that people make in a GRU's backward, planted in the library's own source
    curves.py   error against step size (V-curves), Taylor remainders, and their pictures

Examples
--------
>>> from gru_np import lessons
>>> report = lessons.demonstrate("the sign of dz")
>>> report.ok
False
"""

from gru_np.lessons.bugs import BUGS, EIGHT, Bug, Problem, demonstrate, plant, problem
from gru_np.lessons.curves import plot_taylor, plot_v_curves, taylor_curves, v_curves

__all__ = [
    "BUGS",
    "EIGHT",
    "Bug",
    "Problem",
    "demonstrate",
    "plant",
    "plot_taylor",
    "plot_v_curves",
    "problem",
    "taylor_curves",
    "v_curves",
]
