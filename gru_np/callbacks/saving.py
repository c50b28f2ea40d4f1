"""What keeps a run safe: checkpoints, and a clean end when a signal asks for one."""

import re
import signal
import string
import threading
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from gru_np import _console
from gru_np._checks import require_count
from gru_np._schema import fits
from gru_np.callbacks.base import Callback, Logs
from gru_np.callbacks.monitors import Monitor
from gru_np.saving import require_own_path, require_savable


class ModelCheckpoint(Monitor):
    """Save the model as it trains, so that nothing is lost and `fit(resume=...)` can go on.

    Parameters
    ----------
    filepath : str or path
        Where to; "{epoch:02d}", "{batch}" (done of the epoch) and the names of the logs are filled
        in. "{{" and "}}" are braces.
    monitor : str
        The number that decides what is best, with `save_best_only`.
    verbose : int
        1 says so when a file is written.
    save_best_only : bool
        Write only when the monitored number has improved in this run, or in the one it resumes.
        In Keras the best of earlier `fit` counts too, even of another model: here
        `initial_value_threshold` says what is to be beaten.
    mode : {"auto", "min", "max"}
        As for `EarlyStopping`.
    save_freq : "epoch" or int
        At the end of epochs, or every so many batches, too.
    initial_value_threshold : float, optional
        The value to beat at first.
    keep : int, optional
        Keep the last so many files that this callback wrote and remove older ones; None keeps all.
        After `fit(resume=...)` only files whose names `filepath` makes are removed, whatever the
        resumed file lists.

    Raises
    ------
    ValueError
        If `filepath` names no file, or has a field that is not a plain name; and as training
        begins, if there will be no number for a field, or none to monitor.
    TypeError
        As training begins, if a file cannot hold the model: a learning rate that is a function of
        one's own, a set or an array in `extras`, a metric of one's own.
    OSError
        As training begins, if the folder is missing or write-protected; later, if a file cannot be
        written, as on a full disk, where the message names the last good one.

    Examples
    --------
    The last three epochs, to resume from, and the best:

    >>> from gru_np.callbacks import ModelCheckpoint
    >>> last = ModelCheckpoint("epoch-{epoch:03d}.safetensors", keep=3)
    >>> best = ModelCheckpoint("best.safetensors", save_best_only=True)
    """

    turn = 3
    state_kinds: ClassVar = {"best": float | None}
    writes = "filepath"

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
        super().__init__(monitor, mode, 0.0, judges=bool(save_best_only))
        if save_freq != "epoch" and (not isinstance(save_freq, int) or save_freq < 1):
            raise ValueError(
                f"ModelCheckpoint: save_freq must be 'epoch' or batches >= 1, got {save_freq!r}"
            )
        require_own_path("ModelCheckpoint", filepath)
        self.filepath = str(filepath)
        self._made = _pattern(self.filepath)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_freq = save_freq
        self.initial_value_threshold = self.number(
            "initial_value_threshold", initial_value_threshold
        )
        self.best = self.initial_value_threshold
        self.keep = None if keep is None else require_count("ModelCheckpoint", "keep", keep)
        self._written: list[str] = []  # the last is the newest

    def adds_to_logs(self) -> Iterable[str]:
        """Add nothing."""
        return ()

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
        path = self._path(epoch, logs)
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
            _console.say(f"Epoch {epoch + 1}: saved {path}")

    def _path(self, epoch: int, logs: Logs) -> str:
        """Fill in the fields of `filepath`."""
        batch = self.model.progress.batch or self.params["steps"]
        fields = {**logs, "epoch": epoch + 1, "batch": batch}
        try:
            return self.filepath.format(**fields)
        except (KeyError, ValueError) as error:
            # A field that is not there, or a format that does not fit its number.
            raise ValueError(
                f"ModelCheckpoint: filepath must have fields among {', '.join(fields)}, with "
                f"formats of their numbers, got {self.filepath!r} ({error})"
            ) from error

    def before_training(self, names: Collection[str] | None) -> None:
        """Find out now whether each file will have a name and a place, and can hold the model."""
        within = isinstance(self.save_freq, int) and self.save_freq < self.params["steps"]
        if within and names is not None:
            # Batches know nothing of validation, nor of what is added when an epoch ends.
            names = self.model.log_names()
        if self.save_best_only:
            self.require_name(names)
        if names is None:
            fields = {field for _, field, _, _ in string.Formatter().parse(self.filepath)}
            names = [field for field in fields if field is not None]
        path = self._path(self.model.progress.epoch, dict.fromkeys(names, 0.5))
        require_savable(type(self).__name__, self.model, path)

    def reset_state(self) -> None:
        """Forget what was best in earlier runs."""
        self.best = self.initial_value_threshold

    def get_state(self) -> dict[str, Any]:
        """Give the best so far, and which files to keep."""
        return {"best": self.best, "written": self._written}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take them back; a file says what was written, so it is not believed: see `keep`."""
        written = state.get("written", [])
        if not fits(written, list[str]):
            raise ValueError("ModelCheckpoint: the files written must be a list of paths")
        self.best, self._written = state["best"], [p for p in written if self._made.fullmatch(p)]


# What a number looks like in a name, by any format: 007, -1.5e-03, 1,000, 12.5%, nan.
_NUMBER = r" *[-+]?(?:\d[\d_,]*(?:\.\d+)?(?:[eE][-+]?\d+)?|nan|inf|NAN|INF)%? *"


def _pattern(filepath: str) -> re.Pattern[str]:
    """Give what all paths match that a template makes, or say what is wrong with it."""
    if not Path(filepath).name or filepath.endswith(("/", "\\")) or Path(filepath).is_dir():
        raise ValueError(f"ModelCheckpoint: filepath must name a file, got {filepath!r}")
    pattern = ""
    try:
        for text, field, spec, conversion in string.Formatter().parse(filepath):
            pattern += re.escape(text)
            if field is not None:
                if not field.isidentifier() or conversion or "{" in (spec or ""):
                    raise ValueError(f"{{{field}}} is no name")
                pattern += _NUMBER
    except ValueError as error:
        raise ValueError(
            'ModelCheckpoint: filepath must have fields like "{epoch:02d}", and "{{" for a brace, '
            f"got {filepath!r} ({error})"
        ) from None
    return re.compile(pattern)


def literal(path: Any) -> str:
    """Give a path as a `filepath` that makes this path and no other."""
    return str(path).replace("{", "{{").replace("}", "}}")


class StopOnSignal(Callback):
    """End training cleanly after the step under way when a signal asks for it, and save.

    Signals are Ctrl-C, SIGTERM, and SIGHUP, of a terminal that was closed; one that the process
    was started to ignore, as SIGHUP by `nohup`, stays ignored. A second Ctrl-C or SIGTERM does what
    it would do without this. Signals are only heard in the main thread.

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

    def adds_to_logs(self) -> Iterable[str]:
        """Add nothing."""
        return ()

    def on_train_begin(self, logs: Logs) -> None:
        """Listen."""
        self.stopped = 0
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                # None is a handler that was not set by Python, and could not be put back.
                if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._handlers[number] = signal.signal(number, self._hear)

    def _hear(self, number: int, frame: Any) -> None:
        self.stopped = number
        # A closed terminal may send its signal twice, and nobody is there to mean it.
        if number != getattr(signal, "SIGHUP", None):
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

    def before_training(self, names: Collection[str] | None) -> None:
        """Find out now whether the model can be saved there."""
        if self.filepath is not None:
            require_savable(type(self).__name__, self.model, self.filepath)

    def _stop_if_asked(self) -> None:
        if self.stopped:
            self.model.stop_training = True
            if self.filepath is not None:
                self.model.save(self.filepath)
