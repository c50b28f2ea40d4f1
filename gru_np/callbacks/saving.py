"""What keeps a run safe: checkpoints, and a clean end when a signal asks for one."""

import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from gru_np._checks import require_count
from gru_np.callbacks.base import Callback, Logs
from gru_np.callbacks.monitors import Monitor
from gru_np.saving import require_own_path


class ModelCheckpoint(Monitor):
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
    keep : int, optional
        Keep the last so many files that this callback wrote and remove older ones; None keeps all.

    Raises
    ------
    OSError
        If a file cannot be written, as on a full disk; the message names the last good one.

    Examples
    --------
    The last three epochs, to resume from, and the best:

    >>> from gru_np.callbacks import ModelCheckpoint
    >>> last = ModelCheckpoint("epoch-{epoch:03d}.safetensors", keep=3)
    >>> best = ModelCheckpoint("best.safetensors", save_best_only=True)
    """

    turn = 3

    def __init__(
        self,
        filepath: Any,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
        keep: int | None = None,
    ):
        super().__init__(monitor, mode, 0.0)
        if save_freq != "epoch" and (not isinstance(save_freq, int) or save_freq < 1):
            raise ValueError(
                f"ModelCheckpoint: save_freq must be 'epoch' or batches >= 1, got {save_freq!r}"
            )
        require_own_path("ModelCheckpoint", filepath)
        self.filepath = str(filepath)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_freq = save_freq
        self.best = initial_value_threshold
        self.keep = None if keep is None else require_count("ModelCheckpoint", "keep", keep)
        self._written: list[str] = []  # the last is the newest

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
        last = self._written[-1] if self._written else ""
        before = [other for other in self._written if other != path]
        self._written = [*before, path]
        while self.keep is not None and len(self._written) > self.keep:
            self._written.pop(0)
        try:
            self.model.save(path)
        except OSError as error:
            good = f"; the last good checkpoint is {last}" if last else ""
            raise OSError(error.errno, f"{error.strerror}{good}", path) from error
        for other in before[: len(before) + 1 - len(self._written)]:
            with suppress(OSError):  # gone already, or not ours to remove
                Path(other).unlink()
        if self.verbose:
            sys.stdout.write(f"Epoch {epoch + 1}: saved {path}\n")

    def get_state(self) -> dict[str, Any]:
        """Give the best so far, and which files to keep."""
        return {"best": self.best, "written": self._written}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self.best, self._written = state["best"], list(state.get("written", ()))


class StopOnSignal(Callback):
    """End training cleanly after the step under way when Ctrl-C or SIGTERM asks for it, and save.

    A second signal does what it would do without this. Signals are only heard in the main thread.

    Parameters
    ----------
    filepath : str or path, optional
        Where to save the model for `fit(resume=...)`; None leaves that to `ModelCheckpoint`.

    Attributes
    ----------
    stopped : int
        Number of the signal that came, 0 if none did.

    Examples
    --------
    >>> from gru_np.callbacks import StopOnSignal
    >>> polite = StopOnSignal("model.safetensors")
    """

    turn = 3

    def __init__(self, filepath: Any = None):
        super().__init__()
        if filepath is not None:
            require_own_path("StopOnSignal", filepath)
        self.filepath = filepath
        self.stopped = 0
        self._handlers: dict[int, Any] = {}

    def on_train_begin(self, logs: Logs) -> None:
        """Listen."""
        self.stopped = 0
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._hear)

    def _hear(self, number: int, frame: Any) -> None:
        self.stopped = number
        signal.signal(number, self._handlers[number])

    def on_train_end(self, logs: Logs) -> None:
        """Put the handlers back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def on_train_error(self) -> None:
        """Put the handlers back."""
        self.on_train_end({})

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """Stop in mid-epoch if asked to."""
        if batch + 1 < self.params["steps"]:
            self._stop_if_asked()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Stop if asked to."""
        self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        if self.stopped:
            self.model.stop_training = True
            if self.filepath is not None:
                self.model.save(self.filepath)
