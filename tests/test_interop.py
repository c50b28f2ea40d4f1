"""Weights move between libraries without loss, or not at all: PyTorch, files, one Python file."""

import importlib.util
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_close

from gru_np import (
    GRU,
    Bidirectional,
    CheckpointError,
    Dense,
    Dropout,
    Embedding,
    GRUCell,
    LayerNormalization,
    Sequential,
    checkpoint,
    interop,
)
from gru_np.interop import ConversionError, layouts
from gru_np.layers import Reshape

sys.path.insert(0, str(Path(__file__).parent / "golden"))
import make_interop as golden

GOLDEN = json.loads(golden.PATH.read_text(encoding="utf-8"))


def has(package):
    return importlib.util.find_spec(package) is not None


def randomised(model, rng, shape=(None, None)):
    """Build a model and give every parameter, biases too, random numbers."""
    model.build(shape)
    for layer in model.layers:
        for array in layer.params.values():
            array[...] = 0.6 * rng.standard_normal(array.shape)
    return model


def everything(rng, dtype="float32", mask_zero=True):
    """A model with every kind of layer and many of their settings."""
    layers = [
        Embedding(9, 3, mask_zero=mask_zero),
        GRU(4, return_sequences=True, reset_after=False, activation="relu"),
        LayerNormalization(epsilon=1e-4),
        Bidirectional(GRU(3, return_sequences=True), merge_mode="ave"),
        Dropout(0.5),
        GRU(5, return_sequences=True, go_backwards=True, use_bias=False),
        Bidirectional(GRU(2, recurrent_activation="hard_sigmoid")),
        Dense(4, activation="relu", use_bias=False),
        Dense(6, activation="softmax"),
    ]
    return randomised(Sequential(layers, dtype=dtype, seed=1), rng)


def language_model(rng):
    layers = [Embedding(9, 3), GRU(4, return_sequences=True), GRU(4, return_sequences=True)]
    return randomised(Sequential([*layers, Dense(9, "softmax")], seed=1), rng)


def same_weights(one, other):
    assert list(one.params) == list(other.params)
    for name, array in one.params.items():
        assert_close(array, other.params[name], "exact")


# ------------------------------------------------------------------------------------- layouts


def gru_params(rng, I=2, H=4):  # noqa: E741
    shapes = {"W_ih": (3 * H, I), "W_hh": (3 * H, H), "b_ih": (3 * H,), "b_hh": (3 * H,)}
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("biases", [True, False])
def test_keras_and_onnx_layouts_come_back_to_the_bit(rng, biases):
    params = gru_params(rng)
    if not biases:
        del params["b_ih"], params["b_hh"]
    there = layouts.to_keras_arrays(params, reset_after=True)
    assert_close(layouts.from_keras_arrays(there, reset_after=True), params, "exact")
    assert_close(layouts.from_onnx_arrays(*layouts.to_onnx_arrays(params)), params, "exact")


def test_the_single_bias_of_reset_before_is_the_sum_and_comes_back(rng):
    params = gru_params(rng)
    kernel, recurrent, bias = layouts.to_keras_arrays(params, reset_after=False)
    again = layouts.from_keras_arrays([kernel, recurrent, bias], reset_after=False)
    assert_close(again["b_ih"], params["b_ih"] + params["b_hh"], "exact")
    assert not again["b_hh"].any()
    assert_close(layouts.to_keras_arrays(again, False), [kernel, recurrent, bias], "exact")


def test_folding_biases_refuses_to_lose_the_recurrent_bias_of_the_new_gate(rng):
    params = gru_params(rng)
    with pytest.raises(ValueError, match="b_hn"):
        layouts.fold_biases(params, reset_after=True)
    params["b_hh"][8:] = 0
    assert_close(layouts.fold_biases(params, True), params["b_ih"] + params["b_hh"], "exact")


def test_the_two_meanings_of_z_are_one_change_of_sign_apart(rng):
    from gru_np.recurrence import gru_forward

    params, x, h0 = gru_params(rng), rng.standard_normal((5, 3, 2)), rng.standard_normal((3, 4))
    _, saved = gru_forward(x, h0, *params.values())
    _, flipped = gru_forward(x[:1], h0, *layouts.flip_update(params).values())
    assert_close(flipped.z[0], 1 - saved.z[0], "rounding")


def test_keras_arrays_of_the_other_form_are_told_apart_by_the_bias(rng):
    arrays = layouts.to_keras_arrays(gru_params(rng), reset_after=True)
    with pytest.raises(ValueError, match="that of reset_after=True"):
        layouts.from_keras_arrays(arrays, reset_after=False)
    with pytest.raises(ValueError, match="must have shapes"):
        layouts.from_keras_arrays([arrays[0].T, arrays[1]], reset_after=True)
    with pytest.raises(ValueError, match="2 or 3 arrays"):
        layouts.from_keras_arrays(arrays[:1], reset_after=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Keras' own use of NumPy
@pytest.mark.parametrize("case", golden.KERAS)
def test_layers_with_keras_arrays_give_keras_numbers(case):
    settings = golden.KERAS[case]
    arrays, x, h0 = golden.keras_arguments(**settings)
    layer = GRU(golden.H, return_sequences=True, **settings)
    layer.params = layouts.from_keras_arrays(arrays, settings["reset_after"])
    layer.built = True
    expected = [GOLDEN["keras"][case]]
    if has("keras"):
        expected.append(golden.keras_results(**settings))
    for y in expected:
        assert_close(layer(x, initial_state=h0), np.array(y, np.float32), "foreign")


# ------------------------------------------------------------------------------------- PyTorch


@pytest.mark.parametrize("case", golden.TORCH)
def test_a_state_dict_gives_pytorchs_numbers_and_goes_back_to_the_bit(case):
    state, x, h0 = golden.torch_arguments(**golden.TORCH[case])
    model = interop.from_torch(state)
    y, D = x, 2 if golden.TORCH[case]["bidirectional"] else 1
    for k, layer in enumerate(model.layers):
        begin = h0[D * k : D * (k + 1)]
        y = layer(y, initial_state=tuple(begin) if D == 2 else begin[0])
    expected = [GOLDEN["torch"][case]]
    if has("torch"):
        expected.append(golden.torch_results(**golden.TORCH[case]))
    for one in expected:
        assert_close(y, np.array(one), "foreign")
    back = interop.to_torch(model)
    assert back.keys() == state.keys()
    assert_close(back, state, "exact")


def test_a_whole_state_dict_goes_there_and_back(rng):
    model = language_model(rng)
    state = interop.to_torch(model)
    assert list(state)[:2] == ["embedding.weight", "gru.weight_ih_l0"]
    again = interop.from_torch(state, return_sequences=True, activations={"dense": "softmax"})
    same_weights(again, model)
    x = rng.integers(0, 9, (3, 5))
    assert_close(again.predict(x), model.predict(x), "exact")
    last = interop.from_torch(state, return_sequences=False)
    assert last.predict(x).shape == (3, 9)


def test_adjacent_layers_become_one_stack_if_asked(rng):
    model = language_model(rng)
    names = {"gru": "rnn", "embedding": "encoder"}
    state = interop.to_torch(model, names=names, stack=True)
    assert "rnn.weight_ih_l1" in state
    assert "encoder.weight" in state
    again = interop.from_torch(state, return_sequences=True)
    assert [layer.name for layer in again.layers] == ["encoder", "rnn", "rnn_l1", "dense"]
    assert_close(interop.to_torch(again, names={"dense": "dense"}), state, "exact")
    with pytest.raises(ValueError, match="names has 'x'"):
        interop.to_torch(model, names={"x": "y"})


def test_a_cell_goes_there_and_back(rng):
    cell = GRUCell(4)
    cell.build((None, 2), np.float64, rng)
    again = interop.from_torch(interop.to_torch(cell))
    assert isinstance(again, GRUCell)
    assert_close(again.params, cell.params, "exact")


def test_a_safetensors_file_in_alphabetical_order_is_put_in_a_row(rng, tmp_path):
    state = interop.to_torch(language_model(rng), names={"embedding": "z.table"}, stack=True)
    path = tmp_path / "torch.safetensors"
    checkpoint.save(path, {}, state)  # as safetensors.torch writes it: sorted
    model = interop.from_torch(path, return_sequences=True)
    assert [type(layer) for layer in model.layers] == [Embedding, GRU, GRU, Dense]
    same_weights(interop.from_torch(state, return_sequences=True), model)


def test_half_precision_weights_are_widened_exactly(rng):
    state = {k: a.astype(np.float16) for k, a in gru_state(rng).items()}
    model = interop.from_torch(state)
    assert model.dtype == np.float32
    assert_close(model.params["gru/W_hh"], state["weight_hh_l0"].astype(np.float32), "exact")


def gru_state(rng, I=2, H=4, prefix="", rows=3):  # noqa: E741
    shapes = [(rows * H, I), (rows * H, H), (rows * H,), (rows * H,)]
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return {
        prefix + n: rng.standard_normal(s).astype("f") for n, s in zip(names, shapes, strict=True)
    }


def linear(rng, name, out, enters, bias=True):
    arrays = {f"{name}.weight": rng.standard_normal((out, enters))}
    return arrays | ({f"{name}.bias": rng.standard_normal(out)} if bias else {})


REFUSED_STATES = {
    "an LSTM": (lambda r: gru_state(r, rows=4), "makes it an LSTM"),
    "an RNN": (lambda r: gru_state(r, rows=1), "makes it an RNN"),
    "a projection": (
        lambda r: gru_state(r, rows=4) | {"weight_hr_l0": np.ones((2, 4))}, "proj_size",
    ),
    "weight normalisation": (
        lambda r: {"rnn.parametrizations.weight_hh_l0.original0": np.ones((12, 1))}, "parametris",
    ),
    "batch normalisation": (
        lambda r: gru_state(r, prefix="rnn.") | {"bn.running_mean": np.ones(4)},
        "batch normalisation; bn.running_mean would be lost",
    ),
    "a convolution": (
        lambda r: gru_state(r, prefix="rnn.") | {"conv.weight": np.ones((2, 2, 3))},
        "no layer for conv",
    ),
    "an unknown norm": (
        lambda r: gru_state(r, prefix="rnn.") | {"ln.weight": np.ones(4), "ln.bias": np.ones(4)},
        "kinds=.'ln': 'LayerNorm'",
    ),
    "a missing bias": (
        lambda r: {k: a for k, a in gru_state(r).items() if k != "bias_hh_l0"}, "incomplete",
    ),
    "sizes that do not fit": (
        lambda r: gru_state(r, prefix="rnn.") | linear(r, "out", 3, 5), "do not fit together",
    ),
    "two linear layers": (
        lambda r: gru_state(r, prefix="rnn.") | linear(r, "a", 3, 4) | linear(r, "b", 2, 3),
        "activations=.'a': 'relu'",
    ),
    "a square matrix without bias": (
        lambda r: linear(r, "table", 2, 2, bias=False) | gru_state(r, prefix="rnn."),
        "tables or products",
    ),
    "no first layer": (
        lambda r: {k.replace("l0", "l1"): a for k, a in gru_state(r).items()}, "no weight_ih_l0",
    ),
    "thirteen modules in any order": (
        lambda r: {f"m{k:02}.weight": np.ones((3, 2 + k)) for k in range(13)}, r"need order=",
    ),
    "integers": (lambda r: gru_state(r) | {"weight_ih_l0": np.ones((12, 2), int)}, "floats"),
    "nothing": (lambda r: {}, "found none"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_STATES)
def test_a_state_dict_that_cannot_be_exact_is_refused(rng, case):
    make, sentence = REFUSED_STATES[case]
    with pytest.raises(ConversionError, match=sentence):
        interop.from_torch(make(rng), return_sequences=True)


def test_what_shapes_leave_open_can_be_said(rng):
    state = linear(rng, "table", 2, 2, bias=False) | gru_state(rng, prefix="rnn.")
    state |= {"ln.weight": np.ones(4), "ln.bias": np.ones(4)}
    kinds = {"table": "Embedding", "ln": "LayerNorm"}
    model = interop.from_torch(state, return_sequences=True, kinds=kinds)
    assert [type(layer) for layer in model.layers] == [Embedding, GRU, LayerNormalization]
    assert model.layers[2].epsilon == 1e-5
    with pytest.raises(ConversionError, match="must be 'Embedding'"):
        interop.from_torch(state, return_sequences=True, kinds=kinds | {"ln": "BatchNorm"})
    with pytest.raises(ConversionError, match="kinds names 'x'"):
        interop.from_torch(state, return_sequences=True, kinds=kinds | {"x": "Linear"})


def test_an_open_order_can_be_said(rng, tmp_path):
    state = gru_state(rng, I=4, prefix="b.") | gru_state(rng, I=4, prefix="a.")
    checkpoint.save(tmp_path / "m.safetensors", {}, state)
    with pytest.raises(ConversionError, match="leave open their order"):
        interop.from_torch(tmp_path / "m.safetensors")
    model = interop.from_torch(tmp_path / "m.safetensors", order=["b", "a"])
    assert [layer.name for layer in model.layers] == ["b", "a"]
    with pytest.raises(ConversionError, match="order must name"):
        interop.from_torch(state, order=["b"])
    with pytest.raises(ConversionError, match="activations names 'x'"):
        interop.from_torch(state, activations={"x": "relu"})


def test_pickles_are_never_opened(tmp_path):
    with pytest.raises(ConversionError, match="a pickle can run any code"):
        interop.from_torch(tmp_path / "model.pt")
    with pytest.raises(TypeError, match="source must be"):
        interop.from_torch(3)


REFUSED_BY_TORCH = {
    "reset_after=False": (GRU(4, reset_after=False), r"r ⊙ \(W_hn h\) is not"),
    "activation": (GRU(4, activation="relu"), "activation='relu'"),
    "recurrent activation": (GRU(4, recurrent_activation="hard_sigmoid"), "sigmoid only"),
    "backwards alone": (GRU(4, go_backwards=True), "go_backwards"),
    "a merge": (Bidirectional(GRU(4), merge_mode="sum"), "merge_mode='sum'"),
    "a shift without a scale": (LayerNormalization(scale=False), "bias without a weight"),
    "zoneout": (GRU(4, zoneout=0.1), "zoneout=0.1 .*PyTorch cannot express"),
    "normalisation inside": (GRU(4, layer_norm=True), "layer_norm=True"),
    "a learned state": (GRU(4, learn_initial_state=True), "learn_initial_state=True"),
    "a change of shape": (Reshape((-1, 1)), "no module of PyTorch's is known"),
}


@pytest.mark.parametrize("case", REFUSED_BY_TORCH)
def test_what_pytorch_cannot_express_is_refused(case):
    layer, sentence = REFUSED_BY_TORCH[case]
    layer.build((None, None, 2), np.float32, np.random.default_rng(0))
    with pytest.raises(ConversionError, match=sentence):
        interop.to_torch(layer)


def test_weights_that_do_not_fit_their_layers_are_refused(rng):
    state = gru_state(rng, prefix="rnn.") | linear(rng, "out", 3, 4)
    with pytest.raises(ConversionError, match=r"out after a layer with 4 features .* found W"):
        interop.from_torch(state | {"out.bias": np.ones(2)}, last="step")


def test_the_call_of_torchs_gru_refuses_lengths_and_names_that_do_not_fit():
    gru = interop.TorchGRU(2, 4, seed=0)
    x = np.ones((5, 3, 2), np.float32)
    for lengths in ([1, 2], [1, 2, 6], [-1, 2, 3]):
        with pytest.raises(ValueError, match=r"lengths must be 3 numbers in 0\.\.5"):
            gru(x, lengths=lengths)
    state = gru.state_dict() | {"weight_ih_l1": np.ones((12, 4))}
    with pytest.raises(ValueError, match="differs in weight_ih_l1"):
        gru.load_state_dict(state)


def test_models_must_be_built_before_they_move(tmp_path):
    model = Sequential([GRU(4)])
    for move in (
        interop.to_torch,
        interop.to_keras,
        interop.to_onnx,
        lambda m: interop.export_standalone(m, tmp_path / "m.py"),
        lambda m: interop.save_pretrained(m, tmp_path / "m"),
    ):
        with pytest.raises(ValueError, match="must be built first"):
            move(model)


# ------------------------------------------------------------------------------- torch, living

needs_torch = pytest.mark.skipif(not has("torch"), reason="torch is not installed")


@needs_torch
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_modules_come_in_and_go_out_to_the_bit(layers, bidirectional, bias, dtype):
    import torch

    module = torch.nn.GRU(
        2, 4, layers, bias=bias, bidirectional=bidirectional, dtype=getattr(torch, dtype),
        dropout=0.1 if layers > 1 else 0.0,
    )  # fmt: skip
    model = interop.from_torch(module)
    assert sum(isinstance(layer, Dropout) for layer in model.layers) == layers - 1
    back, state = interop.to_torch(model, tensors=True), module.state_dict()
    assert list(back) == list(state)
    assert all(torch.equal(back[name], state[name]) for name in state)


def torch_model(last=False, batch_first=True, change=lambda y: y, **kw):
    import torch

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = torch.nn.Embedding(7, 3)
            self.rnn = torch.nn.GRU(3, 4, 2, batch_first=batch_first, **kw)
            self.norm = torch.nn.LayerNorm(4)
            self.head = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Softmax(dim=-1))

        def forward(self, x):
            y, _ = self.rnn(self.encoder(x))
            if last:
                y = y[:, -1] if batch_first else y[-1]
            return self.head(change(self.norm(y)))

    torch.manual_seed(0)
    return Model()


@needs_torch
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_whole_module_says_itself_what_its_head_sees(rng, last, batch_first):
    import torch

    module = torch_model(last, batch_first)
    model = interop.from_torch(module)
    x = rng.integers(0, 7, (2, 6))
    given = torch.from_numpy(x if batch_first else x.T.copy())
    theirs = module(given).detach().numpy()
    if not batch_first and not last:
        theirs = theirs.swapaxes(0, 1)
    assert_close(model.predict(x), theirs, "foreign")
    assert module.training


@needs_torch
def test_a_forward_that_does_more_than_its_modules_is_refused():
    with pytest.raises(ConversionError, match="gives another answer here"):
        interop.from_torch(torch_model(change=lambda y: 2 * y))


@needs_torch
def test_modules_without_a_counterpart_are_refused():
    import torch
    import torch.nn.utils.prune

    nn = torch.nn
    stretched = nn.Sequential(nn.GRU(2, 4), nn.LayerNorm((3, 4)))
    bounded = nn.Sequential(nn.Embedding(5, 2, max_norm=1.0), nn.GRU(2, 4))
    own = torch_model()
    own.scale = nn.Parameter(torch.ones(3))
    normed = nn.utils.parametrizations.weight_norm(nn.GRU(2, 4), "weight_hh_l0")
    pruned = nn.Sequential(nn.GRU(2, 4), nn.Linear(4, 3))
    nn.utils.prune.l1_unstructured(pruned[1], "weight", 0.5)
    for module, sentence in (
        (pruned, "1 has parametrised weights"),
        (pruned.state_dict(), "1.weight_orig belongs to parametrised weights"),
        (nn.LSTM(2, 4), "LSTM"),
        (nn.Sequential(nn.GRU(2, 4), nn.BatchNorm1d(4)), "BatchNorm1d"),
        (nn.Sequential(nn.Linear(2, 4), nn.Softmax(dim=0)), "axis 0"),
        (nn.Sequential(nn.Linear(2, 4), nn.GELU()), "GELU"),
        (nn.Sequential(nn.GRU(2, 4), nn.Tanh()), "no layer that is an activation alone"),
        (stretched, "normalises over the axes"),
        (bounded, "max_norm"),
        (own, "scale would be lost"),
        (normed, "parametrised"),
    ):
        with pytest.raises(ConversionError, match=sentence):
            interop.from_torch(module)


@needs_torch
def test_the_check_finds_weights_in_the_wrong_place(rng, monkeypatch):
    monkeypatch.setattr("gru_np.interop.pytorch.NAMES", ("W_ih", "W_hh", "b_hh", "b_ih"))
    with pytest.raises(ConversionError, match="gives another answer here"):
        interop.from_torch(gru_state(rng))
    interop.from_torch(gru_state(rng), check=False)


# ------------------------------------------------------------------------- one Python file


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mask_zero", [True, False])
def test_the_python_file_predicts_what_the_model_does(rng, tmp_path, dtype, mask_zero):
    model = everything(rng, dtype, mask_zero)
    model.name = 'the "best" \\ """ model VERSION'
    model.extras = {"words": ['"""', "\\n", "é"]}
    path = tmp_path / "model.py"
    interop.export_standalone(model, path)
    module = runpy.run_path(str(path))
    x = rng.integers(0, 9, (4, 7))
    assert np.abs(module["predict"](x) - model.predict(x)).max() <= 1e-6
    assert module["EXTRAS"] == model.extras
    done = subprocess.run(
        [sys.executable, "-I", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "largest difference" in done.stdout


def test_the_python_file_tests_itself(rng, tmp_path):
    path = tmp_path / "model.py"
    interop.export_standalone(language_model(rng), path)
    text = path.read_text()
    path.write_text(text.replace("h_next = (1 - z) * n + z * h", "h_next = (1 - z) * h + z * n"))
    done = subprocess.run([sys.executable, str(path)], capture_output=True, check=False)
    assert done.returncode == 1


def test_the_python_file_steps_as_the_model_does(rng, tmp_path):
    model = language_model(rng)
    path = tmp_path / "model.py"
    interop.export_standalone(model, path)
    step = runpy.run_path(str(path))["step"]
    state = other = None
    for ids in rng.integers(0, 9, (5, 3)):
        y, state = step(ids, state)
        expected, other = model.step(ids, other)
        assert_close(y, expected, "rounding")


def test_the_python_file_refuses_what_it_cannot_do(rng, tmp_path):
    path = tmp_path / "model.py"
    interop.export_standalone(everything(rng), path)
    module = runpy.run_path(str(path))
    with pytest.raises(ValueError, match="backwards"):
        module["step"](np.array([1]))
    with pytest.raises(ValueError, match="token ids"):
        module["predict"](np.array([[9]]))
    with pytest.raises(ValueError, match=r"end in \.py"):
        interop.export_standalone(language_model(rng), tmp_path / "model.txt")
    for layer, sentence in (
        (GRU(4, return_state=True), "return_state"),
        (GRU(4, stateful=True), "stateful"),
        (Bidirectional(GRU(4), merge_mode=None), "merge_mode"),
    ):
        model = Sequential([layer])
        model.build((None, None, 2)) if sentence != "merge_mode" else layer.build(
            (None, None, 2), np.float32, rng
        )
        model.input_shape = (None, None, 2)
        with pytest.raises(ConversionError, match=sentence):
            interop.standalone._describe(layer)


# --------------------------------------------------------------------------- a folder, a path


def test_a_folder_keeps_the_model_to_the_bit(rng, tmp_path):
    model = everything(rng)
    model.extras = {"scale": [1.5, None]}
    interop.save_pretrained(model, tmp_path / "new" / "folder")
    again = interop.from_pretrained(tmp_path / "new" / "folder")
    same_weights(again, model)
    assert again.get_config() == model.get_config()
    assert again.extras == model.extras


def test_a_folder_that_does_not_hold_together_is_refused(rng, tmp_path, monkeypatch):
    interop.save_pretrained(language_model(rng), tmp_path / "a")
    config = tmp_path / "a" / "config.json"
    text = config.read_text()
    for damage, sentence in (
        (text.replace('"units": 4', '"units": 5'), "do not belong together"),
        (text.replace('"GRU"', '"os.system"'), "unknown layer class"),
        (text[:-20], "cannot be used"),
        ("[]", "cannot be used"),
        ("[" * 100_000, "cannot be used"),
    ):
        config.write_text(damage)
        with pytest.raises(ConversionError, match=sentence):
            interop.from_pretrained(tmp_path / "a")
    config.write_text(text)
    (tmp_path / "a" / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    with pytest.raises(CheckpointError):
        interop.from_pretrained(tmp_path / "a")
    monkeypatch.setattr("gru_np.interop.standalone._MAX_CONFIG", 99)
    with pytest.raises(ConversionError, match="at most 99 bytes"):
        interop.from_pretrained(tmp_path / "a")
    with pytest.raises(ConversionError, match="cannot be used"):
        interop.from_pretrained(tmp_path / "nowhere")


def test_read_and_write_choose_by_the_ending(rng, tmp_path):
    model = language_model(rng)
    for name in ("m.safetensors", "folder"):
        interop.write(model, tmp_path / name)
        same_weights(interop.read(tmp_path / name), model)
    interop.write(model, tmp_path / "m.py")
    assert (tmp_path / "m.py").stat().st_size
    checkpoint.save(tmp_path / "t.safetensors", {}, {})
    rewritten = tmp_path / "torch.safetensors"
    with rewritten.open("wb") as file:
        write_safetensors(file, interop.to_torch(model))
    assert [type(layer) for layer in interop.read(rewritten, last="state").layers][1] is GRU
    with pytest.raises(ConversionError, match="no form that can be written"):
        interop.write(model, tmp_path / "m.gguf")
    (tmp_path / "m.gguf").touch()
    with pytest.raises(ConversionError, match="no form that can be read"):
        interop.read(tmp_path / "m.gguf")
    with pytest.raises(ConversionError, match="no file"):
        interop.read(tmp_path / "nothing.keras")
    (tmp_path / "m.pt").touch()
    with pytest.raises(ConversionError, match="pickle"):
        interop.read(tmp_path / "m.pt")


def test_a_file_of_ours_that_is_damaged_is_not_taken_for_another_librarys(rng, tmp_path):
    interop.write(language_model(rng), tmp_path / "m.safetensors")
    data = bytearray((tmp_path / "m.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "m.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError):
        interop.read(tmp_path / "m.safetensors")


def test_a_file_with_a_single_cell_is_no_model(rng, tmp_path):
    cell = GRUCell(4)
    cell.build((None, 2), np.float32, rng)
    checkpoint.save(tmp_path / "c.torch.safetensors", {}, interop.to_torch(cell))
    with pytest.raises(ConversionError, match="a single cell"):
        interop.read(tmp_path / "c.torch.safetensors")


def test_the_python_file_has_no_code_for_layers_it_does_not_know(tmp_path):
    model = Sequential([Reshape((-1, 1)), GRU(4)])
    model.build((None, None, 2))
    with pytest.raises(ConversionError, match="no code for reshape"):
        interop.export_standalone(model, tmp_path / "m.py")


def write_safetensors(file, arrays, metadata=None):
    """Write a safetensors file as another library would: without our metadata."""
    header, end = {}, 0
    for name, array in sorted(arrays.items()):
        begin, end = end, end + array.nbytes
        header[name] = {
            "dtype": "F32", "shape": list(array.shape), "data_offsets": [begin, end],
        }  # fmt: skip
    text = json.dumps(header | {"__metadata__": metadata or {"format": "pt"}}).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for _, array in sorted(arrays.items()):
        file.write(array.tobytes())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX's")
@pytest.mark.parametrize("name", ["m.keras", "m.onnx", "m.safetensors", "m.weights.h5", "f"])
def test_a_pipe_that_nobody_writes_to_blocks_no_reader(rng, tmp_path, name):
    pytest.importorskip("h5py")
    pytest.importorskip("onnx")
    path = tmp_path / name
    if name == "f":
        path.mkdir()
        os.mkfifo(path / "config.json")
    else:
        os.mkfifo(path)
    like = language_model(rng) if name.endswith(".h5") else None
    with pytest.raises((ConversionError, CheckpointError), match="pipe"):
        interop.read(path, like)
