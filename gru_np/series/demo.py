"""A series made on the spot: chaos that can be forecast for a while."""

import numpy as np

from gru_np._checks import require_count
from gru_np.series.table import Series


def mackey_glass(n: int = 3000, tau: float = 17.0, noise: float = 0.0, seed: int = 0) -> Series:
    """Integrate the Mackey-Glass equation, one row a unit of time.

        dx/dt = 0.2 x(t - τ) / (1 + x(t - τ)¹⁰) - 0.1 x(t)

    Parameters
    ----------
    n : int
        Rows.
    tau : float
        τ; chaotic from about 17 on.
    noise : float
        Deviation of normal noise added to what is observed.
    seed : int
        Decides where on its orbit the series begins, and the noise.

    Notes
    -----
    Fourth-order Runge-Kutta, ten steps a unit, the delayed value between two steps by the mean of
    its neighbours; the first 300 units are dropped. Source: Mackey and Glass, Science 197 (1977)
    287-289.

    Examples
    --------
    >>> from gru_np.series import mackey_glass
    >>> mackey_glass(500)
    Series(500 rows x 1 column: x; step 1 row; 0 to 499)
    """
    n = require_count("mackey_glass", "n", n)
    per_unit, drop = 10, 300
    delay, dt = round(tau * per_unit), 1 / per_unit
    if delay < 1:
        raise ValueError(f"mackey_glass: tau must be at least {dt}, got {tau}")
    rng = np.random.default_rng(seed)
    x = [1.2 + 0.1 * float(rng.standard_normal())] * (delay + 1)
    for i in range((n + drop) * per_unit):
        now, d0, d2 = x[-1], x[i], x[i + 1]
        d1 = (d0 + d2) / 2
        gain0, gain1, gain2 = (0.2 * d / (1 + d**10) for d in (d0, d1, d2))
        k1 = gain0 - 0.1 * now
        k2 = gain1 - 0.1 * (now + dt / 2 * k1)
        k3 = gain1 - 0.1 * (now + dt / 2 * k2)
        k4 = gain2 - 0.1 * (now + dt * k3)
        x.append(now + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
    values = np.array(x[delay + 1 + drop * per_unit :: per_unit])[:n]
    return Series(values + noise * rng.standard_normal(n), ["x"])
