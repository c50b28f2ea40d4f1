"""What a forecast is scored with: quantiles and densities, their gradients, their random draws.

Notation: y the target; q in (0, 1) a level, x_q the quantile predicted for it; μ the location and
σ the scale of a density, u = (y - μ) / σ; ν the degrees of freedom of Student's t. Raw outputs of
a model become scales and degrees of freedom by

    softplus(a) = ln(1 + exp(a)),    σ = softplus(a) + floor,    ν = 2 + softplus(b)

so that σ is never zero and the variance is finite. Every function is elementwise and takes complex
arguments, for complex-step differentiation; comparisons look at the real part only.
"""

import math
from functools import cache, lru_cache
from typing import Any

import numpy as np

from gru_np._aliases import Array
from gru_np.equations import sigmoid

LOG_2PI = math.log(2 * math.pi)

# ln Γ(z) = (z - ½) ln z - z + ½ ln 2π + Σ c_k / z^(2k-1), and ψ(z) = ln z - 1/2z - Σ d_k / z^2k
_LOG_GAMMA = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
_DIGAMMA = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)
_SHIFT = 10  # the series is exact to the last digits from here on


def softplus(a: Array) -> Array:
    """ln(1 + exp(a)), without overflow; its derivative is the logistic function.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.likelihoods import softplus
    >>> softplus(np.array([0.0, 1000.0]))
    array([6.93147181e-01, 1.00000000e+03])
    """
    positive = a.real > 0
    return np.where(positive, a, 0) + np.log1p(np.exp(np.where(positive, -a, a)))


def log_gamma(z: Array) -> Array:
    """ln Γ(z) for Re z > 0: Stirling's series at z + 10, brought back by Γ(z + 1) = z Γ(z).

    Notes
    -----
    Relative error below 1e-14 for z ≥ ½. Source: DLMF 5.11.1.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.likelihoods import log_gamma
    >>> np.exp(log_gamma(np.array([1.0, 5.0]))).round(10)
    array([ 1., 24.])
    """
    far = z + _SHIFT
    series: Any = 0
    for c in reversed(_LOG_GAMMA):
        series = series / (far * far) + c
    product = np.ones_like(z)
    for j in range(_SHIFT):
        product = product * (z + j)
    return (far - 0.5) * np.log(far) - far + LOG_2PI / 2 + series / far - np.log(product)


def digamma(z: Array) -> Array:
    """ψ(z) = d ln Γ(z) / dz for Re z > 0, by the derivative of the same series.

    Notes
    -----
    Source: DLMF 5.11.2.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.likelihoods import digamma
    >>> digamma(np.array([1.0])).round(10)  # minus Euler's constant
    array([-0.57721566])
    """
    far = z + _SHIFT
    series: Any = 0
    for d in reversed(_DIGAMMA):
        series = (series + d) / (far * far)
    shift = sum(1 / (z + j) for j in range(_SHIFT))
    return np.log(far) - 0.5 / far - series - shift


# --------------------------------------------------------------------------------- quantiles


def pinball(y: Array, x: Array, q: Array) -> tuple[Array, Array]:
    """Pinball loss of quantiles and its derivative by them.

        l = q (y - x)  if y > x,  else (1 - q) (x - y)
        dl/dx = -q  if y > x,  1 - q  if y < x,  0 where they are equal

    Parameters
    ----------
    y, x, q : arrays that broadcast
        Targets, predicted quantiles, their levels.

    Returns
    -------
    l, dl_dx : arrays

    Notes
    -----
    Its mean is least where x is the q-quantile of y. Source: Koenker and Bassett, Econometrica 46
    (1978) 33-50.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.likelihoods import pinball
    >>> pinball(np.array([3.0]), np.array([1.0, 4.0]), np.array([0.9, 0.9]))
    (array([1.8, 0.1]), array([-0.9,  0.1]))
    """
    e = y - x
    slope = np.where(e.real > 0, -q, np.where(e.real < 0, 1 - q, 0 * e.real))
    return -slope * e, slope


# ---------------------------------------------------------------------------------- densities


def gaussian(
    y: Array, mu: Array, a: Array, floor: float = 1e-3
) -> tuple[Array, tuple[Array, Array]]:
    """Give -ln of the normal density of y, in nats, and its gradient by μ and by a.

        σ = softplus(a) + floor,  u = (y - μ) / σ
        l = ½ u² + ln σ + ½ ln 2π
        dl/dμ = -u / σ
        dl/da = (1 - u²) / σ · softplus'(a)

    Parameters
    ----------
    y, mu, a : arrays of one shape
    floor : float
        Least σ.

    Returns
    -------
    l : array
    (dl_dmu, dl_da) : pair of arrays

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.likelihoods import gaussian
    >>> l, (dl_dmu, dl_da) = gaussian(np.array([1.0]), np.array([0.0]), np.array([0.0]))
    >>> l.round(4)
    array([1.5916])
    """
    sigma = softplus(a) + floor
    u = (y - mu) / sigma
    l = u * u / 2 + np.log(sigma) + LOG_2PI / 2  # noqa: E741
    return l, (-u / sigma, (1 - u * u) / sigma * sigmoid(a))


def student_t(
    y: Array, mu: Array, a: Array, b: Array, floor: float = 1e-3
) -> tuple[Array, tuple[Array, Array, Array]]:
    """Give -ln of Student's t density of y, in nats, and its gradient by μ, a and b.

        σ = softplus(a) + floor,  ν = 2 + softplus(b),  u = (y - μ) / σ,  v = u² / ν
        l = (ν+1)/2 ln(1 + v) + ln σ + ½ ln(π ν) + ln Γ(ν/2) - ln Γ((ν+1)/2)
        dl/du = (ν+1) u / (ν (1 + v)),    dl/dμ = -dl/du / σ
        dl/dσ = (1 - u dl/du) / σ
        dl/dν = ½ (ln(1 + v) - u dl/du / ν + 1/ν + ψ(ν/2) - ψ((ν+1)/2))

    Parameters
    ----------
    y, mu, a, b : arrays of one shape
    floor : float
        Least σ.

    Returns
    -------
    l : array
    (dl_dmu, dl_da, dl_db) : three arrays

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.likelihoods import student_t
    >>> zero = np.zeros(1)
    >>> l, gradient = student_t(zero + 50, zero, zero, zero)  # an outlier costs little
    >>> l.round(2)
    array([14.61])
    """
    sigma, nu = softplus(a) + floor, 2 + softplus(b)
    u = (y - mu) / sigma
    v = u * u / nu
    tail = np.log1p(v)
    l = (  # noqa: E741
        (nu + 1) / 2 * tail + np.log(sigma) + np.log(np.pi * nu) / 2
        + log_gamma(nu / 2) - log_gamma((nu + 1) / 2)
    )  # fmt: skip
    slope = (nu + 1) * u / (nu * (1 + v))
    of_nu = (tail - u * slope / nu + 1 / nu + digamma(nu / 2) - digamma((nu + 1) / 2)) / 2
    return l, (-slope / sigma, (1 - u * slope) / sigma * sigmoid(a), of_nu * sigmoid(b))


# ------------------------------------------------------------------------- quantiles of densities


def normal_quantiles(levels: Any) -> Array:
    """Give the quantiles of the standard normal distribution.

    Examples
    --------
    >>> from gru_np.likelihoods import normal_quantiles
    >>> normal_quantiles([0.5, 0.975]).round(4)
    array([0.  , 1.96])
    """
    from statistics import NormalDist  # and fractions, and decimal: not for every model's start

    return np.array([NormalDist().inv_cdf(float(q)) for q in np.ravel(levels)])


def student_t_quantiles(levels: Any, nu: Any) -> Array:
    """Give the quantiles of Student's t for every ν ≥ 2: shape (*ν's, levels).

    Parameters
    ----------
    levels : (J,) float in (0, 1)
    nu : array
        Degrees of freedom.

    Notes
    -----
    A quantile is a smooth function of 1/ν on [0, ½]. It is computed exactly, by bisection of the
    distribution function, at 33 Chebyshev points, and interpolated: within 1e-11, relative, for
    levels between 0.001 and 0.999.

    Examples
    --------
    >>> from gru_np.likelihoods import student_t_quantiles
    >>> student_t_quantiles([0.5, 0.975], [2.0, 10.0]).round(4)
    array([[0.    , 4.3027],
           [0.    , 2.2281]])
    """
    s = 4 / np.asarray(nu, float) - 1  # 1/ν in [0, ½] as s in [-1, 1]
    series = [_t_series(float(q)) for q in np.ravel(levels)]
    return np.stack([np.polynomial.chebyshev.chebval(s, c) for c in series], axis=-1)


@lru_cache(maxsize=256)
def _t_series(q: float) -> Any:
    """Chebyshev coefficients of the quantile as a function of 4/ν - 1."""
    return np.polynomial.chebyshev.chebinterpolate(
        np.vectorize(lambda s: _t_quantile(q, (s + 1) / 4)), 32
    )


def _t_quantile(q: float, inverse_nu: float) -> float:
    """One quantile, by bisection between the normal one and the one for ν = 2."""
    if q < 0.5:
        return -_t_quantile(1 - q, inverse_nu)
    if q == 0.5:
        return 0.0
    alpha = 2 * q - 1
    low, high = 0.0, alpha * math.sqrt(2 / (1 - alpha * alpha)) * (1 + 1e-12)
    nu = 1 / inverse_nu
    for _ in range(80):
        middle = (low + high) / 2
        if _t_between(middle, nu) < alpha:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _t_between(t: float, nu: float) -> float:
    """P(|T| < t): with t = √ν tan θ it is 2c ∫ cos^(ν-1) from 0 to θ, by Gauss' rule."""
    # The integrand is as narrow as 1/√ν; t measures it in those units.
    nodes, weights = _gauss()
    x = t * (nodes + 1) / 2
    density = np.exp(-(nu + 1) / 2 * np.log1p(x * x / nu))
    c = math.exp(math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2)) / math.sqrt(math.pi * nu)
    return float(c * t * np.sum(weights * density))


@cache
def _gauss() -> tuple[Array, Array]:
    """Nodes and weights of Gauss' rule."""
    return np.polynomial.legendre.leggauss(128)
