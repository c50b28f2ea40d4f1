"""How parameters begin: Keras' initialisers, by name or with settings.

Notation: a matrix has the shape (fan_in, fan_out), as in Keras: input first. (gru_np keeps weights
output first; its layers draw the transpose.) Of a vector both fans are its size.

    draw = glorot_uniform(shape, rng, dtype)             the plain ones are ready to call
    draw = Orthogonal(gain=0.5)(shape, rng, dtype)       settings make another

`rng` is a NumPy Generator; without one, or with `seed=` among the settings, the draw has its own.
Numbers are drawn in float64 and rounded, so float32 and float64 models of one seed begin alike.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gru_np._aliases import Array, Generator
from gru_np._checks import require_choice, spell
from gru_np._named import Configured, describe, require_known, require_number, resolve

# Standard deviation of a standard normal cut off at two standard deviations.
TRUNCATED_STDDEV = 0.87962566103423978


class Initializer(Configured):
    """Base of all initialisers: `initializer(shape, rng, dtype)` gives a new array.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import initializers
    >>> draw = initializers.get("glorot_uniform")
    >>> draw((3, 4), np.random.default_rng(0), "float32").shape
    (3, 4)
    """

    seed: int | None = None

    def __call__(
        self, shape: tuple[int, ...], rng: Generator | None = None, dtype: Any = "float32"
    ) -> Array:
        """Give a new array of this shape and dtype."""
        if rng is None or self.seed is not None:
            rng = np.random.default_rng(self.seed)
        return self._draw(tuple(shape), rng).astype(dtype, copy=False)

    def _draw(self, shape: tuple[int, ...], rng: Generator) -> Array:
        """Give the array in float64."""
        raise NotImplementedError(f"{type(self).__name__} must define _draw")

    def _number(self, what: str, value: Any, low: float = -math.inf) -> float:
        return require_number(type(self).__name__, what, value, low=low)


# ------------------------------------------------------------------------------------- constant


class Zeros(Initializer):
    """All 0.

    Examples
    --------
    >>> from gru_np.initializers import zeros
    >>> zeros((2,))
    array([0., 0.], dtype=float32)
    """

    def _draw(self, shape: tuple[int, ...], rng: Generator) -> Array:
        return np.zeros(shape)


class Ones(Initializer):
    """All 1.

    Examples
    --------
    >>> from gru_np.initializers import ones
    >>> ones((2,))
    array([1., 1.], dtype=float32)
    """

    def _draw(self, shape: tuple[int, ...], rng: Generator) -> Array:
        return np.ones(shape)


class Constant(Initializer):
    """All the same number.

    Parameters
    ----------
    value : float

    Examples
    --------
    >>> from gru_np.initializers import Constant
    >>> Constant(0.5)((2,))
    array([0.5, 0.5], dtype=float32)
    """

    def __init__(self, value: float = 0.0):
        self.value = self._number("value", value)

    def _draw(self, shape: tuple[int, ...], rng: Generator) -> Array:
        return np.full(shape, self.value)


class Identity(Initializer):
    """`gain` on the diagonal of a matrix, 0 elsewhere.

    Parameters
    ----------
    gain : float

    Examples
    --------
    >>> from gru_np.initializers import identity
    >>> identity((2, 3), dtype="float64")
    array([[1., 0., 0.],
           [0., 1., 0.]])
    """

    def __init__(self, gain: float = 1.0):
        self.gain = self._number("gain", gain)

    def _draw(self, shape: tuple[int, ...], rng: Generator) -> Array:
        if len(shape) != 2:
            raise ValueError(f"Identity: shape must be that of a matrix, got {spell(shape)}")
        return self.gain * np.eye(*shape)


# --------------------------------------------------------------------------------------- random


class RandomUniform(Initializer):
    """Uniform between two numbers; Keras' embeddings begin so.

    Parameters
    ----------
    minval, maxval : float
        The bounds.
    seed : int, optional

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.initializers import uniform
    >>> bool(np.abs(uniform((100, 8))).max() <= 0.05)
    True
    """

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None):
        self.minval = self._number("minval", minval)
        self.maxval = self._number("maxval", maxval, low=self.minval)
        self.seed = seed

    def _draw(self, shape: tuple[int, ...], rng: Generator) -> Array:
        return rng.uniform(self.minval, self.maxval, shape)


class RandomNormal(Initializer):
    """Normal.

    Parameters
    ----------
    mean, stddev : float
    seed : int, optional

    Examples
    --------
    >>> from gru_np.initializers import RandomNormal
    >>> RandomNormal(stddev=0.01, seed=0)((2, 3)).shape
    (2, 3)
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None):
        self.mean = self._number("mean", mean)
        self.stddev = self._number("stddev", stddev, low=0)
        self.seed = seed

    def _draw(self, shape: tuple[int, ...], rng: Generator) -> Array:
        return rng.normal(self.mean, self.stddev, shape)


class TruncatedNormal(RandomNormal):
    """Normal, drawn again wherever it is more than two standard deviations from the mean.

    Parameters
    ----------
    mean, stddev : float
        Of the normal before it is cut; after, the standard deviation is 0.8796 of it.
    seed : int, optional

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.initializers import TruncatedNormal
    >>> bool(np.abs(TruncatedNormal(stddev=0.05)((100, 8))).max() <= 0.1)
    True
    """

    def _draw(self, shape: tuple[int, ...], rng: Generator) -> Array:
        return self.mean + self.stddev * _truncated_normal(shape, rng)


def _truncated_normal(shape: tuple[int, ...], rng: Generator) -> Array:
    """Draw standard normal numbers until all lie within two standard deviations."""
    x = rng.standard_normal(shape)
    far = np.abs(x) > 2
    while far.any():
        x[far] = rng.standard_normal(np.count_nonzero(far))
        far = np.abs(x) > 2
    return x


class VarianceScaling(Initializer):
    """Random numbers whose variance keeps signals the same size from layer to layer.

        variance = scale / n,  n = fan_in, fan_out or (fan_in + fan_out) / 2

    Parameters
    ----------
    scale : float
        Above 0.
    mode : {"fan_in", "fan_out", "fan_avg"}
        n.
    distribution : {"uniform", "truncated_normal", "untruncated_normal"}
        The uniform lies within ±√(3 variance); the truncated normal is widened so that what is
        left of it has this variance.
    seed : int, optional

    Examples
    --------
    >>> from gru_np.initializers import VarianceScaling
    >>> VarianceScaling(2.0, mode="fan_out", distribution="uniform", seed=0)((5, 4)).shape
    (5, 4)
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
    ):
        who, modes = type(self).__name__, ("fan_in", "fan_out", "fan_avg")
        distributions = ("uniform", "truncated_normal", "untruncated_normal")
        self.scale = require_number(who, "scale", scale, open_="(")
        require_choice(who, "mode", mode, modes)
        require_choice(who, "distribution", distribution, distributions)
        self.mode = mode
        self.distribution = distribution
        self.seed = seed

    def _draw(self, shape: tuple[int, ...], rng: Generator) -> Array:
        # The axes before the last two, if any, are those of a convolution's kernel.
        fan_in = math.prod(shape[:-1]) if len(shape) > 1 else math.prod(shape)
        fan_out = shape[-1] * math.prod(shape[:-2]) if shape else 1
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        stddev = math.sqrt(self.scale / max(1.0, fan))
        if self.distribution == "uniform":
            limit = math.sqrt(3) * stddev
            return rng.uniform(-limit, limit, shape)
        if self.distribution == "untruncated_normal":
            return rng.normal(0, stddev, shape)
        return stddev / TRUNCATED_STDDEV * _truncated_normal(shape, rng)


class GlorotUniform(VarianceScaling):
    """Uniform within ±√(6 / (fan_in + fan_out)); Keras' default for kernels.

    Parameters
    ----------
    seed : int, optional

    Notes
    -----
    Source: X. Glorot and Y. Bengio, AISTATS 2010, eq. 16.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.initializers import glorot_uniform
    >>> bool(np.abs(glorot_uniform((2, 4))).max() <= 1)
    True
    """

    def __init__(self, seed: int | None = None):
        super().__init__(1.0, "fan_avg", "uniform", seed)


class GlorotNormal(VarianceScaling):
    """Truncated normal of variance 2 / (fan_in + fan_out).

    Parameters
    ----------
    seed : int, optional

    Notes
    -----
    Source: X. Glorot and Y. Bengio, AISTATS 2010, eq. 12.

    Examples
    --------
    >>> from gru_np.initializers import glorot_normal
    >>> glorot_normal((2, 4)).shape
    (2, 4)
    """

    def __init__(self, seed: int | None = None):
        super().__init__(1.0, "fan_avg", "truncated_normal", seed)


class HeUniform(VarianceScaling):
    """Uniform within ±√(6 / fan_in), for relu.

    Parameters
    ----------
    seed : int, optional

    Notes
    -----
    Source: arXiv:1502.01852, eq. 10.

    Examples
    --------
    >>> from gru_np.initializers import he_uniform
    >>> he_uniform((2, 4)).shape
    (2, 4)
    """

    def __init__(self, seed: int | None = None):
        super().__init__(2.0, "fan_in", "uniform", seed)


class HeNormal(VarianceScaling):
    """Truncated normal of variance 2 / fan_in, for relu.

    Parameters
    ----------
    seed : int, optional

    Notes
    -----
    Source: arXiv:1502.01852, eq. 10.

    Examples
    --------
    >>> from gru_np.initializers import he_normal
    >>> he_normal((2, 4)).shape
    (2, 4)
    """

    def __init__(self, seed: int | None = None):
        super().__init__(2.0, "fan_in", "truncated_normal", seed)


class LecunUniform(VarianceScaling):
    """Uniform within ±√(3 / fan_in).

    Parameters
    ----------
    seed : int, optional

    Notes
    -----
    Source: Y. LeCun et al., Efficient BackProp, 1998, eq. 16.

    Examples
    --------
    >>> from gru_np.initializers import lecun_uniform
    >>> lecun_uniform((2, 4)).shape
    (2, 4)
    """

    def __init__(self, seed: int | None = None):
        super().__init__(1.0, "fan_in", "uniform", seed)


class LecunNormal(VarianceScaling):
    """Truncated normal of variance 1 / fan_in.

    Parameters
    ----------
    seed : int, optional

    Notes
    -----
    Source: Y. LeCun et al., Efficient BackProp, 1998, eq. 16.

    Examples
    --------
    >>> from gru_np.initializers import lecun_normal
    >>> lecun_normal((2, 4)).shape
    (2, 4)
    """

    def __init__(self, seed: int | None = None):
        super().__init__(1.0, "fan_in", "truncated_normal", seed)


class Orthogonal(Initializer):
    """A random matrix Q with orthonormal columns, or rows if it has fewer rows, times `gain`.

        Qᵀ Q = gain² 1   if rows ≥ columns,   else Q Qᵀ = gain² 1

    Parameters
    ----------
    gain : float
    seed : int, optional

    Notes
    -----
    Uniform among all such matrices (the Haar measure): Q of the QR decomposition of a normal
    matrix, each column's sign chosen so that R has a positive diagonal. More than two axes are
    flattened to (all but the last, last). Keras' default for recurrent kernels, there as here over
    the whole (H, 3H) matrix, not gate by gate.

    Source: arXiv:1312.6120; signs: F. Mezzadri, arXiv:math-ph/0609050, section 5.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.initializers import orthogonal
    >>> q = orthogonal((4, 12), np.random.default_rng(0), "float64")
    >>> bool(np.allclose(q @ q.T, np.eye(4)))
    True
    """

    def __init__(self, gain: float = 1.0, seed: int | None = None):
        self.gain = self._number("gain", gain)
        self.seed = seed

    def _draw(self, shape: tuple[int, ...], rng: Generator) -> Array:
        if len(shape) < 2:
            raise ValueError(
                f"Orthogonal: shape must have at least two axes, got {spell(shape)}; "
                "a bias begins with 'zeros'"
            )
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        q *= np.where(np.diag(r) < 0, -1.0, 1.0)
        return self.gain * (q if rows >= columns else q.T).reshape(shape)


# --------------------------------------------------------------------------------------- by name

zeros = Zeros()
ones = Ones()
constant = Constant()
identity = Identity()
random_uniform = uniform = RandomUniform()
random_normal = normal = RandomNormal()
truncated_normal = TruncatedNormal()
variance_scaling = VarianceScaling()
glorot_uniform = GlorotUniform()
glorot_normal = GlorotNormal()
he_uniform = HeUniform()
he_normal = HeNormal()
lecun_uniform = LecunUniform()
lecun_normal = LecunNormal()
orthogonal = Orthogonal()

# The plain initialisers by name; names of classes stand for them in descriptions.
PLAIN: dict[str, Initializer] = {
    name: value for name, value in globals().items() if isinstance(value, Initializer)
}
INITIALIZERS: dict[str, type[Initializer]] = {
    type(value).__name__: type(value) for value in PLAIN.values()
} | {name: type(value) for name, value in PLAIN.items()}


def get(identifier: Any) -> Callable[..., Array]:
    """Give the initialiser meant by a name, a description (`serialize`) or an Initializer.

    Any callable (shape, rng, dtype) -> array will do as well, but cannot be saved.

    Examples
    --------
    >>> from gru_np import initializers
    >>> initializers.get("uniform")
    RandomUniform()
    >>> initializers.get({"class_name": "Orthogonal", "config": {"gain": 0.5}})
    Orthogonal(gain=0.5)
    """
    if callable(identifier) and not isinstance(identifier, type):
        return identifier
    return resolve("initializer", identifier, INITIALIZERS, Initializer)


def serialize(identifier: Any) -> str | dict[str, Any]:
    """Describe an initialiser, ready for JSON; `get` takes it back. A name stays a name.

    Examples
    --------
    >>> from gru_np import initializers
    >>> initializers.serialize("zeros")
    'zeros'
    >>> initializers.serialize(initializers.Orthogonal(gain=0.5))
    {'class_name': 'Orthogonal', 'config': {'gain': 0.5, 'seed': None}}
    """
    if isinstance(identifier, str | Mapping):
        return identifier if isinstance(identifier, str) else dict(identifier)
    return describe(require_known("initializer", identifier, INITIALIZERS))
