"""Where each library keeps the weights of a GRU: one function each way, for one direction.

Notation: I input, H hidden. Ours, as PyTorch's: W_ih (3H, I), W_hh (3H, H), b_ih and b_hh (3H,),
rows r, z, n, and z keeps the old state.

    Keras   kernel (I, 3H), recurrent_kernel (H, 3H), columns z, r, h; bias (2, 3H) if the reset
            comes after the product, (3H,) if before
    ONNX    W (3H, I), R (3H, H), rows z, r, h; B (6H,) = [Wb z r h, Rb z r h]

Exchanging the first two blocks undoes itself, so one function goes both ways. All of this moves
numbers without changing a bit, except `fold_biases` where both biases differ from zero.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gru_np._aliases import Array

NAMES = ("W_ih", "W_hh", "b_ih", "b_hh")


def swap_reset_update(a: Array) -> Array:
    """Exchange the first two of three blocks of rows: r, z, n to z, r, n, and back.

    Parameters
    ----------
    a : (3H, ...)

    Returns
    -------
    (3H, ...)

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.interop.layouts import swap_reset_update
    >>> swap_reset_update(np.array([1, 2, 3]))
    array([2, 1, 3])
    """
    r, z, n = np.split(a, 3)
    return np.concatenate([z, r, n])


def fold_biases(params: Mapping[str, Array], reset_after: bool) -> Array:
    """Give the one bias (3H,) that does what b_ih and b_hh do, where there is one.

        σ(W x + b_ih + W h + b_hh)             both gates: only the sum counts
        φ(W x + b_in + W_hn (r ⊙ h) + b_hn)    reset before the product: likewise
        φ(W x + b_in + r ⊙ (W_hn h + b_hn))    reset after it: b_hn stands inside, r ⊙ b_hn

    Raises
    ------
    ValueError
        If the reset comes after the product and b_hn is not zero: that term would be lost.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.interop.layouts import fold_biases
    >>> fold_biases({"b_ih": np.array([1.0, 2, 3]), "b_hh": np.array([5.0, 5, 5])}, False)
    array([6., 7., 8.])
    """
    b_ih, b_hh = params["b_ih"], params["b_hh"]
    if reset_after and b_hh[2 * len(b_hh) // 3 :].any():
        raise ValueError(
            "the recurrent bias of the new gate, b_hn, is not zero, and with the reset after the "
            "product r ⊙ b_hn cannot be folded into one bias"
        )
    return b_ih + b_hh


def flip_update(params: Mapping[str, Array]) -> dict[str, Array]:
    """Translate between the two meanings of z: the share of the old state, or of the new.

    1 - σ(a) = σ(-a), so the rows of z change sign. Chung et al. (arXiv:1412.3555) let z be the
    share of the new state; here it is the share of the old one, as in every library above.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.interop.layouts import flip_update
    >>> flip_update({"b_ih": np.array([1.0, 2.0, 3.0])})
    {'b_ih': array([ 1., -2.,  3.])}
    """
    flipped = {}
    for name, array in params.items():
        r, z, n = np.split(array, 3)
        flipped[name] = np.concatenate([r, -z, n])
    return flipped


def from_keras_arrays(arrays: list[Array], reset_after: bool) -> dict[str, Array]:
    """From [kernel, recurrent_kernel, bias] to our parameters; the bias may be absent.

    The single bias of a layer with the reset before the product becomes b_ih, and b_hh is zero.

    Raises
    ------
    ValueError
        If a shape is not that of a GRU of this form; the bias tells the two forms apart.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.interop.layouts import from_keras_arrays
    >>> params = from_keras_arrays([np.ones((2, 12)), np.ones((4, 12)), np.ones((2, 12))], True)
    >>> {name: array.shape for name, array in params.items()}
    {'W_ih': (12, 2), 'W_hh': (12, 4), 'b_ih': (12,), 'b_hh': (12,)}
    """
    if len(arrays) not in (2, 3):
        raise ValueError(f"a GRU of Keras has 2 or 3 arrays, found {len(arrays)}")
    kernel, recurrent_kernel = arrays[:2]
    H = recurrent_kernel.shape[0]
    if kernel.ndim != 2 or kernel.shape[1] != 3 * H or recurrent_kernel.shape != (H, 3 * H):
        raise ValueError(
            f"kernel and recurrent_kernel must have shapes (inputs, 3 units) and (units, 3 units), "
            f"found {kernel.shape} and {recurrent_kernel.shape}"
        )
    params = {"W_ih": swap_reset_update(kernel.T), "W_hh": swap_reset_update(recurrent_kernel.T)}
    if len(arrays) == 3:
        bias = arrays[2]
        wanted = (2, 3 * H) if reset_after else (3 * H,)
        if bias.shape != wanted:
            raise ValueError(
                f"with reset_after={reset_after} bias must have shape {wanted}, found "
                f"{bias.shape}, that of reset_after={not reset_after}"
            )
        b_ih, b_hh = bias if reset_after else (bias, np.zeros_like(bias))
        params |= {"b_ih": swap_reset_update(b_ih), "b_hh": swap_reset_update(b_hh)}
    return params


def to_keras_arrays(params: Mapping[str, Array], reset_after: bool) -> list[Array]:
    """From our parameters to [kernel, recurrent_kernel, bias]; without biases, the first two.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.interop.layouts import to_keras_arrays
    >>> params = {"W_ih": np.ones((12, 2)), "W_hh": np.ones((12, 4))}
    >>> [array.shape for array in to_keras_arrays(params, reset_after=True)]
    [(2, 12), (4, 12)]
    """
    arrays = [np.ascontiguousarray(swap_reset_update(params[name]).T) for name in NAMES[:2]]
    if "b_ih" in params:
        if reset_after:
            arrays.append(np.stack([swap_reset_update(params[name]) for name in NAMES[2:]]))
        else:
            arrays.append(swap_reset_update(fold_biases(params, reset_after)))
    return arrays


def from_onnx_arrays(W: Array, R: Array, B: Any = None) -> dict[str, Array]:
    """From W (3H, I), R (3H, H), B (6H,) or None of one direction to our parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.interop.layouts import from_onnx_arrays
    >>> params = from_onnx_arrays(np.ones((12, 2)), np.ones((12, 4)), np.arange(24.0))
    >>> params["b_hh"][:4]
    array([16., 17., 18., 19.])
    """
    params = {"W_ih": swap_reset_update(W), "W_hh": swap_reset_update(R)}
    if B is not None:
        b_ih, b_hh = np.split(B, 2)
        params |= {"b_ih": swap_reset_update(b_ih), "b_hh": swap_reset_update(b_hh)}
    return params


def to_onnx_arrays(params: Mapping[str, Array]) -> tuple[Array, Array, Array | None]:
    """From our parameters to W, R and B of one direction; B is None without biases.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.interop.layouts import to_onnx_arrays
    >>> W, R, B = to_onnx_arrays({"W_ih": np.ones((12, 2)), "W_hh": np.ones((12, 4))})
    >>> W.shape, R.shape, B is None
    ((12, 2), (12, 4), True)
    """
    W, R = (swap_reset_update(params[name]) for name in NAMES[:2])
    if "b_ih" not in params:
        return W, R, None
    return W, R, np.concatenate([swap_reset_update(params[name]) for name in NAMES[2:]])
