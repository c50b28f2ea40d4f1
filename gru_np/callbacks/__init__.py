"""What may look on while a model trains: history, progress, early stopping, checkpoints, logs.

Callbacks only read, but for two levers, `model.stop_training` and the optimiser's learning rate;
`AverageWeights` alone shows and saves other weights than those in training.

    base.py       Callback, LambdaCallback, CallbackList: what they are and who is told when
    history.py    History
    progress.py   Progress
    monitors.py   EarlyStopping, ReduceLROnPlateau
    saving.py     ModelCheckpoint, StopOnSignal
    logs.py       CSVLogger, JSONLogger, TrainingHealth
    faults.py     TerminateOnNaN, SkipNonFinite
    averaging.py  AverageWeights

Each can give its state (`get_state`) and take it back, so that a resumed run is the same run.
"""

import importlib
from typing import TYPE_CHECKING, Any

from gru_np.callbacks.base import Callback, CallbackList, LambdaCallback, Logs
from gru_np.callbacks.history import History, spell_logs, spell_number
from gru_np.callbacks.progress import Progress

if TYPE_CHECKING:
    from gru_np.callbacks.averaging import AverageWeights as AverageWeights
    from gru_np.callbacks.faults import SkipNonFinite as SkipNonFinite
    from gru_np.callbacks.faults import TerminateOnNaN as TerminateOnNaN
    from gru_np.callbacks.logs import CSVLogger as CSVLogger
    from gru_np.callbacks.logs import JSONLogger as JSONLogger
    from gru_np.callbacks.logs import TrainingHealth as TrainingHealth
    from gru_np.callbacks.monitors import EarlyStopping as EarlyStopping
    from gru_np.callbacks.monitors import ReduceLROnPlateau as ReduceLROnPlateau
    from gru_np.callbacks.saving import ModelCheckpoint as ModelCheckpoint
    from gru_np.callbacks.saving import StopOnSignal as StopOnSignal

# What a prediction has no use for is fetched when it is first asked for.
_HOMES = {
    "averaging": ["AverageWeights"],
    "faults": ["SkipNonFinite", "TerminateOnNaN"],
    "logs": ["CSVLogger", "JSONLogger", "TrainingHealth"],
    "monitors": ["EarlyStopping", "ReduceLROnPlateau"],
    "saving": ["ModelCheckpoint", "StopOnSignal"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Callback",
    "CallbackList",
    "History",
    "LambdaCallback",
    "Logs",
    "Progress",
    "spell_logs",
    "spell_number",
    *_HOME_OF,
]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        value = getattr(importlib.import_module(f"gru_np.callbacks.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'gru_np.callbacks' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
