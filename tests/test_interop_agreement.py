"""Every GRU that PyTorch or Keras can express gives their numbers here, forward and backward."""

import importlib.util

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gru_np import GRU, Bidirectional, interop

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed"
)


def keras():
    """Keras on PyTorch's autograd, or a skip."""
    pytest.importorskip("torch")
    try:
        import keras
    except ImportError as error:
        pytest.skip(f"Keras does not import: {error}")
    if keras.backend.backend() != "torch":
        pytest.skip("gradients are taken with KERAS_BACKEND=torch")
    return keras


@st.composite
def configurations(draw, torch_only):
    """Sizes, form, and what is fed: lengths or any mask, an initial state or none."""
    size = st.integers(1, 5)
    config = {
        "layers": draw(st.sampled_from([1, 2, 3])),
        "bidirectional": draw(st.booleans()),
        "bias": draw(st.booleans()),
        "B": draw(size), "T": draw(st.integers(2, 7)), "I": draw(size), "H": draw(size),
        "h0": draw(st.booleans()),
        "mask": draw(st.sampled_from([None, "lengths"] if torch_only else [None, "any"])),
        "reset_after": True, "activation": "tanh", "recurrent_activation": "sigmoid",
        "seed": draw(st.integers(0, 2**32 - 1)),
    }  # fmt: skip
    if not torch_only:
        activation = draw(st.sampled_from(["tanh", "sigmoid", "relu", "linear"]))
        # A gate of tanh can be negative: then h' is no mean of two states, and with an unbounded n
        # it grows with T, and with it the rounding of Keras' float32 products.
        gates = ["sigmoid", "hard_sigmoid"] + ["tanh"] * (activation in ("tanh", "sigmoid"))
        config |= {
            "reset_after": draw(st.booleans()),
            "activation": activation,
            "recurrent_activation": draw(st.sampled_from(gates)),
        }
    return config


class Case:
    """Random data of one configuration, and what our layers make of it."""

    def __init__(self, c):
        rng = np.random.default_rng(c["seed"])
        self.config = c
        B, T, H, D = c["B"], c["T"], c["H"], 2 if c["bidirectional"] else 1
        self.x = rng.standard_normal((B, T, c["I"]))
        self.h0 = rng.standard_normal((c["layers"], D, B, H)) if c["h0"] else None
        self.lengths = None
        self.mask = None
        if c["mask"] == "lengths":
            self.lengths = rng.integers(1, T + 1, B)
            self.lengths[rng.integers(B)] = T  # PyTorch pads to the longest
            self.mask = np.arange(T) < self.lengths[:, None]
        elif c["mask"] == "any":
            self.mask = rng.random((B, T)) < 0.7
        self.valid = np.ones((B, T), bool) if self.mask is None else self.mask
        # Where a step does not count each library has a habit of its own: no gradient from there.
        self.dy = rng.standard_normal((B, T, D * H)) * self.valid[:, :, None]
        self.dh = rng.standard_normal((c["layers"], D, B, H))
        self.layers = []
        for k in range(c["layers"]):
            gru = GRU(
                H, c["activation"], c["recurrent_activation"], c["bias"],
                return_sequences=True, return_state=True, reset_after=c["reset_after"],
            )  # fmt: skip
            layer = Bidirectional(gru) if c["bidirectional"] else gru
            layer.build((None, None, c["I"] if k == 0 else D * H), np.float64, rng)
            scale = 0.25 if c["recurrent_activation"] == "tanh" else 0.5
            for array in layer.params.values():
                array[...] = rng.standard_normal(array.shape) * scale
            self.layers.append(layer)
        if not c["reset_after"]:  # Keras has one bias there
            for layer in self.layers:
                for name, array in layer.params.items():
                    if name.endswith("b_hh"):
                        array[...] = 0

    def initial(self, k):
        if self.h0 is None:
            return None
        return tuple(self.h0[k]) if self.config["bidirectional"] else self.h0[k, 0]

    def run(self):
        """Give y, last states (layers, D, B, H), dx, dh0, and the gradients of each layer."""
        y, kept, last = self.x, [], []
        for k, layer in enumerate(self.layers):
            (y, *states), saved = layer.forward(y, mask=self.mask, initial_state=self.initial(k))
            last.append(states)
            kept.append(saved)
        dy, gradients = self.dy, [{} for _ in self.layers]
        for k in reversed(range(len(self.layers))):
            dy, gradients[k] = self.layers[k].backward((dy, *self.dh[k]), kept[k])
        dh0 = None
        if self.h0 is not None:
            names = ["forward/", "backward/"] if self.config["bidirectional"] else [""]
            dh0 = [[g.pop(f"{name}initial_state") for name in names] for g in gradients]
        return y, np.array(last), dy, dh0, gradients


def against_torch(case):
    import torch

    c = case.config
    parts = {}
    for k, layer in enumerate(case.layers):
        for name, array in layer.params.items():
            end = "_reverse" if name.startswith("backward/") else ""
            kind, side = name.rsplit("/", 1)[-1].split("_")
            parts[f"{ {'W': 'weight', 'b': 'bias'}[kind] }_{side}_l{k}{end}"] = array
    theirs = torch.nn.GRU(
        c["I"], c["H"], c["layers"], bias=c["bias"], batch_first=True,
        bidirectional=c["bidirectional"], dtype=torch.float64,
    )  # fmt: skip
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in parts.items()})
    x = torch.from_numpy(case.x).requires_grad_()
    flat = None
    if case.h0 is not None:
        flat = torch.from_numpy(case.h0.reshape(-1, c["B"], c["H"])).requires_grad_()
    fed = x
    if case.lengths is not None:
        fed = torch.nn.utils.rnn.pack_padded_sequence(
            x, torch.from_numpy(case.lengths), batch_first=True, enforce_sorted=False
        )
    y, h_n = theirs(fed, flat)
    if case.lengths is not None:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=c["T"])
    dh = torch.from_numpy(case.dh.reshape(h_n.shape))
    torch.autograd.backward([y, h_n], [torch.from_numpy(case.dy), dh])
    dh0 = None if flat is None else flat.grad.numpy().reshape(case.h0.shape)
    gradients = [{} for _ in case.layers]
    for name, parameter in theirs.named_parameters():
        kind, side, layer, *end = name.split("_")
        way = ("backward/" if end else "forward/") if c["bidirectional"] else ""
        own = f"{way}{ {'weight': 'W', 'bias': 'b'}[kind] }_{side}"
        gradients[int(layer[1:])][own] = parameter.grad.numpy()
    return y.detach().numpy(), h_n.detach().numpy(), x.grad.numpy(), dh0, gradients


def against_keras(case):
    import torch

    k3 = keras()
    c = case.config
    x = torch.from_numpy(case.x).requires_grad_()
    h0 = None if case.h0 is None else torch.from_numpy(case.h0).requires_grad_()
    mask = None if case.mask is None else torch.from_numpy(case.mask)
    y, last, made = x, [], []
    for k, ours in enumerate(case.layers):
        layer = k3.layers.GRU(
            c["H"], c["activation"], c["recurrent_activation"], c["bias"],
            return_sequences=True, return_state=True, reset_after=c["reset_after"], dtype="float64",
        )  # fmt: skip
        if c["bidirectional"]:
            layer = k3.layers.Bidirectional(layer, dtype="float64")
        layer.build(tuple(y.shape))
        halves = [("", ours)]
        if c["bidirectional"]:
            halves = [("forward/", ours.layer), ("backward/", ours.backward_layer)]
        arrays = []
        for prefix, gru in halves:
            own = {n.removeprefix(prefix): a for n, a in ours.params.items() if prefix in n}
            arrays += interop.layouts.to_keras_arrays(own, gru.reset_after)
        for variable, array in zip(layer.weights, arrays, strict=False):
            variable.assign(array)
        state = None
        if h0 is not None:
            state = [h0[k, 0], h0[k, 1]] if c["bidirectional"] else h0[k, 0]
        y, *states = layer(y, mask=mask, initial_state=state)
        last.append(states)
        made.append((layer, halves))
    flat = [state for states in last for state in states]
    dh = torch.from_numpy(case.dh.reshape(len(flat), c["B"], c["H"]))
    torch.autograd.backward([y, *flat], [torch.from_numpy(case.dy), *dh])
    gradients = []
    for layer, halves in made:
        found = [w.value.grad.numpy() for w in layer.weights if "seed" not in w.path]
        count = len(found) // len(halves)
        own = {}
        for i, (prefix, gru) in enumerate(halves):
            arrays = found[i * count : (i + 1) * count]
            for name, array in interop.layouts.from_keras_arrays(arrays, gru.reset_after).items():
                own[prefix + name] = array
        gradients.append(own)
    states = np.array([state.detach().numpy() for state in flat])
    dh0 = None if h0 is None else h0.grad.numpy()
    return y.detach().numpy(), states, x.grad.numpy(), dh0, gradients


def compare(case, theirs, tolerance):
    def close(what, ours, expected):
        ours, expected = np.asarray(ours), np.asarray(expected)
        scale = max(1.0, np.abs(expected).max(initial=0))
        error = np.abs(ours - expected).max(initial=0) / scale
        assert error <= tolerance, f"{what}: {error:.2g}"

    y, last, dx, dh0, gradients = case.run()
    y_theirs, last_theirs, dx_theirs, dh0_theirs, gradients_theirs = theirs
    close("y", y[case.valid], y_theirs[case.valid])
    close("last states", last, last_theirs.reshape(last.shape))
    close("dx", dx, dx_theirs)
    if dh0 is not None:
        close("dh0", dh0, dh0_theirs)
    for k, (own, other) in enumerate(zip(gradients, gradients_theirs, strict=True)):
        assert own.keys() == other.keys()
        for name in own:
            # Keras has one bias with the reset before the product: ours have one gradient.
            if case.config["reset_after"] or not name.endswith("b_hh"):
                close(f"layer {k}, d{name}", own[name], other[name])


def tally(config):
    """Let `pytest --hypothesis-show-statistics` say how often each option was drawn."""
    sizes = ("B", "T", "I", "H", "seed")
    for option, value in config.items():
        if option not in sizes:
            event(f"{option} = {value}")


@needs_torch
@settings(max_examples=200)
@given(configurations(torch_only=True))
def test_forward_and_every_gradient_agree_with_torch(config):
    case = Case(config)
    tally(config)
    compare(case, against_torch(case), 1e-11)


@settings(max_examples=100)
@given(configurations(torch_only=False))
def test_what_torch_has_no_option_for_agrees_with_keras_forward_and_backward(config):
    keras()
    case = Case(config)
    tally(config)
    # Its products give float32 on PyTorch's backend, whatever they are given.
    compare(case, against_keras(case), 1e-5)
