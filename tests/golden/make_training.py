"""Make training.json: what Keras and PyTorch compute for losses, optimisers, schedules and metrics.

    python tests/golden/make_training.py        needs keras >= 3 and torch

The tests compare gru_np with the stored numbers, and recompute them where the libraries are
installed. Each case holds its inputs, the names and settings of both sides, and the answer; all in
float64.
"""

import json
import os
from pathlib import Path

import numpy as np

PATH = Path(__file__).with_name("training.json")
B, T, K = 3, 5, 4  # batch, time, classes
STEPS = 7


# ---------------------------------------------------------------------------------------- cases


def loss_cases():
    """Losses over (B, T, K) and (B, K), with and without weights and mask."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(B, T, K)) * 2
    softmax = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    # Not normalised, with a certain answer and an impossible one: Keras normalises and clips.
    rough = softmax * rng.uniform(0.5, 2, (B, T, 1))
    rough[0, 1] = [0, 1, 0, 0]
    answers = 1 / (1 + np.exp(-logits))
    answers[1, 2, :2] = [0, 1]
    labels = rng.integers(0, K, (B, T))
    soft = rng.dirichlet(np.ones(K), (B, T))
    yes = rng.integers(0, 2, (B, T, K)).astype(float)
    real = rng.normal(size=(B, T, K)) * 2
    mask = np.arange(T) < np.array([[5], [2], [4]])
    weight = rng.uniform(0.5, 2, (B, T))

    kinds = [
        ("SparseCategoricalCrossentropy", labels, {"from_logits": True}, logits),
        ("SparseCategoricalCrossentropy", labels, {}, rough),
        ("SparseCategoricalCrossentropy", labels, {"from_logits": True, "ignore_class": 1}, logits),
        ("CategoricalCrossentropy", soft, {"from_logits": True}, logits),
        ("CategoricalCrossentropy", soft, {}, rough),
        ("CategoricalCrossentropy", soft, {"from_logits": True, "label_smoothing": 0.2}, logits),
        ("CategoricalCrossentropy", np.eye(K)[labels], {"label_smoothing": 0.2}, rough),
        ("BinaryCrossentropy", yes, {"from_logits": True}, logits),
        ("BinaryCrossentropy", yes, {}, answers),
        ("BinaryCrossentropy", yes, {"from_logits": True, "label_smoothing": 0.2}, logits),
        ("MeanSquaredError", real, {}, logits),
        ("MeanAbsoluteError", real, {}, logits),
        ("Huber", real, {"delta": 0.7}, logits),
    ]
    for name, y_true, config, y_pred in kinds:
        for extra in ({}, {"sample_weight": weight, "mask": mask}):
            if extra and "ignore_class" in config:
                continue  # Keras counts its own mask twice there
            yield {
                "library": "keras",
                "ours": {"class_name": name, "config": config},
                "y_true": y_true,
                "y_pred": y_pred,
                **extra,
            }
    smoothed = {"from_logits": True, "label_smoothing": 0.2, "ignore_class": 2}
    torch_kinds = [
        ("CrossEntropyLoss", "SparseCategoricalCrossentropy", labels, {}, logits),
        ("CrossEntropyLoss", "SparseCategoricalCrossentropy", labels, smoothed, logits),
        ("CrossEntropyLoss", "CategoricalCrossentropy", soft, {"label_smoothing": 0.2}, logits),
        ("BCEWithLogitsLoss", "BinaryCrossentropy", yes, {}, logits),
        ("MSELoss", "MeanSquaredError", real, None, logits),
        ("L1Loss", "MeanAbsoluteError", real, None, logits),
        ("HuberLoss", "Huber", real, {"delta": 0.7}, logits),
    ]
    for theirs, ours, y_true, config, y_pred in torch_kinds:
        settings = dict(config or {})
        if "Crossentropy" in ours:
            settings["from_logits"] = True
        yield {
            "library": "torch",
            "theirs": {"class_name": theirs, "config": _loss_config_of_torch(settings)},
            "ours": {"class_name": ours, "config": settings},
            "y_true": y_true,
            "y_pred": y_pred,
        }


def _loss_config_of_torch(config):
    names = {"ignore_class": "ignore_index"}
    return {names.get(k, k): v for k, v in config.items() if k != "from_logits"}


def optimizer_cases():
    """Seven steps of every optimiser and every kind of clipping, on a matrix and a vector."""
    rng = np.random.default_rng(2)
    shapes = {"gru_W": (3, 2), "gru_b": (4,)}
    params = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    grads = [{name: rng.normal(size=shape) for name, shape in shapes.items()} for _ in range(STEPS)]
    grads[3]["gru_b"][1] = 0.0
    grads[5]["gru_W"] *= 1e-7  # where epsilon matters
    decay = {"class_name": "ExponentialDecay"}
    decay["config"] = {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5}

    keras = [
        ("SGD", {}),
        ("SGD", {"learning_rate": 0.1, "momentum": 0.9}),
        ("SGD", {"learning_rate": decay, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        ("SGD", {"learning_rate": 0.1, "clipnorm": 0.8}),
        ("SGD", {"learning_rate": 0.1, "clipvalue": 0.5}),
        ("SGD", {"learning_rate": 0.1, "global_clipnorm": 1.5}),
        ("RMSprop", {}),
        ("RMSprop", {"learning_rate": decay, "rho": 0.8, "momentum": 0.5, "epsilon": 1e-3}),
        ("RMSprop", {"learning_rate": 0.1, "centered": True, "weight_decay": 0.1}),
        ("Adam", {}),
        ("Adam", {"learning_rate": decay, "beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3}),
        ("Adam", {"learning_rate": 0.1, "amsgrad": True, "global_clipnorm": 1.5}),
        ("AdamW", {}),
        ("AdamW", {"learning_rate": 0.1, "weight_decay": 0.3, "clipnorm": 0.8}),
    ]
    cases = [
        {"library": "keras", "ours": _describe(n, c), "theirs": _describe(n, c)} for n, c in keras
    ]
    excluded = {"learning_rate": 0.1, "weight_decay": 0.3}
    cases.append(
        {
            "library": "keras",
            "ours": _describe("AdamW", excluded | {"no_decay": ["_b"]}),
            "theirs": _describe("AdamW", excluded | {"exclude": ["_b"]}),
        }
    )
    eps = {"epsilon": 1e-3, "epsilon_placement": "torch"}
    rms = {"learning_rate": 0.01, "rho": 0.99, "epsilon": 1e-8, "epsilon_placement": "torch"}
    adam = {"epsilon": 1e-8, "epsilon_placement": "torch"}
    torch = [
        ("SGD", {"learning_rate": 0.1}, {"lr": 0.1}),
        ("SGD", {"learning_rate": 0.1, "momentum": 0.9}, {"lr": 0.1, "momentum": 0.9}),
        (
            "SGD",
            {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True},
            {"lr": 0.1, "momentum": 0.9, "nesterov": True},
        ),
        (
            "SGD",
            {"learning_rate": 0.1, "weight_decay": 0.2},
            {"lr": 0.1, "weight_decay": 0.2},
        ),
        ("RMSprop", rms, {}),
        (
            "RMSprop",
            {"learning_rate": 0.1, "momentum": 0.5, "centered": True, **eps},
            {"lr": 0.1, "alpha": 0.9, "momentum": 0.5, "centered": True, "eps": 1e-3},
        ),
        ("Adam", adam, {}),
        (
            "Adam",
            {"learning_rate": 0.1, "beta_1": 0.8, "beta_2": 0.9, "amsgrad": True, **eps},
            {"lr": 0.1, "betas": [0.8, 0.9], "amsgrad": True, "eps": 1e-3},
        ),
        ("AdamW", adam | {"weight_decay": 0.01}, {}),
        (
            "AdamW",
            {"learning_rate": 0.1, "weight_decay": 0.3, **eps},
            {"lr": 0.1, "weight_decay": 0.3, "eps": 1e-3},
        ),
    ]
    cases += [
        {"library": "torch", "ours": _describe(n, c), "theirs": _describe(n, d)}
        for n, c, d in torch
    ]
    return {"params": params, "grads": grads, "cases": cases}


def _describe(name, config):
    return {"class_name": name, "config": config}


def schedule_cases():
    """Keras' schedules, at steps before, on and after every corner."""
    kinds = [
        ("ExponentialDecay", {"initial_learning_rate": 0.3, "decay_steps": 7, "decay_rate": 0.6}),
        (
            "ExponentialDecay",
            {
                "initial_learning_rate": 0.3,
                "decay_steps": 7,
                "decay_rate": 0.6,
                "staircase": True,
            },
        ),
        ("PiecewiseConstantDecay", {"boundaries": [4, 9], "values": [0.3, 0.2, 0.05]}),
        ("CosineDecay", {"initial_learning_rate": 0.3, "decay_steps": 9}),
        ("CosineDecay", {"initial_learning_rate": 0.3, "decay_steps": 9, "alpha": 0.1}),
        (
            "CosineDecay",
            {
                "initial_learning_rate": 0.1,
                "decay_steps": 9,
                "alpha": 0.1,
                "warmup_target": 0.5,
                "warmup_steps": 4,
            },
        ),
    ]
    steps = [0, 1, 3, 4, 5, 7, 9, 10, 13, 14, 30]
    return [{"ours": _describe(n, c), "steps": steps} for n, c in kinds]


def metric_cases():
    """Keras' metrics over two batches of different sizes, with and without sample weights."""
    rng = np.random.default_rng(3)
    batches = []
    for n in (B, B + 2):
        logits = np.round(rng.normal(size=(n, K)), 1)  # rounded, so that there are ties
        batches.append(
            {
                "logits": logits,
                "labels": rng.integers(0, K, n),
                "yes": rng.integers(0, 2, (n, K)).astype(float),
                "real": rng.normal(size=(n, K)),
                "weight": rng.uniform(0.5, 2, n),
            }
        )
    for batch in batches:
        batch["one_hot"] = np.eye(K)[batch["labels"]]
    kinds = [
        ("SparseCategoricalAccuracy", {}, "labels"),
        ("CategoricalAccuracy", {}, "one_hot"),
        ("BinaryAccuracy", {"threshold": 0.1}, "yes"),
        ("SparseTopKCategoricalAccuracy", {"k": 2}, "labels"),
        ("TopKCategoricalAccuracy", {"k": 3}, "one_hot"),
        ("MeanSquaredError", {}, "real"),
        ("RootMeanSquaredError", {}, "real"),
        ("MeanAbsoluteError", {}, "real"),
    ]
    for name, config, target in kinds:
        for weighted in (False, True):
            yield {
                "ours": _describe(name, config),
                "y_true": [batch[target] for batch in batches],
                "y_pred": [batch["logits"] for batch in batches],
                "sample_weight": [batch["weight"] for batch in batches] if weighted else None,
            }


# -------------------------------------------------------------------------------------- answers


def import_keras():
    """Import Keras on the torch backend, in float64."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras
    from keras.src.backend.common import dtypes

    keras.config.set_floatx("float64")
    # Keras takes means of float64 in float32 on this backend; here its formulas matter.
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
    return keras


def loss_answer(case):
    """Give the library's value and gradient."""
    import torch

    y_pred = torch.tensor(np.asarray(case["y_pred"]), requires_grad=True)
    y_true = torch.tensor(np.asarray(case["y_true"]))
    if case["library"] == "keras":
        keras = import_keras()
        from keras.src.backend import set_keras_mask

        described = case["ours"]
        kind = getattr(keras.losses, described["class_name"])
        if "mask" in case:
            set_keras_mask(y_pred, torch.tensor(np.asarray(case["mask"])))
        weight = case.get("sample_weight")
        value = kind(**described["config"], dtype="float64")(
            y_true, y_pred, sample_weight=None if weight is None else np.asarray(weight)
        )
    else:
        described = case["theirs"]
        loss = getattr(torch.nn, described["class_name"])(**described["config"])
        y = y_true.reshape(-1, *y_true.shape[2:])
        value = loss(y_pred.reshape(-1, K), y)
    value.backward()
    return {"value": float(value.detach()), "gradient": y_pred.grad.numpy()}


def optimizer_answer(case, params, grads):
    """Give the parameters after the first and after the last step."""
    import torch

    theirs = case["theirs"]
    config = dict(theirs["config"])
    trail = []
    if case["library"] == "keras":
        keras = import_keras()
        rate = config.get("learning_rate")
        if isinstance(rate, dict):
            schedule = getattr(keras.optimizers.schedules, rate["class_name"])
            config["learning_rate"] = schedule(**rate["config"])
        exclude = config.pop("exclude", None)
        optimizer = getattr(keras.optimizers, theirs["class_name"])(**config)
        if exclude:
            optimizer.exclude_from_weight_decay(var_names=exclude)
        variables = {name: keras.Variable(np.asarray(p), name=name) for name, p in params.items()}
        for step in grads:
            gradients = [torch.tensor(np.asarray(step[name])) for name in variables]
            optimizer.apply(gradients, list(variables.values()))
            trail.append({name: v.value.detach().numpy().copy() for name, v in variables.items()})
        return [trail[0], trail[-1]]
    tensors = {name: torch.tensor(np.asarray(p), requires_grad=True) for name, p in params.items()}
    optimizer = getattr(torch.optim, theirs["class_name"])(list(tensors.values()), **config)
    for step in grads:
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(np.asarray(step[name]))
        optimizer.step()
        trail.append({name: t.detach().numpy().copy() for name, t in tensors.items()})
    return [trail[0], trail[-1]]


def schedule_answer(case):
    """Give the learning rates."""
    keras = import_keras()
    described = case["ours"]
    schedule = getattr(keras.optimizers.schedules, described["class_name"])(**described["config"])
    return [float(schedule(step)) for step in case["steps"]]


def metric_answer(case):
    """Give the result after both batches."""
    keras = import_keras()
    described = case["ours"]
    kind = getattr(keras.metrics, described["class_name"])
    metric = kind(**described["config"], dtype="float64")
    weights = case["sample_weight"] or [None] * len(case["y_true"])
    for y_true, y_pred, weight in zip(case["y_true"], case["y_pred"], weights, strict=True):
        metric.update_state(
            np.asarray(y_true),
            np.asarray(y_pred),
            sample_weight=None if weight is None else np.asarray(weight),
        )
    return float(metric.result())


def main():
    """Write the file."""
    import torch

    keras = import_keras()
    golden = {
        "versions": {"keras": keras.__version__, "torch": torch.__version__},
        "losses": [case | loss_answer(case) for case in loss_cases()],
        "optimizers": optimizer_cases(),
        "schedules": [case | {"rates": schedule_answer(case)} for case in schedule_cases()],
        "metrics": [case | {"result": metric_answer(case)} for case in metric_cases()],
    }
    optimizers = golden["optimizers"]
    for case in optimizers["cases"]:
        case["trail"] = optimizer_answer(case, optimizers["params"], optimizers["grads"])
    text = json.dumps(golden, default=lambda array: array.tolist(), separators=(",", ":"))
    PATH.write_text(text.replace('{"library', '\n{"library').replace('{"ours', '\n{"ours') + "\n")


if __name__ == "__main__":
    main()
