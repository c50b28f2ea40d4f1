"""The fully connected layer.

Notation: F input features, U units.
"""

from typing import Any

import numpy as np

from gru_np import equations
from gru_np._aliases import Array, Gradients, Shape
from gru_np._checks import as_floats, require_choice, require_count, require_features, require_last
from gru_np.layers.base import Layer, Parameter


def softmax(a: Array) -> Array:
    """exp(a_i) / Σ_j exp(a_j) over the last axis, the maximum taken off first against overflow."""
    e = np.exp(a - a.real.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_backward(dy: Array, y: Array) -> Array:
    """Gradient of `softmax` from its value y: da = y ⊙ (dy - Σ_j dy_j y_j)."""
    # y = softmax(a)
    return y * (dy - (dy * y).sum(axis=-1, keepdims=True))


ELEMENTWISE = {
    "linear": (equations.linear, equations.linear_derivative),
    "relu": (equations.relu, equations.relu_derivative),
    "sigmoid": (equations.sigmoid, equations.sigmoid_derivative),
    "tanh": (equations.tanh, equations.tanh_derivative),
}


class Dense(Layer):
    """Fully connected layer: y = φ(x Wᵀ + b).

    Parameters
    ----------
    units : int
        U, the size of the output's last axis.
    activation : {"linear", "relu", "sigmoid", "softmax", "tanh"} or None
        φ; None is linear.
    use_bias : bool
        Whether there is a b.
    kernel_initializer, bias_initializer : str or initializer
        How W and b begin.
    seed, name, trainable
        As for every layer.

    Notes
    -----
    Parameters: W (U, F), b (U,). The input is (B, F) or (B, T, F); the product is one over all
    positions.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import Dense
    >>> y = Dense(4, activation="softmax", seed=0)(np.ones((2, 3)))
    >>> y.shape, y.sum(axis=-1).round(12).tolist()
    ((2, 4), [1.0, 1.0])
    """

    def __init__(
        self,
        units: int,
        activation: str | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **common: Any,
    ):
        super().__init__(**common)
        require_choice("Dense", "activation", activation or "linear", [*ELEMENTWISE, "softmax"])
        self.units = require_count("Dense", "units", units)
        self.activation = activation
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer

    def parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        """W (U, F) and, with a bias, b (U,)."""
        F, U = require_last(self.name, input_shape), self.units
        parameters = {"W": Parameter((U, F), self.kernel_initializer, out_first=True)}
        if self.use_bias:
            parameters["b"] = Parameter((U,), self.bias_initializer)
        return parameters

    def output_shape(self, input_shape: Shape) -> Shape:
        """Replace the last axis by the units."""
        return (*input_shape[:-1], self.units)

    def activate(self, a: Array) -> Array:
        """Apply the activation to a pre-activation."""
        name = self.activation or "linear"
        return softmax(a) if name == "softmax" else ELEMENTWISE[name][0](a)

    def forward(
        self,
        x: Any,
        mask: Array | None = None,
        training: bool = False,
        rng: np.random.Generator | None = None,
        activate: bool = True,
    ) -> tuple[Array, Any]:
        """Compute y, and what `backward` needs.

        With `activate=False` the output is the pre-activation: for a loss that takes the
        activation's place, softmax with cross-entropy, and wants its gradient in one formula.
        """
        x = as_floats(self.name, x)
        self.ensure_built(x)
        W, b = self.params["W"], self.params.get("b")
        require_features(self.name, x, W.shape[1])
        rows = x.reshape(-1, W.shape[1])
        a = rows @ W.T
        a = a if b is None else a + b
        y = self.activate(a) if activate else a
        return y.reshape(*x.shape[:-1], self.units), (x, y if activate else None)

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        """Give dx and the gradients of W and b."""
        x, y = saved
        W = self.params["W"]
        da = dy.reshape(-1, self.units)
        # y = activate(a)
        if y is not None and self.activation == "softmax":
            da = softmax_backward(da, y)
        elif y is not None and self.activation not in (None, "linear"):
            da = da * ELEMENTWISE[self.activation][1](y)
        # a = rows @ W.T + b
        gradients = {"W": da.T @ x.reshape(-1, W.shape[1])}
        if self.use_bias:
            gradients["b"] = da.sum(axis=0)
        return (da @ W).reshape(x.shape), gradients
