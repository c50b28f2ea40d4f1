"""A model as one file, and back: what `Sequential.save` writes and `Sequential.load` accepts.

`gru_np.checkpoint` stores a JSON-able config and named arrays and knows no classes; here is what
they mean. Weights are named "layer/parameter"; what only training needs stands under "training/".
A file can name only the classes in the closed tables of layers, losses, optimisers and metrics.
"""

from typing import Any

import numpy as np

from gru_np import checkpoint, layers, losses, metrics, optimizers
from gru_np._aliases import Array
from gru_np.checkpoint import CheckpointError

LAYERS = {name: cls for name, cls in vars(layers).items() if isinstance(cls, type)}


def layer_to_config(layer: layers.Layer) -> dict[str, Any]:
    """Describe a layer by class name and constructor arguments."""
    return {"class": type(layer).__name__, "config": layer.get_config()}


def layer_from_config(config: dict[str, Any]) -> layers.Layer:
    """Make a layer from its description, or say what is wrong with it."""
    cls = LAYERS.get(config["class"])
    if cls is None or cls is layers.Layer:
        raise ValueError(f"unknown layer class {config['class']!r}")
    settings = {
        name: layer_from_config(value) if isinstance(value, dict) and "class" in value else value
        for name, value in config["config"].items()
    }
    return cls(**settings)


def to_file(model: Any, path: Any) -> None:
    """Write the model, its compile settings and, if it has trained, where the training stands."""
    extras = model.extras
    if model.tokenizer is not None:
        name = type(model.tokenizer).__name__
        extras = extras | {
            "tokenizer": {"class_name": name, "config": model.tokenizer.get_config()}
        }
    config = {"model": model.get_config(), "extras": extras, "training": None}
    arrays = dict(model.params)
    if model.loss is not None:
        config["training"], of_training = _training_to_config(model)
        arrays |= {f"training/{name}": array for name, array in of_training.items()}
    checkpoint.save(path, config, arrays)


def _training_to_config(model: Any) -> tuple[dict[str, Any], dict[str, Array]]:
    progress, optimizer = model.progress, model.optimizer
    arrays = {f"optimizer/{name}": array for name, array in optimizer.state.items()}
    for i, state in enumerate(progress.states or []):
        if state is not None:
            arrays[f"states/{i}"] = state
    callbacks = []
    for i, callback in enumerate(model.callbacks):
        state = callback.get_state()
        plain = {k: v for k, v in state.items() if not isinstance(v, np.ndarray)}
        arrays |= {f"callbacks/{i}/{k}": v for k, v in state.items() if k not in plain}
        callbacks.append({"class": type(callback).__name__, "state": plain})
    config = {
        "loss": losses.serialize(model.loss),
        "optimizer": optimizers.serialize(optimizer),
        "iterations": optimizer.iterations,
        "metrics": [metrics.serialize(metric) for metric in model.metrics],
        "epoch": progress.epoch,
        "batch": progress.batch,
        "has_states": progress.states is not None,
        "trackers": [tracker.get_state() for tracker in model.trackers()],
        "callbacks": callbacks,
        "history": {"epoch": model.history.epoch, "history": model.history.history},
        "arrays": {name: list(array.shape) for name, array in arrays.items()},
    }
    return config, arrays


def from_file(cls: Any, path: Any) -> Any:
    """Read a model: everything is checked against the config before any array is read."""
    made: list[Any] = []

    def expected(config: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], Any]]:
        model = cls.from_config(config["model"])
        made.append(model)
        wanted = {name: (shape, model.dtype) for name, shape in model.parameter_shapes().items()}
        training = config["training"]
        if training is not None:
            for name, shape in training["arrays"].items():
                wanted[f"training/{name}"] = (tuple(shape), model.dtype)
        return wanted

    config, arrays = checkpoint.load(path, expected=expected)
    model = made[-1]
    model.take_parameters({k: v for k, v in arrays.items() if not k.startswith("training/")})
    model.extras = config["extras"]
    training = config["training"]
    if training is not None:
        try:
            model.compile(
                losses.get(training["loss"]),
                optimizers.get(training["optimizer"]),
                [metrics.get(metric, None) for metric in training["metrics"]],
            )
        except (TypeError, ValueError, KeyError) as error:
            raise CheckpointError(f"{path}: the compile settings do not fit: {error}") from error
        _restore_optimizer(model, training, arrays)
        model.history.set_state(training["history"])
    return model


def restore_training(model: Any, path: Any, callbacks: list[Any]) -> None:
    """Set model, optimiser, position and callbacks to where a saved training run stood."""
    shapes = model.parameter_shapes()

    def expected(config: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], Any]]:
        if config["training"] is None:
            raise ValueError("it holds no training state; it was saved before compile")
        wanted = {name: (shape, model.dtype) for name, shape in shapes.items()}
        for name, shape in config["training"]["arrays"].items():
            wanted[f"training/{name}"] = (tuple(shape), model.dtype)
        return wanted

    config, arrays = checkpoint.load(path, expected=expected)
    training = config["training"]
    model.take_parameters({k: v for k, v in arrays.items() if not k.startswith("training/")})
    model.seed = config["model"]["seed"]
    _restore_optimizer(model, training, arrays)

    progress = model.progress
    progress.epoch, progress.batch = training["epoch"], training["batch"]
    progress.states = None
    if training["has_states"]:
        progress.states = [arrays.get(f"training/states/{i}") for i in range(len(model.layers))]
    for tracker, state in zip(model.trackers(), training["trackers"], strict=True):
        tracker.set_state(state)

    saved = training["callbacks"]
    names, here = [c["class"] for c in saved], [type(c).__name__ for c in callbacks]
    if names != here:
        raise ValueError(
            f"fit: to resume, callbacks must be those of the saved run, {', '.join(names)}; "
            f"got {', '.join(here)}"
        )
    for i, (callback, entry) in enumerate(zip(callbacks, saved, strict=True)):
        prefix = f"training/callbacks/{i}/"
        of_callback = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        callback.set_state(entry["state"] | of_callback)


def _restore_optimizer(model: Any, training: dict[str, Any], arrays: dict[str, Array]) -> None:
    prefix = "training/optimizer/"
    # The rate may have been lowered by a callback, so the saved settings win over the new ones.
    model.optimizer = optimizers.get(training["optimizer"])
    model.optimizer.iterations = training["iterations"]
    model.optimizer.state = {
        k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)
    }
