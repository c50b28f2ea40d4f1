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

from gru_np.callbacks.averaging import AverageWeights
from gru_np.callbacks.base import Callback, CallbackList, LambdaCallback, Logs
from gru_np.callbacks.faults import SkipNonFinite, TerminateOnNaN
from gru_np.callbacks.history import History, spell_logs, spell_number
from gru_np.callbacks.logs import CSVLogger, JSONLogger, TrainingHealth
from gru_np.callbacks.monitors import EarlyStopping, ReduceLROnPlateau
from gru_np.callbacks.progress import Progress
from gru_np.callbacks.saving import ModelCheckpoint, StopOnSignal

__all__ = [
    "AverageWeights",
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "JSONLogger",
    "LambdaCallback",
    "Logs",
    "ModelCheckpoint",
    "Progress",
    "ReduceLROnPlateau",
    "SkipNonFinite",
    "StopOnSignal",
    "TerminateOnNaN",
    "TrainingHealth",
    "spell_logs",
    "spell_number",
]
