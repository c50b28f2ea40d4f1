"""Two GRUs over one sequence, one from each end.

Notation: B batch, T time, H units of each direction.
"""

from typing import Any

import numpy as np

from gru_np._aliases import Array, Generator, Gradients, Shape
from gru_np._checks import require_choice
from gru_np._intake import as_floats
from gru_np.layers.base import Layer, Parameter, Rule
from gru_np.layers.gru import GRU

MERGE_MODES = ("concat", "sum", "mul", "ave", None)


class Bidirectional(Layer):
    """Run a GRU from the start and another from the end, and merge what they say of each step.

        concat  y = [f, b]        sum  y = f + b        mul  y = f ⊙ b        ave  y = (f + b) / 2

    Parameters
    ----------
    layer : GRU
        The forward direction; the backward one is a second layer with the same settings.
    merge_mode : {"concat", "sum", "mul", "ave"} or None
        How the two outputs become one; None gives the pair.
    backward_layer : GRU, optional
        The backward direction, with `go_backwards=True`, if it is to differ.
    seed, name, trainable
        As for every layer.

    Notes
    -----
    Parameters: those of the two layers, as "forward/W_ih", "backward/W_ih" and so on. The backward
    direction reads each row from its last real step; its outputs are put back in the order of the
    input. With `return_state` the result is (y, last forward state, last backward state); with
    `merge_mode=None` too it is, as in Keras, (forward, backward, and the two states).
    Source: Schuster and Paliwal 1997, IEEE Trans. Signal Processing 45:2673.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import GRU, Bidirectional
    >>> x = np.random.default_rng(0).standard_normal((2, 5, 3))
    >>> Bidirectional(GRU(4, return_sequences=True, seed=0))(x).shape
    (2, 5, 8)
    """

    def __init__(
        self,
        layer: GRU,
        merge_mode: str | None = "concat",
        backward_layer: GRU | None = None,
        **common: Any,
    ):
        super().__init__(**common)
        if merge_mode is not None:
            require_choice("Bidirectional", "merge_mode", merge_mode, MERGE_MODES[:-1])
        if not isinstance(layer, GRU):
            raise TypeError(f"Bidirectional: layer must be a GRU, got {layer!r}")
        if backward_layer is None:
            settings = layer.get_config() | {"go_backwards": not layer.go_backwards}
            if layer.seed is not None:
                settings["seed"] = layer.seed + 1
            backward_layer = type(layer)(**settings)
        for other in ("units", "return_sequences", "return_state"):
            if getattr(layer, other) != getattr(backward_layer, other):
                raise ValueError(f"Bidirectional: both layers must have the same {other}")
        if layer.go_backwards or not backward_layer.go_backwards:
            raise ValueError(
                "Bidirectional: layer must read forwards and backward_layer backwards; "
                "got go_backwards "
                f"{layer.go_backwards} and {backward_layer.go_backwards}"
            )
        self.layer = layer
        self.merge_mode = merge_mode
        self.backward_layer = backward_layer

    def get_config(self) -> dict[str, Any]:
        """Give the constructor arguments, the two layers as descriptions of their own."""
        inner = {
            name: {"class": type(layer).__name__, "config": layer.get_config()}
            for name, layer in (("layer", self.layer), ("backward_layer", self.backward_layer))
        }
        return super().get_config() | inner

    @property
    def several_by(self) -> str:  # type: ignore[override]
        """The setting that makes the output a tuple of arrays, if it does."""
        return "merge_mode=None" if self.merge_mode is None else self.layer.several_by

    @property
    def stateful(self) -> bool:  # type: ignore[override]
        """Whether either direction carries its state."""
        return self.layer.stateful or self.backward_layer.stateful

    @property
    def state(self) -> tuple[Array | None, Array | None] | None:
        """What the two directions carry, (forward, backward), or None."""
        pair = self.layer.state, self.backward_layer.state
        return None if pair[0] is None and pair[1] is None else pair

    @state.setter
    def state(self, value: Any) -> None:
        if value is not None and (not isinstance(value, list | tuple) or len(value) != 2):
            raise ValueError(
                f"{self.name}: state must be a pair, (forward, backward), each (batch, units), or "
                f"None, got {type(value).__name__}"
            )
        self.layer.state, self.backward_layer.state = (None, None) if value is None else value

    def rules(self) -> dict[str, Rule]:
        """Give the rules of both directions."""
        return {
            f"{direction}/{name}": rule
            if rule.below is None
            else rule._replace(below=f"{direction}/{rule.below}")
            for direction, layer in self._directions()
            for name, rule in layer.rules().items()
        }

    @property
    def fixed(self) -> tuple[str, ...]:
        """Name what training leaves as it is, of both directions."""
        return tuple(f"{way}/{name}" for way, layer in self._directions() for name in layer.fixed)

    def parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        """Give the parameters of both directions."""
        return {
            f"{direction}/{name}": parameter
            for direction, layer in self._directions()
            for name, parameter in layer.parameters(input_shape).items()
        }

    def output_shape(self, input_shape: Shape) -> Any:
        """Double the units if the two outputs are concatenated; a list of shapes if several."""
        one = self.layer.output_shape(input_shape)
        (*before, units), *states = one if self.layer.return_state else [one]
        y = (*before, 2 * units if self.merge_mode == "concat" else units)
        shapes = [*([y, y] if self.merge_mode is None else [y]), *states, *states]
        return shapes if len(shapes) > 1 else y

    def compute_mask(self, x: Array, mask: Array | None) -> Array | None:
        """Pass the mask on beside a sequence; a last state has none."""
        return mask if self.layer.return_sequences else None

    def __call__(
        self,
        x: Any,
        mask: Array | None = None,
        training: bool = False,
        initial_state: Any = None,
    ) -> Any:
        """Compute the output alone; `initial_state` is (forward, backward)."""
        return self.forward(
            x, mask=mask, training=training, initial_state=initial_state, inference=True
        )[0]

    def forward(
        self,
        x: Any,
        mask: Array | None = None,
        training: bool = False,
        rng: Generator | None = None,
        initial_state: Any = None,
        inference: bool = False,
    ) -> tuple[Any, Any]:
        """Run both directions over x (B, T, I) and merge; `inference` as for `GRU`."""
        x = as_floats(self.name, x)
        self.ensure_built(x)
        self._share_parameters()
        states = (None, None) if initial_state is None else initial_state
        if len(states) != 2:
            raise ValueError(
                f"{self.name}: initial_state must be a pair, (forward, backward), each (batch, "
                f"units), got {len(states)}"
            )
        outputs, keep = [], []
        for (_, layer), state in zip(self._directions(), states, strict=True):
            y, saved = layer.forward(
                x,
                mask=mask,
                training=training,
                rng=rng,
                initial_state=state,
                inference=inference,
            )
            outputs.append(y if self.layer.return_state else (y, None))
            keep.append(saved)
        (f, f_state), (b, b_state) = outputs
        if self.layer.return_sequences:
            b = b[:, ::-1]
        y = self._merge(f, b)
        if self.layer.return_state:
            y = (*(y if self.merge_mode is None else (y,)), f_state, b_state)
        return y, (f, b, keep)

    def backward(self, dy: Any, saved: Any) -> tuple[Array, Gradients]:
        """Give dx and the gradients of both directions; of initial states, as for `GRU`."""
        f, b, keep = saved
        df_state = db_state = None
        if self.layer.return_state:
            *dy, df_state, db_state = dy
            dy = dy if self.merge_mode is None else dy[0]
        # y = merge(f, b)
        if dy is None:
            df = db = None
        elif self.merge_mode == "concat":
            df, db = np.split(dy, 2, axis=-1)
        elif self.merge_mode == "mul":
            df, db = dy * b, dy * f
        elif self.merge_mode == "ave":
            df = db = dy / 2
        elif self.merge_mode == "sum":
            df = db = dy
        else:
            df, db = dy
        # b = b[:, ::-1]
        if db is not None and self.layer.return_sequences:
            db = db[:, ::-1]
        dx: Any = None
        gradients: Gradients = {}
        for (direction, layer), dy_one, dstate, keep_one in zip(
            self._directions(), (df, db), (df_state, db_state), keep, strict=True
        ):
            dx_one, of_layer = layer.backward(
                (dy_one, dstate) if layer.return_state else dy_one, keep_one
            )
            dx = dx_one if dx is None else dx + dx_one
            gradients |= {f"{direction}/{name}": value for name, value in of_layer.items()}
        return dx, gradients

    def reset_states(self, rows: Any = None) -> None:
        """Forget the states that both directions carry; see `GRU.reset_states`."""
        for _, layer in self._directions():
            layer.reset_states(rows)

    def step(self, x: Array, state: Array | None = None) -> tuple[Array, Array | None]:
        """Refuse: the backward direction begins at an end that has not been heard yet."""
        raise ValueError(
            f"{self.name}: a bidirectional layer cannot take single steps, because it reads the "
            "whole sequence from its end too; use predict"
        )

    def _directions(self) -> tuple[tuple[str, GRU], tuple[str, GRU]]:
        return ("forward", self.layer), ("backward", self.backward_layer)

    def _share_parameters(self) -> None:
        """Point both layers at their part of the parameters, which training or loading may set."""
        for direction, layer in self._directions():
            prefix = f"{direction}/"
            layer.params = {
                name.removeprefix(prefix): array
                for name, array in self.params.items()
                if name.startswith(prefix)
            }
            layer.built = True

    def _merge(self, f: Array, b: Array) -> Any:
        if self.merge_mode == "concat":
            return np.concatenate([f, b], axis=-1)
        if self.merge_mode == "sum":
            return f + b
        if self.merge_mode == "mul":
            return f * b
        if self.merge_mode == "ave":
            return (f + b) / 2
        return f, b
