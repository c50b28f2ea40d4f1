"""The single place that answers "numba or NumPy?".

`gru_forward` and `gru_backward` have the names, arguments and results of `gru_np.recurrence`'s.
"""

from gru_np.kernels._settings import set_num_threads
from gru_np.recurrence import gru_backward, gru_forward

__all__ = ["gru_backward", "gru_forward", "set_num_threads"]
