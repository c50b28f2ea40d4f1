"""What writes the numbers of a run to a file."""

import csv
from pathlib import Path
from typing import Any

from gru_np.callbacks.base import Callback, Logs


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
            writer = csv.writer(file, delimiter=self.separator)
            if first:
                writer.writerow(["epoch", *logs])
            writer.writerow([epoch, *logs.values()])

    def set_state(self, state: dict[str, Any]) -> None:
        """Keep the lines of the run that this one resumes."""
        self.append = True
