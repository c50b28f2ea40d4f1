"""What a trace says: how long units remember, what they follow, how gradients travel.

Notation: B batch, T time, H hidden, F features.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gru_np import recurrence
from gru_np._aliases import Array
from gru_np._checks import require_choice, spell
from gru_np._intake import as_floats
from gru_np.gates.trace import LayerTrace, trace
from gru_np.health import HIGH, LOW
from gru_np.layers import GRU, Bidirectional
from gru_np.model import Sequential

CLOSED = -1000.0  # a pre-activation for which the sigmoid is exactly 0; its negative, exactly 1


# --------------------------------------------------------------------------- memory, saturation


def half_life(read: LayerTrace, quantile: float = 0.5) -> Array:
    """Steps after which half of a unit's state is gone, on the direct path z ⊙ h alone.

    The state before step t is multiplied by z[t], z[t + 1], ...; its half-life is where that
    product falls below ½, between two steps by the logarithm. Given is the median over all steps.

        Σ_{s < half_life} ln z[t + s] = ln ½,   for constant z    half_life = ln ½ / ln z

    Parameters
    ----------
    read : LayerTrace
        With σ = sigmoid or hard_sigmoid, so that z is a share.
    quantile : float
        0.5 for the median; 0.9 shows how long a unit holds on when it does.

    Returns
    -------
    (H,) float
        In steps; infinite where z was 1 all along. Beyond the end of a row z goes on at its
        (geometric) mean for that unit. Steps that a mask left out do not count.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import GRU, Sequential, gates
    >>> x = np.zeros((1, 9, 2))
    >>> model = Sequential([GRU(4)], seed=0)
    >>> _ = model.predict(x)
    >>> quick = gates.ablate(model, gate="z", value=0.5)
    >>> gates.half_life(gates.trace(quick, x)["gru"]).round(6).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    if read.saved.recurrent_activation not in ("sigmoid", "hard_sigmoid"):
        raise ValueError(
            "half_life: z must be a share between 0 and 1, got recurrent_activation "
            f"{read.saved.recurrent_activation!r}"
        )
    # z = 0 forgets at once; the smallest double does so as well, and has a logarithm.
    lost = -np.log(np.clip(_real(read, read.z).astype(float), 1e-300, 1))  # (steps, H), in nats
    rate = lost.mean(axis=0)
    halves: list[Array] = []
    for piece in np.split(lost, np.cumsum(read.valid.sum(axis=1))[:-1]):
        units = zip(piece.T, rate, strict=True)
        halves.append(np.stack([_halving(of_unit, of_rate) for of_unit, of_rate in units], axis=1))
    return np.quantile(np.concatenate(halves), quantile, axis=0, method="nearest")


def _halving(lost: Array, rate: float) -> Array:
    """For each step, how many steps until ln 2 is lost, given what each step loses."""
    total = np.concatenate([[0.0], np.cumsum(lost)])
    end = total[:-1] + np.log(2)
    # np.interp finds where the total passes the end; beyond the last step it gives the last.
    steps = np.interp(end, total, np.arange(len(total))) - np.arange(len(lost))
    with np.errstate(divide="ignore", invalid="ignore"):
        beyond = np.maximum(end - total[-1], 0) / rate
    return np.asarray(steps + np.where(total[-1] >= end, 0, beyond))


class Saturation(NamedTuple):
    """Shares of the real steps at which each unit's gates are saturated, (H,) each."""

    r_low: Array  # r < 0.1: the candidate does not see the state
    r_high: Array  # r > 0.9: it sees all of it
    z_low: Array  # z < 0.1: the state is replaced
    z_high: Array  # z > 0.9: the state is kept
    n_high: Array  # |n| > 0.9: tanh passes little gradient


def saturation(read: LayerTrace) -> Saturation:
    """Count how often each unit's gates are near an end of their range: below 0.1, above 0.9.

    Notes
    -----
    Source: Karpathy, Johnson, Fei-Fei 2015, arXiv:1506.02078, section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import GRU, Sequential, gates
    >>> model = Sequential([GRU(4)], seed=0)
    >>> read = gates.trace(model, np.zeros((1, 9, 2)))["gru"]
    >>> gates.saturation(read).z_high.tolist()  # nothing in: all gates half open
    [0.0, 0.0, 0.0, 0.0]
    """
    r, z, n = (_real(read, a) for a in (read.r, read.z, read.n))
    return Saturation(
        r_low=(r < LOW).mean(axis=0),
        r_high=(r > HIGH).mean(axis=0),
        z_low=(z < LOW).mean(axis=0),
        z_high=(z > HIGH).mean(axis=0),
        n_high=(np.abs(n) > HIGH).mean(axis=0),
    )


def _real(read: LayerTrace, values: Array) -> Array:
    """Values at real steps, one row a step: (steps, H)."""
    return values[read.valid]


# ------------------------------------------------------------------------------- what follows what


@dataclass(frozen=True, repr=False, eq=False)
class Correlations:
    """How closely each unit follows each feature of the input.

    Attributes
    ----------
    values : (H, F)
        Pearson correlations over the real steps; 0 where a unit or a feature never changes.
    names : tuple of F str
        What the features are called.
    of : str
        Which signal of the units: "h", "r", "z" or "n".

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.gates import Correlations
    >>> Correlations(np.array([[0.1, -0.9], [0.5, 0.2]]), ("a", "b"), "h").strongest(1)
    [(0, 'b', -0.9)]
    """

    values: Array
    names: tuple[str, ...]
    of: str

    def strongest(self, count: int = 10) -> list[tuple[int, str, float]]:
        """Give (unit, feature, correlation) of the strongest, either way."""
        order = np.argsort(-np.abs(self.values), axis=None, kind="stable")[:count]
        places = zip(*np.unravel_index(order, self.values.shape), strict=True)
        return [(int(j), self.names[f], float(self.values[j, f])) for j, f in places]

    def __repr__(self) -> str:
        lines = [f"unit {j:4d} follows {name!r:12}{r:+.2f}" for j, name, r in self.strongest()]
        return "\n".join([f"Correlations of {self.of} with {len(self.names)} features", *lines])


def correlations(
    read: LayerTrace, features: Mapping[str, Any] | None = None, of: str = "h"
) -> Correlations:
    """Correlate every unit with every feature of what was read, over the real steps of the batch.

    Parameters
    ----------
    read : LayerTrace
    features : dict of str to (B, T) array, optional
        Named signals in the order of the model's input: "inside a string", "indentation". By
        default one for each label, 1 where it was read: right for tokens, not for timestamps.
    of : {"h", "r", "z", "n"}
        The units' signal; "h" is the state after the step.

    Returns
    -------
    Correlations

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import GRU, Sequential, gates
    >>> x = np.random.default_rng(0).standard_normal((3, 50, 1))
    >>> read = gates.trace(Sequential([GRU(4)], seed=0), x)["gru"]
    >>> found = gates.correlations(read, {"input": x[:, :, 0], "its size": np.abs(x[:, :, 0])})
    >>> found.values.shape, found.strongest(1)[0][1]
    ((4, 2), 'input')
    """
    require_choice("correlations", "of", of, ["h", "r", "z", "n"])
    signal = _real(read, read.h[:, 1:] if of == "h" else getattr(read, of)).astype(float)
    if features is None:
        names = tuple(dict.fromkeys(label for row in read.labels for label in row))
        labels = np.array(read.labels)
        columns = [(labels == name)[read.valid] for name in names]
    else:
        names, columns = tuple(features), []
        for name, values in features.items():
            array = as_floats("correlations", values, f"feature {name!r}", real=True)
            array = array.astype(float, copy=False)
            if array.shape != read.valid.shape:
                raise ValueError(
                    f"correlations: feature {name!r} must have shape {spell(read.valid.shape)}, "
                    f"got {spell(array.shape)}"
                )
            columns.append(array[:, read.positions][read.valid])
    inputs = np.stack(columns, axis=1).astype(float)
    signal, inputs = signal - signal.mean(axis=0), inputs - inputs.mean(axis=0)
    scale = np.linalg.norm(signal, axis=0)[:, None] * np.linalg.norm(inputs, axis=0)
    products = signal.T @ inputs
    return Correlations(
        np.divide(products, scale, out=np.zeros_like(products), where=scale > 0), names, of
    )


# ---------------------------------------------------------------------------- how gradients travel


def jacobians(read: LayerTrace, row: int = 0, end: int | None = None) -> Array:
    """Derivatives of one state of a sequence by every state before it, exactly.

        J[t] = ∂h_end / ∂h_t,     J[end] = 1,     J[t] = J[t + 1] · ∂h_{t+1} / ∂h_t

    Parameters
    ----------
    read : LayerTrace
    row : int
        Which sequence of the batch.
    end : int, optional
        Which state, 0..T; None is the last.

    Returns
    -------
    (end + 1, H, H)
        J[t][i, j] is the derivative of unit i of h_end by unit j of h_t.

    Notes
    -----
    One pass of the library's own backward, in float64: the H rows of 1 are H cotangents of h_end,
    which go through it as a batch.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import GRU, Sequential, gates
    >>> x = np.random.default_rng(0).standard_normal((3, 5, 2))
    >>> read = gates.trace(Sequential([GRU(4)], seed=0), x)["gru"]
    >>> J = gates.jacobians(read, row=1)
    >>> J.shape, bool((J[5] == np.eye(4)).all())
    ((6, 4, 4), True)
    """
    saved, H = read.saved, read.units
    T = len(saved.z)
    end = T if end is None else range(T + 1)[end]

    def cotangents_of(array: Array | None, axis: int = 1) -> Any:
        """The same sequence H times."""
        if array is None:
            return None
        one = np.take(array, [row], axis=axis)
        one = one.astype(float) if one.dtype.kind == "f" else one
        return np.broadcast_to(one, (*one.shape[:axis], H, *one.shape[axis + 1 :]))

    batch = saved._replace(
        **{name: cotangents_of(getattr(saved, name)) for name in ("x", "h", "r", "z", "n", "a_hn")},
        valid=cotangents_of(saved.valid),
        drop=cotangents_of(saved.drop),
    )
    dh = np.zeros((T + 1, H, H))
    dh[end] = np.eye(H)
    return recurrence.through_time(dh, batch)[0][: end + 1]


def singular_values(read: LayerTrace, row: int = 0, end: int | None = None) -> Array:
    """Singular values of ∂h_end / ∂h_t for every t, largest first, (end + 1, H).

    The largest is the most that a gradient of h_end can be multiplied by on its way to h_t.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import GRU, Sequential, gates
    >>> x = np.random.default_rng(0).standard_normal((3, 5, 2))
    >>> read = gates.trace(Sequential([GRU(4)], seed=0), x)["gru"]
    >>> gates.singular_values(read)[5].tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    return np.linalg.svd(jacobians(read, row, end), compute_uv=False)


def gradient_flow(read: LayerTrace, rows: int = 8) -> Array:
    """What is left of a gradient of the last state k steps before it, for k = 0, 1, ...

        flow[k] = sqrt(mean over rows of ‖∂h_T / ∂h_{T-k}‖² / H),     flow[0] = 1

    It is the factor by which a gradient of random direction changes its length: 1 keeps it, below
    1 it vanishes, above 1 it explodes. Steps that a mask left out are not counted.

    Parameters
    ----------
    read : LayerTrace
    rows : int
        Take the first so many sequences of the batch.

    Returns
    -------
    (steps + 1,) float

    Notes
    -----
    ‖·‖ is the Frobenius norm. Source: Bengio, Simard, Frasconi 1994, IEEE Trans. Neural Networks
    5:157; Pascanu, Mikolov, Bengio 2013, arXiv:1211.5063, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import GRU, Sequential, gates
    >>> x = np.random.default_rng(0).standard_normal((3, 50, 2))
    >>> model = Sequential([GRU(8)], seed=0)
    >>> model.build((None, None, 2))
    >>> plain = gates.without_gates(model)
    >>> flows = [gates.gradient_flow(gates.trace(m, x)["gru"]) for m in (model, plain)]
    >>> bool(flows[0][0] == flows[1][0] == 1)
    True
    """
    rows = min(rows, len(read.valid))
    longest = int(read.valid[:rows].sum(axis=1).max(initial=0)) + 1
    total, count = np.zeros(longest), np.zeros(longest)
    for row in range(rows):
        squares = (jacobians(read, row).astype(float) ** 2).sum(axis=(1, 2)) / read.units
        at = np.concatenate([[0], np.flatnonzero(read.valid[row]) + 1])
        total[: len(at)] += squares[at[::-1]]
        count[: len(at)] += 1
    return np.sqrt(total / np.maximum(count, 1))


# -------------------------------------------------------------------------------------- ablation


def ablate(
    model: Sequential,
    layer: str | None = None,
    *,
    unit: int | None = None,
    gate: str | None = None,
    value: Any = None,
) -> Sequential:
    """Copy a model with one unit silenced, or one gate nailed to a value, by its weights alone.

    A gate is nailed by zero weights and a bias: σ(b) = value. A unit is silenced by z = 0 and
    n = 0. So the copy is an ordinary model: it predicts, trains, saves. A gate nailed to 0 or 1
    stays there in training, for its derivative is exactly 0.

    Parameters
    ----------
    model : Sequential
        Built; it does not change.
    layer : str, optional
        As in a trace: "gru", "bidirectional/forward". Not needed if there is only one.
    unit : int, optional
        The unit whose state is to be 0.
    gate : {"r", "z"}, optional
        The gate to nail.
    value : float or (H,) array
        Where to; for the mean of a trace, `np.nanmean(read.z, axis=(0, 1))`.

    Returns
    -------
    Sequential

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import GRU, Sequential, gates
    >>> x = np.random.default_rng(0).standard_normal((3, 5, 2))
    >>> model = Sequential([GRU(4)], seed=0)
    >>> y = model.predict(x)
    >>> gates.ablate(model, unit=2).predict(x)[:, 2].tolist()
    [0.0, 0.0, 0.0]
    >>> gates.trace(gates.ablate(model, gate="z", value=0.25), x)["gru"].z[0, 0].round(6).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    if (unit is None) == (gate is None):
        raise ValueError("ablate: give either a unit or a gate")
    twin = _twin(model)
    name = only_layer(model, layer, "ablate")
    owner, prefix, gru = _parts(twin, name)
    params, H = owner.params, gru.units
    if not gru.use_bias:
        gru.use_bias = True
        for bias in ("b_ih", "b_hh"):
            params[prefix + bias] = np.zeros(3 * H, params[prefix + "W_hh"].dtype)
    if gate is not None:
        require_choice("ablate", "gate", gate, ["r", "z"])
        if value is None:
            raise ValueError("ablate: say which value the gate is nailed to")
        first = 0 if gate == "r" else H
        _nail(params, prefix, slice(first, first + H), _inverse(gru.recurrent_activation, value))
        return twin
    if gru.activation == "sigmoid" or gru.activation == "hard_sigmoid":
        raise ValueError(f"ablate: a unit of {name} cannot be 0, its activation is not 0 at 0")
    unit = range(H)[unit]  # type: ignore[index]
    _nail(params, prefix, [H + unit], _inverse(gru.recurrent_activation, 0.0))
    _nail(params, prefix, [2 * H + unit], 0.0)
    return twin


def without_gates(model: Sequential, layer: str | None = None) -> Sequential:
    """Copy a model with r = 1 and z = 0: what is left of a GRU is a plain recurrent network.

        h' = φ(W_in x + b_in + W_hn h + b_hn)

    Its gates have no gradient, so the copy stays a plain network when it is trained.

    Parameters
    ----------
    model : Sequential
        Built; it does not change.
    layer : str, optional
        Of which GRU; None is all.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import GRU, Sequential, gates
    >>> x = np.random.default_rng(0).standard_normal((3, 5, 2))
    >>> model = Sequential([GRU(4)], dtype="float64", seed=0)
    >>> h = model.predict(x)
    >>> plain = gates.without_gates(model)
    >>> W_ih, W_hh, b_ih, b_hh = plain.get_weights()
    >>> h = np.zeros((3, 4))
    >>> for t in range(5):
    ...     h = np.tanh(x[:, t] @ W_ih[8:].T + h @ W_hh[8:].T)
    >>> bool(np.allclose(plain.predict(x), h))
    True
    """
    names = (
        recurrent_layers(model) if layer is None else [only_layer(model, layer, "without_gates")]
    )
    for name in names:
        model = ablate(ablate(model, name, gate="r", value=1.0), name, gate="z", value=0.0)
    return model


class Ablation(NamedTuple):
    """What the loss would be without each unit, and with each gate nailed."""

    loss: float  # of the model as it is
    units: Array  # (H,) of the model without that unit
    gates: dict[str, float]  # "r = 1", "z = 0", "r = mean", "z = mean"


def ablation(model: Sequential, x: Any, y: Any, layer: str | None = None) -> Ablation:
    """Measure what each unit and each gate of a layer is worth: the loss of the batch without it.

    Parameters
    ----------
    model : Sequential
        Compiled.
    x, y : array
        A batch and its target.
    layer : str, optional
        Not needed if there is only one.

    Returns
    -------
    Ablation
        Losses; H + 5 forward passes.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import GRU, Dense, Sequential, gates
    >>> x = np.random.default_rng(0).standard_normal((3, 5, 2))
    >>> model = Sequential([GRU(4), Dense(1)], seed=0)
    >>> model.compile("mse", "adam")
    >>> found = gates.ablation(model, x, x[:, -1, :1])
    >>> found.units.shape, sorted(found.gates)
    ((4,), ['r = 1', 'r = mean', 'z = 0', 'z = mean'])
    """
    name = only_layer(model, layer, "ablation")
    read = trace(model, x)[name]

    def loss(changed: Sequential) -> float:
        return float(changed.compute_loss(x, y))

    mean = {gate: np.nanmean(getattr(read, gate), axis=(0, 1)) for gate in ("r", "z")}
    nailed = {"r = 1": ("r", 1.0), "z = 0": ("z", 0.0)}
    nailed |= {f"{gate} = mean": (gate, value) for gate, value in mean.items()}
    return Ablation(
        loss(model),
        np.array([loss(ablate(model, name, unit=j)) for j in range(read.units)]),
        {what: loss(ablate(model, name, gate=g, value=v)) for what, (g, v) in nailed.items()},
    )


# --------------------------------------------------------------------------------- finding layers


def recurrent_layers(model: Sequential) -> list[str]:
    """Names of all GRUs of a model, as in its traces."""
    names = []
    for layer in model.layers:
        if isinstance(layer, GRU):
            names.append(layer.name)
        elif isinstance(layer, Bidirectional):
            names += [f"{layer.name}/forward", f"{layer.name}/backward"]
    return names


def only_layer(model: Sequential, name: str | None, who: str) -> str:
    """Give the name of the one GRU that is meant."""
    names = recurrent_layers(model)
    if name is None and len(names) == 1:
        return names[0]
    if name not in names:
        raise ValueError(
            f"{who}: layer must be one of {', '.join(map(repr, names)) or '(none)'}, got {name!r}"
        )
    return name


def _twin(model: Sequential) -> Sequential:
    """Copy a model with parameters and optimiser of its own."""
    if not model.built:
        raise ValueError("ablate: the model must be built first; fit it, load it or call build")
    twin = copy.copy(model)
    twin.layers = copy.deepcopy(model.layers)
    twin.optimizer, twin.metrics = copy.deepcopy((model.optimizer, model.metrics))
    twin._compiled = {}
    vars(twin).pop("_mean_loss", None)
    return twin


def _parts(model: Sequential, name: str) -> tuple[Any, str, GRU]:
    """Give the layer that holds the parameters, the prefix of their names, and the GRU itself."""
    outer, _, direction = name.partition("/")
    owner: Any = next(layer for layer in model.layers if layer.name == outer)
    if not direction:
        return owner, "", owner
    return owner, f"{direction}/", dict(owner._directions())[direction]


def _nail(params: dict[str, Array], prefix: str, rows: Any, bias: Any) -> None:
    for weights in ("W_ih", "W_hh"):
        params[prefix + weights][rows] = 0
    params[prefix + "b_ih"][rows] = bias
    params[prefix + "b_hh"][rows] = 0


def _inverse(name: str, value: Any) -> Array:
    """The pre-activation at which a recurrent activation has this value."""
    value = as_floats("ablate", value, "value", real=True).astype(float)
    if name in ("sigmoid", "hard_sigmoid") and not ((value >= 0) & (value <= 1)).all():
        raise ValueError(f"ablate: a gate's value must be between 0 and 1, got {value}")
    if name == "sigmoid":
        inside = np.clip(value, 1e-300, 1 - 2**-53)
        logit = np.log(inside) - np.log1p(-inside)
        return np.where(value == 0, CLOSED, np.where(value == 1, -CLOSED, logit))
    if name == "hard_sigmoid":
        return 6 * (value - 0.5)
    return np.arctanh(value) if name == "tanh" else value
