"""What is shown while a model trains."""

import sys
import time
from collections.abc import Iterable
from typing import IO

from gru_np import _console, kernels
from gru_np.callbacks.base import Callback, Logs
from gru_np.callbacks.history import spell_logs


class Progress(Callback):
    """A moving line with loss, speed and time left on a terminal; elsewhere one line an epoch.

    Parameters
    ----------
    unit : str
        What is counted: "samples" or "tokens". Their number a second leaves out what the epoch
        spent on compiling kernels.
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
        self._line: _console.MovingLine | None = None
        self._began = 0.0
        self._compiled = 0.0  # seconds that the process had spent on compiling by then

    def adds_to_logs(self) -> Iterable[str]:
        """Add nothing."""
        return ()

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """Begin a line."""
        self.count, self._began = 0, time.perf_counter()
        self._compiled = kernels.compiling_seconds()
        if self.bar:
            self._line = _console.MovingLine(
                f"Epoch {epoch + 1}/{self.params['epochs']}",
                self.params["steps"],
                sys.stdout if self.stream is None else self.stream,
            )

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """Move the line."""
        if self._line is not None:
            self._line.describe(f"{spell_logs(logs)} - {self._speed()}")
            self._line.move_to(batch + 1)

    def on_test_begin(self, logs: Logs) -> None:
        """Say what takes the time now."""
        if self._line is not None:
            self._line.describe("validating", at_once=True)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """End the line with the numbers of the epoch."""
        self._close()
        seconds, compiling = time.perf_counter() - self._began, self._compiling()
        of_it = f" ({compiling:.1f}s compiling)" if compiling >= 0.05 else ""
        speed = f" - {self._speed()}" if self.count else ""
        _console.show(
            f"Epoch {epoch + 1}/{self.params['epochs']} - {seconds:.1f}s{of_it}{speed} - "
            f"{spell_logs(logs)}\n",
            self.stream,
        )

    def on_train_end(self, logs: Logs) -> None:
        """Leave the terminal tidy when training stopped in mid-epoch."""
        self._close()

    def on_train_error(self) -> None:
        """Leave it tidy for the message of an error, too."""
        self._close()

    def _close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def _compiling(self) -> float:
        return kernels.compiling_seconds() - self._compiled

    def _speed(self) -> str:
        # Kernels are compiled at their first use on a machine: that says nothing about speed.
        seconds = time.perf_counter() - self._began - self._compiling()
        speed = self.count / max(seconds, 1e-9)
        amount = f"{speed / 1000:.1f}k" if speed >= 1000 else f"{speed:.0f}"
        return f"{amount} {self.unit}/s"
