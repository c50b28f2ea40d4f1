"""A record of everything a model's GRUs compute over a batch, forward and back.

Notation: B batch, T time, I input, H hidden. Arrays are batch first, steps in the order in which
the layer reads them: a layer that reads backwards has its `positions` fall.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gru_np import recurrence
from gru_np._aliases import Array, Gradients
from gru_np._checks import spell
from gru_np.layers import GRU, Bidirectional, Embedding
from gru_np.layers.base import is_just
from gru_np.model import Pass, Sequential
from gru_np.training import States

Labels = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, repr=False, eq=False)
class LayerTrace:
    """What one GRU did with a batch: plain arrays, batch first, in the order of reading.

    Steps that a mask leaves out have no gates: there r, z, n and the pre-activations are NaN, the
    state is a copy of the one before, and the gradients by pre-activations are zero.

    Attributes
    ----------
    name : str
        Of the layer; inside a Bidirectional "bidirectional/forward" or ".../backward".
    positions : (T,) int
        Where in the model's input each step stands: 0, 1, ... or falling, if read backwards.
    labels : tuple of B tuples of T str
        What was read at each step: the token, the timestamp, or the position.
    valid : (B, T) bool
        False where a mask left the step out.
    x : (B, T, I)
        The layer's input.
    h : (B, T + 1, H)
        States; h[:, 0] is the initial one and h[:, t + 1] the one after x[:, t].
    r, z, n : (B, T, H)
        Reset gate, update gate (the share of the old state that is kept), new gate.
    a_ih, a_hh : (B, T, 3H)
        Pre-activations from the input and from the state, in the order r, z, n.
    reset_after : bool
        Which of the two forms this is.
    dh : (B, T + 1, H) or None
        Gradient of the loss by each state, through all that follows from it; None without y.
    da_ih, da_hh : (B, T, 3H) or None
        Gradients of the loss by the pre-activations.
    saved : recurrence.Saved
        The same, time first, as `recurrence.gru_backward` takes it.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import GRU, Dense, Sequential, equations, gates
    >>> x = np.random.default_rng(0).standard_normal((3, 5, 2))
    >>> model = Sequential([GRU(4), Dense(1)], dtype="float64", seed=0)
    >>> model.compile("mse", "adam")
    >>> read = gates.trace(model, x, y=np.ones((3, 1)))["gru"]
    >>> bool(np.allclose(read.h[:, 1:], (1 - read.z) * read.n + read.z * read.h[:, :-1]))
    True
    >>> bool(np.allclose(read.z, equations.sigmoid(read.a_z)))
    True
    >>> read.norms().shape  # of dh, at each of the T + 1 states
    (3, 6)
    """

    name: str
    positions: Array
    labels: Labels
    valid: Array
    x: Array
    h: Array
    r: Array
    z: Array
    n: Array
    a_ih: Array
    a_hh: Array
    reset_after: bool
    dh: Array | None
    da_ih: Array | None
    da_hh: Array | None
    saved: recurrence.Saved

    @property
    def a_r(self) -> Array:
        """a_ir + a_hr, what the reset gate squashes, (B, T, H)."""
        return self._part(self.a_ih, 0) + self._part(self.a_hh, 0)

    @property
    def a_z(self) -> Array:
        """a_iz + a_hz, what the update gate squashes, (B, T, H)."""
        return self._part(self.a_ih, 1) + self._part(self.a_hh, 1)

    @property
    def a_n(self) -> Array:
        """What the new gate squashes: a_in + r ⊙ a_hn, or a_in + a_hn if the reset comes before."""
        a_hn = self._part(self.a_hh, 2)
        return self._part(self.a_ih, 2) + (self.r * a_hn if self.reset_after else a_hn)

    @property
    def da_r(self) -> Array:
        """Gradient by a_r, (B, T, H)."""
        return self._part(self._backward(self.da_ih), 0)

    @property
    def da_z(self) -> Array:
        """Gradient by a_z, (B, T, H)."""
        return self._part(self._backward(self.da_ih), 1)

    @property
    def da_n(self) -> Array:
        """Gradient by a_n, (B, T, H)."""
        return self._part(self._backward(self.da_ih), 2)

    @property
    def units(self) -> int:
        """H."""
        return self.h.shape[-1]

    def norms(self, of: str = "dh") -> Array:
        """L2 norms over the units of "dh" (B, T + 1), or of "da_r", "da_z", "da_n" (B, T)."""
        signal = self._backward(self.dh) if of == "dh" else getattr(self, of)
        return np.linalg.norm(signal, axis=-1)

    def norms_by_distance(self, of: str = "dh") -> Array:
        """Norms of a backward signal against the number of real steps to the end of each row.

        Entry k is the root mean square over the rows that are that long. Entry 0 of "dh" belongs
        to the last state; a gate's gradients begin at the last step. For a single distance between
        cause and effect take a loss at one step only: the `at` of `trace`.
        """
        squares = self.norms(of) ** 2
        steps = self.valid.sum(axis=1)
        longest = int(steps.max(initial=0)) + (of == "dh")
        total, count = np.zeros(longest), np.zeros(longest)
        for row, valid in zip(squares, self.valid, strict=True):
            # A masked step hands its gradient on unchanged, so states after real steps are enough.
            real = np.flatnonzero(valid)
            at = np.concatenate([[0], real + 1]) if of == "dh" else real
            total[: len(at)] += row[at[::-1]]
            count[: len(at)] += 1
        return np.sqrt(total / np.maximum(count, 1))

    def _part(self, a: Array, gate: int) -> Array:
        return recurrence.gates(a)[gate]

    def _backward(self, signal: Array | None) -> Array:
        if signal is None:
            raise ValueError(
                f"{self.name}: the trace has no backward signals; give y to gates.trace"
            )
        return signal

    def __repr__(self) -> str:
        B, T, H = self.z.shape
        back = "with" if self.dh is not None else "without"
        return f"LayerTrace({self.name!r}, rows={B}, steps={T}, units={H}, {back} gradients)"


@dataclass(frozen=True, repr=False, eq=False)
class Trace:
    """What a whole model did with a batch: `trace["gru"]` is the record of the layer of that name.

    Attributes
    ----------
    layers : dict of str to LayerTrace
        One for each GRU, from input to output.
    x : array
        The model's input.
    y_pred : array
        What `model.predict(x)` gives.
    loss : float or None
        Of this batch, in the units of the model's loss; None without y.
    gradients : dict of str to array
        By each trainable parameter, as `model.compute_gradients`; empty without y.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import GRU, Bidirectional, Dense, Sequential, gates
    >>> x = np.random.default_rng(0).standard_normal((3, 5, 2))
    >>> model = Sequential([Bidirectional(GRU(4, return_sequences=True)), GRU(3)], seed=0)
    >>> gates.trace(model, x)
    Trace of 3 rows: bidirectional/forward (5 steps, 4 units), bidirectional/backward (5 steps, \
4 units), gru (5 steps, 3 units)
    """

    layers: dict[str, LayerTrace]
    x: Array
    y_pred: Array
    loss: float | None
    gradients: Gradients

    def __getitem__(self, name: str | int) -> LayerTrace:
        """Give the record of a layer, by its name or its number among the GRUs."""
        if isinstance(name, int):
            return list(self.layers.values())[name]
        if name not in self.layers:
            raise KeyError(f"there is no GRU {name!r}; there are {', '.join(self.layers)}")
        return self.layers[name]

    def __repr__(self) -> str:
        parts = (f"{n} ({a.z.shape[1]} steps, {a.units} units)" for n, a in self.layers.items())
        return f"Trace of {len(self.x)} rows: {', '.join(parts)}"


def trace(
    model: Sequential,
    x: Any,
    y: Any = None,
    *,
    labels: Any = None,
    tokenizer: Any = None,
    at: int | None = None,
    states: States | None = None,
) -> Trace:
    """Record what every GRU of a model computes over a batch and, given a target, its gradients.

    The model's own forward, loss and backward run, without dropout, on NumPy's passes; nothing of
    the model changes, not even the state that a stateful layer carries.

    Parameters
    ----------
    model : Sequential
        Built, or to be built for x; compiled, if y is given.
    x : array or str
        What `predict` takes, (B, T) ids or (B, T, I) numbers; or one text, if there is a tokenizer.
    y : array, optional
        The target; with it the loss is differentiated.
    labels : (T,) or (B, T) strings, numbers or datetimes, optional
        What to call the steps, the timestamps of a series perhaps; by default tokens or positions.
    tokenizer : object, optional
        With `tokens`, to name token ids; None is the model's own.
    at : int, optional
        Let only this step of the output have a loss (negative counts from the end), to see how far
        back its gradient reaches.
    states : list, optional
        Begin in these states, as returned by `model.step`.

    Returns
    -------
    Trace

    Raises
    ------
    ValueError
        No GRU in the model; labels that do not fit; `at` without y; a text without a tokenizer.

    Notes
    -----
    Memory: 15 numbers a unit and step, 22 with gradients.

    Examples
    --------
    >>> from gru_np import GRU, Dense, Embedding, Sequential, gates, text
    >>> tokenizer = text.CharTokenizer.fit("hello world")
    >>> layers = [Embedding(8, 3), GRU(4, return_sequences=True), Dense(8, activation="softmax")]
    >>> model = Sequential(layers, seed=0)
    >>> read = gates.trace(model, "hello", tokenizer=tokenizer)["gru"]
    >>> read.labels[0], read.r.shape
    (('h', 'e', 'l', 'l', 'o'), (1, 5, 4))
    """
    tokenizer = getattr(model, "tokenizer", None) if tokenizer is None else tokenizer
    if isinstance(x, str):
        if tokenizer is None:
            raise ValueError("trace: a text needs a tokenizer to read it; give tokenizer=")
        x = np.asarray(tokenizer.encode(x))[None]
    if at is not None and y is None:
        raise ValueError("trace: at chooses the step that has a loss, so it needs y")
    x = model._inputs("trace", x)
    model._ensure_built(x)
    recorder = _Recorder(model)
    if not recorder.seen:
        raise ValueError("trace: the model has no GRU or Bidirectional layer to look into")

    down = recorder.model._forward(x, states=states, fused=y is not None)
    loss: float | None = None
    gradients: Gradients = {}
    if y is not None:
        model._require_compiled("trace")
        loss, gradients = recorder.backward(down, model._targets("trace", y), at)
    fused = recorder.model._fused_layer() if y is not None else None
    y_pred = down.y if fused is None else fused.activate(np.asarray(down.y))
    named = _labels(labels, x, tokenizer if isinstance(model.layers[0], Embedding) else None)
    layers = {name: record.finish(name, named) for name, record in recorder.seen.items()}
    return Trace(layers, x, y_pred, loss, gradients)


# ------------------------------------------------------------------------------------- recording


class _Record:
    """The passes over time of one GRU: NumPy's own, and what went through them is kept."""

    def __init__(self, positions_fall: bool):
        self.positions_fall = positions_fall
        self.saved: Any = None
        self.back: tuple[Array, Array, Array] | None = None

    def run_forward(self, *args: Any, inference: bool = False, **options: Any) -> tuple[Any, Any]:
        h, self.saved = recurrence.gru_forward(*args, **options)
        return h, self.saved

    def run_backward(self, dh: Array, saved: Any) -> Any:
        self.back = recurrence.through_time(dh, saved)
        return recurrence.weight_gradients(*self.back, saved)

    def finish(self, name: str, named: "_Named") -> LayerTrace:
        """Lay everything out batch first."""
        saved: recurrence.Saved = self.saved
        T, B, _ = saved.z.shape
        valid = np.ones((B, T), bool) if saved.valid is None else saved.valid.T.copy()
        # a_ih = W_ih x + b_ih
        a_ih = saved.x @ saved.W_ih.T + (0 if saved.b_ih is None else saved.b_ih)
        # a_hh = W_hh h + b_hh; a_hn was kept, for before the product it comes of r ⊙ h
        a_hh = saved.h[:-1] @ saved.W_hh.T + (0 if saved.b_hh is None else saved.b_hh)
        recurrence.gates(a_hh)[2][...] = saved.a_hn

        def batch_first(array: Array, gates: bool = True) -> Array:
            array = np.ascontiguousarray(array.transpose(1, 0, 2))
            return np.where(valid[:, :, None], array, np.nan) if gates else array

        dh, da_ih, da_hh = (
            (None, None, None)
            if self.back is None
            else (batch_first(signal, False) for signal in self.back)
        )
        positions = np.arange(T)[:: -1 if self.positions_fall else 1]
        return LayerTrace(
            name=name,
            positions=positions,
            labels=named.at(positions, B),
            valid=valid,
            x=batch_first(saved.x, False),
            h=batch_first(saved.h, False),
            r=batch_first(saved.r),
            z=batch_first(saved.z),
            n=batch_first(saved.n),
            a_ih=batch_first(a_ih),
            a_hh=batch_first(a_hh),
            reset_after=saved.reset_after,
            dh=dh,
            da_ih=da_ih,
            da_hh=da_hh,
            saved=saved,
        )


class _Recorder:
    """A copy of a model, on the same parameters, whose GRUs keep records."""

    def __init__(self, model: Sequential):
        self.seen: dict[str, _Record] = {}
        self.model = copy.copy(model)
        self.model.layers = []
        falls = False  # whether what goes from layer to layer stands in reversed order
        for layer in model.layers:
            layer = copy.copy(layer)
            self.model.layers.append(layer)
            if isinstance(layer, GRU):
                self._watch(layer, layer.name, falls ^ layer.go_backwards)
                falls ^= layer.go_backwards
            elif isinstance(layer, Bidirectional):
                layer.layer, layer.backward_layer = (
                    copy.copy(layer.layer),
                    copy.copy(layer.backward_layer),
                )
                for direction, inner in layer._directions():
                    name = f"{layer.name}/{direction}"
                    self._watch(inner, name, falls ^ inner.go_backwards)

    def _watch(self, layer: GRU, name: str, positions_fall: bool) -> None:
        if not is_just(layer, GRU):
            raise ValueError(
                f"trace: {name} ({type(layer).__name__}) has methods of its own, got no plain GRU; "
                "records are of the plain equations"
            )
        if layer.zoneout or layer.layer_norm:
            raise ValueError(
                f"trace: {name} has zoneout or layer_norm; records are of the plain equations"
            )
        record = self.seen[name] = _Record(positions_fall)
        layer.run_forward, layer.run_backward = record.run_forward, record.run_backward

    def backward(self, down: Pass, y: Array | None, at: int | None) -> tuple[float, Gradients]:
        """Differentiate the loss, of all positions or of one step alone."""
        weight = None
        if at is not None:
            if down.y.ndim < 3:
                raise ValueError(
                    "trace: at needs a model with an output at every step, got an output of shape "
                    f"{spell(down.y.shape)}"
                )
            weight = np.zeros(down.y.shape[:2], down.y.dtype)
            weight[:, at] = 1
        loss, dy = self.model._loss_and_gradient(down, y, weight)
        return float(loss), self.model._backward(dy, down.saved)


# ---------------------------------------------------------------------------------------- labels


class _Named:
    """Names of the steps of a batch: (B, T) strings, or none given."""

    def __init__(self, names: Sequence[Sequence[str]] | None):
        self.names = names

    def at(self, positions: Array, B: int) -> Labels:
        """Give them in this order; positions, if there are no names for so many steps."""
        if self.names is None or any(len(row) <= positions.max(initial=-1) for row in self.names):
            return (tuple(str(p) for p in positions),) * B
        return tuple(tuple(row[p] for p in positions) for row in self.names)


def _labels(given: Any, x: Array, tokenizer: Any) -> _Named:
    B, T = x.shape[:2]
    if given is not None:
        rows = np.asarray(given)
        if rows.shape not in ((T,), (B, T)):
            raise ValueError(
                f"trace: labels must have shape {spell((T,))} or {spell((B, T))}, one for each "
                f"step, got {spell(rows.shape)}"
            )
        rows = np.broadcast_to(rows, (B, T))
        return _Named([[str(label) for label in row] for row in rows])
    tokens = getattr(tokenizer, "tokens", None)
    if tokens is not None:
        return _Named([[tokens[i] if i < len(tokens) else f"<{i}>" for i in row] for row in x])
    return _Named([[str(i) for i in row] for row in x] if x.ndim == 2 else None)
