"""What every layer is: named parameters, a forward pass, and the backward pass beside it.

Arrays are batch first: (B, T, features) or (B, features). A layer's `forward` returns its output
and `saved`, whatever `backward` will need; nothing about one batch stays on the layer.
"""

import inspect
import re
from collections.abc import Callable
from functools import cache, cached_property
from typing import Any, NamedTuple, TypeGuard, TypeVar

import numpy as np

from gru_np import initializers
from gru_np._aliases import Array, Generator, Gradients, Shape
from gru_np._checks import require_count
from gru_np._named import describe, require_known
from gru_np.constraints import CONSTRAINTS, Constraint
from gru_np.regularizers import REGULARIZERS, Regularizer


class Parameter(NamedTuple):
    """How one parameter begins."""

    shape: tuple[int, ...]
    initializer: Any
    # Weights are kept (out, in); initialisers count fan-in first, so they draw the transpose.
    out_first: bool = False

    def draw(self, dtype: Any, rng: Generator) -> Array:
        """Draw the parameter."""
        draw = initializers.get(self.initializer)
        if self.out_first:
            return np.ascontiguousarray(draw(self.shape[::-1], rng, dtype).T)
        return draw(self.shape, rng, dtype)


class Rule(NamedTuple):
    """What holds one parameter in bounds."""

    regularizer: Regularizer | None = None
    constraint: Constraint | None = None
    out_first: bool = False  # constraints count axes on Keras' matrix, the transpose
    below: str | None = None  # the parameter that is the next row of Keras' array

    def constrain(self, params: dict[str, Array], name: str) -> None:
        """Make the parameter, and the one below it, obey the constraint, in place."""
        if self.constraint is None or name not in params:
            return
        array = params[name]
        if self.below is not None:
            rows = [array, params[self.below]]
            array[...], params[self.below][...] = self.constraint(np.stack(rows))
        elif self.out_first:
            array[...] = self.constraint(array.T).T
        else:
            array[...] = self.constraint(array)


def _plain(value: Any) -> Any:
    """Describe an initialiser, regularizer or constraint for JSON; give anything else as it is."""
    if isinstance(value, initializers.Initializer):
        return initializers.serialize(value)
    if isinstance(value, Regularizer):
        return describe(require_known("regularizer", value, REGULARIZERS))
    if isinstance(value, Constraint):
        return describe(require_known("constraint", value, CONSTRAINTS))
    return value


class Layer:
    """Base of all layers.

    A subclass takes its settings as constructor arguments and keeps each, unchanged, as an
    attribute of the same name: from that rule follow `repr`, copying and saving.

    Attributes
    ----------
    params : dict of str to array
        The parameters by name; empty until the layer is built.
    trainable : bool
        Whether training changes the parameters.
    built : bool
        Whether the input size is known and the parameters exist.

    random : bool
        Whether `forward` may draw from `rng` while training; those that never do say so.
    stateful : bool
        Whether `forward` begins where the batch before ended, and keeps its end in `state`.
    state : array, tuple of arrays or None
        What a stateful layer carries from batch to batch. A layer of one's own that keeps anything
        keeps it here, and puts a new array in its place rather than change the old one: then
        `fit` and `predict` carry it, a file has it, and everything else leaves it as it was.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import Dense
    >>> layer = Dense(3, activation="relu", seed=0)
    >>> y, saved = layer.forward(np.ones((2, 5)))
    >>> dx, gradients = layer.backward(np.ones_like(y), saved)
    >>> y.shape, dx.shape, sorted(gradients)
    ((2, 3), (2, 5), ['W', 'b'])
    """

    random: Any = True
    stateful = False
    state: Any = None
    several_by = ""  # the setting that makes the output a tuple of arrays, if it does

    def __init__(
        self,
        *,
        seed: int | None = None,
        name: str | None = None,
        trainable: bool = True,
        **unknown: Any,
    ):
        if unknown:
            who, word = type(self).__name__, next(iter(unknown))
            advice = {
                "input_shape": "; the first batch tells, or model.build((None, time, features))",
                "dtype": "; a Sequential has a dtype for all its layers",
            }
            raise TypeError(f"{who}: there is no argument {word!r}{advice.get(word, '')}")
        self.seed = None if seed is None else require_count(type(self).__name__, "seed", seed, 0)
        self.name = name or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(self).__name__).lower()
        self.trainable = trainable
        self.built = False
        self._own_rng: Generator | None = None
        self.params: dict[str, Array] = {}

    def parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        """Say which parameters there are for inputs of this shape, and how each begins."""
        return {}

    def build(self, input_shape: Shape, dtype: Any, rng: Generator) -> None:
        """Draw the parameters for inputs of this shape (batch axis first, as None)."""
        if self.seed is not None:
            rng = np.random.default_rng(self.seed)
        self.params = {
            name: parameter.draw(dtype, rng)
            for name, parameter in self.parameters(input_shape).items()
        }
        self.built = True

    def output_shape(self, input_shape: Shape) -> Any:
        """Give the shape of the output for an input of this shape; a list of them if several."""
        return input_shape

    def compute_mask(self, x: Array, mask: Array | None) -> Array | None:
        """Give the mask that travels on beside the output."""
        return mask

    def forward(
        self,
        x: Any,
        mask: Array | None = None,
        training: bool = False,
        rng: Generator | None = None,
    ) -> tuple[Any, Any]:
        """Compute the output, and what `backward` needs."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def backward(self, dy: Any, saved: Any) -> tuple[Array | None, Gradients]:
        """From the gradient by the output to the gradients by the input and each parameter."""
        raise NotImplementedError(f"{type(self).__name__} must define backward")

    def __call__(self, x: Any, mask: Array | None = None, training: bool = False) -> Any:
        """Compute the output alone."""
        return self.forward(x, mask=mask, training=training)[0]

    def step(self, x: Array, state: Array | None = None) -> tuple[Array, Array | None]:
        """Take one time step, (B, features) or ids (B,): the output and the next state, if any."""
        return self.forward(x)[0], None

    def last_state(self, saved: Any) -> Any:
        """Give the state at the end of a forward pass, for the next piece of time, if any."""
        return None

    def reset_states(self, rows: Any = None) -> None:
        """Forget the carried state."""
        if rows is not None:
            raise ValueError(f"{self.name}: it cannot forget single rows, got rows {rows!r}")
        self.state = None

    def ensure_built(self, x: Array) -> None:
        """Build for this input if that has not happened yet, in its own dtype."""
        if not self.built:
            dtype = x.real.dtype if x.dtype.kind in "fc" else np.dtype("float32")
            self.build((None, *x.shape[1:]), dtype, np.random.default_rng(self.seed))

    def rng(self, given: Generator | None) -> Generator:
        """Give what random numbers are drawn from: the layer's own goes on from call to call."""
        if given is None:
            if self._own_rng is None:
                self._own_rng = np.random.default_rng(self.seed)
            given = self._own_rng
        return given

    def rules(self) -> dict[str, Rule]:
        """Say which parameters have a regularizer or a constraint."""
        return {}

    @property
    def fixed(self) -> tuple[str, ...]:
        """Name the parameters that training leaves as they are."""
        return ()

    @cached_property
    def _active_rules(self) -> dict[str, Rule]:
        """The rules that say something, found once: most layers have none, and pay nothing."""
        return {
            name: rule
            for name, rule in self.rules().items()
            if rule.regularizer is not None or rule.constraint is not None
        }

    @property
    def is_penalised(self) -> bool:
        """Whether there may be a penalty: most layers have none."""
        return bool(self._active_rules)

    def penalty(self) -> tuple[Any, Gradients]:
        """Give what the regularizers add to the loss, and its gradient by each parameter."""
        value: Any = 0
        gradients = {}
        for name, rule in self._active_rules.items():
            if rule.regularizer is not None and name in self.params:
                one, gradients[name] = rule.regularizer(self.params[name])
                value = value + one
        return value, gradients

    def constrain(self) -> None:
        """Make the parameters obey their constraints, in place; called after each step."""
        for name, rule in self._active_rules.items():
            rule.constrain(self.params, name)

    def get_config(self) -> dict[str, Any]:
        """Give the constructor arguments, ready for JSON."""
        names = [
            name
            for cls in type(self).__mro__
            if issubclass(cls, Layer) and "__init__" in vars(cls)
            for name, parameter in inspect.signature(cls).parameters.items()
            if parameter.kind is not parameter.VAR_KEYWORD
        ]
        values = {name: getattr(self, name) for name in dict.fromkeys(names)}
        return {name: _plain(value) for name, value in values.items()}

    def count_params(self) -> int:
        """Count the numbers in all parameters."""
        return sum(array.size for array in self.params.values())

    def __repr__(self) -> str:
        defaults = {
            name: parameter.default
            for name, parameter in inspect.signature(type(self)).parameters.items()
        }
        # What get_config describes by a dict is an object that says better itself what it is.
        shown = (
            f"{name}={getattr(self, name) if isinstance(value, dict) else value!r}"
            for name, value in self.get_config().items()
            if name in defaults and value is not defaults[name] and value != defaults[name]
        )
        return f"{type(self).__name__}({', '.join(shown)})"


@cache
def _methods(cls: type) -> frozenset[str]:
    return frozenset(name for name in dir(cls) if callable(getattr(cls, name)))


L = TypeVar("L", bound=Layer)


def is_just(layer: Any, cls: type[L]) -> TypeGuard[L]:
    """Answer whether this is a layer of that very class with no method of its own.

    Code that does a layer's work in its place, compiled or exported, must ask: a subclass may have
    another `forward`, and so may a single object.
    """
    methods = _methods(type(layer))  # type: ignore[arg-type]  # a class is hashable
    return type(layer) is cls and methods.isdisjoint(vars(layer))


def takes(function: Callable[..., Any], option: str) -> bool:
    """Answer whether a function has this option, by name: one that a user wrote may not."""
    return option in _options(getattr(function, "__func__", function))


@cache
def _options(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)
