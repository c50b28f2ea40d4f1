"""Gradients that lie one after the other in one array."""

from collections.abc import Iterable

import numpy as np

from gru_np._aliases import Array


class Together(dict[str, Array]):
    """Arrays by name, and all of them, in that order, as one.

    Whoever wants each finds a dict; whoever wants all of them at once need not bring them together.

    Parameters
    ----------
    named : pairs of str and array
        Views of `flat`, one after the other.
    flat : (n,) array

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np._together import Together
    >>> flat = np.arange(3.0)
    >>> Together([("a", flat[:1]), ("b", flat[1:])], flat).flat is flat
    True
    """

    def __init__(self, named: Iterable[tuple[str, Array]], flat: Array):
        super().__init__(named)
        assert sum(map(np.size, self.values())) == len(flat)
        self.flat = flat
