"""See inside a GRU: what its gates did with a sequence, and how the gradient came back.

    trace.py     trace: r, z, n, pre-activations, h and their gradients, step by step, as arrays
    readings.py  what a trace says: memory half-life, saturation, correlations, Jacobians, ablation
    plots.py     pictures of it (extra `plot`)
    command.py   gru-np gates

Tracing runs the model's own forward and backward, layer by layer, on a copy whose passes over time
are NumPy's and keep what they see. A model that is not traced pays nothing.

Examples
--------
>>> import numpy as np
>>> from gru_np import GRU, Dense, Sequential, gates
>>> x = np.random.default_rng(0).standard_normal((3, 5, 2))
>>> model = Sequential([GRU(4), Dense(1)], seed=0)
>>> read = gates.trace(model, x)["gru"]
>>> read.z.shape, read.h.shape
((3, 5, 4), (3, 6, 4))
>>> gates.half_life(read).shape  # in steps, for each unit
(4,)
"""

from gru_np.gates.command import add_arguments, run
from gru_np.gates.plots import (
    plot_cell,
    plot_flow,
    plot_gates,
    plot_singular_values,
    plot_unit,
)
from gru_np.gates.readings import (
    Ablation,
    Correlations,
    Saturation,
    ablate,
    ablation,
    correlations,
    gradient_flow,
    half_life,
    jacobians,
    saturation,
    singular_values,
    without_gates,
)
from gru_np.gates.trace import LayerTrace, Trace, trace

__all__ = [
    "Ablation",
    "Correlations",
    "LayerTrace",
    "Saturation",
    "Trace",
    "ablate",
    "ablation",
    "add_arguments",
    "correlations",
    "gradient_flow",
    "half_life",
    "jacobians",
    "plot_cell",
    "plot_flow",
    "plot_gates",
    "plot_singular_values",
    "plot_unit",
    "run",
    "saturation",
    "singular_values",
    "trace",
    "without_gates",
]
