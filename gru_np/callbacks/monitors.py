"""What watches one number: early stopping, a falling learning rate; the base of checkpoints."""

import math
from typing import Any, ClassVar

from gru_np import _console
from gru_np._checks import require_choice
from gru_np._schema import Count
from gru_np.callbacks.base import Callback, Logs
from gru_np.callbacks.history import spell_number


class Monitor(Callback):
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


class EarlyStopping(Monitor):
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

    state_kinds: ClassVar = {"best": float | None, "wait": Count, "best_epoch": Count}

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
            _console.show(
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


class ReduceLROnPlateau(Monitor):
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

    state_kinds: ClassVar = {"best": float | None, "wait": Count, "cooling": Count}

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
                _console.show(f"Epoch {epoch + 1}: learning rate lowered to {rate:g}\n")

    def get_state(self) -> dict[str, Any]:
        """Give the best so far and the counters."""
        return {"best": self.best, "wait": self.wait, "cooling": self.cooling}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self.best, self.wait, self.cooling = (state[k] for k in ("best", "wait", "cooling"))
