"""Layers in a row: compile, fit, evaluate, predict, step, save, load.

A batch goes down once and comes back once: forward through the layers, the loss (value and gradient
together), backward in reverse order, the optimiser's step. Notation: B batch, T time.
"""

import copy
import math
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from gru_np import (
    _beside,
    _console,
    health,
    kernels,
    losses,
    metrics,
    optimizers,
    saving,
    small_steps,
    streaming,
    training,
)
from gru_np._aliases import Array, Generator, Gradients, Shape
from gru_np._checks import require_choice, require_count, spell
from gru_np._console import MovingLine
from gru_np._intake import REAL, as_array, as_floats, as_weights
from gru_np.callbacks import Callback, CallbackList, History, Progress
from gru_np.data import Dataset, split_validation
from gru_np.layers import GRU, Bidirectional, Dense, Embedding, Layer, Masking
from gru_np.layers.base import is_just, takes
from gru_np.training import States, TrainingProgress

_entrance = threading.Lock()  # to what stands below
_in_fit: "weakref.WeakSet[Sequential]" = weakref.WeakSet()  # models that train just now

LABELS = "names of classes become numbers by np.unique(y, return_inverse=True)[1]"


class Pass(NamedTuple):
    """What one way down through the layers leaves."""

    y: Any  # an array, or `Logits`
    mask: Array | None
    saved: list[Any]
    states: States


class Sequential:
    """A model that is one layer after another.

    Parameters
    ----------
    layers : iterable of Layer
        From input to output.
    dtype : {"float32", "float64"}
        What all parameters and results are.
    seed : int, optional
        Decides initial weights, the order of the batches and all dropout; drawn if not given.
    name : str
        Shown by `summary`.

    Attributes
    ----------
    layers : list of Layer
    params : dict of str to array
        Every parameter as "layer/parameter".
    optimizer, loss, metrics, weighted_metrics
        From `compile`.
    tokenizer : CharTokenizer, WordTokenizer or Tokenizer, optional
        What turns texts into this model's ids. `fit` sees arrays only and cannot know it: set it,
        and it is saved with the model and is there again after `load`.
    labels : list of str, optional
        The name of each class, in the order of the outputs; saved.
    padding : dict, optional
        What texts are cut and padded by, as arguments of `pad_sequences`: {"maxlen": 40,
        "padding": "post"}; saved. `pad_sequences(ids, **model.padding)`.
    extras : dict
        Anything JSON can hold, saved inside the model's file: a vocabulary, a series' scaling.
    conversion : gru_np.interop.Conversion or None
        For a model that came from another library: what was checked and what was assumed.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import GRU, Dense, Embedding, Sequential
    >>> x = np.array([[1, 2], [1, 3], [2, 1], [3, 1]])
    >>> y = np.array([2, 3, 1, 1])
    >>> model = Sequential([Embedding(4, 8), GRU(16), Dense(4, activation="softmax")], seed=0)
    >>> model.compile("sparse_categorical_crossentropy", "adam", ["accuracy"])
    >>> history = model.fit(x, y, epochs=150, verbose=0)
    >>> model.predict(x).argmax(axis=-1).tolist()
    [2, 3, 1, 1]
    """

    def __init__(
        self,
        layers: Iterable[Layer] = (),
        dtype: Any = "float32",
        seed: int | None = None,
        name: str = "sequential",
    ):
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise ValueError(f"Sequential: dtype must be float32 or float64, got {dtype!r}")
        if seed is None:
            seed = int(np.random.SeedSequence().entropy % 2**63)  # type: ignore[operator]
        self.seed = require_count("Sequential", "seed", seed, least=0)
        self.name = name
        self.layers: list[Layer] = []
        self._known: list[Layer] = []  # `layers` as they were when last looked at
        self._calls = 0  # of `model(x, training=True)`
        self.input_shape: Shape | None = None
        self.loss: losses.Loss | None = None
        self.optimizer: Any = None
        self.metrics: list[metrics.Metric] = []
        self.weighted_metrics: list[metrics.Metric] = []
        self.tokenizer = None
        self.labels = None
        self.padding = None
        self.extras: dict[str, Any] = {}
        self.conversion: Any = None
        self.history = History()
        self.progress = TrainingProgress()
        self.stop_training = False
        self._compiled: dict[bool, streaming.CompiledStep] = {}
        self._small: dict[tuple[int, ...], small_steps.SmallStep | None] = {}
        self.callbacks: list[Callback] = []  # of the fit under way
        for layer in layers:
            self.add(layer)

    # ---------------------------------------------------------------- what is beside the weights

    @property
    def tokenizer(self) -> Any:
        """What turns texts into this model's ids; saved with it."""
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, value: Any) -> None:
        self._tokenizer = _beside.require_tokenizer(value)

    @property
    def labels(self) -> Any:
        """The name of each class, in the order of the outputs; saved with the model."""
        return self._labels

    @labels.setter
    def labels(self, value: Any) -> None:
        self._labels = _beside.require_labels(value)

    @property
    def padding(self) -> Any:
        """Arguments of `pad_sequences` that texts are cut and padded by; saved with the model."""
        return self._padding

    @padding.setter
    def padding(self, value: Any) -> None:
        self._padding = _beside.require_padding(value)

    # ------------------------------------------------------------------------------ structure

    def add(self, layer: Layer) -> None:
        """Put a layer at the end."""
        _admit(layer, self.layers)
        self.layers.append(layer)
        self._look_at_layers()

    def pop(self) -> Layer:
        """Take the last layer out of the model, and give it."""
        if not self.layers:
            raise ValueError("pop: the model has no layers")
        return self.layers.pop()

    def _look_at_layers(self) -> None:
        """Take in what was done to `layers`, by `add` or by hand, as if it had been so before."""
        names = {layer.name for layer in self.layers if isinstance(layer, Layer)}
        if self._known == self.layers and len(names) == len(self.layers):
            return
        for i, layer in enumerate(self.layers):
            _admit(layer, self.layers[:i])
        begins_anew = self._known[:1] != self.layers[:1] and not all(
            layer.built for layer in self.layers[:1]
        )
        if begins_anew or not self._fits_together():
            self.input_shape = None  # `build` looks again, and says what is wrong
        self._known = list(self.layers)
        self._compiled, self._small = {}, {}

    def _fits_together(self) -> bool:
        shape: Any = self.input_shape
        try:
            for layer in self.layers if shape is not None else ():
                _require_fitting(layer, shape)
                shape = layer.output_shape(shape)
        except ValueError:
            return False
        return True

    @property
    def built(self) -> bool:
        """Whether every layer has its parameters."""
        self._look_at_layers()
        return self.input_shape is not None and all(layer.built for layer in self.layers)

    def build(self, input_shape: Shape) -> None:
        """Draw the parameters that are yet to be, for inputs of this shape (batch axis as None).

        A layer that was put into a built model begins as it would in a new one.
        """
        self._look_at_layers()
        _require_one_array(self.layers[:-1])
        again = self.input_shape is not None
        rng = np.random.default_rng(self.seed)
        shape: Any = tuple(input_shape)
        for layer in self.layers:
            _require_fitting(layer, shape)
            if not layer.built:
                layer.build(shape, self.dtype, rng)
                layer.built = True
            elif again:
                copy.copy(layer).build(shape, self.dtype, rng)  # what it took, for those behind
            shape = layer.output_shape(shape)
        self.input_shape = (None, *(None if isinstance(n, str) else n for n in input_shape[1:]))

    @property
    def params(self) -> dict[str, Array]:
        """Every parameter as "layer/parameter"; the arrays themselves, not copies."""
        self._look_at_layers()
        return {
            f"{layer.name}/{name}": array
            for layer in self.layers
            for name, array in layer.params.items()
        }

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Give the shape of every parameter, without drawing any."""
        shapes: dict[str, tuple[int, ...]] = {}
        shape: Any = self.input_shape
        if shape is None:
            return shapes
        for layer in self.layers:
            for name, parameter in layer.parameters(shape).items():
                shapes[f"{layer.name}/{name}"] = parameter.shape
            shape = layer.output_shape(shape)
        return shapes

    def output_shape(self) -> Shape:
        """Give the shape of the output, None where a size is not known; the model must be built."""
        shape = self.input_shape
        assert shape is not None
        for layer in self.layers:
            shape = layer.output_shape(shape)
        return shape

    def take_parameters(self, arrays: dict[str, Array]) -> None:
        """Take all parameters as "layer/parameter"; the arrays themselves, not copies."""
        self._compiled.clear()
        for layer in self.layers:
            layer.params, layer.built = {}, True
        by_name = {layer.name: layer for layer in self.layers}
        for full_name in self.parameter_shapes():
            layer_name, name = full_name.split("/", 1)
            by_name[layer_name].params[name] = arrays[full_name]

    def get_weights(self) -> list[Array]:
        """Give copies of all parameters, in the order of `params`."""
        return [array.copy() for array in self.params.values()]

    def set_weights(self, weights: Iterable[Any]) -> None:
        """Take all parameters, in the order of `params`."""
        weights = [as_array("set_weights", array, "an array", REAL) for array in weights]
        params = self.params
        if [a.shape for a in weights] != [a.shape for a in params.values()]:
            expected = ", ".join(f"{name} {spell(a.shape)}" for name, a in params.items())
            got = ", ".join(spell(a.shape) for a in weights)
            raise ValueError(f"set_weights: expected {expected or 'a built model'}; got {got}")
        self._compiled.clear()
        for array, new in zip(params.values(), weights, strict=True):
            array[...] = new

    def count_params(self) -> int:
        """Count the numbers in all parameters."""
        return sum(layer.count_params() for layer in self.layers)

    def summary(self, print_fn: Callable[[str], Any] | None = None) -> None:
        """Print a table of the layers: output shapes, parameters, bytes."""
        rows = [("Layer", "Output shape", "Params", "Bytes")]
        self._look_at_layers()
        shape: Any = self.input_shape
        for layer in self.layers:
            shape = None if shape is None else layer.output_shape(shape)
            rows.append(
                (
                    f"{layer.name} ({type(layer).__name__})",
                    _spell_shapes(shape),
                    f"{layer.count_params():,}",
                    f"{sum(array.nbytes for array in layer.params.values()):,}",
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}"
            for a, b, c, d in rows
        ]
        rule = "-" * len(lines[0])
        trainable = sum(array.size for array in self._trainable().values())
        total = self.count_params()
        lines = [f'Model "{self.name}", {self.dtype}', rule, lines[0], rule, *lines[1:], rule]
        lines.append(
            f"{total:,} parameters ({total * self.dtype.itemsize:,} bytes), {trainable:,} trainable"
        )
        (print_fn or _print)("\n".join(lines))

    def __repr__(self) -> str:
        inner = "".join(f"\n    {layer!r}," for layer in self.layers)
        return f"Sequential([{inner}\n], dtype={self.dtype.name!r}, seed={self.seed})"

    def __getstate__(self) -> dict[str, Any]:
        """Give what a copy has: it is in no run, and packs weights of its own."""
        return vars(self) | {"callbacks": [], "_compiled": {}, "_small": {}}

    def get_config(self) -> dict[str, Any]:
        """Describe the model, without its weights, ready for JSON."""
        return {
            "name": self.name,
            "dtype": self.dtype.name,
            "seed": self.seed,
            "input_shape": None if self.input_shape is None else list(self.input_shape),
            "layers": [saving.layer_to_config(layer) for layer in self.layers],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Sequential":
        """Make a model from its description; its weights are yet to be drawn or taken."""
        saving.require_model(config)
        made = [saving.layer_from_config(layer) for layer in config["layers"]]
        model = cls(made, config["dtype"], config["seed"], config["name"])
        if config["input_shape"] is not None:
            model.input_shape = tuple(config["input_shape"])
        return model

    def save(self, path: Any) -> None:
        """Write the model to one .safetensors file, replaced whole or not at all.

        Weights, settings, `extras` and, once compiled, optimiser, history, what stateful layers
        carry and the position in a training run: see `load` and `fit(resume=...)`. What turns texts
        into numbers and numbers into names is saved if the model has been given it: `tokenizer`,
        `labels`, `padding`.

        Parameters
        ----------
        path : str or path
            Where to; ending in .safetensors, or in nothing known. An ending of another library's,
            such as .keras, .h5, .onnx or .pt, is refused: `gru-np convert` writes those.

        Raises
        ------
        ValueError
            The model is not built, or the path says another format.
        OSError
            The system refused; what the path held is still there.

        Examples
        --------
        >>> import os, tempfile
        >>> from gru_np import GRU, Dense, Embedding, Sequential, text
        >>> tokenizer = text.WordTokenizer.fit("good bad good")
        >>> layers = [Embedding(tokenizer.vocab_size, 3), GRU(4), Dense(2, activation="softmax")]
        >>> model = Sequential(layers, seed=0)
        >>> model.build((None, None))
        >>> model.tokenizer, model.labels = tokenizer, ["sour", "sweet"]
        >>> model.padding = {"maxlen": 3, "padding": "post"}
        >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
        >>> model.save(path)
        >>> again = Sequential.load(path)
        >>> ids = text.pad_sequences([again.tokenizer.encode("good bad")], **again.padding)
        >>> again.predict(ids).shape, again.labels
        ((1, 2), ['sour', 'sweet'])
        """
        if not self.built:
            raise ValueError("save: the model must be built first; fit it or call build")
        saving.to_file(self, path)

    @classmethod
    def load(cls, path: Any, allow_nonfinite: bool = False) -> "Sequential":
        """Read a model that `save` wrote; ready to predict, and to go on training.

        Parameters
        ----------
        path : str or path
        allow_nonfinite : bool
            Accept weights that are NaN or infinite, as of a model saved after it diverged.

        Raises
        ------
        CheckpointError
            If the file is damaged, foreign or hostile; nothing in it is ever executed.
        """
        return saving.from_file(cls, path, allow_nonfinite)

    # ------------------------------------------------------------------------------ training

    def compile(
        self,
        *given: Any,
        loss: Any = None,
        optimizer: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
    ) -> None:
        """Say what to minimise, how, and what else to report.

        Parameters
        ----------
        *given
            Loss, optimizer and metrics in this order; in Keras' order, the optimizer first, they
            are understood as well, for nothing is both a loss and an optimizer.
        loss : str or Loss
            "sparse_categorical_crossentropy", "mse", ...; see `gru_np.losses`.
        optimizer : str or Optimizer
            "adam", "sgd", ...; see `gru_np.optimizers`. "rmsprop" if not given.
        metrics : str, Metric or list of these, optional
            "accuracy", "perplexity", ...; see `gru_np.metrics`. They are plain means over all
            samples or time steps but padding and those of the loss's `ignore_class`.
        weighted_metrics : str, Metric or list of these, optional
            Those that sample and class weights apply to.
        """
        from gru_np import metrics as metrics_module

        # All are found before any is set: a wrong name leaves the model as it was.
        loss, optimizer, metrics = _in_order(given, loss, optimizer, metrics)
        found, chosen = losses.get(loss), optimizers.get(optimizer or "rmsprop")
        plain, weighted = (
            [metrics_module.get(metric, found) for metric in _as_list(asked)]
            for asked in (metrics, weighted_metrics)
        )
        if len({id(metric) for metric in (*plain, *weighted)}) < len(plain) + len(weighted):
            raise ValueError("compile: each metric must be an object of its own, got one twice")
        self.metrics, self.weighted_metrics = plain, weighted
        self.loss, self.optimizer = found, chosen
        self.progress = TrainingProgress()

    def fit(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Callback | Iterable[Callback] | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | str | None = None,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        tbptt: int | None = None,
        resume: Any = None,
    ) -> History:
        """Train.

        Parameters
        ----------
        x, y : array
            Inputs (N, ...) and targets (N, ...).
        batch_size : int
            Rows of a batch, 32 if not given.
        epochs : int
            Number of the last epoch.
        verbose : {"auto", 0, 1, 2}
            0 silent, 1 a moving line, 2 a line an epoch; "auto" moves on a terminal only.
        callbacks : Callback or list of Callback, optional
        validation_split : float
            Share of the last rows to keep for validation.
        validation_data : tuple (x, y) or (x, y, sample_weight), optional
            What to validate on after each epoch, as `evaluate` does.
        shuffle : bool or "by_length", optional
            Draw a new order of the rows for each epoch; "by_length" one in which rows with like
            numbers of real steps share a batch, so that little padding is run. If not given it is
            done unless a layer is stateful, whose rows must stay where they are; Keras shuffles
            those too unless told not to.
        class_weight : dict of int to float, optional
            Weight of the samples of each class, or of the time steps; of those trained on, never of
            validation data. See `gru_np.losses.class_weights`.
        sample_weight : (N,) or (N, T) array, optional
            Weight of each sample, or of each time step.
        initial_epoch : int
            Number of the epoch to begin with, from 0.
        tbptt : int, optional
            Truncated backpropagation through time: cut the time axis of x and y into pieces of
            this many steps, train on one after another, carry the recurrent states over and cut
            the gradient there. States begin anew with each batch of rows.
        resume : str or path, optional
            A file that `save` or `ModelCheckpoint` wrote during training. Weights, optimiser,
            callbacks, carried states and position are taken from it, and the run ends with the
            very bits of a run that was never interrupted, given the same data and settings. A file
            saved when no `fit` was under way knows no callbacks: those given begin anew.

        Returns
        -------
        History
            The numbers of every epoch, and of one that was stopped before its end.

        Raises
        ------
        RuntimeError
            The model is in a `fit` already, of another thread or of a callback's caller.

        Notes
        -----
        A model goes on where it stands: four fits of one epoch, also with saving and loading in
        between, end with the bits of one fit of four, orders of rows and dropout included.
        Stateful layers go on from batch to batch, epoch to epoch and fit to fit until
        `reset_states`; validation begins with what they carry and leaves it as it was.
        """
        self._require_compiled("fit")
        batch_size = _batch_size("fit", batch_size)
        if isinstance(shuffle, str):
            require_choice("fit", "shuffle", shuffle, ["by_length"])
        stateful = [layer.name for layer in self.layers if layer.stateful]
        if stateful and shuffle:
            raise ValueError(
                f"fit: shuffle must be off with a stateful layer, whose rows go on from batch to "
                f"batch, got {shuffle!r} and {', '.join(stateful)}; leave it out"
            )
        shuffle = not stateful if shuffle is None else shuffle
        epochs = require_count("fit", "epochs", epochs, least=0)
        initial_epoch = require_count("fit", "initial_epoch", initial_epoch, least=0)
        if verbose not in ("auto", 0, 1, 2):
            raise ValueError(f"fit: verbose must be 'auto', 0, 1 or 2, got {verbose!r}")
        if tbptt is not None:
            tbptt = require_count("fit", "tbptt", tbptt)
            self._require_forward_in_time()
        x, y = self._inputs("fit", x), self._targets("fit", y)
        if not len(x):
            raise ValueError(f"fit: x must have at least one row, got shape {spell(x.shape)}")
        weight = self._sample_weights("fit", x, y, sample_weight)
        self._ensure_built(x)
        if validation_data is None and validation_split:
            (x, y, weight), validation_data = split_validation(x, y, weight, validation_split)
        if validation_data is not None:
            validation_data = self._held_out(validation_data)
        if class_weight is not None:  # of the rows that are left for training
            weight = self._class_weights("fit", y, weight, class_weight)
        self._require_targets("fit", x, y, weight)
        self.optimizer.follow(self.layers)
        if stateful:
            _require_whole_batches(batch_size, x, validation_data)
        watchers = [History(), *_callbacks(callbacks)]
        data = Dataset(x, y, weight, batch_size, tbptt)
        with self._in_fit():
            return self._fit(data, epochs, verbose, watchers, validation_data, shuffle,
                             initial_epoch, resume)  # fmt: skip

    def _fit(
        self,
        data: Dataset,
        epochs: int,
        verbose: Any,
        watchers: list[Any],
        validation_data: Any,
        shuffle: bool | str,
        initial_epoch: int,
        resume: Any,
    ) -> History:
        """Train, all arguments of `fit` having been looked at."""
        x, history = data.x, watchers[0]
        self._ensure_built(x)
        in_tokens = x.ndim == 2 and isinstance(self.layers[0], Embedding)
        level = (1 if _console.is_terminal() else 2) if verbose == "auto" else int(verbose)
        line = Progress("tokens" if in_tokens else "samples", bar=level == 1)
        tell = CallbackList(
            [*watchers, *([line] if level else [])],
            self,
            {"epochs": epochs, "steps": len(data), "verbose": level},
        )
        names = self.log_names()
        if validation_data is not None:
            names += [f"val_{name}" for name in names]
        tell.require(names)  # before anything is changed
        before = self.progress
        passes = before.passes + (before.batch > 0)
        self.progress = TrainingProgress(
            initial_epoch, steps=len(data), passes=max(passes, initial_epoch)
        )
        self.stop_training = False
        tell("reset_state")
        if resume is not None:
            try:
                saving.restore_training(self, resume, watchers, len(data))
            except BaseException:
                self.progress = before
                raise
        self.history, self.callbacks = history, watchers
        try:
            tell("on_train_begin", {})
            tell.require(names)  # once more: a file has to hold the state of all callbacks
            with kernels.chosen_for(*training.work(self.layers, x, data.batch_size, epochs)):
                logs = training.run(self, data, epochs, shuffle, validation_data, tell, line)
            tell("on_train_end", logs)
        except BaseException:
            tell("on_train_error")
            raise
        finally:
            self.callbacks = []
        return history

    @contextmanager
    def _in_fit(self) -> Iterator[None]:
        """Keep all others out while this model trains."""
        with _entrance:
            if self in _in_fit:
                raise RuntimeError(
                    "fit: the model is in a fit already, of another thread or of the callback that "
                    "asks; wait until that one has ended, or train a copy, copy.deepcopy(model)"
                )
            _in_fit.add(self)
        try:
            yield
        finally:
            with _entrance:
                _in_fit.discard(self)

    def _train_step(
        self,
        x: Array,
        y: Array | None,
        weight: Array | None,
        states: States | None = None,
        rows: Any = None,
    ) -> States:
        """Take one optimiser step on one batch; give the states at its end.

        `rows` are the numbers of the batch's rows in the user's arrays.
        """
        self.optimizer.follow(self.layers)
        carried = [layer.state for layer in self.layers]
        try:
            states, gradients = self._look_at_batch(x, y, weight, states, rows)
            self._compiled.clear()
            self.optimizer.apply(self._trainable(), gradients)
        except BaseException:
            self._put_states(carried)  # half a step is none
            raise
        for layer in self.layers:
            if layer.trainable:
                layer.constrain()
        return states

    def _look_at_batch(
        self, x: Array, y: Array | None, weight: Array | None, states: States | None, rows: Any
    ) -> tuple[States, Gradients]:
        """Go down and back once, and take the batch in to all means: end states and gradients."""
        small = small_steps.find(self._small, self.layers, self.loss, x)
        if small is not None and weight is None and y is not None:
            value, logits, saved, after = small.run(x, y, states)
            down, gradients = Pass(logits, None, saved, after), small.gradients
        else:
            rng = None
            if any(layer.random for layer in self.layers):
                # Dropout is a pure function of the seed and the step, so a resumed run repeats it.
                rng = np.random.default_rng([self.seed, 1, self.optimizer.iterations])
            down = self._forward(x, training=True, states=states, fused=True, rng=rng)
            value, dy = self._loss_and_gradient(down, y, weight)
            gradients = self._backward(dy, down.saved)
        norm = health.gradient_norm(gradients)
        if not math.isfinite(float(value) + norm):
            where = f"fit: step {self.optimizer.iterations + 1}, loss {float(value)}"
            kept = "the weights are those before this step"
            found = health.blame_data(self.layers, x, y, weight, down.mask)
            if found is not None:
                what, number, row = found
                row = row if rows is None else int(rows[row])
                raise health.NonFiniteError(
                    f"{where}: {what} holds {number} in row {row}; {kept}; fill it in, mask it or "
                    "leave the row out"
                )
            raise health.NonFiniteError(
                f"{where}: {health.blame(self.layers, down.saved, gradients)}; {kept}; lower the "
                "learning rate or clip the gradient"
            )
        for callback in self.callbacks:
            callback.on_gradient(norm, down.saved)
        # before the weights change, for metrics may ask for the predictions only now
        self._track(value, down, y, weight)
        return down.states, gradients

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None
    ) -> Any:
        """Take one optimiser step on one batch; give the loss, or [loss, metrics...]."""
        self._require_compiled("train_on_batch")
        x, y = self._inputs("train_on_batch", x), self._targets("train_on_batch", y)
        weight = self._sample_weights("train_on_batch", x, y, sample_weight)
        self._ensure_built(x)
        if class_weight is not None:
            weight = self._class_weights("train_on_batch", y, weight, class_weight)
        self._reset_trackers()
        self._train_step(x, y, weight)
        return _scalar_or_list(self._logs())

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = 0,
        sample_weight: Any = None,
        return_dict: bool = False,
        tbptt: int | None = None,
    ) -> Any:
        """Measure loss and metrics without training.

        Stateful layers begin with what they carry, go on from batch to batch, and carry afterwards
        what they did before; in Keras they carry the end of the data.

        Parameters
        ----------
        x, y, batch_size, sample_weight
            As for `fit`.
        verbose : int
            1 or 2 prints the numbers; 1 shows how far it is, too.
        return_dict : bool
            Give a dict rather than the loss, or the list [loss, metrics...].
        tbptt : int, optional
            Read the time axis in pieces of this length, states carried: the same numbers in less
            memory.
        """
        self._require_compiled("evaluate")
        batch_size = _batch_size("evaluate", batch_size)
        title = "Evaluating" if verbose == 1 else ""
        logs = self.measure(x, y, sample_weight, batch_size, tbptt, title)
        if verbose in (1, 2):
            _print(" - ".join(f"{name}: {value:.4f}" for name, value in logs.items()))
        return logs if return_dict else _scalar_or_list(logs)

    def measure(
        self,
        x: Any,
        y: Any,
        sample_weight: Any = None,
        batch_size: int = 32,
        tbptt: int | None = None,
        title: str = "",
    ) -> dict[str, float]:
        """Give what `evaluate` does, by name.

        With a title a moving line on standard error says how far it is, if it takes two seconds.
        """
        x, y = self._inputs("evaluate", x), self._targets("evaluate", y)
        if not len(x):
            raise ValueError(f"evaluate: x must have at least one row, got shape {spell(x.shape)}")
        weight = self._sample_weights("evaluate", x, y, sample_weight)
        self._ensure_built(x)
        kept = [tracker.get_state() for tracker in self.trackers()]
        self._reset_trackers()
        states: States | None = None
        data = Dataset(x, y, weight, batch_size, tbptt)
        line = MovingLine(title, len(data), sys.stderr, delay=2) if title else None
        with self._states_kept():
            for number, batch in enumerate(data.batches(), start=1):
                down = self._forward(
                    batch.x, states=None if batch.fresh else states, fused=True, inference=True
                )
                value, _ = self._loss_and_gradient(down, batch.y, batch.weight)
                self._track(value, down, batch.y, batch.weight)
                states = None if tbptt is None else down.states
                if line is not None:
                    line.move_to(number)
        if line is not None:
            line.close()
        logs = self._logs()
        for tracker, state in zip(self.trackers(), kept, strict=True):
            tracker.set_state(state)
        return logs

    def predict(self, x: Any, batch_size: int | None = None, verbose: Any = 0) -> Any:
        """Compute the output for inputs (N, ...), a batch at a time; needs no compile.

        Stateful layers go on from batch to batch and from call to call; see `reset_states`.
        It is one array, or a tuple if the last layer gives several (`return_state=True`).
        """
        x = self._inputs("predict", x)
        batch_size = _batch_size("predict", batch_size)
        self._ensure_built(x)
        batches = Dataset(x, batch_size=batch_size).batches()
        before = [layer.state for layer in self.layers]
        try:
            outputs = [self._forward(batch.x, inference=True).y for batch in batches]
        except BaseException:
            self._put_states(before)  # half a prediction is none
            raise
        if not outputs:
            return self._forward(x, inference=True).y
        if isinstance(outputs[0], tuple):
            return tuple(map(np.concatenate, zip(*outputs, strict=True)))
        return np.concatenate(outputs)

    def __call__(self, x: Any, training: bool = False) -> Array:
        """Compute the output for one batch; states that layers carry stay as they were.

        (In Keras a call moves them; here that is for `predict` and `fit`.)
        With `training=True` every call draws its own dropout masks, from the model's seed.
        """
        x = self._inputs("call", x)
        self._ensure_built(x)
        rng = None
        if training:
            rng = np.random.default_rng([self.seed, 3, self._calls])
            self._calls += 1
        with self._states_kept():
            return self._forward(x, training=training, inference=True, rng=rng).y

    def step(
        self, x: Any, state: States | None = None, logits: bool = False
    ) -> tuple[Array, States]:
        """Take one time step: feed x, get the output and the state to give with the next x.

        Parameters
        ----------
        x : (B,) int or (B, I) float
            Token ids if the first layer is an Embedding, else input vectors.
        state : list, optional
            From the step before; None begins a sequence. It is yours: nothing is kept here.
        logits : bool
            Stop short of a softmax or sigmoid at the end.

        Notes
        -----
        In a model of GRUs between an Embedding and a Dense layer a step is one compiled call on
        packed copies of the weights. They are packed when a sequence begins, so weights that you
        change by hand are seen from the next beginning on.

        Returns
        -------
        y : (B, ...)
            What `predict` gives for this time step of a sequence fed so far.
        state : list
        """
        compiled = self._compiled.get(logits)
        if state is not None and compiled is not None and compiled.all == self.layers:
            done = compiled.again(x, state)
            if done is not None:
                return done
        x = self._inputs("step", x)
        if not self.built:
            raise ValueError("step: the model must be built first; fit it, load it or call build")
        states: States = [None] * len(self.layers) if state is None else state
        if len(states) != len(self.layers):
            raise ValueError(
                f"step: state must have one entry for each of the {len(self.layers)} layers, got "
                f"{len(states)}; give the state that the step before returned"
            )
        compiled = self._compiled_step(logits, begins=state is None)
        if compiled is not None:
            return compiled.step(x, states)
        after: States = []
        y: Array = x
        for layer, before in zip(self.layers, states, strict=True):
            if logits and layer is self.layers[-1] and isinstance(layer, Dense):
                y, new = _logits(layer, y), None
            else:
                y, new = layer.step(y, before)
            after.append(new)
        return y, after

    def _compiled_step(self, logits: bool, begins: bool) -> streaming.CompiledStep | None:
        """Give the step in one compiled call, if there is one; weights are read as it begins."""
        compiled = self._compiled.get(logits)  # another thread may clear them at any time
        if begins or compiled is None:
            if not streaming.compiles(self.layers):
                return None
            compiled = self._compiled[logits] = streaming.CompiledStep(self.layers, logits)
        return compiled

    # --------------------------------------------------------------------- what layers carry

    def reset_states(self) -> None:
        """Forget what stateful layers carry from batch to batch: the next begins a sequence."""
        for layer in self.layers:
            layer.reset_states()

    @contextmanager
    def _states_kept(self) -> Iterator[None]:
        """Leave what layers carry as it was, whatever runs inside."""
        before = [layer.state for layer in self.layers]
        try:
            yield
        finally:
            self._put_states(before)

    def _put_states(self, states: list[Any]) -> None:
        for layer, state in zip(self.layers, states, strict=True):
            if layer.state is not state:
                layer.state = state

    # ---------------------------------------------------------------- one way down, one way back

    def _forward(
        self,
        x: Array,
        training: bool = False,
        states: States | None = None,
        fused: bool = False,
        rng: Generator | None = None,
        inference: bool = False,
    ) -> Pass:
        """Run the layers; `fused` leaves the last activation to the loss where it can take it.

        After `inference` there can be no way back, and less is kept. `rng` draws what is random
        in training.
        """
        y, mask = x, None
        saved: list[Any] = []
        after: States = []
        last = self._fused_layer() if fused else None
        for i, layer in enumerate(self.layers):
            options: dict[str, Any] = {"mask": mask, "training": training, "rng": rng}
            if inference and takes(layer.forward, "inference"):
                options["inference"] = True
            if states is not None and states[i] is not None:
                options["initial_state"] = states[i]
            if layer is last:
                options["activate"], options["put_off"] = False, True
            y_next, keep = layer.forward(y, **options)
            mask = layer.compute_mask(y, mask)
            y = y_next
            saved.append(keep)
            after.append(layer.last_state(keep))
        return Pass(y, mask, saved, after)

    def _backward(self, dy: Any, saved: list[Any]) -> Gradients:
        """From the gradient by the output to the gradients by all trainable parameters."""
        gradients: Gradients = {}
        tied: Gradients = {}  # by tables that serve as a Dense layer's weights too
        for layer, keep in zip(reversed(self.layers), reversed(saved), strict=True):
            dy, of_layer = layer.backward(dy, keep)
            if layer.trainable:
                gradients |= {
                    f"{layer.name}/{name}": of_layer[name]
                    for name in layer.params
                    if name not in layer.fixed
                }
                if layer.is_penalised:
                    for name, of_penalty in layer.penalty()[1].items():
                        gradients[f"{layer.name}/{name}"] = of_layer[name] + of_penalty
            if isinstance(layer, Dense) and layer.tied is not None:
                tied[f"{layer.tied.name}/W"] = of_layer["W"]
        for name in tied.keys() & gradients.keys():
            gradients[name] += tied[name]  # a new array, of the table alone so far
        return gradients

    def _loss_and_gradient(
        self, down: Pass, y: Array | None, weight: Array | None
    ) -> tuple[Any, Array]:
        assert self.loss is not None
        options = {"from_logits": True} if self._fused_layer() is not None else {}
        value, dy = self.loss(y, down.y, sample_weight=weight, mask=down.mask, **options)
        for layer in self.layers:
            if layer.trainable and layer.is_penalised:
                value = value + layer.penalty()[0]
        return value, dy

    def _fused_layer(self) -> Dense | None:
        """Give the last layer if the loss can take the place of its activation, else None."""
        last = self.layers[-1] if self.layers else None
        fuses = (
            is_just(last, Dense)
            and self.loss is not None
            and self.loss.fused_with is not None
            and takes(type(self.loss).__call__, "from_logits")
            and (last.activation or "linear") == self.loss.fused_with
        )
        return last if fuses else None  # type: ignore[return-value]

    def compute_loss(self, x: Any, y: Any, sample_weight: Any = None) -> Any:
        """Give the loss of one batch, without training, in the precision of its arrays."""
        self._require_compiled("compute_loss")
        x, y = self._inputs("compute_loss", x), self._targets("compute_loss", y)
        self._ensure_built(x)
        with self._states_kept():
            down = self._forward(x, fused=True)
        return self._loss_and_gradient(down, y, sample_weight)[0]

    def compute_gradients(self, x: Any, y: Any, sample_weight: Any = None) -> tuple[Any, Gradients]:
        """Give the loss of one batch and its gradient by every trainable parameter."""
        self._require_compiled("compute_gradients")
        x, y = self._inputs("compute_gradients", x), self._targets("compute_gradients", y)
        self._ensure_built(x)
        with self._states_kept():
            down = self._forward(x, fused=True)
        value, dy = self._loss_and_gradient(down, y, sample_weight)
        return value, self._backward(dy, down.saved)

    def _trainable(self) -> dict[str, Array]:
        return {
            f"{layer.name}/{name}": array
            for layer in self.layers
            if layer.trainable
            for name, array in layer.params.items()
            if name not in layer.fixed
        }

    # -------------------------------------------------------------------------- loss and metrics

    def trackers(self) -> list[Any]:
        """Give what keeps the means of an epoch: the loss, then the metrics, weighted ones last."""
        if not hasattr(self, "_mean_loss"):
            self._mean_loss = metrics.Mean("loss")
        return [self._mean_loss, *self.metrics, *self.weighted_metrics]

    def _reset_trackers(self) -> None:
        for tracker in self.trackers():
            tracker.reset()

    def _track(self, value: Any, down: Pass, y: Array | None, weight: Array | None) -> None:
        """Add a batch to all means: padding and an ignored class never count, for none of them."""
        assert self.loss is not None
        shape = down.y.shape
        mask = self.loss.counted(y, shape, down.mask)
        count = math.prod(shape[:-1]) if len(shape) > 1 else shape[0]
        if self.loss.per_sequence:
            count = shape[0]
        elif mask is not None and mask.size:
            count = np.count_nonzero(mask) * (count // mask.size)
        self.trackers()[0].add(float(value), count)

        counts = getattr(down.y, "counts", None)
        plain = not any(layer.trainable and layer.is_penalised for layer in self.layers)
        fused, y_pred = self._fused_layer(), None
        for kind, w in ((self.metrics, None), (self.weighted_metrics, weight)):
            same = w is weight  # what the loss has counted was weighed alike
            for metric in kind:
                if same and counts is not None and metric.take_counts(counts):
                    continue
                if y_pred is None:
                    y_pred = down.y if fused is None else fused.activate(np.asarray(down.y))
                metric.update(
                    y,
                    y_pred,
                    sample_weight=w,
                    mask=mask,
                    loss=value if same and plain else None,
                )

    def _logs(self) -> dict[str, float]:
        trackers = zip(self.log_names(), self.trackers(), strict=True)
        return {name: float(tracker.result()) for name, tracker in trackers}

    def log_names(self) -> list[str]:
        """Give the names of loss and metrics in logs, in the order of `trackers`."""
        return ["loss", *metrics.names_in_logs(self.metrics, self.weighted_metrics)]

    # ------------------------------------------------------------------------------- what enters

    def _inputs(self, who: str, x: Any) -> Array:
        if self.layers and isinstance(self.layers[0], Embedding):
            x = self.layers[0].require_ids(x)
        else:
            x = as_floats(who, x, real=True).astype(self.dtype, copy=False)
        if not x.ndim:
            raise ValueError(f"{who}: x must be an array of rows, got the number {x}")
        # Sums of products depend on how numbers lie in memory, by their last digit.
        return np.ascontiguousarray(x)

    def _targets(self, who: str, y: Any) -> Array | None:
        if y is None:
            if self.loss is not None and type(self.loss) in losses.LOSSES.values():
                raise ValueError(f"{who}: y must be given, for {self.loss.name} compares with it")
            return None
        y = as_array(who, y, "y", REAL, advice=LABELS)
        if not y.ndim:
            raise ValueError(f"{who}: y must be an array of rows, got the number {y}")
        return y.astype(self.dtype, copy=False) if y.dtype.kind == "f" else y

    def _sample_weights(
        self, who: str, x: Array, y: Array | None, sample_weight: Any
    ) -> Array | None:
        if y is not None and len(x) != len(y):
            raise ValueError(
                f"{who}: x and y must have the same number of rows, got {len(x)} and {len(y)}"
            )
        weight = None
        if sample_weight is not None:
            weight = as_weights(who, sample_weight).astype(self.dtype, copy=False)
        if weight is not None and weight.shape[:1] != x.shape[:1]:
            raise ValueError(
                f"{who}: sample_weight must have one entry for each of the {len(x)} rows, "
                f"got shape {spell(weight.shape)}"
            )
        return weight

    def _held_out(self, data: Any) -> tuple[Array, Array | None, Array | None]:
        """Give validation data as arrays; what is wrong with them must not wait for an epoch."""
        if not isinstance(data, list | tuple) or len(data) not in (2, 3):
            raise ValueError("fit: validation_data must be (x, y) or (x, y, sample_weight)")
        who = "fit: validation_data"
        x, y = self._inputs(who, data[0]), self._targets(who, data[1])
        if not len(x):
            raise ValueError(f"{who}: x must have at least one row, got shape {spell(x.shape)}")
        weight = self._sample_weights(who, x, y, data[2] if len(data) == 3 else None)
        self._require_like_training(who, x, y, weight)
        # A mean over nothing is 0, the best loss there is.
        if weight is not None and not weight.any():
            raise ValueError(f"{who}: sample_weight must not be zero everywhere")
        ignored = getattr(self.loss, "ignore_class", None)
        if y is not None and ignored is not None and (y == ignored).all():
            raise ValueError(f"{who}: y must have labels other than {ignored}, which is ignored")
        return x, y, weight

    def _require_like_training(
        self, who: str, x: Array, y: Array | None, weight: Array | None
    ) -> None:
        """Raise what the layers and the loss would, as far as shapes and labels tell."""
        assert self.input_shape is not None
        ids = isinstance(self.layers[0], Embedding)
        if x.ndim != len(self.input_shape) or (not ids and x.shape[-1] != self.input_shape[-1]):
            raise ValueError(
                f"{who}: x must have shape {spell(('batch', *self.input_shape[1:]))}, as for "
                f"training, got {spell(x.shape)}"
            )
        self._require_targets(who, x, y, weight)

    def _require_targets(self, who: str, x: Array, y: Array | None, weight: Array | None) -> None:
        """Raise what the loss would of targets, in whichever batch they come."""
        shape: Shape = x.shape
        for layer in self.layers:
            shape = layer.output_shape(shape)
        if y is not None and None not in shape and type(self.loss) in losses.LOSSES.values():
            masked = any(
                isinstance(layer, Masking) or getattr(layer, "mask_zero", False)
                for layer in self.layers
            )
            self.loss.require_targets(who, y, shape, weight, masked)  # type: ignore[union-attr]

    def _class_weights(
        self, who: str, y: Array | None, weight: Array | None, class_weight: Any
    ) -> Array:
        """Give the weight of each position: that of its class, times the sample's own."""
        if y is None:
            raise ValueError(f"{who}: class_weight needs targets y")
        of_class = self._require_compiled(who).weigh(y, class_weight, self.output_shape())
        of_class = of_class.astype(self.dtype, copy=False)
        return of_class if weight is None else (of_class.T * weight.T).T

    def _ensure_built(self, x: Array) -> None:
        if not self.layers:
            raise ValueError("Sequential: the model has no layers; add some")
        if not self.built:
            self.build((None, *x.shape[1:]))

    def _require_compiled(self, who: str) -> losses.Loss:
        if self.loss is None:
            raise ValueError(f"{who}: the model must be compiled first, with a loss")
        return self.loss

    def _require_forward_in_time(self) -> None:
        for layer in self.layers:
            backwards = isinstance(layer, Bidirectional) or getattr(layer, "go_backwards", False)
            if backwards or not getattr(layer, "return_sequences", True):
                raise ValueError(
                    f"fit: tbptt carries states forward in time and needs an output at each step; "
                    f"{layer.name} must read forward only and have return_sequences=True"
                )
            own = type(layer).forward is not GRU.forward
            if isinstance(layer, GRU) and own and type(layer).last_state is GRU.last_state:
                raise ValueError(
                    f"fit: tbptt carries states forward in time; {layer.name} "
                    f"({type(layer).__name__}) has a forward of its own and must say by a "
                    "last_state(saved) of its own what to carry"
                )


def _callbacks(given: Any) -> list[Callback]:
    """Give the callbacks as a list, be it one or none, or raise."""
    given = [given] if isinstance(given, Callback) else given or ()
    if isinstance(given, Callback | type | str) or not isinstance(given, Iterable):
        raise TypeError(f"fit: callbacks must be a list of Callback objects, got {given!r}")
    return list(given)


def _in_order(
    given: tuple[Any, ...], loss: Any, optimizer: Any, metrics: Any
) -> tuple[Any, Any, Any]:
    """Tell which argument of `compile` is which, by position in our order or in Keras'."""
    asked = {"loss": loss, "optimizer": optimizer, "metrics": metrics}
    keras = bool(given) and optimizers.is_one(given[0])
    names = ("optimizer", "loss", "metrics") if keras else tuple(asked)
    if len(given) > len(names):
        raise TypeError(
            f"compile: at most {', '.join(names)} may be given by position, got {len(given)} values"
        )
    for name, value in zip(names, given, strict=False):
        if asked[name] is not None:
            raise TypeError(f"compile: {name} is given twice, {value!r} and {asked[name]!r}")
        asked[name] = value
    if asked["loss"] is None:
        raise ValueError('compile: a loss must be given, such as "mse", got none')
    return asked["loss"], asked["optimizer"], asked["metrics"]


def _as_list(given: Any) -> list[Any]:
    """Give metrics as a list, be it one or none."""
    one = given is not None and not isinstance(given, list | tuple)
    return [given] if one else list(given or ())


def _admit(layer: Any, before: list[Layer]) -> None:
    """Make a layer ready to stand behind these, with a name and ties of its own, or raise."""
    if not isinstance(layer, Layer):
        raise TypeError(f"Sequential: layers must be gru_np layers, got {layer!r}")
    if "/" in layer.name or layer.name == "training":
        raise ValueError(
            f"Sequential: a layer's name must have no slash and not be 'training', which a file "
            f"keeps for itself, got {layer.name!r}"
        )
    if any(layer is other for other in before):
        raise ValueError(
            f"Sequential: {layer.name} is in the model already; each place needs a layer of its own"
        )
    _require_one_array(before[-1:])
    taken = {other.name for other in before}
    base, number = layer.name, 1
    while layer.name in taken:
        layer.name, number = f"{base}_{number}", number + 1
    if isinstance(layer, Dense) and layer.tied_to is not None:
        named: list[Layer] = [other for other in before if other is layer.tied]
        named = named or [other for other in before if other.name == layer.tied_to]
        if not named or not isinstance(named[0], Embedding):
            raise ValueError(
                f"Sequential: {layer.name} is tied to {layer.tied_to!r}, and no Embedding of that "
                "name comes before it"
            )
        layer.tie(named[0])


def _require_fitting(layer: Layer, shape: Shape) -> None:
    """Raise unless a layer that has its arrays can take inputs of this shape."""
    for name, parameter in layer.parameters(shape).items() if layer.built else ():
        found = layer.params[name].shape if name in layer.params else ()
        if found != parameter.shape:
            raise ValueError(
                f"Sequential: {layer.name} has {name} {spell(found)}, and what comes before it "
                f"needs {spell(parameter.shape)}; put a new layer in its place"
            )


def _require_whole_batches(batch_size: int, x: Array, validation_data: Any) -> None:
    """Raise unless all batches have the rows of the first, as stateful layers need."""
    rows = min(batch_size, len(x))
    held_out = None if validation_data is None else validation_data[0]
    for what, array in (("x", x), ("the x of validation_data", held_out)):
        if array is not None and len(array) % rows:
            raise ValueError(
                f"fit: a stateful layer carries the {rows} rows of a batch into the next, so "
                f"{what} must have a multiple of {rows} rows, got {len(array)}"
            )


def _logits(last: Dense, x: Array) -> Array:
    """Give what a last layer computes short of its activation."""
    if takes(last.forward, "activate"):
        return last.forward(x, activate=False)[0]
    if (last.activation or "linear") != "linear":
        raise ValueError(
            f"step: logits need a last layer whose forward takes activate=False, and "
            f"{last.name} ({type(last).__name__}) has a forward of its own without it"
        )
    return last.forward(x)[0]


def _spell_shapes(shape: Any) -> str:
    if shape is None:
        return "unknown until built"
    return ", ".join(map(spell, shape)) if isinstance(shape, list) else spell(shape)


def _require_one_array(layers: Iterable[Layer]) -> None:
    """Raise unless each of these layers, which others follow, has one output."""
    for layer in layers:
        if layer.several_by:
            raise ValueError(
                f"Sequential: {layer.name} has {layer.several_by}, which gives several arrays, and "
                "the layer behind it takes one; only a last layer may have it"
            )


def _batch_size(who: str, given: int | None) -> int:
    return 32 if given is None else require_count(who, "batch_size", given)


def _print(text: str) -> None:
    _console.show(text + "\n")


def _scalar_or_list(logs: dict[str, float]) -> Any:
    values = list(logs.values())
    return values[0] if len(values) == 1 else values
