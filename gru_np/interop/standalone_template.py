"""DESCRIPTION

Needs NumPy and nothing else. `predict(x)` gives what the model gave for a batch; `step(x, state)`
takes one time step at a time. Run as a script it checks itself on a stored example.

    r  = σ(W_ir x + b_ir + W_hr h + b_hr)
    z  = σ(W_iz x + b_iz + W_hz h + b_hz)
    n  = φ(W_in x + b_in + r ⊙ (W_hn h + b_hn))      reset after the product
    n  = φ(W_in x + b_in + W_hn (r ⊙ h) + b_hn)      reset before the product
    h' = (1 - z) ⊙ n + z ⊙ h

Notation: B batch, T time, I input, H hidden. Weights are kept (out, in), their rows in the order
r, z, n. Written by gru_np VERSION.
"""

import base64
import sys

import numpy as np

# ------------------------------------------------------------------------------- the mathematics


def sigmoid(a):
    """1 / (1 + exp(-a)), by a tanh, which cannot overflow."""
    return 0.5 * np.tanh(0.5 * a) + 0.5


def softmax(a):
    """exp(a) over its sum, the maximum taken off first."""
    e = np.exp(a - a.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


ACTIVATIONS = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "relu": lambda a: np.maximum(a, 0),
    "linear": lambda a: a,
    "hard_sigmoid": lambda a: np.clip(a / 6 + 0.5, 0, 1).astype(a.dtype),
    "softmax": softmax,
}


def gru(x, h, mask, weights, layer):
    """Run over x (B, T, I) from the state h (B, H); give all states (B, T, H)."""
    phi, sigma = ACTIVATIONS[layer["activation"]], ACTIVATIONS[layer["recurrent_activation"]]
    W_hh = weights["W_hh"]
    H = W_hh.shape[1]
    b_ih, b_hh = (weights.get(name, np.zeros(3 * H, x.dtype)) for name in ("b_ih", "b_hh"))
    if mask is not None:
        x = np.where(mask[:, :, None], x, 0)
    a_ih = x @ weights["W_ih"].T + b_ih  # (B, T, 3H): all steps in one product
    states = np.empty((*x.shape[:2], H), x.dtype)
    for t in range(x.shape[1]):
        a_ir, a_iz, a_in = np.split(a_ih[:, t], 3, axis=-1)
        if layer["reset_after"]:
            a_hr, a_hz, a_hn = np.split(h @ W_hh.T + b_hh, 3, axis=-1)
            r, z = sigma(a_ir + a_hr), sigma(a_iz + a_hz)
            n = phi(a_in + r * a_hn)
        else:
            a_hr, a_hz = np.split(h @ W_hh[: 2 * H].T + b_hh[: 2 * H], 2, axis=-1)
            r, z = sigma(a_ir + a_hr), sigma(a_iz + a_hz)
            n = phi(a_in + (r * h) @ W_hh[2 * H :].T + b_hh[2 * H :])
        h_next = (1 - z) * n + z * h
        h = h_next if mask is None else np.where(mask[:, t, None], h_next, h)
        states[:, t] = h
    return states


# ------------------------------------------------------------------------------------ the layers


def run_gru(x, mask, weights, layer):
    """Run a whole layer: in its direction, and as much of the output as it gives."""
    if layer["go_backwards"]:
        x, mask = x[:, ::-1], None if mask is None else mask[:, ::-1]
    h = np.zeros((len(x), weights["W_hh"].shape[1]), x.dtype)
    states = gru(x, h, mask, weights, layer)
    if layer["return_sequences"]:
        return states, mask
    return (states[:, -1] if states.shape[1] else h), None


def run_bidirectional(x, mask, weights, layer):
    """Run one GRU from each end and merge them, in the order of the input."""
    outputs = []
    for way in ("forward", "backward"):
        own = {k.split("/")[1]: a for k, a in weights.items() if k.startswith(way)}
        y, _ = run_gru(x, mask, own, layer[way])
        outputs.append(y[:, ::-1] if layer[way]["go_backwards"] and y.ndim == 3 else y)
    f, b = outputs
    merged = {
        "concat": lambda: np.concatenate([f, b], axis=-1),
        "sum": lambda: f + b,
        "mul": lambda: f * b,
        "ave": lambda: (f + b) / 2,
    }[layer["merge_mode"]]()
    return merged, mask if merged.ndim == 3 else None


def run_embedding(x, mask, weights, layer):
    """Look up a vector for each token id."""
    x = np.asarray(x)
    if x.dtype.kind not in "iu" or (x.size and not 0 <= x.min() <= x.max() < len(weights["W"])):
        raise ValueError(f"token ids must be integers in 0..{len(weights['W']) - 1}")
    return weights["W"][x], (x != 0) if layer["mask_zero"] else None


def run_dense(x, mask, weights, layer):
    """y = φ(x Wᵀ + b)."""
    return ACTIVATIONS[layer["activation"]](x @ weights["W"].T + weights.get("b", 0)), mask


def run_norm(x, mask, weights, layer):
    """Mean 0 and variance 1 over the features, then scale and shift."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    y = centred / np.sqrt(variance + x.dtype.type(layer["epsilon"]))
    return y * weights.get("gamma", 1) + weights.get("beta", 0), mask


RUN = {
    "GRU": run_gru,
    "Bidirectional": run_bidirectional,
    "Embedding": run_embedding,
    "Dense": run_dense,
    "LayerNormalization": run_norm,
}


def load_input(x):
    """Give token ids as they are, numbers in the model's precision."""
    return np.asarray(x) if LAYERS[0]["kind"] == "Embedding" else np.asarray(x, DTYPE)


def predict(x):
    """Compute the output for a batch: token ids (B, T), or numbers (B, T, I)."""
    y, mask = load_input(x), None
    for layer in LAYERS:
        y, mask = RUN[layer["kind"]](y, mask, ARRAYS[layer["name"]], layer)
    return y


def step(x, state=None):
    """Take one time step, ids (B,) or numbers (B, I); give the output and the next state.

    The state is a list with an entry for each layer; None begins a sequence.
    """
    y, after = load_input(x), []
    for layer, h in zip(LAYERS, state or [None] * len(LAYERS), strict=True):
        weights = ARRAYS[layer["name"]]
        if layer["kind"] == "Bidirectional" or layer.get("go_backwards"):
            raise ValueError("step: a layer reads backwards and needs the whole sequence")
        if layer["kind"] == "GRU":
            h = np.zeros((len(y), weights["W_hh"].shape[1]), y.dtype) if h is None else h
            y = h = gru(y[:, None], h, None, weights, layer)[:, 0]
        else:
            y, _ = RUN[layer["kind"]](y, None, weights, layer)
        after.append(h)
    return y, after


def load(dtype, shape, text):
    """Give an array from its base64 digits."""
    data = base64.b64decode(text)
    return np.frombuffer(data, np.dtype(dtype)).astype(DTYPE).reshape(shape)


def self_test():
    """Compare the output for the stored example with the one the model gave."""
    x = np.frombuffer(base64.b64decode(TEST["x"][2]), TEST["x"][0]).reshape(TEST["x"][1])
    y, expected = predict(x), load(*TEST["y"])
    error = float(np.abs(y - expected).max() / max(1.0, float(np.abs(expected).max())))
    allowed = 1e-6 if DTYPE == "float32" else 1e-12
    print(f"largest difference {error:.1e} of {allowed:.0e} allowed: {x.shape} -> {y.shape}")
    return error <= allowed


# ------------------------------------------------------------------------------ this very model

DATA = None

ARRAYS = {
    layer: {name: load(*array) for name, array in arrays.items()}
    for layer, arrays in WEIGHTS.items()
}

if __name__ == "__main__":
    sys.exit(0 if self_test() else 1)
