"""How a data set becomes batches: which rows, which time steps, in which order.

The plan of an epoch is a pure function of the sizes, the seed and the epoch's number, so a training
run that is interrupted finds its place again from two integers.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from gru_np._aliases import Array
from gru_np._named import require_number

POOL = 50  # batches: enough to find rows of one length, few enough to mix the data


class Batch(NamedTuple):
    """One step of training: what to read, and whether recurrent states begin anew."""

    x: Array
    y: Array | None
    weight: Array | None
    fresh: bool
    rows: Any = None  # which rows of the data these are


class Dataset:
    """Arrays that are read together, by rows and, for truncated BPTT, by pieces of time.

    Parameters
    ----------
    x : (N, ...) array
        Inputs; (N, T, ...) if `tbptt` is used.
    y : (N, ...) array, optional
        Targets; cut in time beside x if `tbptt` is used.
    weight : (N,) or (N, T) array, optional
        Sample weights.
    batch_size : int
        Rows of a batch; the last may have fewer.
    tbptt : int, optional
        Cut every batch into pieces of this many time steps, in order. The first piece of a batch
        is `fresh`: states begin at zero there and are carried into the pieces that follow.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.data import Dataset
    >>> stream = Dataset(np.arange(12).reshape(2, 6), batch_size=2, tbptt=4)
    >>> [(batch.x.shape, batch.fresh) for batch in stream.batches()]
    [((2, 4), True), ((2, 2), False)]
    """

    def __init__(
        self,
        x: Array,
        y: Array | None = None,
        weight: Array | None = None,
        batch_size: int = 32,
        tbptt: int | None = None,
    ):
        self.x, self.y, self.weight = x, y, weight
        self.batch_size = batch_size
        self.tbptt = tbptt

    @property
    def pieces(self) -> int:
        """Pieces of time that a batch is cut into."""
        return -(-self.x.shape[1] // self.tbptt) if self.tbptt else 1

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return -(-len(self.x) // self.batch_size) * self.pieces

    def batches(self, order: Array | None = None, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, rows in the given order, from batch number `start` on."""
        for index in range(start, len(self)):
            group, piece = divmod(index, self.pieces)
            rows: Any = slice(group * self.batch_size, (group + 1) * self.batch_size)
            numbers: Any = range(len(self.x))[rows]
            if order is not None:
                rows = numbers = order[rows]
            if self.tbptt is None:
                y = None if self.y is None else self.y[rows]
                weight = None if self.weight is None else self.weight[rows]
                yield Batch(self.x[rows], y, weight, True, numbers)
            else:
                time = slice(piece * self.tbptt, (piece + 1) * self.tbptt)
                y = None if self.y is None else self.y[rows][:, time]
                weight = self.weight
                if weight is not None:
                    whole = weight.ndim == 1 or weight.shape[1] == 1  # one for all time steps
                    weight = weight[rows] if whole else weight[rows][:, time]
                yield Batch(self.x[rows][:, time], y, weight, piece == 0, numbers)


def epoch_order(n: int, seed: int, epoch: int) -> Array:
    """Draw the order of n rows in this epoch: the same for the same seed and epoch, always."""
    return np.random.default_rng([seed, epoch]).permutation(n)


def order_by_length(lengths: Array, batch_size: int, seed: int, epoch: int) -> Array:
    """Draw an order of rows in which those of like length share a batch: less padding is run.

    Rows are shuffled, sorted within pools of POOL batches, and the batches are shuffled again; the
    one that is short of rows, if any, stays last.

    Parameters
    ----------
    lengths : (n,) int
    batch_size : int
    seed, epoch : int
        Which order; the same for the same two, always.

    Returns
    -------
    (n,) int

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.data import order_by_length
    >>> lengths = np.array([9, 2, 8, 1, 2, 9])
    >>> order = order_by_length(lengths, batch_size=2, seed=0, epoch=0)
    >>> sorted(sorted(batch.tolist()) for batch in lengths[order].reshape(3, 2))
    [[1, 2], [2, 8], [9, 9]]
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    pool = POOL * batch_size
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        order[start : start + pool] = part[np.argsort(lengths[part], kind="stable")]
    whole = len(order) // batch_size
    batches = order[: whole * batch_size].reshape(whole, batch_size)
    return np.concatenate([rng.permutation(batches).ravel(), order[whole * batch_size :]])


def split_validation(
    x: Array, y: Array | None, weight: Array | None, fraction: float
) -> tuple[tuple[Any, Any, Any], tuple[Any, Any, Any]]:
    """Cut the last rows off as validation data, before any shuffling, as Keras does."""
    fraction = require_number("fit", "validation_split", fraction, 0, 1, "()")
    cut = int(len(x) * (1 - fraction))
    if cut == 0 or cut == len(x):
        raise ValueError(
            f"fit: validation_split={fraction} of {len(x)} rows leaves {cut} for training and "
            f"{len(x) - cut} for validation; give more rows or another fraction"
        )
    arrays = (x, y, weight)
    first, last = (
        tuple(None if a is None else a[part] for a in arrays)
        for part in (slice(None, cut), slice(cut, None))
    )
    return first, last  # type: ignore[return-value]
