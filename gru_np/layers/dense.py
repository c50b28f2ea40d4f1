"""The fully connected layer.

Notation: F input features, U units.
"""

from typing import Any

import numpy as np

from gru_np import constraints, equations, regularizers
from gru_np._aliases import Array, Generator, Gradients, Shape
from gru_np._checks import require_choice, require_count, require_features, require_last
from gru_np._intake import as_floats
from gru_np._logits import HeadGradient, logits
from gru_np.layers.base import Layer, Parameter, Rule
from gru_np.layers.embedding import Embedding


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
    kernel_regularizer, bias_regularizer : str or Regularizer, optional
        Penalties of W and b; see `gru_np.regularizers`.
    kernel_constraint, bias_constraint : str or Constraint, optional
        What they obey after each step of the optimiser; see `gru_np.constraints`.
    tied_to : Embedding or str, optional
        An Embedding, or the name of one before it in a `Sequential`, whose table (V, E) is to
        serve as W (U, F) as well: one parameter, its gradient the sum of both uses
        (arXiv:1608.05859). Then U = V and F = E.
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

    random = False

    def __init__(
        self,
        units: int,
        activation: str | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        *,
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        tied_to: Any = None,
        **common: Any,
    ):
        super().__init__(**common)
        require_choice("Dense", "activation", activation or "linear", [*ELEMENTWISE, "softmax"])
        self.units = require_count("Dense", "units", units)
        self.activation = activation or None  # "" is linear, too
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.tied: Embedding | None = None  # whose table serves as W
        self._tied_to = tied_to
        if isinstance(tied_to, Embedding):
            self.tie(tied_to)

    def tie(self, embedding: Embedding) -> None:
        """Use the table of an Embedding as W; called by `Sequential` where a name was given."""
        if embedding.input_dim != self.units:
            raise ValueError(
                f"{self.name}: units must be {embedding.input_dim}, the input_dim of the Embedding "
                f"it is tied to, got {self.units}"
            )
        self.tied = embedding

    @property
    def tied_to(self) -> Any:
        """The name of the Embedding whose table serves as W, as it is called now."""
        return self._tied_to if self.tied is None else self.tied.name

    @property
    def weight(self) -> Array:
        """The weights (U, F): this layer's own, or the table of the Embedding it is tied to."""
        if self.tied is not None:
            return self.tied.params["W"]
        if self.tied_to is not None:
            raise ValueError(
                f"{self.name}: it is tied to {self.tied_to!r}, an Embedding that must come before "
                "it in one Sequential"
            )
        return self.params["W"]

    def rules(self) -> dict[str, Rule]:
        """Give the rules of W and b."""
        return {
            "W": Rule(self.kernel_regularizer, self.kernel_constraint, out_first=True),
            "b": Rule(self.bias_regularizer, self.bias_constraint),
        }

    def parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        """W (U, F), unless it is an Embedding's, and, with a bias, b (U,)."""
        F, U = require_last(self.name, input_shape), self.units
        parameters = {}
        if self.tied_to is None:
            parameters["W"] = Parameter((U, F), self.kernel_initializer, out_first=True)
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
        rng: Generator | None = None,
        activate: bool = True,
        put_off: bool = False,
        inference: bool = False,
    ) -> tuple[Any, Any]:
        """Compute y, and what `backward` needs.

        With `activate=False` the output is the pre-activation: for a loss that takes the
        activation's place, softmax with cross-entropy, and wants its gradient in one formula. With
        `put_off=True` besides, it may be `Logits`, which such a loss computes in blocks of rows.
        """
        x = as_floats(self.name, x)
        self.ensure_built(x)
        W, b = self.weight, self.params.get("b")
        require_features(self.name, x, W.shape[1])
        later = logits(x, W, b, gradient=not inference) if put_off else None
        if later is not None:
            return later, (x, None)  # for a loss that takes the array after all
        rows = x.reshape(-1, W.shape[1])
        a = rows @ W.T
        a = a if b is None else a + b
        y = self.activate(a) if activate else a
        return y.reshape(*x.shape[:-1], self.units), (x, y if activate else None)

    def backward(self, dy: Any, saved: Any) -> tuple[Array, Gradients]:
        """Give dx and the gradients of W, be it another layer's, and b."""
        if isinstance(dy, HeadGradient):
            return dy.dx, {"W": dy.dW} | ({} if dy.db is None else {"b": dy.db})
        x, y = saved
        W = self.weight
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
