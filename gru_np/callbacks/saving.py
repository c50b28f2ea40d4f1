"""What keeps a run safe: checkpoints."""

import sys
from typing import Any

from gru_np.callbacks.base import Logs
from gru_np.callbacks.monitors import Monitor


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
