"""What may look on while a model trains: history, progress, early stopping, checkpoints, logs.

Callbacks only read, but for two levers: `model.stop_training` and the optimiser's learning rate.
Each can give its state (`get_state`) and take it back, so that a resumed run is the same run.
"""

from gru_np.callbacks.base import Callback, CallbackList, LambdaCallback, Logs
from gru_np.callbacks.faults import SkipNonFinite, TerminateOnNaN
from gru_np.callbacks.history import History, spell_logs, spell_number
from gru_np.callbacks.logs import CSVLogger
from gru_np.callbacks.monitors import EarlyStopping, ReduceLROnPlateau
from gru_np.callbacks.progress import Progress
from gru_np.callbacks.saving import ModelCheckpoint

__all__ = [
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "Logs",
    "ModelCheckpoint",
    "Progress",
    "ReduceLROnPlateau",
    "SkipNonFinite",
    "TerminateOnNaN",
    "spell_logs",
    "spell_number",
]
