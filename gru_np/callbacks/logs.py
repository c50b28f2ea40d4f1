"""What adds to the numbers of a run, and what writes them to a file."""

import csv
import json
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gru_np import health
from gru_np._checks import require_count
from gru_np._schema import Count
from gru_np.callbacks.base import Callback, Logs


class CSVLogger(Callback):
    """Write one line an epoch to a CSV file, each number in the column of its name.

    An epoch may lack numbers that others have, or have new ones: the columns become more.

    Parameters
    ----------
    filename : str or path
        Where to.
    separator : str
        Between the columns.
    append : bool
        Go on writing below what the file already holds; a resumed run always does, from where its
        checkpoint stands.

    Raises
    ------
    ValueError
        If what is to be gone on with is no such file.

    Examples
    --------
    >>> from gru_np.callbacks import CSVLogger
    >>> log = CSVLogger("training.csv")
    """

    turn = 2
    writes = "filename"

    def __init__(self, filename: Any, separator: str = ",", append: bool = False):
        super().__init__()
        self.filename = Path(filename)
        self.separator = separator
        self.append = append
        self._resumed = False
        self._columns: list[str] = []

    def adds_to_logs(self) -> Iterable[str]:
        """Add nothing."""
        return ()

    def on_train_begin(self, logs: Logs) -> None:
        """Begin the file anew, unless told to append or resuming."""
        rows = self._rows() if self.append or self._resumed else []
        # What an interrupted run logged beyond its last checkpoint happens once more.
        while self._resumed and len(rows) > 1 and int(rows[-1][0]) >= self.model.progress.epoch:
            rows.pop()
        self._columns = rows[0] if rows else []
        self._write(rows, "w")

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Write the line, below a header if it is the first."""
        numbers = {"epoch": epoch, **logs}
        new = [name for name in numbers if name not in self._columns]
        if new:
            self._columns = [*self._columns, *new]
            self._write([self._columns, *self._rows()[1:]], "w")
        self._write([[numbers.get(name, "") for name in self._columns]], "a")

    def reset_state(self) -> None:
        """Resume nothing."""
        self._resumed = False

    def set_state(self, state: dict[str, Any]) -> None:
        """Keep the lines of the run that this one resumes."""
        self._resumed = True

    def _rows(self) -> list[list[str]]:
        """Give the lines of the file that are whole: a kill may have cut the last."""
        if not self.filename.exists():
            return []
        with open(self.filename, newline="", encoding="utf-8") as file:
            lines = [line for line in file if line.endswith("\n")]
        rows = list(csv.reader(lines, delimiter=self.separator))
        if rows and (
            rows[0][:1] != ["epoch"] or not all(row and row[0].isdigit() for row in rows[1:])
        ):
            raise ValueError(
                f"CSVLogger: to go on with {str(self.filename)!r} its first column must be epoch, "
                f"separated by {self.separator!r}, got {rows[0][:3]}; name another file"
            )
        return rows

    def _write(self, rows: list[Any], mode: str) -> None:
        """Write rows, each as long as the header."""
        with open(self.filename, mode, newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=self.separator)
            writer.writerows([*row, *[""] * (len(self._columns) - len(row))] for row in rows)


class JSONLogger(Callback):
    """Write one JSON object a line: one an epoch, and one for each step that failed.

        {"event": "epoch", "epoch": 1, "step": 140, "seconds": 2.5, "loss": 2.7, "val_loss": 2.5}

    `epoch` counts from 1, `step` counts the optimiser's steps, `seconds` those of this process;
    what is NaN or infinite is null.

    Parameters
    ----------
    filename : str or path
        Where to.
    every : int, optional
        A line every so many batches, too: {"event": "step", ...} with the means over the epoch so
        far.
    append : bool
        Go on writing below what the file already holds; a resumed run always does, from where its
        checkpoint stands.

    Examples
    --------
    >>> from gru_np.callbacks import JSONLogger
    >>> log = JSONLogger("training.jsonl", every=100)
    """

    turn = 2  # other callbacks may add to the numbers of an epoch
    writes = "filename"

    def __init__(self, filename: Any, every: int | None = None, append: bool = False):
        super().__init__()
        self.filename = Path(filename)
        self.every = None if every is None else require_count("JSONLogger", "every", every)
        self.append = append
        self._resumed = False
        self._began = 0.0

    def adds_to_logs(self) -> Iterable[str]:
        """Add nothing."""
        return ()

    def on_train_begin(self, logs: Logs) -> None:
        """Begin the file anew, unless told to append or resuming."""
        self._began = time.perf_counter()
        lines = self._lines() if self.append or self._resumed else []
        if self._resumed:
            # What an interrupted run logged beyond its last checkpoint happens once more.
            done = self.model.optimizer.iterations
            lines = [line for line in lines if json.loads(line).get("step", 0) <= done]
        self.filename.write_text("".join(lines), encoding="utf-8")

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """Write a line if it is time."""
        if self.every is not None and (batch + 1) % self.every == 0:
            self._write("step", self.model.progress.epoch, logs)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Write the line of the epoch."""
        self._write("epoch", epoch, logs)

    def on_nonfinite(self, batch: int, error: FloatingPointError) -> bool:
        """Write what was wrong; what to do about it is for others to say."""
        self._write("nonfinite", self.model.progress.epoch, {"message": str(error)})
        return False

    def reset_state(self) -> None:
        """Resume nothing."""
        self._resumed = False

    def set_state(self, state: dict[str, Any]) -> None:
        """Keep the lines of the run that this one resumes."""
        self._resumed = True

    def _write(self, event: str, epoch: int, numbers: Any) -> None:
        entry: dict[str, Any] = {
            "event": event,
            "epoch": epoch + 1,
            "step": self.model.optimizer.iterations,
            "seconds": round(time.perf_counter() - self._began, 3),
        }
        for name, value in numbers.items():
            value = value.item() if isinstance(value, np.generic) else value
            entry[name] = None if isinstance(value, float) and not math.isfinite(value) else value
        with open(self.filename, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry, allow_nan=False) + "\n")

    def _lines(self) -> list[str]:
        """Give the lines of the file that are whole: a kill may have cut the last."""
        if not self.filename.exists():
            return []
        lines = self.filename.read_text(encoding="utf-8").splitlines(keepends=True)
        return [line for line in lines if _is_entry(line)]


def _is_entry(line: str) -> bool:
    try:
        return line.endswith("\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False


class TrainingHealth(Callback):
    """Add to the numbers of each epoch: the gradient's norm, and how many gates are stuck.

        gradient_norm       mean over the steps of the norm of all gradients together, unclipped
        gradient_norm_max   the largest
        gru/r_saturated     share of r below 0.1 or above 0.9, for each GRU; so too z
        gru/n_saturated     share of |n| above 0.9

    Parameters
    ----------
    every : int
        Look at the gates of every so many steps.

    Notes
    -----
    A gate that is stuck passes next to no gradient. Source: arXiv:1506.02078, section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import GRU, Dense, Sequential
    >>> from gru_np.callbacks import TrainingHealth
    >>> model = Sequential([GRU(4), Dense(1)], seed=0)
    >>> model.compile("mse", "adam")
    >>> x, y = np.ones((8, 5, 2)), np.ones((8, 1))
    >>> history = model.fit(x, y, verbose=0, callbacks=[TrainingHealth()]).history
    >>> sorted(history)[:3]
    ['gradient_norm', 'gradient_norm_max', 'gru/n_saturated']
    """

    turn = 0  # others may watch what this adds

    state_kinds: ClassVar = {
        "steps": Count, "looks": Count, "sum": float, "max": float, "stuck": dict[str, float],
    }  # fmt: skip

    def __init__(self, every: int = 10):
        super().__init__()
        self.every = require_count("TrainingHealth", "every", every)
        self._clear()

    def _clear(self) -> None:
        self._steps, self._looks = 0, 0
        self._sum, self._max = 0.0, 0.0
        self._stuck: dict[str, float] = {}  # sums of shares

    def adds_to_logs(self) -> Iterable[str]:
        """Add norms, and a share for each gate."""
        return ("gradient_norm", "gradient_norm_max", *health.saturation_names(self.model.layers))

    def on_gradient(self, norm: float, saved: list[Any]) -> None:
        """Take note of a step."""
        if self._steps % self.every == 0:
            for name, share in health.saturation(self.model.layers, saved).items():
                self._stuck[name] = self._stuck.get(name, 0.0) + share
            self._looks += 1
        self._steps += 1
        self._sum += norm
        self._max = max(self._max, norm)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Add the means, and begin anew."""
        if self._steps:
            logs["gradient_norm"] = self._sum / self._steps
            logs["gradient_norm_max"] = self._max
            logs |= {name: total / self._looks for name, total in self._stuck.items()}
        self._clear()

    def reset_state(self) -> None:
        """Forget what an epoch that was not finished has seen."""
        self._clear()

    def get_state(self) -> dict[str, Any]:
        """Give what the epoch under way has seen."""
        return {
            "steps": self._steps, "looks": self._looks, "sum": self._sum, "max": self._max,
            "stuck": self._stuck,
        }  # fmt: skip

    def set_state(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self._steps, self._looks = state["steps"], state["looks"]
        self._sum, self._max = state["sum"], state["max"]
        self._stuck = dict(state["stuck"])
