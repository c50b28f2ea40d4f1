"""Token ids as arrays: padded batches, contiguous streams, windows.

Notation: B batch, N steps of a stream, T steps of a window, n number of sequences or windows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from gru_np._intake import NUMBERS, as_array

Ids = NDArray[Any]


def pad_sequences(
    sequences: Sequence[Any],
    maxlen: int | None = None,
    dtype: DTypeLike = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: Any = 0.0,
) -> NDArray[Any]:
    """Make sequences one array, cutting the long and padding the short, as Keras does.

    Parameters
    ----------
    sequences : sequence of n sequences
        Each of any length; items may be arrays, all of one shape.
    maxlen : int, optional
        Length to cut and pad to; None is that of the longest.
    dtype : dtype
        Of the result. Floats are cut towards zero by an integer type.
    padding : str
        Pad at the start ("pre") or the end ("post").
    truncating : str
        Cut the start ("pre", which keeps the end) or the end ("post").
    value : scalar
        What to pad with; a string needs dtype=object.

    Returns
    -------
    (n, maxlen, ...) dtype

    Raises
    ------
    ValueError
        If `sequences` or a member of it is not a sequence, none is given and maxlen is None, the
        shapes of items differ, or an option is unknown (noticed, as in Keras, only when there is a
        sequence with something in it).
    OverflowError
        If a Python integer does not fit the dtype.

    Notes
    -----
    Semantics of keras.utils.pad_sequences, Keras 3.15. In a GRU, "pre" needs `mask_zero=True` just
    as "post" does: zeros before the text move the state.

    Examples
    --------
    >>> from gru_np import text
    >>> text.pad_sequences([[1], [2, 3], [4, 5, 6]], maxlen=2)
    array([[0, 1],
           [2, 3],
           [5, 6]], dtype=int32)
    >>> text.pad_sequences([[1], [2, 3]], padding="post", value=-1)
    array([[ 1, -1],
           [ 2,  3]], dtype=int32)
    """
    if not hasattr(sequences, "__len__"):
        raise ValueError(
            f"pad_sequences: sequences must be iterable and have a length, "
            f"got {type(sequences).__name__}; write list(sequences)"
        )
    item_shape: tuple[int, ...] | None = None
    longest = 0
    for position, sequence in enumerate(sequences):
        if not hasattr(sequence, "__len__"):
            raise ValueError(
                f"pad_sequences: sequences must hold sequences, got {sequence!r} at {position}"
            )
        longest = max(longest, len(sequence))
        if item_shape is None and len(sequence):
            item_shape = np.shape(sequence)[1:]
    if maxlen is None:
        if not len(sequences):
            raise ValueError("pad_sequences: no sequences and no maxlen: the length is unknown")
        maxlen = longest
    if isinstance(value, str) and np.dtype(dtype).kind not in "OSU":
        raise ValueError(
            f"pad_sequences: dtype {np.dtype(dtype)} cannot hold the value {value!r}; "
            "use dtype=object for strings"
        )
    item_shape = item_shape or ()
    padded = np.full((len(sequences), maxlen, *item_shape), value, dtype=dtype)
    for position, sequence in enumerate(sequences):
        if not len(sequence):
            continue
        if truncating not in ("pre", "post"):
            raise ValueError(
                f'pad_sequences: truncating must be "pre" or "post", got {truncating!r}'
            )
        # Keras: with maxlen = 0 this is sequence[-0:], everything, which then does not fit.
        kept = sequence[-maxlen:] if truncating == "pre" else sequence[:maxlen]
        if padded.dtype.kind in NUMBERS and not isinstance(kept, list):
            what, whole = f"sequence {position}", padded.dtype.kind in "iu"
            kept = as_array("pad_sequences", kept, what, finite=whole)
        kept = np.asarray(kept, dtype)
        if kept.shape[1:] != item_shape:
            raise ValueError(
                f"pad_sequences: items of sequence {position} must have shape {item_shape} as in "
                f"the first, got {kept.shape[1:]}"
            )
        if padding not in ("pre", "post"):
            raise ValueError(f'pad_sequences: padding must be "pre" or "post", got {padding!r}')
        if maxlen == 0:
            if len(kept) > 1:
                raise ValueError(
                    'pad_sequences: maxlen=0 needs truncating="post"; "pre" takes the slice [-0:], '
                    "which is everything"
                )
        elif padding == "pre":
            padded[position, maxlen - len(kept) :] = kept
        else:
            padded[position, : len(kept)] = kept
    return padded


def stream(ids: ArrayLike, batch_size: int) -> tuple[Ids, Ids]:
    """Lay one long text out as parallel streams for a language model.

    Row b holds the b-th of B equal, contiguous parts, so that a state carried from one window of
    columns to the next continues the same text. The target is the next token:

        inputs[b, t] = ids[b N + t],   targets[b, t] = ids[b N + t + 1],   N = (len(ids) - 1) // B

    Parameters
    ----------
    ids : (n,) int
    batch_size : int
        B; the last (n - 1) mod B tokens have no place and are left out, none if B is 1.

    Returns
    -------
    inputs, targets : (B, N)
        Views into `ids`.

    Raises
    ------
    ValueError
        If there are not at least B + 1 tokens.

    Examples
    --------
    >>> from gru_np import text
    >>> inputs, targets = text.stream([0, 1, 2, 3, 4, 5, 6, 7], batch_size=2)
    >>> inputs
    array([[0, 1, 2],
           [3, 4, 5]])
    >>> targets
    array([[1, 2, 3],
           [4, 5, 6]])
    """
    flat = _flat(ids, "stream")
    if batch_size < 1:
        raise ValueError(f"stream: batch_size must be at least 1, got {batch_size}")
    N = (len(flat) - 1) // batch_size
    if N < 1:
        raise ValueError(
            f"stream: {batch_size} rows need at least {batch_size + 1} tokens, got {len(flat)}; "
            "use a smaller batch_size or more text"
        )
    size = batch_size * N
    return flat[:size].reshape(batch_size, N), flat[1 : size + 1].reshape(batch_size, N)


def windows(ids: ArrayLike, length: int, step: int | None = None) -> tuple[Ids, Ids]:
    """Cut a text into windows of equal length, each with its targets one token on.

        inputs[i, t] = ids[i step + t],   targets[i, t] = ids[i step + t + 1]

    Parameters
    ----------
    ids : (n,) int
    length : int
        T, tokens of a window.
    step : int, optional
        From the start of one window to the next; None is `length`, windows side by side.

    Returns
    -------
    inputs, targets : (windows, T)
        Contiguous copies. A model of the single next token takes `targets[:, -1]`.

    Raises
    ------
    ValueError
        If there are not at least `length` + 1 tokens.

    Examples
    --------
    >>> from gru_np import text
    >>> inputs, targets = text.windows([0, 1, 2, 3, 4, 5], length=3, step=2)
    >>> inputs
    array([[0, 1, 2],
           [2, 3, 4]])
    >>> targets[:, -1]
    array([3, 5])
    """
    flat = _flat(ids, "windows")
    step = length if step is None else step
    if length < 1 or step < 1:
        raise ValueError(
            f"windows: length and step must be at least 1, got length={length}, step={step}"
        )
    if len(flat) < length + 1:
        raise ValueError(
            f"windows: a window of {length} needs at least {length + 1} tokens, got {len(flat)}"
        )
    cut = np.lib.stride_tricks.sliding_window_view(flat, length + 1)[::step]
    return np.ascontiguousarray(cut[:, :-1]), np.ascontiguousarray(cut[:, 1:])


def _flat(ids: ArrayLike, who: str) -> Ids:
    """Token ids as a one-dimensional integer array."""
    flat = as_array(who, ids, "ids")
    if flat.ndim != 1:
        raise ValueError(f"{who}: ids must have shape (n,), got {flat.shape}")
    if flat.size and flat.dtype.kind not in "iu":
        raise TypeError(f"{who}: ids must be integers, got {flat.dtype}")
    return flat
