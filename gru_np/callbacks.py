"""What may look on while a model trains: history, progress, early stopping, checkpoints, logs.

Callbacks only read, but for two levers: `model.stop_training` and the optimiser's learning rate.
Each can give its state (`get_state`) and take it back, so that a resumed run is the same run.
"""

import math
import sys
import time
from collections.abc import Callable, Iterable
from typing import IO, Any

import numpy as np

from gru_np import _plotting
from gru_np._checks import require_choice

Logs = dict[str, float]


class Callback:
    """Base of all callbacks; every method does nothing until a subclass says otherwise.

    Attributes
    ----------
    model : Sequential
        The model in training.
    params : dict
        "epochs", "steps" (batches an epoch), "verbose".

    Examples
    --------
    >>> from gru_np.callbacks import Callback
    >>> class Shout(Callback):
    ...     def on_epoch_end(self, epoch, logs):
    ...         print(f"epoch {epoch}: {logs['loss']:.1f}!")
    >>> Shout().on_epoch_end(0, {"loss": 0.25})
    epoch 0: 0.2!
    """

    # Callbacks that write the training state go last, so that they write the state of the others
    # as it is after the same event.
    goes_last = False

    def __init__(self) -> None:
        self.model: Any = None
        self.params: dict[str, Any] = {}

    def on_train_begin(self, logs: Logs) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs) -> None:
        """After the last epoch, also when training was stopped."""

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """Before an epoch; epochs count from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """After an epoch and its validation; logs has the means over the epoch."""

    def on_train_batch_begin(self, batch: int, logs: Logs) -> None:
        """Before a batch."""

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """After a batch; logs has the means over the epoch so far."""

    def on_nonfinite(self, batch: int, error: FloatingPointError) -> bool:
        """After a step that changed nothing, its loss or gradient NaN; True keeps the error in."""
        return False

    def get_state(self) -> dict[str, Any]:
        """Give what a resumed run needs: numbers, strings, None, arrays."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_state` gave."""


class History(Callback):
    """The record that `fit` returns.

    Attributes
    ----------
    history : dict of str to list
        One number an epoch for "loss", each metric, and "val_..." of each if there is validation.
    epoch : list of int
        The epochs, from 0.

    Examples
    --------
    >>> from gru_np.callbacks import History
    >>> history = History()
    >>> history.on_epoch_end(0, {"loss": 1.5})
    >>> history
    epoch    loss
        1  1.5000
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Note the numbers of the epoch."""
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def plot(self, names: Iterable[str] | None = None, axes: Any = None) -> Any:
        """Draw the learning curves, one picture for each number, with its validation beside it.

        Parameters
        ----------
        names : iterable of str, optional
            Which numbers; all but "val_..." if not given.
        axes : sequence of axes, optional
            Where to draw, one for each name; new ones if not given. Needs the extra `plot`.

        Returns
        -------
        array of axes

        Examples
        --------
        >>> import matplotlib
        >>> matplotlib.use("Agg")
        >>> from gru_np.callbacks import History
        >>> history = History()
        >>> for epoch in range(3):
        ...     history.on_epoch_end(epoch, {"loss": 1 / (epoch + 1), "val_loss": 1.0})
        >>> [axis.get_ylabel() for axis in history.plot()]
        ['loss']
        """
        plain = [name for name in self.history if not name.startswith("val_")]
        names = plain if names is None else list(names)
        for name in names:
            require_choice("History.plot", "names", name, list(self.history))
        plt = _plotting.pyplot("History.plot")
        if axes is None:
            _, axes = plt.subplots(
                1, max(len(names), 1), figsize=(4.6 * max(len(names), 1), 3.2), squeeze=False,
                layout="constrained",
            )  # fmt: skip
        axes = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
        epochs = [epoch + 1 for epoch in self.epoch]
        for axis, name in zip(axes, names, strict=False):
            for k, key in enumerate((name, f"val_{name}")):
                if key in self.history:
                    label = "validation" if k else "training"
                    axis.plot(
                        epochs, self.history[key], label=label,
                        **_plotting.style(k, len(epochs)),
                    )  # fmt: skip
            axis.set_xlabel("epoch")
            axis.set_ylabel(name.replace("_", " "))
            axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            axis.grid(axis="y", color="0.9", linewidth=0.6)
            axis.spines[["top", "right"]].set_visible(False)
            if f"val_{name}" in self.history:
                axis.legend(frameon=False, fontsize=9)
        return axes

    def get_state(self) -> dict[str, Any]:
        """Give the record."""
        return {"epoch": self.epoch, "history": self.history}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the record back."""
        self.epoch, self.history = state["epoch"], state["history"]

    def __repr__(self) -> str:
        names = list(self.history)
        widths = [max(len(name), 6) for name in names]
        lines = ["  ".join(["epoch", *(f"{n:>{w}}" for n, w in zip(names, widths, strict=True))])]
        for i, epoch in enumerate(self.epoch):
            cells = (
                f"{spell_number(self.history[n][i]):>{w}}"
                for n, w in zip(names, widths, strict=True)
            )
            lines.append("  ".join([f"{epoch + 1:5d}", *cells]))
        return "\n".join(lines)


def spell_number(value: float) -> str:
    """Write a number as Keras' progress line does: four decimals, an exponent if it is tiny."""
    return f"{value:.4f}" if value == 0 or abs(value) > 1e-3 or value != value else f"{value:.4e}"


def spell_logs(logs: Logs) -> str:
    """Write the numbers of an epoch in one line."""
    return " - ".join(f"{name}: {spell_number(value)}" for name, value in logs.items())


class Progress(Callback):
    """A moving line with loss, speed and time left on a terminal; elsewhere one line an epoch.

    Parameters
    ----------
    unit : str
        What is counted: "samples" or "tokens".
    bar : bool
        Whether to move.
    stream : text file, optional
        Where to write; standard output.

    Examples
    --------
    >>> from gru_np.callbacks import Progress
    >>> line = Progress("samples", bar=False)
    >>> line.params = {"epochs": 2}
    >>> line.on_epoch_begin(0, {})
    >>> line.on_epoch_end(0, {"loss": 0.5})  # doctest: +ELLIPSIS
    Epoch 1/2 - ...s - loss: 0.5000
    """

    def __init__(self, unit: str, bar: bool, stream: IO[str] | None = None):
        super().__init__()
        self.unit = unit
        self.stream = stream
        self.bar = bar
        self.count = 0  # samples or tokens of this epoch, told by the model
        self._line: Any = None
        self._began = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """Begin a line."""
        self.count, self._began = 0, time.perf_counter()
        if self.bar:
            self._line = _moving_line(
                f"Epoch {epoch + 1}/{self.params['epochs']}", self.params["steps"], self.stream
            )

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """Move the line."""
        if self._line is not None:
            self._line.set_postfix_str(f"{spell_logs(logs)} - {self._speed()}", refresh=False)
            self._line.update(batch + 1 - self._line.n)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """End the line with the numbers of the epoch."""
        if self._line is not None:
            self._line.close()
            self._line = None
        seconds = time.perf_counter() - self._began
        speed = f" - {self._speed()}" if self.count else ""
        out = self.stream or sys.stdout
        out.write(
            f"Epoch {epoch + 1}/{self.params['epochs']} - {seconds:.1f}s{speed} - "
            f"{spell_logs(logs)}\n"
        )
        out.flush()

    def on_train_end(self, logs: Logs) -> None:
        """Leave the terminal tidy when training stopped in mid-epoch."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def _speed(self) -> str:
        speed = self.count / max(time.perf_counter() - self._began, 1e-9)
        amount = f"{speed / 1000:.1f}k" if speed >= 1000 else f"{speed:.0f}"
        return f"{amount} {self.unit}/s"


def _moving_line(title: str, total: int, stream: IO[str] | None) -> Any:
    """Give a tqdm line, or None where tqdm is not installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(
        total=total, desc=title, file=stream or sys.stdout, leave=False, dynamic_ncols=True,
        bar_format="{desc} {percentage:3.0f}%|{bar:16}| {n_fmt}/{total_fmt} "
        "[{elapsed}<{remaining}] {postfix}",
    )  # fmt: skip


class _Monitor(Callback):
    """What watches one number and knows whether it got better."""

    def __init__(self, monitor: str, mode: str, min_delta: float):
        super().__init__()
        require_choice(type(self).__name__, "mode", mode, ["auto", "min", "max"])
        self.monitor = monitor
        self.mode = mode
        self.min_delta = abs(min_delta)
        self.best: float | None = None

    def read(self, logs: Logs) -> float:
        """Give the watched number, or say what there is to watch."""
        if self.monitor not in logs:
            raise ValueError(
                f"{type(self).__name__}: monitor must be one of {', '.join(map(repr, logs))}, "
                f"got {self.monitor!r}"
                + ("; give validation_data" if self.monitor.startswith("val_") else "")
            )
        return logs[self.monitor]

    def is_better(self, value: float, best: float | None) -> bool:
        """Answer whether value beats best by at least min_delta."""
        if best is None or math.isnan(best):
            return not math.isnan(value)
        largest = self.mode == "max" or (
            self.mode == "auto" and any(word in self.monitor for word in ("acc", "top_k", "auc"))
        )
        gain = value - best if largest else best - value
        return gain > self.min_delta


class EarlyStopping(_Monitor):
    """Stop when a number has not improved for some epochs.

    Parameters
    ----------
    monitor : str
        The number to watch, by its name in the logs.
    min_delta : float
        The least change that counts.
    patience : int
        Epochs without improvement to wait for.
    verbose : int
        1 says so when training stops.
    mode : {"auto", "min", "max"}
        Which direction is better; "auto" knows that accuracies should grow.
    baseline : float, optional
        A value that must be beaten.
    restore_best_weights : bool
        Go back to the weights of the best epoch at the end.
    start_from_epoch : int
        Epochs to let pass before watching.

    Examples
    --------
    >>> from gru_np.callbacks import EarlyStopping
    >>> stop = EarlyStopping(monitor="loss", patience=3, restore_best_weights=True)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ):
        super().__init__(monitor, mode, min_delta)
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self.wait = 0
        self.best_epoch = 0
        self.stopped_epoch = 0
        self._resumed = False
        self._best_weights: list[Any] | None = None

    def on_train_begin(self, logs: Logs) -> None:
        """Forget an earlier run, unless this one resumes it."""
        if not self._resumed:
            self.wait, self.stopped_epoch, self.best, self._best_weights = 0, 0, None, None
        elif self.wait >= max(self.patience, 1):
            self.model.stop_training = True  # the run that this one resumes had come to its end
        self._resumed = False

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Compare, remember, and stop if patience has run out."""
        value = self.read(logs)
        if epoch < self.start_from_epoch:
            return
        self.wait += 1
        if self.is_better(value, self.best):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self._best_weights = self.model.get_weights()
            if self.baseline is None or self.is_better(value, self.baseline):
                self.wait = 0
        if self.wait >= max(self.patience, 1):
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs) -> None:
        """Put the best weights back."""
        if self.stopped_epoch and self.verbose:
            sys.stdout.write(
                f"Epoch {self.stopped_epoch + 1}: early stopping; "
                f"best {self.monitor} {spell_number(self.best or math.nan)} "
                f"in epoch {self.best_epoch + 1}\n"
            )
        if self.restore_best_weights and self._best_weights is not None:
            self.model.set_weights(self._best_weights)

    def get_state(self) -> dict[str, Any]:
        """Give the best so far, its weights, and how long it has been."""
        state = {"best": self.best, "wait": self.wait, "best_epoch": self.best_epoch}
        for i, array in enumerate(self._best_weights or []):
            state[f"weights/{i}"] = array
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self.best, self.wait, self.best_epoch = (state[k] for k in ("best", "wait", "best_epoch"))
        weights = sum(name.startswith("weights/") for name in state)
        self._best_weights = [state[f"weights/{i}"] for i in range(weights)] or None
        self._resumed = True


class ModelCheckpoint(_Monitor):
    """Save the model as it trains, so that nothing is lost and `fit(resume=...)` can go on.

    Parameters
    ----------
    filepath : str or path
        Where to; "{epoch:02d}" and the names of the logs are filled in.
    monitor : str
        The number that decides what is best.
    verbose : int
        1 says so when a file is written.
    save_best_only : bool
        Write only when the monitored number has improved.
    mode : {"auto", "min", "max"}
        As for `EarlyStopping`.
    save_freq : "epoch" or int
        At the end of epochs, or every so many batches, too.
    initial_value_threshold : float, optional
        The value to beat at first.

    Examples
    --------
    >>> from gru_np.callbacks import ModelCheckpoint
    >>> every_epoch = ModelCheckpoint("model.safetensors")
    """

    goes_last = True

    def __init__(
        self,
        filepath: Any,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ):
        super().__init__(monitor, mode, 0.0)
        if save_freq != "epoch" and (not isinstance(save_freq, int) or save_freq < 1):
            raise ValueError(
                f"ModelCheckpoint: save_freq must be 'epoch' or batches >= 1, got {save_freq!r}"
            )
        self.filepath = str(filepath)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_freq = save_freq
        self.best = initial_value_threshold

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """Save every `save_freq` batches."""
        if self.save_freq == "epoch" or batch + 1 == self.params["steps"]:
            return  # the end of an epoch saves anyway
        if (batch + 1) % int(self.save_freq) == 0:
            self._save(self.model.progress.epoch, logs)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Save the epoch."""
        self._save(epoch, logs)

    def _save(self, epoch: int, logs: Logs) -> None:
        if self.save_best_only:
            value = self.read(logs)
            if not self.is_better(value, self.best):
                return
            self.best = value
        path = self.filepath.format(epoch=epoch + 1, **logs)
        self.model.save(path)
        if self.verbose:
            sys.stdout.write(f"Epoch {epoch + 1}: saved {path}\n")

    def get_state(self) -> dict[str, Any]:
        """Give the best so far."""
        return {"best": self.best}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self.best = state["best"]


class ReduceLROnPlateau(_Monitor):
    """Lower the learning rate when a number has stopped improving.

    Parameters
    ----------
    monitor, mode, min_delta
        As for `EarlyStopping`.
    factor : float
        What the rate is multiplied by, in (0, 1).
    patience : int
        Epochs without improvement to wait for.
    verbose : int
        1 says so when the rate changes.
    cooldown : int
        Epochs to wait after a change before counting again.
    min_lr : float
        Never go below.

    Examples
    --------
    >>> from gru_np.callbacks import ReduceLROnPlateau
    >>> plateau = ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=2)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ):
        super().__init__(monitor, mode, min_delta)
        if not 0 < factor < 1:
            raise ValueError(f"ReduceLROnPlateau: factor must be between 0 and 1, got {factor}")
        self.factor = factor
        self.patience = patience
        self.verbose = verbose
        self.cooldown = cooldown
        self.min_lr = min_lr
        self.wait = 0
        self.cooling = 0

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Compare, and lower the rate if patience has run out."""
        value = self.read(logs)
        logs["learning_rate"] = float(self.model.optimizer.learning_rate_now())
        if self.cooling > 0:
            self.cooling, self.wait = self.cooling - 1, 0
        if self.is_better(value, self.best):
            self.best, self.wait = value, 0
        elif self.cooling <= 0:
            self.wait += 1
            if self.wait >= self.patience:
                self._lower(epoch)

    def _lower(self, epoch: int) -> None:
        old = self.model.optimizer.learning_rate
        if callable(old):
            raise ValueError(
                "ReduceLROnPlateau: learning_rate must be a number, got the schedule "
                f"{type(old).__name__}; use one or the other"
            )
        if old > self.min_lr:
            self.model.optimizer.learning_rate = max(old * self.factor, self.min_lr)
            self.cooling, self.wait = self.cooldown, 0
            if self.verbose:
                rate = self.model.optimizer.learning_rate
                sys.stdout.write(f"Epoch {epoch + 1}: learning rate lowered to {rate:g}\n")

    def get_state(self) -> dict[str, Any]:
        """Give the best so far and the counters."""
        return {"best": self.best, "wait": self.wait, "cooling": self.cooling}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self.best, self.wait, self.cooling = (state[k] for k in ("best", "wait", "cooling"))


class CSVLogger(Callback):
    """Write one line an epoch to a CSV file.

    Parameters
    ----------
    filename : str or path
        Where to.
    separator : str
        Between the columns.
    append : bool
        Go on writing below what the file already holds; a resumed run always does.

    Examples
    --------
    >>> from gru_np.callbacks import CSVLogger
    >>> log = CSVLogger("training.csv")
    """

    def __init__(self, filename: Any, separator: str = ",", append: bool = False):
        super().__init__()
        from pathlib import Path

        self.filename = Path(filename)
        self.separator = separator
        self.append = append

    def on_train_begin(self, logs: Logs) -> None:
        """Begin the file anew unless told to append."""
        if not self.append:
            self.filename.write_text("", encoding="utf-8")

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Write the line, below a header if it is the first."""
        first = not self.filename.exists() or self.filename.stat().st_size == 0
        with open(self.filename, "a", newline="", encoding="utf-8") as file:
            import csv

            writer = csv.writer(file, delimiter=self.separator)
            if first:
                writer.writerow(["epoch", *logs])
            writer.writerow([epoch, *logs.values()])

    def set_state(self, state: dict[str, Any]) -> None:
        """Keep the lines of the run that this one resumes."""
        self.append = True


class TerminateOnNaN(Callback):
    """End training as if it were done once a loss or gradient is NaN or infinite.

    Without it `fit` raises `gru_np.health.NonFiniteError`. Either way the weights are those before
    the step.

    Examples
    --------
    >>> from gru_np.callbacks import TerminateOnNaN
    >>> guard = TerminateOnNaN()
    """

    def on_nonfinite(self, batch: int, error: FloatingPointError) -> bool:
        """Say where it came from, and stop."""
        sys.stdout.write(f"Batch {batch}: {error}\n")
        self.model.stop_training = True
        return True


class SkipNonFinite(Callback):
    """Leave out a step whose loss or gradient is NaN or infinite, and go on with the next batch.

    Recurrent states carried along begin anew after it.

    Parameters
    ----------
    in_a_row : int
        How many steps may fail one after another before the error is raised after all.

    Attributes
    ----------
    skipped : int
        Steps left out so far.

    Examples
    --------
    >>> from gru_np.callbacks import SkipNonFinite
    >>> guard = SkipNonFinite(in_a_row=1)
    >>> guard.on_nonfinite(0, FloatingPointError()), guard.on_nonfinite(1, FloatingPointError())
    (True, False)
    """

    def __init__(self, in_a_row: int = 10):
        super().__init__()
        self.in_a_row = in_a_row
        self.skipped = 0
        self._now = 0  # in a row, up to here

    def on_nonfinite(self, batch: int, error: FloatingPointError) -> bool:
        """Count it."""
        self._now += 1
        if self._now > self.in_a_row:
            return False
        self.skipped += 1
        return True

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """A step that succeeded ends the row."""
        self._now = 0

    def get_state(self) -> dict[str, Any]:
        """Give the counts."""
        return {"skipped": self.skipped, "now": self._now}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self.skipped, self._now = state["skipped"], state["now"]


class LambdaCallback(Callback):
    """Call functions of one's own.

    Parameters
    ----------
    on_epoch_begin, on_epoch_end : callable (epoch, logs)
    on_train_batch_begin, on_train_batch_end : callable (batch, logs)
    on_train_begin, on_train_end : callable (logs)
        What to call, and when.

    Examples
    --------
    >>> from gru_np.callbacks import LambdaCallback
    >>> say = LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs))
    >>> say.on_epoch_end(3, {"loss": 1.0})
    3 {'loss': 1.0}
    """

    def __init__(
        self,
        on_epoch_begin: Callable[[int, Logs], Any] | None = None,
        on_epoch_end: Callable[[int, Logs], Any] | None = None,
        on_train_begin: Callable[[Logs], Any] | None = None,
        on_train_end: Callable[[Logs], Any] | None = None,
        on_train_batch_begin: Callable[[int, Logs], Any] | None = None,
        on_train_batch_end: Callable[[int, Logs], Any] | None = None,
    ):
        super().__init__()
        functions = {name: value for name, value in locals().items() if name.startswith("on_")}
        for name, function in functions.items():
            if function is not None:
                setattr(self, name, function)


class CallbackList:
    """Several callbacks as one, those that save last."""

    def __init__(self, callbacks: Iterable[Callback], model: Any, params: dict[str, Any]):
        callbacks = list(callbacks)
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"fit: callbacks must be Callback objects, got {callback!r}")
        self.callbacks = sorted(callbacks, key=lambda callback: callback.goes_last)
        for callback in self.callbacks:
            callback.model, callback.params = model, params

    def __call__(self, event: str, *args: Any) -> None:
        """Tell every callback of an event."""
        for callback in self.callbacks:
            getattr(callback, event)(*args)

    def keeps_in(self, batch: int, error: FloatingPointError) -> bool:
        """Tell every callback of a step that failed; whether one of them deals with it."""
        return any([callback.on_nonfinite(batch, error) for callback in self.callbacks])
