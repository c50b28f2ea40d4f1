"""Layer normalisation.

Notation: F features.
"""

from typing import Any

import numpy as np

from gru_np._aliases import Array, Generator, Gradients, Shape
from gru_np._checks import require_features, require_last
from gru_np._intake import as_floats
from gru_np.layers.base import Layer, Parameter


class LayerNormalization(Layer):
    """Give every position mean 0 and variance 1 over its features, then scale and shift.

        μ = mean(x),  v = mean((x - μ)²)         over the last axis
        x̂ = (x - μ) / √(v + ε)
        y = γ ⊙ x̂ + β

    Parameters
    ----------
    epsilon : float
        ε, added to the variance.
    center, scale : bool
        Whether there is a β; a γ.
    seed, name, trainable
        As for every layer.

    Notes
    -----
    Source: arXiv:1607.06450, eq. 3-4. Parameters: gamma (F,) of ones, beta (F,) of zeros. ε is
    Keras' 1e-3; PyTorch's default is 1e-5.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import LayerNormalization
    >>> LayerNormalization(epsilon=0.0)(np.array([[1.0, 3.0]])).tolist()
    [[-1.0, 1.0]]
    """

    def __init__(
        self, epsilon: float = 1e-3, center: bool = True, scale: bool = True, **common: Any
    ):
        super().__init__(**common)
        if not epsilon >= 0:
            raise ValueError(f"LayerNormalization: epsilon must be at least 0, got {epsilon}")
        self.epsilon = epsilon
        self.center = center
        self.scale = scale

    def parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        """Gamma (F,), ones at first, and beta (F,), zeros."""
        shape = (require_last(self.name, input_shape),)
        parameters = {"gamma": Parameter(shape, "ones"), "beta": Parameter(shape, "zeros")}
        wanted = {"gamma": self.scale, "beta": self.center}
        return {name: parameter for name, parameter in parameters.items() if wanted[name]}

    def forward(
        self,
        x: Any,
        mask: Array | None = None,
        training: bool = False,
        rng: Generator | None = None,
    ) -> tuple[Array, Any]:
        """Normalise each position."""
        x = as_floats(self.name, x)
        self.ensure_built(x)
        for parameter in self.params.values():
            require_features(self.name, x, parameter.size)
        centred = x - x.mean(axis=-1, keepdims=True)
        inverse = 1 / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + self.epsilon)
        x_hat = centred * inverse
        y = x_hat * self.params["gamma"] if self.scale else x_hat
        return (y + self.params["beta"] if self.center else y), (x_hat, inverse)

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        """Give dx, and the gradients of γ and β."""
        x_hat, inverse = saved
        positions = tuple(range(dy.ndim - 1))
        gradients = {}
        # y = γ ⊙ x̂ + β
        if self.scale:
            gradients["gamma"] = (dy * x_hat).sum(axis=positions)
            dx_hat = dy * self.params["gamma"]
        else:
            dx_hat = dy
        if self.center:
            gradients["beta"] = dy.sum(axis=positions)
        # x̂ = (x - μ) / √(v + ε); both μ and v depend on every feature
        mean = dx_hat.mean(axis=-1, keepdims=True)
        along = (dx_hat * x_hat).mean(axis=-1, keepdims=True)
        return inverse * (dx_hat - mean - x_hat * along), gradients
