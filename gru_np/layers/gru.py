"""The GRU as a layer over time, and as a cell for one step.

Notation: B batch, T time, I input, H units. Parameters, the same for both: W_ih (3H, I), W_hh
(3H, H), b_ih, b_hh (3H,), rows r, z, n. The equations are `gru_np.equations`'.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gru_np import constraints, kernels, recurrence, regularizers, variants
from gru_np._aliases import Array, Generator, Gradients, Shape
from gru_np._checks import (
    require_choice,
    require_count,
    require_last,
    require_rank,
    require_rate,
    require_sequence,
)
from gru_np._intake import as_floats, as_mask
from gru_np._named import require_number
from gru_np.layers.base import Layer, Parameter, Rule
from gru_np.layers.dropout import dropout_mask


class Kept(NamedTuple):
    """What a forward pass keeps: the states, and what the gradient needs."""

    h: Array  # (T + 1, B, H)
    saved: Any  # of `gru_forward`; None after inference
    has_initial: bool  # given with the call; a learned one is no such
    drop_x: Array | None  # (B, I)
    span: slice = slice(0, 1)  # of time that was run; outside it no row has a real step


class _Recurrent(Layer):
    """What the layer and the cell share: settings, parameters, dropout masks."""

    # The passes over time; `gru_np.gates` gives copies of layers passes that record what they see.
    run_forward: Callable[..., Any] = staticmethod(kernels.gru_forward)
    run_backward: Callable[..., Any] = staticmethod(kernels.gru_backward)

    def __init__(
        self,
        units: int,
        activation: str = "tanh",
        recurrent_activation: str = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        reset_after: bool = True,
        *,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        **common: Any,
    ):
        super().__init__(**common)
        who = type(self).__name__
        choices = recurrence.ACTIVATIONS
        require_choice(who, "activation", activation or "linear", choices)
        require_choice(who, "recurrent_activation", recurrent_activation or "linear", choices)
        self.units = require_count(who, "units", units)
        self.activation = activation or "linear"
        self.recurrent_activation = recurrent_activation or "linear"
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.recurrent_initializer = recurrent_initializer
        self.bias_initializer = bias_initializer
        self.dropout = require_rate(who, "dropout", dropout)
        self.recurrent_dropout = require_rate(who, "recurrent_dropout", recurrent_dropout)
        self.reset_after = reset_after
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.recurrent_regularizer = regularizers.get(recurrent_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.recurrent_constraint = constraints.get(recurrent_constraint)
        self.bias_constraint = constraints.get(bias_constraint)

    def rules(self) -> dict[str, Rule]:
        """Give the rules of the kernel, the recurrent kernel and the biases that train.

        Where both do they are rows of one array in Keras, which a constraint sees as a whole.
        """
        bias = Rule(self.bias_regularizer, self.bias_constraint)
        if not self.reset_after:
            both = {"b_ih": bias}
        else:
            both = {"b_ih": bias._replace(below="b_hh"), "b_hh": bias._replace(constraint=None)}
        return {
            "W_ih": Rule(self.kernel_regularizer, self.kernel_constraint, out_first=True),
            "W_hh": Rule(self.recurrent_regularizer, self.recurrent_constraint, out_first=True),
            **both,
        }

    @property
    def fixed(self) -> tuple[str, ...]:
        """Name b_hh where it only adds to b_ih, with the reset before the product."""
        return ("b_hh",) if self.use_bias and not self.reset_after else ()

    @property
    def random(self) -> bool:
        """Whether there is dropout to draw."""
        return bool(self.dropout or self.recurrent_dropout)

    def parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        """W_ih (3H, I), W_hh (3H, H), each drawn as one matrix, and b_ih, b_hh (3H,)."""
        I, H = require_last(self.name, input_shape), self.units  # noqa: E741
        parameters = {
            "W_ih": Parameter((3 * H, I), self.kernel_initializer, out_first=True),
            "W_hh": Parameter((3 * H, H), self.recurrent_initializer, out_first=True),
        }
        if self.use_bias:
            for name in ("b_ih", "b_hh"):
                begin = "zeros" if name in self.fixed else self.bias_initializer
                parameters[name] = Parameter((3 * H,), begin)
        return parameters

    def _weights(self) -> tuple[Array, Array, Array | None, Array | None]:
        p = self.params
        return p["W_ih"], p["W_hh"], p.get("b_ih"), p.get("b_hh")

    def _settings(self) -> dict[str, Any]:
        return {
            "reset_after": self.reset_after,
            "activation": self.activation,
            "recurrent_activation": self.recurrent_activation,
        }

    def _dropout_masks(
        self, batch: int, training: bool, rng: Generator | None, dtype: Any
    ) -> tuple[Array | None, Array | None]:
        """Draw the masks of the input (B, I) and of the state (3, B, H), fixed over time."""
        if not training or not (self.dropout or self.recurrent_dropout):
            return None, None
        rng = self.rng(rng)
        I, H = self.params["W_ih"].shape[1], self.units  # noqa: E741
        drop_x = dropout_mask(rng, (batch, I), self.dropout, dtype) if self.dropout else None
        drop_h = (
            dropout_mask(rng, (3, batch, H), self.recurrent_dropout, dtype)
            if self.recurrent_dropout
            else None
        )
        return drop_x, drop_h

    def _gradients(self, dweights: list[Array | None], dh0: Array | None) -> Gradients:
        """Name the gradients; those of absent biases and of an absent initial state are None."""
        names = ("W_ih", "W_hh", "b_ih", "b_hh", "gamma_ih", "gamma_hh")
        gradients = {
            name: gradient
            for name, gradient in zip(names, dweights, strict=False)
            if gradient is not None
        }
        if dh0 is not None:
            gradients["initial_state"] = dh0
        return gradients

    def _initial(self, state: Any, shape: tuple[int, int], dtype: Any) -> Array | None:
        listed = isinstance(state, list | tuple) and len(state) == 1
        if listed and (state[0] is None or getattr(state[0], "ndim", 0) == 2):
            state = state[0]  # as Keras passes it
        if state is None:
            return None
        state = as_floats(self.name, state, "initial_state")
        require_rank(self.name, "initial_state", state, shape)
        return state.astype(np.result_type(state, dtype), copy=False)


class GRU(_Recurrent):
    """Gated recurrent unit over a sequence.

    The equations stand in `gru_np.equations`; z keeps the old state.

    Parameters
    ----------
    units : int
        H, the size of the state and of the output.
    activation, recurrent_activation : {"tanh", "sigmoid", "relu", "linear", "hard_sigmoid"}
        φ of the new gate, σ of the reset and update gates.
    use_bias : bool
        Whether there are b_ih and b_hh.
    kernel_initializer, recurrent_initializer, bias_initializer : str or initializer
        How W_ih, W_hh and the biases begin.
    dropout, recurrent_dropout : float
        Probability, while training, of dropping an input and of dropping a state on its way into
        a gate; the masks are drawn once a sequence and kept over time (arXiv:1512.05287).
    return_sequences : bool
        Give the state after every step, (B, T, H), not only the last, (B, H).
    return_state : bool
        Give (output, last state).
    go_backwards : bool
        Read the sequence from its end; the output is in the order of reading, as in Keras.
    stateful : bool
        Begin each batch with the last state of the one before; see `reset_states`.
    reset_after : bool
        Apply the reset gate after the product with W_hn (cuDNN, PyTorch, Keras) or before it
        (Cho 2014). The weights of one do not serve the other. Before it, both biases are added
        where one would do: then, as in Keras, one trains, b_ih, and b_hh stays as it is, zero
        unless a file says otherwise.
    unroll : bool
        Accepted because Keras scripts give it; there is nothing to unroll.
    zoneout : float
        Probability, while training, that a unit keeps its old state for a step; in use the state
        is mixed in that proportion. See `gru_np.variants`.
    layer_norm : bool
        Normalise W_ih x and W_hh h over all 3H, with gains gamma_ih and gamma_hh, before the
        biases; see `gru_np.variants`. Needs `reset_after=True`.
    learn_initial_state : bool
        Begin a sequence, where no state is given or carried, at a parameter h0 (H,), not at zero.
    kernel_regularizer, recurrent_regularizer, bias_regularizer : str or Regularizer, optional
        Penalties of W_ih, of W_hh and of each bias; see `gru_np.regularizers`.
    kernel_constraint, recurrent_constraint, bias_constraint : str or Constraint, optional
        What they obey after each step of the optimiser; see `gru_np.constraints`. Two biases
        obey as the rows of one array (2, 3H), as in Keras.
    seed, name, trainable
        As for every layer.

    Notes
    -----
    A masked step copies the state, wherever in the sequence it stands; its output is that copy.
    The gradient by `initial_state`, when one was given, is in the gradients under that name.
    Source: arXiv:1406.1078v3, eq. 5-8.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import GRU
    >>> x = np.random.default_rng(0).standard_normal((2, 5, 3))
    >>> layer = GRU(4, return_sequences=True, seed=0)
    >>> y = layer(x)
    >>> y.shape
    (2, 5, 4)
    >>> np.array_equal(layer(x[:, 3:], initial_state=y[:, 2]), y[:, 3:])
    True
    """

    def __init__(
        self,
        units: int,
        activation: str = "tanh",
        recurrent_activation: str = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        reset_after: bool = True,
        *,
        zoneout: float = 0.0,
        layer_norm: bool = False,
        learn_initial_state: bool = False,
        **common: Any,
    ):
        super().__init__(
            units,
            activation,
            recurrent_activation,
            use_bias,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            dropout,
            recurrent_dropout,
            reset_after,
            **common,
        )
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.go_backwards = go_backwards
        self.stateful = stateful
        self.unroll = unroll
        self.zoneout = require_number("GRU", "zoneout", zoneout, high=1.0, open_=")")
        self.layer_norm = layer_norm
        self.learn_initial_state = learn_initial_state
        if layer_norm and not reset_after:
            raise ValueError(
                "GRU: layer_norm needs reset_after=True, got False; normalisation is of W_hh h as "
                "one product"
            )
        self._state: Array | None = None  # carried from batch to batch if stateful

    @property
    def random(self) -> bool:
        """Whether there is dropout or zoneout to draw."""
        return bool(super().random or self.zoneout)

    @property
    def state(self) -> Array | None:
        """The state (B, H) that the next batch begins with if the layer is stateful, or None."""
        return self._state

    @state.setter
    def state(self, value: Any) -> None:
        if value is not None:
            value = as_floats(self.name, value, "state")
            require_rank(self.name, "state", value, ("batch", self.units))
        self._state = value

    @property
    def several_by(self) -> str:  # type: ignore[override]
        """The setting that makes the output a tuple of arrays, if it does."""
        return "return_state=True" if self.return_state else ""

    @property
    def is_plain(self) -> bool:
        """Whether the kernels' loop over time does all that this layer does."""
        return not (self.zoneout or self.layer_norm or self.learn_initial_state)

    def parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        """W_ih (3H, I), W_hh (3H, H), b_ih, b_hh (3H,); gamma_ih, gamma_hh (3H,); h0 (H,)."""
        require_sequence(self.name, input_shape)
        parameters = super().parameters(input_shape)
        if self.layer_norm:
            for name in ("gamma_ih", "gamma_hh"):
                parameters[name] = Parameter((3 * self.units,), "ones")
        if self.learn_initial_state:
            parameters["h0"] = Parameter((self.units,), "zeros")
        return parameters

    def output_shape(self, input_shape: Shape) -> Any:
        """(B, T, H) or (B, H); with `return_state` a list of that and (B, H)."""
        B, T, _ = input_shape
        y = (B, T, self.units) if self.return_sequences else (B, self.units)
        return [y, (B, self.units)] if self.return_state else y

    def compute_mask(self, x: Array, mask: Array | None) -> Array | None:
        """Pass the mask on beside a sequence, in the order of the output; a last state has none."""
        if mask is None or not self.return_sequences:
            return None
        return mask[:, ::-1] if self.go_backwards else mask

    def __call__(
        self,
        x: Any,
        mask: Array | None = None,
        training: bool = False,
        initial_state: Any = None,
    ) -> Any:
        """Compute the output alone: y, or (y, last state)."""
        return self.forward(
            x, mask=mask, initial_state=initial_state, training=training, inference=True
        )[0]

    def forward(
        self,
        x: Any,
        mask: Array | None = None,
        training: bool = False,
        rng: Generator | None = None,
        initial_state: Any = None,
        inference: bool = False,
    ) -> tuple[Any, Kept]:
        """Run over x (B, T, I); give the output and what `backward` needs.

        With `inference=True` there will be no `backward`, and less is kept.
        """
        x = as_floats(self.name, x)
        require_rank(
            self.name, "x", x, ("batch", "time", self._input_size()),
            "add a time axis with x[:, None, :]" if x.ndim == 2 else "",
        )  # fmt: skip
        self.ensure_built(x)
        B, T, _ = x.shape
        if mask is not None:
            mask = as_mask(self.name, mask, (B, T))
        if initial_state is None and self.stateful:
            initial_state = self._carried(B)
        h0 = self._initial(initial_state, (B, self.units), x.dtype)
        has_initial = h0 is not None
        if h0 is None and self.learn_initial_state:
            h0 = np.broadcast_to(self.params["h0"], (B, self.units))

        drop_x, drop_h = self._dropout_masks(B, training, rng, x.real.dtype)
        if drop_x is not None:
            x = x * drop_x[:, None, :]
        if self.go_backwards:
            x, mask = x[:, ::-1], None if mask is None else mask[:, ::-1]
        span, whole = slice(0, T), True
        if mask is not None and self.is_plain and self.run_forward is kernels.gru_forward:
            span = _span_of(mask)
            x, mask, whole = x[:, span], mask[:, span], span == slice(0, T)
        run: Any = self.run_forward
        options = self._settings()
        if not self.is_plain:
            run, options["training"], options["rng"] = self._run_variant, training, rng
        h, saved = run(
            x.transpose(1, 0, 2),  # (T, B, I)
            h0,
            *self._weights(),
            mask=None if mask is None else mask.T,
            drop=drop_h,
            inference=inference,
            **options,
        )
        if not whole:
            # masked steps copy the state
            h = np.concatenate([h[:1]] * span.start + [h] + [h[-1:]] * (T - span.stop))
        if self.stateful:
            self._state = h[-1].copy()
        y = h[1:].transpose(1, 0, 2) if self.return_sequences else h[-1]
        return (y, h[-1]) if self.return_state else y, Kept(h, saved, has_initial, drop_x, span)

    def _run_variant(
        self,
        x: Array,
        *arrays: Any,
        training: bool = False,
        rng: Generator | None = None,
        inference: bool = False,
        **settings: Any,
    ) -> tuple[Array, Any]:
        """Run with zoneout or layer normalisation, or plainly if only the state is learned."""
        if not (self.zoneout or self.layer_norm):
            settings["inference"] = inference
            return self.run_forward(x, *arrays, **settings)
        keep: Any = 1 - self.zoneout
        if training and self.zoneout:
            rng = self.rng(rng)
            keep = rng.random((*x.shape[:2], self.units), dtype=np.float32) >= self.zoneout
        gammas = (self.params["gamma_ih"], self.params["gamma_hh"]) if self.layer_norm else None
        return variants.gru_forward(x, *arrays, keep=keep, gammas=gammas, **settings)

    def backward(self, dy: Any, saved: Kept) -> tuple[Array, Gradients]:
        """Give dx and the gradients of the parameters, and of the initial state if it was given.

        `dy` has the form of the output; of a pair, either may be None.
        """
        h, inner, has_initial, drop_x, span = saved
        dy, dstate = dy if self.return_state else (dy, None)
        variant = isinstance(inner, variants.Saved)
        run: Any = variants.gru_backward if variant else self.run_backward
        T = len(h) - 1
        whole = span.start == 0 and span.stop == T
        # y = h[1:].transpose(1, 0, 2) if self.return_sequences else h[-1]
        if self.return_sequences and dy is not None and dstate is None and whole and not variant:
            dh = dy.transpose(1, 0, 2)
        else:
            dh = np.zeros(h.shape, h.dtype)
            if dy is not None and self.return_sequences:
                dh[1:] = dy.transpose(1, 0, 2)
            elif dy is not None:
                dh[-1] = dy
            if dstate is not None:
                dh[-1] += dstate
        # h = concatenate([h[:1]] * span.start + [h] + [h[-1:]] * (T - span.stop))
        if not whole:
            before, behind = dh[: span.start].sum(axis=0), dh[span.stop + 1 :].sum(axis=0)
            dh = dh[span.start : span.stop + 1]
            dh[0] += before
            dh[-1] += behind
        dx, dh0, *dweights = run(dh, inner)
        # x = x[:, span]
        if not whole:
            of_span, dx = dx, np.zeros((T, *dx.shape[1:]), dx.dtype)
            dx[span] = of_span
        dx = dx.transpose(1, 0, 2)
        # x, mask = x[:, ::-1], mask[:, ::-1]
        if self.go_backwards:
            dx = dx[:, ::-1]
        # x = x * drop_x[:, None, :]
        if drop_x is not None:
            dx = dx * drop_x[:, None, :]
        gradients = self._gradients(dweights, dh0 if has_initial else None)
        # h0 = np.broadcast_to(self.params["h0"], (B, self.units)), unless one was given
        if self.learn_initial_state:
            gradients["h0"] = np.zeros_like(dh0[0]) if has_initial else dh0.sum(axis=0)
        return dx, gradients

    def last_state(self, saved: Any) -> Array | None:
        """Give the state (B, H) at the end of a forward pass."""
        return saved.h[-1] if isinstance(saved, Kept) else None

    def step(self, x: Array, state: Array | None = None) -> tuple[Array, Array]:
        """Take one step from x (B, I) and the state (B, H) or None; give the next state, twice."""
        require_rank(self.name, "x", x, ("batch", self._input_size()), "step takes one time step")
        if state is not None:
            state = as_floats(self.name, state, "state", real=x.dtype.kind != "c")
            require_rank(self.name, "state", state, (len(x), self.units))
            state = state.astype(self.params["W_hh"].dtype, copy=False)  # as the compiled step
        if state is None and self.learn_initial_state:
            state = np.broadcast_to(self.params["h0"], (len(x), self.units))
        run: Any = self.run_forward if self.is_plain else self._run_variant
        h, _ = run(x[None], state, *self._weights(), inference=True, **self._settings())
        return h[1], h[1]

    def reset_states(self, rows: Any = None) -> None:
        """Forget the carried state, of all rows of the batch or of the given ones only.

        `rows` are indices or a bool per row. What is forgotten begins again where a sequence does:
        at zero, or at the learned state.
        """
        state = None if rows is None or self._state is None else self._state.copy()
        if state is not None:
            try:
                state[rows] = self.params["h0"] if self.learn_initial_state else 0
            except IndexError as error:
                raise ValueError(
                    f"{self.name}: rows must be indices or bools of the {len(state)} rows "
                    f"carried, got {rows!r}"
                ) from error
        self._state = state

    def _carried(self, batch: int) -> Array | None:
        if self._state is not None and len(self._state) != batch:
            raise ValueError(
                f"{self.name}: a stateful layer carries {len(self._state)} rows, got a batch of "
                f"{batch}; keep the batch size or call reset_states()"
            )
        return self._state

    def _input_size(self) -> Any:
        return self.params["W_ih"].shape[1] if self.built else "features"


def _span_of(mask: Array) -> slice:
    """Give the time from the first step that is real in any row of (B, T) to the last such."""
    real = np.flatnonzero(mask.any(axis=0))
    return slice(int(real[0]), int(real[-1]) + 1) if real.size else slice(0, mask.shape[1])


class GRUCell(_Recurrent):
    """One step of a GRU, for a loop of one's own: h' = cell(x, h).

    The parameters are those of `GRU`, by the same names: `cell.params = layer.params` shares them.

    Parameters
    ----------
    units, activation, recurrent_activation, use_bias, kernel_initializer, recurrent_initializer, \
bias_initializer, dropout, recurrent_dropout, reset_after, seed, name, trainable
        As for `GRU`.

    Notes
    -----
    Called with a state as an array (B, H) it returns (h', h'); with a list of one array, as Keras
    passes it, (h', [h']).

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import GRUCell
    >>> cell = GRUCell(4, seed=0)
    >>> h = np.zeros((2, 4))
    >>> for x in np.ones((5, 2, 3)):
    ...     y, h = cell(x, h)
    >>> y.shape
    (2, 4)
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        """(B, H)."""
        return (input_shape[0], self.units)

    def __call__(self, x: Any, states: Any = None, training: bool = False) -> Any:
        """Compute (h', h') from x (B, I) and the state (B, H), zeros if None."""
        y, _ = self.forward(x, training=training, initial_state=states)
        return y, [y] if isinstance(states, list | tuple) else y

    def forward(
        self,
        x: Any,
        mask: Array | None = None,
        training: bool = False,
        rng: Generator | None = None,
        initial_state: Any = None,
    ) -> tuple[Array, Any]:
        """Take one step; `mask` (B,) copies the state of the rows that are False."""
        x = as_floats(self.name, x)
        features = self.params["W_ih"].shape[1] if self.built else "features"
        require_rank(self.name, "x", x, ("batch", features))
        self.ensure_built(x)
        B = len(x)
        if mask is not None:
            mask = as_mask(self.name, mask, (B,))[None]
        h0 = self._initial(initial_state, (B, self.units), x.dtype)
        drop_x, drop_h = self._dropout_masks(B, training, rng, x.real.dtype)
        if drop_x is not None:
            x = x * drop_x
        h, saved = self.run_forward(
            x[None], h0, *self._weights(), mask=mask, drop=drop_h, **self._settings()
        )
        return h[1], Kept(h, saved, h0 is not None, drop_x)

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        """Give dx and the gradients of the parameters, and of the initial state if it was given."""
        _, inner, has_initial, drop_x, _ = saved
        dx, dh0, *dweights = self.run_backward(np.stack([np.zeros_like(dy), dy]), inner)
        dx = dx[0] if drop_x is None else dx[0] * drop_x
        return dx, self._gradients(dweights, dh0 if has_initial else None)
