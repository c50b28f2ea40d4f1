"""What to do about a step whose loss or gradient is NaN or infinite."""

from collections.abc import Iterable
from typing import Any, ClassVar

from gru_np import _console
from gru_np._checks import require_count
from gru_np._schema import Count
from gru_np.callbacks.base import Callback, Logs


class TerminateOnNaN(Callback):
    """End training as if it were done once a loss or gradient is NaN or infinite.

    Without it `fit` raises `gru_np.health.NonFiniteError`. Either way the weights are those before
    the step.

    Examples
    --------
    >>> from gru_np.callbacks import TerminateOnNaN
    >>> guard = TerminateOnNaN()
    """

    def adds_to_logs(self) -> Iterable[str]:
        """Add nothing."""
        return ()

    def on_nonfinite(self, batch: int, error: FloatingPointError) -> bool:
        """Say where it came from, and stop."""
        _console.show(f"Batch {batch}: {error}\n")
        self.model.stop_training = True
        return True


class SkipNonFinite(Callback):
    """Leave out a step whose loss or gradient is NaN or infinite, and go on with the next batch.

    Recurrent states carried along begin anew after it.

    Parameters
    ----------
    in_a_row : int
        How many steps may fail one after another before the error is raised after all.

    Attributes
    ----------
    skipped : int
        Steps left out so far in this run.

    Examples
    --------
    >>> from gru_np.callbacks import SkipNonFinite
    >>> guard = SkipNonFinite(in_a_row=1)
    >>> guard.on_nonfinite(0, FloatingPointError()), guard.on_nonfinite(1, FloatingPointError())
    (True, False)
    """

    state_kinds: ClassVar = {"skipped": Count, "now": Count}

    def __init__(self, in_a_row: int = 10):
        super().__init__()
        self.in_a_row = require_count(type(self).__name__, "in_a_row", in_a_row, least=0)
        self.skipped = 0
        self._now = 0  # in a row, up to here

    def adds_to_logs(self) -> Iterable[str]:
        """Add nothing."""
        return ()

    def on_nonfinite(self, batch: int, error: FloatingPointError) -> bool:
        """Count it."""
        self._now += 1
        if self._now > self.in_a_row:
            return False
        self.skipped += 1
        return True

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """A step that succeeded ends the row."""
        self._now = 0

    def reset_state(self) -> None:
        """Count from zero."""
        self.skipped = self._now = 0

    def get_state(self) -> dict[str, Any]:
        """Give the counts."""
        return {"skipped": self.skipped, "now": self._now}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self.skipped, self._now = state["skipped"], state["now"]
