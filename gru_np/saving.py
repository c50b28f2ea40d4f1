"""A model as one file, and back: what `Sequential.save` writes and `Sequential.load` accepts.

`gru_np.checkpoint` stores a JSON-able config and named arrays and knows no classes; here is what
they mean. Weights are named "layer/parameter"; what only training needs stands under "training/".
A file can name only the classes in the closed tables of layers, losses, optimisers and metrics.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from gru_np import _beside, checkpoint, layers, losses, metrics, optimizers
from gru_np._aliases import Array
from gru_np._schema import Count, require_fields, require_settings
from gru_np.callbacks.history import History
from gru_np.checkpoint import CheckpointError

TRAINING = "training/"  # begins the name of every array that only training needs
LAYERS = {name: cls for name, cls in vars(layers).items() if isinstance(cls, type)}
# Endings that say another library wrote the file; those that `gru-np convert` writes, say so.
CONVERTED = {".h5": ".keras", ".hdf5": ".keras", ".keras": ".keras", ".onnx": ".onnx",
             ".pt": ".torch.safetensors", ".pth": ".torch.safetensors",
             ".bin": ".torch.safetensors", ".py": ".py"}  # fmt: skip
FOREIGN = (*CONVERTED, ".npz", ".npy", ".pkl", ".pickle", ".joblib", ".pb", ".tflite")


# What a file's config has, entry by entry, of which kind. A mistyped setting is found when the file
# is loaded, not when it is used.
DESCRIBED = dict[str, Any]
FILE = {
    "model": DESCRIBED, "extras": DESCRIBED, "text": DESCRIBED, "training": DESCRIBED | None,
}  # fmt: skip
MODEL = {
    "name": str, "dtype": Literal["float32", "float64"], "seed": Count,
    "input_shape": list[Count | None] | None, "layers": list[DESCRIBED],
}  # fmt: skip
POSITION = {
    "loss": DESCRIBED, "optimizer": DESCRIBED, "iterations": Count, "metrics": list[DESCRIBED],
    "epoch": Count, "batch": Count, "steps": Count | None, "has_states": bool,
    "trackers": list[dict[str, float]], "callbacks": list[DESCRIBED], "history": DESCRIBED,
    "weighted_metrics": list[DESCRIBED], "fixed": list[str], "passes": Count,
    "carried": list[str | list[str] | None],  # for each layer, the names of its state's arrays
    "arrays": dict[str, list[Count]],
}  # fmt: skip
CALLBACK = {"class": str, "state": DESCRIBED}
# Files of earlier versions do not have them.
ADDED = ("text", "weighted_metrics", "fixed", "passes", "carried")


def require_own_path(who: str, path: Any) -> None:
    """Refuse a path that says another library's format: what is written is a safetensors file."""
    name = os.fsdecode(path)
    ending = os.path.splitext(name)[1].lower()
    if ending not in FOREIGN:
        return
    advice = ""
    if ending in CONVERTED:
        target = name[: -len(ending)] + CONVERTED[ending]
        advice = f", then `gru-np convert model.safetensors {target}`"
    raise ValueError(
        f"{who}: the file is a safetensors file, and {name!r} says it is something else; save to "
        f"a path that ends in .safetensors{advice}"
    )


def layer_to_config(layer: layers.Layer) -> dict[str, Any]:
    """Describe a layer by class name and constructor arguments."""
    name = type(layer).__name__
    if LAYERS.get(name, type(layer)) is not type(layer):
        raise ValueError(
            f"{layer.name}: a class of one's own must have a name of its own, got another {name}"
        )
    for inner in vars(layer).values():
        if isinstance(inner, layers.Layer):
            layer_to_config(inner)  # looked at likewise
    return {"class": name, "config": layer.get_config()}


def _is_own(config: dict[str, Any]) -> bool:
    """Say whether a description names a class of the user's own, itself or within."""
    inner = (value for value in config["config"].values() if isinstance(value, dict))
    return config["class"] not in LAYERS or any(_is_own(one) for one in inner if "class" in one)


def require_model(config: Any) -> None:
    """Raise unless a description of a model has its entries, of their kinds."""
    require_fields("config of the model", config, MODEL)


def layer_from_config(config: dict[str, Any]) -> layers.Layer:
    """Make a layer from its description, or say what is wrong with it."""
    require_fields("a layer", config, {"class": str, "config": dict[str, Any]}, optional=())
    cls = LAYERS.get(config["class"])
    if cls is None or cls is layers.Layer:
        raise ValueError(
            f"unknown layer class {config['class']!r}; a model with a layer of one's own is made "
            "in code and takes a file by fit(x, y, epochs=0, resume=file)"
        )
    settings = {
        name: layer_from_config(value) if isinstance(value, dict) and "class" in value else value
        for name, value in config["config"].items()
    }
    require_settings(cls, settings)
    return cls(**settings)


def to_file(model: Any, path: Any) -> None:
    """Write the model, its compile settings and, if it has trained, where the training stands."""
    require_own_path("save", path)
    config, arrays = _content(model)
    _require_loadable("save", model, config, arrays)
    checkpoint.save(path, config, arrays)


def require_savable(who: str, model: Any, path: Any) -> None:
    """Raise if the model can never be written to this path, hours before it is tried."""
    try:
        config, arrays = _content(model)
        checkpoint.require_savable(path, config, arrays)
        _require_loadable("it", model, config, arrays)
    except OSError as error:
        raise OSError(error.errno, f"{who}: cannot save there, {error.strerror}", path) from None
    except (TypeError, ValueError) as error:
        reason = str(error).removeprefix("checkpoint: ")
        raise type(error)(f"{who}: the model cannot be saved to {path}: {reason}") from error


def _require_loadable(
    who: str, model: Any, config: dict[str, Any], arrays: dict[str, Array]
) -> None:
    """Raise unless a file of these can be read: what is set by hand no constructor has seen."""
    # Sequential, or a class of one's own that makes its models in a way of its own.
    reader: Any = next(cls for cls in type(model).__mro__ if "from_config" in vars(cls))
    own = any(map(_is_own, config["model"]["layers"]))
    made: list[Any] = [model]  # what reads the file of a model with a layer of one's own

    def expected(config: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], Any]]:
        _require_file(config)
        if not own:
            made.append(reader.from_config(config["model"]))
        return _expected_arrays(made[-1], config["training"])

    try:
        # What is beside the model is checked when it is set, and a vocabulary may be long.
        bare = config | {"extras": {}, "text": {}}
        bare = checkpoint.require_loadable(bare, arrays, expected)
        if not own:
            _fill(made[-1], bare, arrays)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise ValueError(
            f"{who}: the file could not be loaded again: {error}; undo what was set by hand"
        ) from error


def _content(model: Any) -> tuple[dict[str, Any], dict[str, Array]]:
    """Give what a model's file holds: the config and the arrays."""
    config = {
        "model": model.get_config(),
        "extras": model.extras,
        "text": _beside.to_config(model),
        "training": None,
    }
    arrays = dict(model.params)
    for callback in model.callbacks:
        arrays |= callback.weights_to_save()
    if model.loss is not None:
        config["training"], of_training = _training_to_config(model)
        arrays |= {f"{TRAINING}{name}": array for name, array in of_training.items()}
    return config, arrays


def _training_to_config(model: Any) -> tuple[dict[str, Any], dict[str, Array]]:
    progress, optimizer = model.progress, model.optimizer
    optimizer.follow(model.layers)  # a layer may have got another name since the last step
    arrays = {f"optimizer/{name}": array for name, array in optimizer.state.items()}
    for i, state in enumerate(progress.states or []):
        if state is not None:
            arrays[f"states/{i}"] = state
    carried = []
    for i, layer in enumerate(model.layers):
        state, named = layer.state, {}
        if isinstance(state, list | tuple):
            named = {f"carried/{i}/{j}": one for j, one in enumerate(state)}
        elif state is not None:
            named = {f"carried/{i}": state}
        present = [name for name, one in named.items() if one is not None]
        arrays |= {name: np.asarray(named[name], model.dtype) for name in present}
        carried.append(list(named) if isinstance(state, list | tuple) else [*named, None][0])
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
        "fixed": _fixed(model),
        "metrics": [metrics.serialize(metric) for metric in model.metrics],
        "weighted_metrics": [metrics.serialize(metric) for metric in model.weighted_metrics],
        "epoch": progress.epoch,
        "batch": progress.batch,
        "steps": progress.steps,
        "passes": progress.passes,
        "carried": carried,
        "has_states": progress.states is not None,
        "trackers": [tracker.get_state() for tracker in model.trackers()],
        "callbacks": callbacks,
        "history": {"epoch": model.history.epoch, "history": model.history.history},
        "arrays": {name: list(array.shape) for name, array in arrays.items()},
    }
    return config, arrays


def from_file(cls: Any, path: Any, allow_nonfinite: bool) -> Any:
    """Read a model: everything is checked against the config before any array is read."""
    made: list[Any] = []

    def expected(config: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], Any]]:
        _require_file(config)
        model = cls.from_config(config["model"])
        made.append(model)
        return _expected_arrays(model, config["training"])

    config, arrays = checkpoint.load(path, expected=expected)
    model = made[-1]
    with reading(path):
        if not allow_nonfinite:
            _require_finite(_split(arrays)[0])
        _fill(model, config, arrays)
        _beside.take(model, config["extras"], config.get("text", {}))
    return model


def _fill(model: Any, config: dict[str, Any], arrays: dict[str, Array]) -> None:
    """Give a new model the arrays of a file, and all that it says of training."""
    weights, of_training = _split(arrays)
    model.take_parameters(weights)
    training = config["training"]
    if training is not None:
        model.compile(
            losses.get(training["loss"]),
            optimizers.get(training["optimizer"]),
            _metrics(training),
            weighted_metrics=training.get("weighted_metrics"),  # none in older files
        )
        _restore_optimizer(model, training, of_training)
        _restore_position(model, training, of_training)
        model.history.set_state(training["history"])


def restore_training(model: Any, path: Any, callbacks: list[Any], steps: int) -> None:
    """Set model, optimiser, position and callbacks to where a saved training run stood."""

    def expected(config: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], Any]]:
        _require_file(config)
        if config["training"] is None:
            raise CheckpointError("it holds no training state; it was saved before compile")
        return _expected_arrays(model, config["training"])

    config, arrays = checkpoint.load(path, expected=expected)
    weights, of_training = _split(arrays)
    with reading(path):
        training = config["training"]
        _require_same_run(training, callbacks, steps)
        if training.get("fixed", []) != _fixed(model):
            raise ValueError(
                f"fit: to resume, {', '.join(_fixed(model))} must be fixed in the saved run as "
                "here, and that one trained both biases of GRU(reset_after=False); load the file "
                "and call fit without resume"
            )
        model.take_parameters(weights)
        model.seed = int(config["model"]["seed"])
        _restore_optimizer(model, training, of_training)
        _restore_position(model, training, of_training)
        if not training["callbacks"]:
            callbacks[0].set_state(training["history"])
            return
        for i, (callback, entry) in enumerate(zip(callbacks, training["callbacks"], strict=True)):
            who = f"the state of {entry['class']}"
            require_fields(who, entry["state"], callback.state_kinds)
            callback.set_state(entry["state"] | _below(of_training, f"callbacks/{i}/"))


def _require_file(config: dict[str, Any]) -> None:
    """Raise unless what a file says is of the kinds above, and its position one in a run."""
    require_fields("the config", config, FILE, ADDED)
    require_fields("the model", config["model"], MODEL, optional=())
    training = config["training"]
    if training is None:
        return
    require_fields("training", training, POSITION, ADDED)
    require_fields("history", training["history"], History.state_kinds, optional=())
    for entry in training["callbacks"]:
        require_fields("a callback", entry, CALLBACK, optional=())
    batch, steps = training["batch"], training["steps"]
    if batch > (steps or 0):
        raise ValueError(f"training['batch'] must be one of the {steps} of an epoch, got {batch}")


def _expected_arrays(model: Any, training: Any) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Say which arrays a file must hold, from its config alone."""
    shapes = model.parameter_shapes()
    if training is not None:
        shapes |= {f"{TRAINING}{name}": tuple(s) for name, s in training["arrays"].items()}
    return {name: (shape, model.dtype) for name, shape in shapes.items()}


def _require_same_run(training: dict[str, Any], callbacks: list[Any], steps: int) -> None:
    saved, here = (
        [c["class"] for c in training["callbacks"]],
        [type(c).__name__ for c in callbacks],
    )
    # A file that was saved when no `fit` was under way has none.
    if saved and saved != here:
        raise ValueError(
            f"fit: to resume, callbacks must be those of the saved run, {', '.join(saved)}; "
            f"got {', '.join(here)}"
        )
    if training["steps"] not in (None, steps):
        raise ValueError(
            f"fit: to resume, data, batch_size and tbptt must be those of the saved run, "
            f"{training['steps']} batches an epoch; got {steps}"
        )


def _fixed(model: Any) -> list[str]:
    """Name the parameters that training leaves as they are."""
    return [f"{layer.name}/{name}" for layer in model.layers for name in layer.fixed]


def _metrics(training: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the descriptions of the metrics; "Accuracy" had another meaning in older files."""
    described = training["metrics"]
    if "weighted_metrics" in training:
        return list(described)
    new = {"class_name": "AccuracyByShape"}
    return [one | new if one["class_name"] == "Accuracy" else one for one in described]


def _restore_optimizer(model: Any, training: dict[str, Any], arrays: dict[str, Array]) -> None:
    # The rate may have been lowered by a callback, so the saved settings win over the new ones.
    model.optimizer = optimizers.get(training["optimizer"])
    model.optimizer.iterations = int(training["iterations"])
    model.optimizer.state = _below(arrays, "optimizer/")
    for name in _fixed(model):  # in older files these trained
        for key in [key for key in model.optimizer.state if key.endswith(f"/{name}")]:
            del model.optimizer.state[key]


def _restore_position(model: Any, training: dict[str, Any], arrays: dict[str, Array]) -> None:
    progress = model.progress
    progress.epoch, progress.batch = training["epoch"], training["batch"]
    progress.steps = training["steps"]
    progress.passes = training.get("passes", progress.epoch)  # files of earlier versions: one fit
    progress.states = None
    if training["has_states"]:
        progress.states = [arrays.get(f"states/{i}") for i in range(len(model.layers))]
    carried = training.get("carried") or [None] * len(model.layers)
    for i, (layer, names) in enumerate(zip(model.layers, carried, strict=True)):
        own = [f"carried/{i}/{j}" for j in range(len(names))] if isinstance(names, list) else None
        if names is not None and names != (own or f"carried/{i}"):
            raise ValueError(f"what {layer.name} carries cannot be {names!r}")
        if isinstance(names, list):
            layer.state = tuple(arrays.get(name) for name in names)
        elif names is not None or layer.state is not None:
            layer.state = None if names is None else arrays[names]
    for tracker, state in zip(model.trackers(), training["trackers"], strict=True):
        tracker.set_state(state)


def _require_finite(weights: dict[str, Array]) -> None:
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise ValueError(
                f"{name} holds NaN or infinity, as after training diverged; "
                "allow_nonfinite=True loads it all the same"
            )


def _split(arrays: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Part the weights from what only training needs."""
    weights = {name: array for name, array in arrays.items() if not name.startswith(TRAINING)}
    return weights, _below(arrays, TRAINING)


def _below(arrays: dict[str, Array], prefix: str) -> dict[str, Array]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


@contextmanager
def reading(path: Any) -> Iterator[None]:
    """Turn what a nonsensical config provokes into a CheckpointError; say the file."""
    try:
        yield
    except CheckpointError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{path}: {error}") from error
