"""The answers everyone is held to: float64 NumPy, through `gru_np.recurrence`."""

from typing import Any

import numpy as np

from gru_np import recurrence

from .problems import (
    BETA_1,
    BETA_2,
    EPSILON,
    LEARNING_RATE,
    Arrays,
    LanguageModel,
    Shape,
    gru_problem,
    model_problem,
)

# Largest difference over largest value, array by array. float32 against float64 over 500 steps is
# 1.4e-6 for our own NumPy path, so 1e-5 rejects half precision (1e-3) and wrong formulas alike;
# sums over thousands of rows (weight gradients) lose a little more. A model's parameters are judged
# by how far a few steps of Adam moved them: Adam divides a small gradient by its own size, which
# magnifies its rounding, while a wrong gradient is wrong by about 1.
TOLERANCE = {"h": 1e-5, "loss": 1e-5, "moved": 5e-2, "log_probabilities": 1e-5, "greedy": 0.0}
GRADIENT_TOLERANCE = 2e-5
STEPS = 3  # training steps that are compared


def _float64(problem: Arrays) -> Arrays:
    return {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in problem.items()}


def gru_answers(shape: Shape, training: bool) -> Arrays:
    """All states h (T, B, H) after x; with `training` the gradients by x and the parameters too."""
    p = _float64(gru_problem(shape))
    h, saved = recurrence.gru_forward(p["x"], p["h0"], p["W_ih"], p["W_hh"], p["b_ih"], p["b_hh"])
    answers = {"h": h[1:]}
    if training:
        dh = np.concatenate([np.zeros_like(h[:1]), p["dh"]])
        names = ["dx", "dh0", "dW_ih", "dW_hh", "db_ih", "db_hh"]
        answers |= dict(zip(names, recurrence.gru_backward(dh, saved), strict=True))
        del answers["dh0"]
    return answers


def log_softmax(logits: Any) -> Any:
    """Logarithm of the softmax along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _model_forward(p: Arrays, layers: int, ids: Any, states: list[Any]) -> tuple[Any, list[Any]]:
    """Logits (T, B, V) for ids (T, B), and what each GRU layer saved."""
    h, saved = p["embedding"][ids], []
    for k in range(layers):
        weights = (p[name + str(k)] for name in ["W_ih", "W_hh", "b_ih", "b_hh"])
        h, layer_saved = recurrence.gru_forward(h, states[k], *weights)
        saved.append(layer_saved)
        h = h[1:]
    return h @ p["W"].T + p["b"], saved


def model_gradients(p: Arrays, layers: int, ids: Any) -> tuple[float, Arrays, Any]:
    """Mean cross-entropy of predicting ids[:, t + 1] from ids[:, :t + 1], and its gradient.

    Last, for `squares_apart`: the squares of what each occurrence of an id gave its row, summed.
    """
    x, y = ids[:, :-1].T, ids[:, 1:].T  # (T, B)
    logits, saved = _model_forward(p, layers, x, [None] * layers)
    log_p = log_softmax(logits)
    at_y = (*np.indices(y.shape), y)
    loss = -log_p[at_y].mean()

    # loss = -mean(log softmax(logits)[y])
    dlogits = np.exp(log_p)
    dlogits[at_y] -= 1
    dlogits /= y.size
    # logits = h W' + b
    grads = {
        "W": np.einsum("tbv,tbh->vh", dlogits, saved[-1].h[1:], optimize=True),
        "b": dlogits.sum((0, 1)),
    }
    dh = dlogits @ p["W"]
    for k in reversed(range(layers)):
        dh = np.concatenate([np.zeros_like(dh[:1]), dh])
        dh, _, *dweights = recurrence.gru_backward(dh, saved[k])
        for name, d in zip(["W_ih", "W_hh", "b_ih", "b_hh"], dweights, strict=True):
            grads[name + str(k)] = d
    # h = embedding[x]
    grads["embedding"] = np.zeros_like(p["embedding"])
    np.add.at(grads["embedding"], x, dh)
    squares = np.zeros_like(p["embedding"])
    np.add.at(squares, x, dh * dh)
    return float(loss), grads, squares


def model_answers(model: LanguageModel, squares_apart: bool = False) -> Arrays:
    """Losses of `STEPS` Adam steps, and how far these steps moved every parameter.

    `squares_apart`: Keras on TensorFlow keeps an embedding's gradient as a list of rows and squares
    each of them, so that for an id met twice Adam's second moment is g1^2 + g2^2, not (g1 + g2)^2.
    """
    p = _float64(model_problem(model))
    batches = p.pop("ids")
    start = {k: v.copy() for k, v in p.items()}
    m = {k: np.zeros_like(v) for k, v in p.items()}
    v = {k: np.zeros_like(v) for k, v in p.items()}
    losses = []
    for step in range(1, STEPS + 1):
        loss, grads, embedding_squares = model_gradients(
            p, model.layers, batches[(step - 1) % len(batches)]
        )
        losses.append(loss)
        rate = LEARNING_RATE * np.sqrt(1 - BETA_2**step) / (1 - BETA_1**step)
        for k, g in grads.items():
            m[k] += (1 - BETA_1) * (g - m[k])
            squares = embedding_squares if squares_apart and k == "embedding" else g * g
            v[k] += (1 - BETA_2) * (squares - v[k])
            p[k] -= rate * m[k] / (np.sqrt(v[k]) + EPSILON)
    return {"loss": np.array(losses)} | {"moved " + k: p[k] - start[k] for k in p}


def generation_answers(model: LanguageModel) -> Arrays:
    """Log-probabilities after each of the first ids, and the greedy continuation of id 0."""
    p = _float64(model_problem(model))
    states: list[Any] = [None] * model.layers

    def step(token: int) -> Any:
        logits, saved = _model_forward(p, model.layers, np.array([[token]]), states)
        states[:] = [s.h[-1] for s in saved]
        return log_softmax(logits[0, 0])

    forced = np.array([step(i) for i in p["ids"][0, 0, : model.T]])
    states[:] = [None] * model.layers
    token, greedy = 0, []
    for _ in range(model.T):
        token = int(step(token).argmax())
        greedy.append(token)
    return {"log_probabilities": forced, "greedy": np.array(greedy)}


def answers(section: str, case: Any, squares_apart: bool = False) -> Arrays:
    """Compute what a contestant's answer for this section and case is compared with."""
    if section == "language_model":
        return model_answers(case, squares_apart)
    if section == "generation":
        return generation_answers(case)
    return gru_answers(case, training=section == "training")


def _difference(name: str, value: Any, reference: Any) -> float:
    """How far apart two arrays are, relative to the reference, as TOLERANCE means it."""
    if value.shape != reference.shape or not np.isfinite(value).all():
        return np.inf
    value = value.astype(np.float64)
    if name == "greedy":
        return float((value != reference).any())
    if name.startswith("moved "):
        # Root mean squares: a single element with a gradient near zero says nothing.
        return float(np.linalg.norm(value - reference) / np.linalg.norm(reference))
    if name == "log_probabilities":
        value = log_softmax(value)  # of logits, or of log-probabilities: the same
    return float(abs(value - reference).max() / abs(reference).max())


def compare(actual: Arrays, expected: Arrays) -> dict[str, Any]:
    """Find the array worst against its tolerance: {"array", "error", "tolerance", "agrees"}."""
    found = []
    for name, reference in expected.items():
        error = _difference(name, actual[name], reference) if name in actual else np.inf
        tolerance = TOLERANCE.get(name.split()[0], GRADIENT_TOLERANCE)
        found.append(
            (
                error / tolerance if tolerance else error * np.inf if error else 0.0,
                name,
                error,
                tolerance,
            )
        )
    _, name, error, tolerance = max(found)
    agrees = all(error <= tolerance for _, _, error, tolerance in found)
    return {"array": name, "error": error, "tolerance": tolerance, "agrees": agrees}
