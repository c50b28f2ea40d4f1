"""What every callback is, and how `fit` tells all of them."""

import inspect
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, ClassVar

Logs = dict[str, float]


class Callback:
    """Base of all callbacks; every method does nothing until a subclass says otherwise.

    Attributes
    ----------
    model : Sequential
        The model in training.
    params : dict
        "epochs", "steps" (batches an epoch), "verbose".

    Examples
    --------
    >>> from gru_np.callbacks import Callback
    >>> class Shout(Callback):
    ...     def on_epoch_end(self, epoch, logs):
    ...         print(f"epoch {epoch}: {logs['loss']:.1f}!")
    >>> Shout().on_epoch_end(0, {"loss": 0.25})
    epoch 0: 0.2!
    """

    # Whose turn it is when all are told of an event: 0 changes weights or adds to the logs what
    # others may watch, 1 looks on, 2 records what is in the logs by then, 3 saves the state of all
    # others as it is after the event.
    turn = 1
    # Of what kind the entries of `get_state` are that `set_state` takes from a file, by name; see
    # `gru_np._schema`. Arrays need none.
    state_kinds: ClassVar[Mapping[str, Any]] = {}
    writes = ""  # the attribute with the path of the file that this, and no other, writes
    alone = False  # whether two in one run would undo each other's work

    def __init__(self) -> None:
        self.model: Any = None
        self.params: dict[str, Any] = {}

    def adds_to_logs(self) -> Iterable[str] | None:
        """Give the names that this adds to the logs of an epoch; None: any, nobody can tell."""
        return None

    def before_training(self, names: Collection[str] | None) -> None:
        """Raise if what this needs at the end of an epoch cannot be there, before the first begins.

        `names` are those of the numbers that will be in the logs; None if a callback may add any.
        """

    def on_train_begin(self, logs: Logs) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs) -> None:
        """After the last epoch, also when training was stopped; logs are the last there were."""

    def on_train_error(self) -> None:
        """When an exception ends training; `on_train_end` is not called then."""

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """Before an epoch; epochs count from 0."""

    def on_test_begin(self, logs: Logs) -> None:
        """Before the validation of an epoch."""

    def on_test_end(self, logs: Logs) -> None:
        """After the validation of an epoch."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """After an epoch and its validation; logs has the means over the epoch."""

    def on_train_batch_begin(self, batch: int, logs: Logs) -> None:
        """Before a batch."""

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """After a batch; logs has the means over the epoch so far."""

    def on_gradient(self, norm: float, saved: list[Any]) -> None:
        """Before the optimiser's step: the norm unclipped, and what each layer's forward kept."""

    def on_nonfinite(self, batch: int, error: FloatingPointError) -> bool:
        """After a step that changed nothing, its loss or gradient NaN; True keeps the error in."""
        return False

    def weights_to_save(self) -> dict[str, Any]:
        """Give parameters, as "layer/parameter", to be saved in place of the model's own."""
        return {}

    def reset_state(self) -> None:
        """Forget earlier runs; `fit` begins with it, and `set_state` follows where it resumes."""

    def get_state(self) -> dict[str, Any]:
        """Give what a resumed run needs: numbers, strings, None, arrays."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_state` gave."""


class LambdaCallback(Callback):
    """Call functions of one's own.

    Parameters
    ----------
    on_epoch_begin, on_epoch_end : callable (epoch, logs)
    on_train_batch_begin, on_train_batch_end : callable (batch, logs)
    on_train_begin, on_train_end : callable (logs)
        What to call, and when.

    Examples
    --------
    >>> from gru_np.callbacks import LambdaCallback
    >>> say = LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs))
    >>> say.on_epoch_end(3, {"loss": 1.0})
    3 {'loss': 1.0}
    """

    def __init__(
        self,
        on_epoch_begin: Callable[[int, Logs], Any] | None = None,
        on_epoch_end: Callable[[int, Logs], Any] | None = None,
        on_train_begin: Callable[[Logs], Any] | None = None,
        on_train_end: Callable[[Logs], Any] | None = None,
        on_train_batch_begin: Callable[[int, Logs], Any] | None = None,
        on_train_batch_end: Callable[[int, Logs], Any] | None = None,
    ):
        super().__init__()
        functions = {name: value for name, value in locals().items() if name.startswith("on_")}
        for name, function in functions.items():
            if function is not None:
                if not callable(function):
                    raise TypeError(f"LambdaCallback: {name} must be callable, got {function!r}")
                setattr(self, name, function)


class CallbackList:
    """Several callbacks as one, told of every event in the order of their turns."""

    def __init__(self, callbacks: Iterable[Callback], model: Any, params: dict[str, Any]):
        callbacks = list(callbacks)
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"fit: callbacks must be Callback objects, got {callback!r}")
            _require_callable(callback)
        _require_apart(callbacks)
        self.callbacks = sorted(callbacks, key=lambda callback: callback.turn)
        for callback in self.callbacks:
            callback.model, callback.params = model, params

    def __call__(self, event: str, *args: Any) -> None:
        """Tell every callback of an event."""
        for callback in self.callbacks:
            getattr(callback, event)(*args)

    def require(self, names: Iterable[str]) -> None:
        """Let every callback refuse what it cannot do, if the model's own logs have these names."""
        known: dict[str, None] | None = dict.fromkeys(names)
        for i, callback in enumerate(self.callbacks):
            try:
                callback.before_training(known)
            except ValueError as error:
                late = [other for other in self.callbacks[i + 1 :] if _may_add(other) is None]
                if known is None or not late:
                    raise
                callback.before_training(None)  # whatever else is wrong with it comes first
                raise ValueError(
                    f"{error}; if {type(late[0]).__name__} adds it to the logs, put that first"
                ) from error
            added = _may_add(callback)
            known = None if known is None or added is None else known | dict.fromkeys(added)

    def keeps_in(self, batch: int, error: FloatingPointError) -> bool:
        """Tell every callback of a step that failed; whether one of them deals with it."""
        return any([callback.on_nonfinite(batch, error) for callback in self.callbacks])


def _require_apart(callbacks: list[Callback]) -> None:
    """Raise if two callbacks would do the work of one, or write over each other's file."""
    for i, callback in enumerate(callbacks):
        who = type(callback).__name__
        for other in callbacks[:i]:
            if callback is other:
                raise ValueError(f"fit: callbacks must be different objects, got one {who} twice")
            if callback.alone and type(other) is type(callback):
                raise ValueError(f"fit: callbacks must have one {who} at most, got two")
            paths = [getattr(one, one.writes) for one in (callback, other) if one.writes]
            if len(paths) == 2 and len({os.path.realpath(os.fsdecode(path)) for path in paths}) < 2:
                raise ValueError(
                    f"fit: callbacks must write to files of their own, got {paths[0]} for "
                    f"{type(other).__name__} and {who}"
                )


def _require_callable(callback: Callback) -> None:
    """Raise unless every event can be told to a callback as it will be, be it hours later."""
    for event, told in vars(Callback).items():
        method = getattr(callback, event, None)
        if not event.startswith("on_") or getattr(method, "__func__", None) is told:
            continue
        arguments = list(inspect.signature(told).parameters)[1:]
        try:
            inspect.signature(method).bind(*arguments)  # type: ignore[arg-type]
        except TypeError as error:
            raise TypeError(
                f"{type(callback).__name__}: {event} must take ({', '.join(arguments)}): {error}"
            ) from None
        except ValueError:
            pass  # compiled elsewhere, it does not say what it takes


def _may_add(callback: Callback) -> Iterable[str] | None:
    """Give the names that a callback adds to the logs; None: any."""
    if "adds_to_logs" in vars(type(callback)):
        return callback.adds_to_logs()
    # A subclass may add more than the class it is made from, if it is told of logs at all.
    for event in ("on_epoch_end", "on_test_end", "on_train_batch_end"):
        if event in vars(callback) or getattr(type(callback), event) is not getattr(
            Callback, event
        ):
            return None
    return ()
