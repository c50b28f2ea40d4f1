"""Averages of the weights over training, which often predict better than the last weights.

Notation: p the weights after a step, n steps averaged so far.
"""

from collections.abc import Collection, Iterable
from typing import Any, ClassVar

import numpy as np

from gru_np._aliases import Array
from gru_np._checks import require_count
from gru_np._named import require_number
from gru_np._schema import Count
from gru_np.callbacks.base import Callback, Logs
from gru_np.callbacks.monitors import direction


class AverageWeights(Callback):
    """Keep an average of the weights beside those in training; validate, save and end with it.

        exponential (EMA):  a ← a + (1 - m_n) (p - a),   m_n = min(momentum, (1 + n) / (10 + n))
        plain (ASGD):       a ← a + (p - a) / (n + 1)

    Validation, files written by `ModelCheckpoint` and the model after `fit` all have the average;
    training goes on with p, and `fit(resume=...)` finds p again. A run that ends in an error
    leaves p, and its average is forgotten.

    Parameters
    ----------
    momentum : float or None
        Of the exponential average, in [0, 1): about 1 / (1 - momentum) steps count. None takes the
        plain mean of all steps since the beginning of the average.
    start_epoch : int
        The first epoch to average, from 0.
    patience : int, optional
        Begin, at `start_epoch` or later, once the monitored number of an epoch is worse than the
        best of all but the last so many epochs before it: the non-monotone trigger of NT-ASGD,
        whose authors use 5.
    monitor : str
        What `patience` looks at; less is better.

    Attributes
    ----------
    count : int
        n, steps averaged so far.

    Notes
    -----
    Sources: Polyak and Juditsky 1992, SIAM J. Control Optim. 30(4); the ramp of m_n is that of
    TensorFlow's ExponentialMovingAverage with num_updates; the trigger is arXiv:1708.02182,
    algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import Dense, Sequential
    >>> from gru_np.callbacks import AverageWeights
    >>> model = Sequential([Dense(1)], seed=0)
    >>> model.compile("mse", "sgd")
    >>> x, y = np.ones((64, 2)), np.ones((64, 1))
    >>> average = AverageWeights(momentum=None)
    >>> _ = model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[average])
    >>> average.count
    16
    """

    turn = 0
    alone = True
    state_kinds: ClassVar = {"count": Count, "values": list[float], "triggered": bool}

    def __init__(
        self,
        momentum: float | None = 0.999,
        start_epoch: int = 0,
        patience: int | None = None,
        monitor: str = "val_loss",
    ):
        super().__init__()
        who = type(self).__name__
        if momentum is not None:
            momentum = require_number(who, "momentum", momentum, high=1, open_=")")
        self.momentum = momentum
        self.start_epoch = require_count(who, "start_epoch", start_epoch, least=0)
        self.patience = None if patience is None else require_count(who, "patience", patience)
        if patience is not None and direction(str(monitor)) == "max":
            raise ValueError(
                f"{who}: monitor must be a number of which less is better, got {monitor!r}"
            )
        self.monitor = monitor
        self._resumed: dict[str, Any] | None = None
        self._clear()

    def _clear(self) -> None:
        self.count = 0
        self._average: dict[str, Array] = {}
        self._aside: dict[str, Array] | None = None  # p, while the average is in the model
        self._values: list[float] = []  # of the monitored number
        self._triggered = self.patience is None

    def adds_to_logs(self) -> Iterable[str]:
        """Add nothing."""
        return ()

    def before_training(self, names: Collection[str] | None) -> None:
        """Find out now whether there will be anything to watch."""
        if self.patience is not None and names is not None and self.monitor not in names:
            raise ValueError(
                f"AverageWeights: monitor must be one of {', '.join(map(repr, names))}, got "
                f"{self.monitor!r}"
            )

    # ------------------------------------------------------------------------ the average

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """Take in the weights after a step."""
        if not self._triggered or self.model.progress.epoch < self.start_epoch:
            return
        if not self.count:
            self._average = _copies(self.model.params)
        else:
            n = self.count
            m = n / (n + 1) if self.momentum is None else min(self.momentum, (1 + n) / (10 + n))
            for name, p in self.model.params.items():
                a = self._average[name]
                a += np.asarray(1 - m, a.dtype) * (p - a)
        self.count += 1

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Show the average to all callbacks that follow; see whether it is time to begin one."""
        self._put_in()
        if self.patience is not None and not self._triggered and epoch + 1 >= self.start_epoch:
            self.before_training(logs)
            earlier = self._values[: -self.patience]
            self._triggered = bool(earlier) and logs[self.monitor] > min(earlier)
            self._values.append(logs[self.monitor])

    # ---------------------------------------------------- which of the two is in the model

    def on_train_begin(self, logs: Logs) -> None:
        """Begin anew, or where the run that this one resumes stood."""
        state, self._resumed = self._resumed, None
        self._clear()
        if state is not None:
            self.count, self._values = state["count"], list(state["values"])
            self._triggered = state["triggered"]
            if self.count:
                self._average = _copies(self.model.params)
                self._set({name: state[f"raw/{name}"] for name in self._average})

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """Go on training with the weights of the last step."""
        if self._aside is not None:
            self._set(self._aside)
            self._aside = None

    def on_test_begin(self, logs: Logs) -> None:
        """Validate the average."""
        self._put_in()

    def on_train_end(self, logs: Logs) -> None:
        """Leave the model with the average."""
        self._put_in()
        self._aside = None

    def on_train_error(self) -> None:
        """Leave the model with the weights of the last step."""
        self.on_epoch_begin(0, {})

    def _put_in(self) -> None:
        if self.count and self._aside is None:
            self._aside = _copies(self.model.params)
            self._set(self._average)

    def _set(self, weights: dict[str, Array]) -> None:
        self.model.set_weights([weights[name] for name in self.model.params])

    # ------------------------------------------------------------------------ in a file

    def reset_state(self) -> None:
        """Resume nothing."""
        self._resumed = None

    def weights_to_save(self) -> dict[str, Any]:
        """Give the average, whichever is in the model."""
        return self._average

    def get_state(self) -> dict[str, Any]:
        """Give the weights in training, and how far the average is."""
        state: dict[str, Any] = {
            "count": self.count, "values": self._values, "triggered": self._triggered,
        }  # fmt: skip
        if self.count:
            raw = self.model.params if self._aside is None else self._aside
            state |= {f"raw/{name}": array for name, array in raw.items()}
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take them back, once training begins."""
        self._resumed = state


def _copies(params: dict[str, Array]) -> dict[str, Array]:
    return {name: array.copy() for name, array in params.items()}
