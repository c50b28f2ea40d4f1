"""What is shown while a model trains."""

import sys
import time
from typing import IO, Any

from gru_np.callbacks.base import Callback, Logs
from gru_np.callbacks.history import spell_logs


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
            self._line = moving_line(
                f"Epoch {epoch + 1}/{self.params['epochs']}", self.params["steps"], self.stream
            )

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """Move the line."""
        if self._line is not None:
            self._line.set_postfix_str(f"{spell_logs(logs)} - {self._speed()}", refresh=False)
            self._line.update(batch + 1 - self._line.n)

    def on_test_begin(self, logs: Logs) -> None:
        """Say what takes the time now."""
        if self._line is not None:
            self._line.set_postfix_str("validating")

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """End the line with the numbers of the epoch."""
        self._close()
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
        self._close()

    def on_train_error(self) -> None:
        """Leave it tidy for the message of an error, too."""
        self._close()

    def _close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def _speed(self) -> str:
        speed = self.count / max(time.perf_counter() - self._began, 1e-9)
        amount = f"{speed / 1000:.1f}k" if speed >= 1000 else f"{speed:.0f}"
        return f"{amount} {self.unit}/s"


def moving_line(title: str, total: int, stream: IO[str] | None, delay: float = 0) -> Any:
    """Give a tqdm line, shown after `delay` seconds, or None where tqdm is not installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(
        total=total, desc=title, file=stream or sys.stdout, leave=False, dynamic_ncols=True,
        delay=delay, disable=None if delay else False,  # None: silent where no terminal is
        bar_format="{desc} {percentage:3.0f}%|{bar:16}| {n_fmt}/{total_fmt} "
        "[{elapsed}<{remaining}] {postfix}",
    )  # fmt: skip
