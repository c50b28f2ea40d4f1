"""The record that `fit` returns."""

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

from gru_np import _plotting
from gru_np._checks import require_choice
from gru_np._schema import Count
from gru_np.callbacks.base import Callback, Logs


class History(Callback):
    """The record that `fit` returns.

    Attributes
    ----------
    history : dict of str to list
        One number an epoch for "loss", each metric, and "val_..." of each if there is validation;
        NaN where an epoch has none of that name. An epoch that was stopped before its end has the
        means over what was done, and no validation.
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

    turn = 2  # other callbacks may add to the numbers of an epoch
    state_kinds: ClassVar = {"epoch": list[Count], "history": dict[str, list[Any]]}

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def adds_to_logs(self) -> Iterable[str]:
        """Add nothing."""
        return ()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Note the numbers of the epoch."""
        if self.epoch[-1:] == [epoch]:  # it was stopped before its end, and resumed
            self.epoch.pop()
            for values in self.history.values():
                del values[-1:]  # a file may hold less than it should
        for name in logs:
            self.history.setdefault(name, [math.nan] * len(self.epoch))
        self.epoch.append(epoch)
        for name, values in self.history.items():
            values.append(logs.get(name, math.nan))

    def on_train_end(self, logs: Logs) -> None:
        """Note what was done of an epoch that was stopped before its end."""
        if logs and self.model.progress.batch:
            self.on_epoch_end(self.model.progress.epoch, logs)

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
        self.epoch = list(state["epoch"])
        self.history = {name: list(values) for name, values in state["history"].items()}

    def __repr__(self) -> str:
        names = list(self.history)
        widths = [max(len(name), 6) for name in names]
        lines = ["  ".join(["epoch", *(f"{n:>{w}}" for n, w in zip(names, widths, strict=True))])]
        for i, epoch in enumerate(self.epoch):
            cells = (
                f"{spell_number(self.history[n][i]) if i < len(self.history[n]) else '':>{w}}"
                for n, w in zip(names, widths, strict=True)
            )
            lines.append("  ".join([f"{epoch + 1:5d}", *cells]))
        return "\n".join(lines)


def spell_number(value: Any) -> str:
    """Write a number as Keras' progress line does: four decimals, an exponent if it is tiny.

    What a callback of one's own put among the numbers is written as it is.
    """
    if not isinstance(value, int | float | np.integer | np.floating):
        return str(value)
    value = float(value)
    return f"{value:.4f}" if value == 0 or abs(value) > 1e-3 or value != value else f"{value:.4e}"


def spell_logs(logs: Logs) -> str:
    """Write the numbers of an epoch in one line."""
    return " - ".join(f"{name}: {spell_number(value)}" for name, value in logs.items())
