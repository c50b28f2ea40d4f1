"""How the weights follow the gradient: SGD, RMSprop, Adam, AdamW, and clipping.

Notation: p a parameter, g its gradient (after clipping), η the learning rate of this step, s the
number of the step counted from 0 (`iterations`), t = s + 1. Every operation is elementwise.

Before each update, in this order:

    g ← clip(g, -c, c)                              c = clipvalue
    g ← g c / max(c, |g|)                           c = clipnorm, |g| the norm of this array
    g ← g c / max(c, |(g_1, g_2, ...)|)             c = global_clipnorm, the norm of all gradients
    p ← p - η λ p                                   λ = weight_decay

At most one kind of clipping is on. Both biases of a GRU count as one array because they are one
variable in Keras. Weight decay is decoupled from the gradient for every optimiser, as in Keras and
in arXiv:1711.05101 (its algorithm 2, with the decay scaled by the learning rate).

Defaults and the place of ε are Keras 3's. Where PyTorch puts ε elsewhere,
`epsilon_placement="torch"` does as PyTorch does.

Parameters are updated in place; scalars are Python floats, so float32 stays float32.
"""

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import numpy as np

from gru_np import kernels, schedules
from gru_np._aliases import Array, Gradients
from gru_np._checks import require_choice, spell
from gru_np._intake import as_array
from gru_np._named import Configured, describe, require_known, require_number, resolve
from gru_np._together import Together

EpsilonPlacement = Literal["keras", "torch"]
PLAIN = {np.ndarray}


class Optimizer(Configured):
    """Base of all optimisers: `optimizer.apply(params, grads)` takes one step, in place.

    Parameters
    ----------
    learning_rate : float or Schedule
        η; any callable `step -> float` is a schedule (`gru_np.schedules`). May be set anew at any
        time.
    weight_decay : float, optional
        λ.
    clipnorm, clipvalue, global_clipnorm : float, optional
        c of one kind of clipping.
    no_decay : iterable of str
        Parameters whose name contains one of these are left out of weight decay.

    Attributes
    ----------
    iterations : int
        Steps taken; the s of the next one.
    state : dict of str to array
        What is remembered between steps, as "<average>/<parameter>", each of its parameter's shape
        and dtype. With `get_config` and `iterations` it is all there is: set both back, and
        training goes on with the very same bits.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.optimizers import SGD
    >>> params = {"w": np.array([1.0, 2.0])}
    >>> optimizer = SGD(learning_rate=0.1)
    >>> optimizer.apply(params, {"w": np.array([1.0, -1.0])})
    >>> params["w"], optimizer.iterations
    (array([0.9, 2.1]), 1)
    """

    _layers: list[tuple[Any, str]] | None = None  # those that it trains, by name; None: unknown

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float | None,
        clipnorm: float | None,
        clipvalue: float | None,
        global_clipnorm: float | None,
        no_decay: Iterable[str],
    ):
        self.learning_rate = learning_rate
        self.weight_decay = self._optional("weight_decay", weight_decay)
        self.clipnorm = self._optional("clipnorm", clipnorm, open_="(")
        self.clipvalue = self._optional("clipvalue", clipvalue, open_="(")
        self.global_clipnorm = self._optional("global_clipnorm", global_clipnorm, open_="(")
        clips = ("clipnorm", "clipvalue", "global_clipnorm")
        given = [name for name in clips if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(
                f"{type(self).__name__}: at most one kind of clipping may be on, "
                f"got {' and '.join(given)}"
            )
        self.no_decay = _words(no_decay)
        self.iterations = 0
        self.state: dict[str, Array] = {}

    @property
    def learning_rate(self) -> Any:
        """The number, or the schedule; `learning_rate_now` gives the rate of the next step."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if isinstance(value, Mapping):
            value = schedules.get(value)
        self._learning_rate: float | Callable[[int], float] = (
            value if callable(value) else self._number("learning_rate", value)
        )

    def learning_rate_now(self) -> float:
        """Give η of the next step."""
        rate = self._learning_rate
        if callable(rate):
            return self._number(
                f"the learning rate of step {self.iterations}", rate(self.iterations)
            )
        return rate

    def follow(self, layers: Iterable[Any]) -> None:
        """Keep what is remembered of these layers, under their names of now; forget the others.

        Raises
        ------
        ValueError
            If it has trained other layers only: what it remembers is another model's.
        """
        named = [(layer, layer.name) for layer in layers]
        if self._layers == named:
            return
        if self._layers is not None and (self.iterations or self.state):
            now = {name: layer.name for layer, name in self._layers if (layer, layer.name) in named}
            if not now:
                raise ValueError(
                    "compile: optimizer must be the model's own, for it remembers what it has "
                    f"trained, got the {type(self).__name__} of another; give each a new one"
                )
            split = [(key.split("/", 2), array) for key, array in self.state.items()]
            self.state = {
                "/".join([average, now[layer], *name]): array
                for (average, layer, *name), array in split
                if layer in now
            }
        self._layers = named

    def exclude_from_weight_decay(self, var_names: Iterable[str]) -> None:
        """Leave parameters whose name contains one of these words out of weight decay.

        Examples
        --------
        >>> from gru_np.optimizers import AdamW
        >>> optimizer = AdamW()
        >>> optimizer.exclude_from_weight_decay(["/b", "gamma", "beta"])
        >>> optimizer
        AdamW(no_decay=('/b', 'gamma', 'beta'))
        """
        self.no_decay = _words(var_names)

    def apply(self, params: Mapping[str, Array], grads: Gradients) -> None:
        """Take one step: change the parameters that have a gradient, in place.

        Parameters
        ----------
        params : dict of str to array
            What is updated.
        grads : dict of str to array
            Gradients by the same names and of the same shapes. Never modified.

        Raises
        ------
        ValueError
            If a gradient has no parameter or another shape, a parameter is read-only, or the
            learning rate is not finite.
        TypeError
            If a parameter is a masked array, or a gradient complex and its parameter real.
        """
        who = type(self).__name__
        if not PLAIN.issuperset(map(type, grads.values())):
            grads = {
                name: as_array(who, g, f"the gradient of {name!r}") for name, g in grads.items()
            }
        for name, g in grads.items():
            p = params.get(name)
            if p is None:
                raise ValueError(f"{who}: there is no parameter {name!r} to update")
            if g.shape != p.shape:
                raise ValueError(
                    f"{who}: the gradient of {name!r} must have shape "
                    f"{spell(p.shape)}, got {spell(g.shape)}"
                )
            if not p.flags.writeable:
                raise ValueError(
                    f"{who}: the parameter {name!r} must be writable, got a read-only array; "
                    "set trainable = False for a layer that is not to change"
                )
            if g.dtype is not p.dtype and g.dtype.kind == "c" and p.dtype.kind != "c":
                raise TypeError(
                    f"{who}: the gradient of {name!r} must be real, as the parameter is, got "
                    f"{g.dtype}"
                )
            if type(p) is not np.ndarray and isinstance(p, np.ma.MaskedArray):
                raise TypeError(
                    f"{who}: the parameter {name!r} must be a plain array, got a masked one; "
                    "give its data"
                )
        rate = self.learning_rate_now()
        if not self._apply_compiled(params, grads, rate):
            scales = self._scales(
                grads, [_norm(g) for g in grads.values()] if self._by_norm else []
            )
            for (name, g), scale in zip(grads.items(), scales, strict=True):
                p = params[name]
                g = self._clipped(g.astype(p.dtype, copy=False), scale)
                if self._decays(name):
                    # p ← p - η λ p
                    p -= p * (rate * self.weight_decay)  # type: ignore[operator]
                self._update(name, p, g, rate)
        self.iterations += 1

    def _apply_compiled(self, params: Mapping[str, Array], grads: Gradients, rate: float) -> bool:
        """Update all parameters in one compiled pass; False if there is none."""
        return False

    def _decays(self, name: str) -> bool:
        return bool(self.weight_decay) and not any(word in name for word in self.no_decay)

    @property
    def _by_norm(self) -> bool:
        return self.clipnorm is not None or self.global_clipnorm is not None

    def _scales(self, names: Iterable[str], norms: list[float]) -> list[float]:
        """Give what to multiply each gradient by; the norms are needed where `_by_norm` says so."""
        names = list(names)
        if self.clipnorm is not None:
            of_variable: dict[str, float] = {}
            variables = [re.sub(r"\bb_(ih|hh)$", "b", name) for name in names]
            for variable, norm in zip(variables, norms, strict=True):
                of_variable[variable] = math.hypot(of_variable.get(variable, 0.0), norm)
            return [_scale_from(self.clipnorm, of_variable[variable]) for variable in variables]
        if self.global_clipnorm is not None:
            return [_scale_from(self.global_clipnorm, math.hypot(*norms))] * len(names)
        return [1.0] * len(names)

    def _clipped(self, g: Array, scale: float) -> Array:
        if self.clipvalue is not None:
            return np.clip(g, -self.clipvalue, self.clipvalue)
        return g if scale == 1 else g * scale

    def _update(self, name: str, p: Array, g: Array, rate: float) -> None:
        """Update one parameter."""
        raise NotImplementedError(f"{type(self).__name__} must define _update")

    def _kept(self, average: str, name: str, p: Array) -> Array:
        """Give a state array, zeros at first."""
        key = f"{average}/{name}"
        kept = self.state.get(key)
        if kept is None:
            kept = self.state[key] = np.zeros_like(p)
        if kept.shape != p.shape:
            raise ValueError(
                f"{type(self).__name__}: the state {key!r} must have shape {spell(p.shape)}, "
                f"got {spell(kept.shape)}; it belongs to another model"
            )
        if kept.dtype != p.dtype or not kept.flags.writeable:
            kept = self.state[key] = kept.astype(p.dtype)
        return kept

    def _number(self, what: str, value: Any, **bounds: Any) -> float:
        return require_number(type(self).__name__, what, value, **bounds)

    def _optional(self, what: str, value: Any, **bounds: Any) -> float | None:
        return None if value is None else self._number(what, value, **bounds)

    def get_config(self) -> dict[str, Any]:
        """Give the constructor arguments, ready for JSON; not `iterations`, not `state`."""
        config = super().get_config()
        if callable(self._learning_rate):
            config["learning_rate"] = schedules.serialize(self._learning_rate)  # type: ignore[arg-type]
        return config


def _same(some: list[Array], others: list[Array]) -> bool:
    """Whether these are the very same arrays."""
    return len(some) == len(others) and all(map(operator.is_, some, others))


def _words(words: Iterable[str]) -> tuple[str, ...]:
    if isinstance(words, str):
        raise TypeError(f"no_decay must be a list of words, got the string {words!r}")
    return tuple(str(word) for word in words)


def _scale_from(bound: float, norm: float) -> float:
    """Give what to multiply by so that a norm is at most the bound."""
    # A norm of NaN or infinity gives NaN: better seen than clipped away.
    return 1.0 if norm <= bound else bound / norm if math.isfinite(norm) else math.nan


def _norm(a: Array) -> float:
    """Euclidean norm; in float64, since squares overflow beyond 1.8e19 in float32."""
    flat, block = a.reshape(-1), 1 << 16
    blocks = (flat[i : i + block].astype(np.float64) for i in range(0, flat.size, block))
    with np.errstate(over="ignore"):
        norm = math.sqrt(sum(float(np.dot(b, b)) for b in blocks))
    if norm == math.inf:
        biggest = float(np.max(np.abs(a)))
        norm = biggest * _norm(a / biggest) if math.isfinite(biggest) else norm
    return norm


class SGD(Optimizer):
    """Gradient descent, with momentum if asked.

    With μ = `momentum` and v = state "velocity", zero at first:

        p ← p - η g                     μ = 0
        v ← μ v - η g
        p ← p + v                       μ > 0
        p ← p + μ v - η g               μ > 0, nesterov

    Parameters
    ----------
    learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, no_decay
        See `Optimizer`.
    momentum : float
        μ in [0, 1].
    nesterov : bool
        Look ahead.

    Notes
    -----
    Source: I. Sutskever et al., ICML 2013, eq. 1-4; nesterov in the form of arXiv:1212.0901.
    Equals Keras 3's.

    Differs from `torch.optim.SGD`: there v holds no η (v ← μ v + g, p ← p - η v), which is the same
    while η is constant; and its weight_decay adds λ p to g, which is the same only for μ = 0.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.optimizers import SGD
    >>> params, optimizer = {"w": np.array([1.0])}, SGD(0.1, momentum=0.9)
    >>> for step in range(2):
    ...     optimizer.apply(params, {"w": np.array([1.0])})
    >>> params["w"].round(6)  # 1 - 0.1 - 0.19
    array([0.71])
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        no_decay: Iterable[str] = (),
    ):
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, no_decay
        )
        self.momentum = self._number("momentum", momentum, high=1.0)
        self.nesterov = bool(nesterov)

    def _update(self, name: str, p: Array, g: Array, rate: float) -> None:
        if self.momentum == 0:
            p -= rate * g
            return
        v, step = self._kept("velocity", name, p), rate * g
        # v ← μ v - η g
        v *= self.momentum
        v -= step
        if self.nesterov:
            p += self.momentum * v
            p -= step
        else:
            p += v


class RMSprop(Optimizer):
    """Divide the gradient by a running average of its size.

    With ρ = `rho`, μ = `momentum`, ε = `epsilon`; v, a, b = state "velocity", "average_gradient",
    "momentum", all zero at first:

        v ← ρ v + (1 - ρ) g²
        a ← ρ a + (1 - ρ) g             centered; else a = 0
        d = η g / √(v - a² + ε)         or η g / (√(v - a²) + ε) for epsilon_placement="torch"
        p ← p - d                       μ = 0
        b ← μ b + d,  p ← p - b         μ > 0

    Parameters
    ----------
    learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, no_decay
        See `Optimizer`.
    rho : float
        ρ in [0, 1).
    momentum : float
        μ in [0, 1].
    epsilon : float
        ε ≥ 0.
    centered : bool
        Divide by the standard deviation instead.
    epsilon_placement : {"keras", "torch"}
        Where ε stands.

    Notes
    -----
    Source: G. Hinton, Neural Networks for Machine Learning, lecture 6e; centered:
    arXiv:1308.0850, eq. 38-41. Equals Keras 3's.

    Differs from `torch.optim.RMSprop` in defaults and in ε. To coincide:
    `RMSprop(0.01, rho=0.99, epsilon=1e-8, epsilon_placement="torch")`. There b holds no η, which
    is the same while η is constant, and weight_decay adds λ p to g, which is not.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.optimizers import RMSprop
    >>> params, optimizer = {"w": np.array([10.0])}, RMSprop(0.1)
    >>> optimizer.apply(params, {"w": np.array([10.0])})
    >>> params["w"].round(6)
    array([9.683772])
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        no_decay: Iterable[str] = (),
        epsilon_placement: EpsilonPlacement = "keras",
    ):
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, no_decay
        )
        self.rho = self._number("rho", rho, high=1.0, open_=")")
        self.momentum = self._number("momentum", momentum, high=1.0)
        self.epsilon = self._number("epsilon", epsilon)
        self.centered = bool(centered)
        require_choice("RMSprop", "epsilon_placement", epsilon_placement, ("keras", "torch"))
        self.epsilon_placement = epsilon_placement

    def _update(self, name: str, p: Array, g: Array, rate: float) -> None:
        rho, v = self.rho, self._kept("velocity", name, p)
        # v ← ρ v + (1 - ρ) g²
        d = np.multiply(g, g, out=np.empty_like(p))  # an array, too, of what has no axes
        d *= 1 - rho
        v *= rho
        v += d
        if self.centered:
            a = self._kept("average_gradient", name, p)
            a *= rho
            a += (1 - rho) * g
            np.multiply(a, a, out=d)
            # Rounding may leave v a hair below a², whose root would be NaN.
            np.maximum(np.subtract(v, d, out=d), 0, out=d)
        else:
            np.copyto(d, v)
        if self.epsilon_placement == "keras":
            d += self.epsilon
            np.sqrt(d, out=d)
        else:
            np.sqrt(d, out=d)
            d += self.epsilon
        np.divide(g, d, out=d)
        d *= rate
        if self.momentum == 0:
            p -= d
            return
        b = self._kept("momentum", name, p)
        b *= self.momentum
        b += d
        p -= b


def adam_update(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    step_size: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    v_max: Array | None = None,
) -> None:
    """Adam's update of one array, in place: p, m, v (and v_max) change, g does not.

        m ← m + (1 - β₁) (g - m)
        v ← v + (1 - β₂) (g² - v)
        v_max ← max(v_max, v), and stands for v in the next line (if given)
        p ← p - α m / (√v + ε)

    Parameters
    ----------
    p, g, m, v : arrays of one shape and dtype
    step_size : float
        α, the learning rate with the correction of both biases: see `Adam`.
    beta_1, beta_2, epsilon : float
        β₁, β₂, ε.
    v_max : array, optional
        Of AMSGrad.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.optimizers import adam_update
    >>> p, g, m, v = np.array([[1.0], [2.0], [0.0], [0.0]])
    >>> adam_update(p, g, m, v, 0.1, 0.5, 0.75, 0.0)
    >>> p, m, v
    (array([0.9]), array([1.]), array([1.]))
    """
    work = np.subtract(g, m, out=np.empty_like(p))  # an array, too, of what has no axes
    work *= 1 - beta_1
    m += work
    np.multiply(g, g, out=work)
    work -= v
    work *= 1 - beta_2
    v += work
    if v_max is not None:
        np.maximum(v_max, v, out=v_max)
        v = v_max
    np.sqrt(v, out=work)
    work += epsilon
    np.divide(m, work, out=work)
    work *= step_size
    p -= work


class Adam(Optimizer):
    """Steps of the size of the learning rate, from running averages of gradient and square.

    With β₁ = `beta_1`, β₂ = `beta_2`, ε = `epsilon`; m, v = state "m", "v", zero at first:

        m ← β₁ m + (1 - β₁) g
        v ← β₂ v + (1 - β₂) g²
        α = η √(1 - β₂ᵗ) / (1 - β₁ᵗ)
        p ← p - α m / (√v + ε)
        p ← p - α m / (√v + ε √(1 - β₂ᵗ))       for epsilon_placement="torch"

    With `amsgrad`, the largest v so far (state "v_max") stands for v in the last line.

    Parameters
    ----------
    learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, no_decay
        See `Optimizer`.
    beta_1, beta_2 : float
        β₁, β₂ in [0, 1).
    epsilon : float
        ε ≥ 0.
    amsgrad : bool
        Never let v fall.
    epsilon_placement : {"keras", "torch"}
        Which of the two last lines.

    Notes
    -----
    Source: arXiv:1412.6980, algorithm 1; Keras' ε is the ε̂ of the remark at the end of its
    section 2, PyTorch's is that of algorithm 1. AMSGrad: arXiv:1904.09237, algorithm 2. Equals
    Keras 3's; in float32, though, Keras takes the powers βᵗ in float32 too, which moves its first
    steps by up to 3e-5 of their size; ours are taken in float64.

    Differs from `torch.optim.Adam` in ε alone. To coincide:
    `Adam(epsilon=1e-8, epsilon_placement="torch")`. Its weight_decay adds λ p to g, which has no
    counterpart here; see `AdamW`.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.optimizers import Adam
    >>> params, optimizer = {"w": np.array([1.0, 1.0])}, Adam(0.1)
    >>> optimizer.apply(params, {"w": np.array([5.0, -0.01])})
    >>> params["w"].round(4)  # a step of η, whatever the size of the gradient
    array([0.9, 1.1])
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        no_decay: Iterable[str] = (),
        epsilon_placement: EpsilonPlacement = "keras",
    ):
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, no_decay
        )
        self.beta_1 = self._number("beta_1", beta_1, high=1.0, open_=")")
        self.beta_2 = self._number("beta_2", beta_2, high=1.0, open_=")")
        self.epsilon = self._number("epsilon", epsilon)
        self.amsgrad = bool(amsgrad)
        require_choice(
            type(self).__name__, "epsilon_placement", epsilon_placement, ("keras", "torch")
        )
        self.epsilon_placement = epsilon_placement
        self._averages: Any = None  # of the arrays in _known, with their addresses
        self._known: list[Array] = []

    def _step_size_and_epsilon(self, rate: float) -> tuple[float, float]:
        """Give α and ε of this step, the corrections of both biases in them."""
        t = self.iterations + 1
        v_correction = math.sqrt(1 - self.beta_2**t)
        step_size = rate * v_correction / (1 - self.beta_1**t)
        return step_size, self.epsilon * (v_correction if self.epsilon_placement == "torch" else 1)

    def _apply_compiled(self, params: Mapping[str, Array], grads: Gradients, rate: float) -> bool:
        """Update all parameters in one compiled pass; False if there is none."""
        ours = type(self)._update is Adam._update and self.clipvalue is None
        arrays = [params[name] for name in grads]
        if not (ours and arrays and kernels.takes(*arrays)):
            return False
        averages = self._averages
        now = [*arrays, *self.state.values()]
        if averages is None or not _same(now, self._known):
            names = ("m", "v", "v_max") if self.amsgrad else ("m", "v")
            columns = [
                (p, *(self._kept(average, name, p) for average in names), None)[:4]
                for name, p in zip(grads, arrays, strict=True)
            ]
            self._known = [*arrays, *self.state.values()]
            self._averages = None
            apart = len(set(map(id, self._known))) == len(self._known)
            if not apart or not all(a.flags.carray for a in self._known):
                return False
            averages = self._averages = kernels.averages(columns)
        gradients = grads.flat if isinstance(grads, Together) else grads.values()
        scales: list[float] | None = None
        decays: list[float] | None = None
        if self._by_norm:
            scales = self._scales(grads, list(averages.norms(gradients)))
        if self.weight_decay:
            decays = [rate * self.weight_decay if self._decays(name) else 0.0 for name in grads]
        step_size, epsilon = self._step_size_and_epsilon(rate)
        averages.adam(gradients, scales, decays, step_size, self.beta_1, self.beta_2, epsilon)
        return True

    def _update(self, name: str, p: Array, g: Array, rate: float) -> None:
        step_size, epsilon = self._step_size_and_epsilon(rate)
        m, v = self._kept("m", name, p), self._kept("v", name, p)
        v_max = self._kept("v_max", name, p) if self.amsgrad else None
        adam_update(p, g, m, v, step_size, self.beta_1, self.beta_2, epsilon, v_max)


class AdamW(Adam):
    """Adam with weight decay on by default.

        p ← p - η λ p
        then Adam's update                      λ = weight_decay

    Parameters
    ----------
    learning_rate, weight_decay, beta_1, beta_2, epsilon, amsgrad, clipnorm, clipvalue, \
global_clipnorm, no_decay, epsilon_placement
        See `Adam`; usually biases and gains are left out: `no_decay=["/b", "gamma", "beta"]`.

    Notes
    -----
    Source: arXiv:1711.05101, algorithm 2, with η λ for its η_t λ. Equals Keras 3's.

    Differs from `torch.optim.AdamW` in ε and in the default of λ. To coincide:
    `AdamW(weight_decay=0.01, epsilon=1e-8, epsilon_placement="torch")`.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.optimizers import AdamW
    >>> params = {"gru/W_hh": np.array([1.0]), "gru/b_hh": np.array([1.0])}
    >>> optimizer = AdamW(0.1, weight_decay=0.5, no_decay=["/b"])
    >>> optimizer.apply(params, {name: np.zeros(1) for name in params})
    >>> params
    {'gru/W_hh': array([0.95]), 'gru/b_hh': array([1.])}
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        no_decay: Iterable[str] = (),
        epsilon_placement: EpsilonPlacement = "keras",
    ):
        super().__init__(
            learning_rate,
            beta_1,
            beta_2,
            epsilon,
            amsgrad,
            self._number("weight_decay", weight_decay),
            clipnorm,
            clipvalue,
            global_clipnorm,
            no_decay,
            epsilon_placement,
        )


OPTIMIZERS: dict[str, type[Optimizer]] = {cls.__name__: cls for cls in (SGD, RMSprop, Adam, AdamW)}
OPTIMIZERS |= {name.lower(): cls for name, cls in OPTIMIZERS.items()}


def get(identifier: Any) -> Optimizer:
    """Give the optimiser meant by a name, a description (`serialize`) or an Optimizer.

    Examples
    --------
    >>> from gru_np import optimizers
    >>> optimizers.get("adam")
    Adam()
    >>> optimizers.get("adan")
    Traceback (most recent call last):
        ...
    ValueError: unknown optimizer 'adan'; did you mean 'adam'?
    """
    return resolve("optimizer", identifier, OPTIMIZERS, Optimizer)


def is_one(identifier: Any) -> bool:
    """Whether this is an optimiser, its class, or the name or description of one.

    Examples
    --------
    >>> from gru_np import optimizers
    >>> optimizers.is_one("adam"), optimizers.is_one("mse")
    (True, False)
    """
    if isinstance(identifier, Mapping):
        identifier = identifier.get("class_name")
    if isinstance(identifier, str):
        return identifier in OPTIMIZERS or identifier.lower() in OPTIMIZERS
    cls = identifier if isinstance(identifier, type) else type(identifier)
    return issubclass(cls, Optimizer)


def serialize(optimizer: Optimizer) -> dict[str, Any]:
    """Describe an optimiser's settings, ready for JSON; `get` takes them back.

    Examples
    --------
    >>> from gru_np import optimizers
    >>> described = optimizers.serialize(optimizers.SGD(0.1, momentum=0.9))
    >>> optimizers.get(described)
    SGD(learning_rate=0.1, momentum=0.9)
    """
    return describe(require_known("optimizer", optimizer, OPTIMIZERS))
