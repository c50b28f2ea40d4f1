"""What watches one number: early stopping, a falling learning rate; the base of checkpoints."""

import math
import re
from collections.abc import Collection, Iterable
from typing import Any, ClassVar

from gru_np import _console
from gru_np._checks import require_choice, require_count
from gru_np._named import require_number
from gru_np._schema import Count
from gru_np.callbacks.base import Callback, Logs
from gru_np.callbacks.history import spell_number

# How the names of numbers end of which more is better, or less; the longest that fits decides.
# Short ones must be whole words: "power" is no word error rate.
LARGER = """
    accuracy acc auc auroc auprc average_precision precision recall sensitivity specificity
    true_positive_rate true_negative_rate tpr tnr true_positives true_negatives f1 f2 f1_score
    f2_score f_score f_measure fbeta fbeta_score r2 r2_score explained_variance bleu bleu_score chrf
    meteor rouge rouge_l iou miou jaccard dice dice_score mcc kappa correlation pearson spearman
    similarity likelihood exact_match hits hit_rate ndcg mrr psnr snr ssim reward return top_k
    bleu1 bleu2 bleu3 bleu4 rouge1 rouge2 rougel coverage gain skill
"""
SMALLER = """
    loss error err error_rate mae mse rmse nrmse rmsle msle mape smape mase perplexity ppl wer cer
    ter per eer ler inaccuracy crossentropy cross_entropy entropy nll negative_log_likelihood
    logloss nats bits bpc divergence kld kl distance deviation dissimilarity unlikelihood brier
    brier_score crps pinball quantile_score huber logcosh log_cosh hinge poisson ctc ece regret
    penalty cost false_positive_rate false_negative_rate fpr fnr false_positives false_negatives
    misses miss_rate edits gradient_norm
"""
# What may stand behind: a number, as of a metric asked for twice, an average, a place.
BEHIND = re.compile(r"(_\d+|[_-](macro|micro|weighted|mean|avg)|(@|_at_).*)$")


def direction(name: str) -> str | None:
    """Say whether a number of this name should grow, "max", or fall, "min"; None: nobody can tell.

    Examples
    --------
    >>> from gru_np.callbacks.monitors import direction
    >>> [direction(name) for name in ("val_f1", "val_inaccuracy", "top_5_accuracy", "val_score")]
    ['max', 'min', 'max', None]
    """
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().removeprefix("val_")
    name = re.sub(r"^(weighted_)?top_?\d+", "top_k", name)
    best, found = "", None
    for mode, endings in (("max", LARGER.split()), ("min", SMALLER.split())):
        for ending in endings:
            whole = len(ending) > 3 or not name[: -len(ending)][-1:].isalpha()
            if name.endswith(ending) and whole and len(ending) > len(best):
                best, found = ending, mode
    shorter = BEHIND.sub("", name)
    return found if found or shorter == name else direction(shorter)


class Monitor(Callback):
    """What watches one number and knows whether it got better."""

    def __init__(self, monitor: str, mode: str, min_delta: float, judges: bool = True):
        super().__init__()
        require_choice(type(self).__name__, "mode", mode, ["auto", "min", "max"])
        self.monitor = monitor
        self.mode = mode
        if mode == "auto" and judges:
            found = direction(str(monitor))
            if found is None:
                raise ValueError(
                    f"{type(self).__name__}: mode must be given for monitor {monitor!r}, whose "
                    'name does not tell which direction is better; give mode="min" or mode="max"'
                )
            self.mode = found
        self.min_delta = abs(self.number("min_delta", min_delta) or 0.0)
        self.best: float | None = None

    def number(self, what: str, value: Any) -> float | None:
        """Give a setting as a number, None if it is not set, or raise."""
        if value is None:
            return None
        return require_number(type(self).__name__, what, value, low=-math.inf)

    def require_name(self, names: Collection[str] | None) -> None:
        """Raise unless the number to watch is among these names, if they are known."""
        if names is not None and self.monitor not in names:
            raise ValueError(
                f"{type(self).__name__}: monitor must be one of {', '.join(map(repr, names))}, "
                f"got {self.monitor!r}"
                + ("; give validation_data" if str(self.monitor).startswith("val_") else "")
            )

    def before_training(self, names: Collection[str] | None) -> None:
        """Find out now whether there will be anything to watch."""
        self.require_name(names)

    def reset_state(self) -> None:
        """Forget the best of earlier runs."""
        self.best = None

    def read(self, logs: Logs) -> float:
        """Give the watched number, or say what there is to watch."""
        self.require_name(logs)
        return logs[self.monitor]

    def is_better(self, value: float, best: float | None) -> bool:
        """Answer whether value beats best by at least min_delta."""
        if best is None or math.isnan(best):
            return not math.isnan(value)
        gain = value - best if self.mode == "max" else best - value
        return gain > self.min_delta


class EarlyStopping(Monitor):
    """Stop when a number has not improved for some epochs.

    Parameters
    ----------
    monitor : str
        The number to watch, by its name in the logs.
    min_delta : float
        The least change that counts.
    patience : int
        Epochs without improvement to wait for.
    verbose : int
        1 says so when training stops.
    mode : {"auto", "min", "max"}
        Which direction is better. "auto" goes by the end of the name, at once: what ends in
        "accuracy", "auc", "precision", "recall", "f1", "r2", "bleu" and the like should grow, what
        ends in "loss", "error", "perplexity", "wer" and the like should fall.
    baseline : float, optional
        A value that must be beaten.
    restore_best_weights : bool
        Go back to the weights of the best epoch at the end.
    start_from_epoch : int
        Epochs to let pass before watching.

    Raises
    ------
    ValueError
        If the name does not tell the direction and `mode` is not given; and as training begins, if
        there will be no number of this name.

    Notes
    -----
    In Keras the metric tells the direction, as training begins.

    Examples
    --------
    >>> from gru_np.callbacks import EarlyStopping
    >>> stop = EarlyStopping(monitor="loss", patience=3, restore_best_weights=True)
    >>> EarlyStopping(monitor="val_f1").mode
    'max'
    """

    state_kinds: ClassVar = {"best": float | None, "wait": Count, "best_epoch": Count}

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ):
        super().__init__(monitor, mode, min_delta)
        who = type(self).__name__
        self.patience = require_count(who, "patience", patience, least=0)
        self.verbose = verbose
        self.baseline = self.number("baseline", baseline)
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = require_count(who, "start_from_epoch", start_from_epoch, least=0)
        self.wait = 0
        self.best_epoch = 0
        self.stopped_epoch = 0
        self._best_weights: list[Any] | None = None

    def adds_to_logs(self) -> Iterable[str]:
        """Add nothing."""
        return ()

    def on_train_begin(self, logs: Logs) -> None:
        """Stop at once if the run that this one resumes had come to its end."""
        if self.wait >= max(self.patience, 1):
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Compare, remember, and stop if patience has run out."""
        value = self.read(logs)
        if epoch < self.start_from_epoch:
            return
        self.wait += 1
        if self.is_better(value, self.best):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self._best_weights = self.model.get_weights()
            if self.baseline is None or self.is_better(value, self.baseline):
                self.wait = 0
        if self.wait >= max(self.patience, 1):
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs) -> None:
        """Put the best weights back."""
        if self.stopped_epoch and self.verbose:
            _console.show(
                f"Epoch {self.stopped_epoch + 1}: early stopping; "
                f"best {self.monitor} {spell_number(self.best or math.nan)} "
                f"in epoch {self.best_epoch + 1}\n"
            )
        if self.restore_best_weights and self._best_weights is not None:
            self.model.set_weights(self._best_weights)

    def get_state(self) -> dict[str, Any]:
        """Give the best so far, its weights, and how long it has been."""
        state = {"best": self.best, "wait": self.wait, "best_epoch": self.best_epoch}
        for i, array in enumerate(self._best_weights or []):
            state[f"weights/{i}"] = array
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self.best, self.wait, self.best_epoch = (state[k] for k in ("best", "wait", "best_epoch"))
        weights = sum(name.startswith("weights/") for name in state)
        self._best_weights = [state[f"weights/{i}"] for i in range(weights)] or None

    def reset_state(self) -> None:
        """Forget an earlier run."""
        super().reset_state()
        self.wait, self.best_epoch, self.stopped_epoch, self._best_weights = 0, 0, 0, None


class ReduceLROnPlateau(Monitor):
    """Lower the learning rate when a number has stopped improving.

    Parameters
    ----------
    monitor, mode, min_delta
        As for `EarlyStopping`.
    factor : float
        What the rate is multiplied by, in (0, 1).
    patience : int
        Epochs without improvement to wait for.
    verbose : int
        1 says so when the rate changes.
    cooldown : int
        Epochs to wait after a change before counting again.
    min_lr : float
        Never go below.

    Examples
    --------
    >>> from gru_np.callbacks import ReduceLROnPlateau
    >>> plateau = ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=2)
    """

    state_kinds: ClassVar = {"best": float | None, "wait": Count, "cooling": Count}

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ):
        super().__init__(monitor, mode, min_delta)
        who = type(self).__name__
        self.factor = require_number(who, "factor", factor, 0, 1, "()")
        self.patience = require_count(who, "patience", patience, least=0)
        self.verbose = verbose
        self.cooldown = require_count(who, "cooldown", cooldown, least=0)
        self.min_lr = require_number(who, "min_lr", min_lr)
        self.wait = 0
        self.cooling = 0

    def adds_to_logs(self) -> Iterable[str]:
        """Add the learning rate."""
        return ("learning_rate",)

    def before_training(self, names: Collection[str] | None) -> None:
        """Find out now whether there will be anything to watch, and a rate to lower."""
        super().before_training(names)
        rate = self.model.optimizer.learning_rate
        if callable(rate):
            raise ValueError(
                "ReduceLROnPlateau: learning_rate must be a number, got the schedule "
                f"{type(rate).__name__}; use one or the other"
            )

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Compare, and lower the rate if patience has run out."""
        value = self.read(logs)
        logs["learning_rate"] = float(self.model.optimizer.learning_rate_now())
        if self.cooling > 0:
            self.cooling, self.wait = self.cooling - 1, 0
        if self.is_better(value, self.best):
            self.best, self.wait = value, 0
        elif self.cooling <= 0:
            self.wait += 1
            if self.wait >= self.patience:
                self._lower(epoch)

    def _lower(self, epoch: int) -> None:
        old = self.model.optimizer.learning_rate
        if old > self.min_lr:
            self.model.optimizer.learning_rate = max(old * self.factor, self.min_lr)
            self.cooling, self.wait = self.cooldown, 0
            if self.verbose:
                rate = self.model.optimizer.learning_rate
                _console.show(f"Epoch {epoch + 1}: learning rate lowered to {rate:g}\n")

    def get_state(self) -> dict[str, Any]:
        """Give the best so far and the counters."""
        return {"best": self.best, "wait": self.wait, "cooling": self.cooling}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self.best, self.wait, self.cooling = (state[k] for k in ("best", "wait", "cooling"))

    def reset_state(self) -> None:
        """Forget an earlier run."""
        super().reset_state()
        self.wait = self.cooling = 0
