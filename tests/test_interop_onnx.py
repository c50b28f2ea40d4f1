"""ONNX: the operator in full, whole models out and in, and everything that is refused."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_close
from test_interop import everything, language_model, randomised, same_weights

from gru_np import GRU, Bidirectional, Dense, Dropout, Embedding, Sequential, interop
from gru_np.interop import ConversionError, onnx_ops

sys.path.insert(0, str(Path(__file__).parent / "golden"))
import make_interop as golden

GOLDEN = json.loads(golden.PATH.read_text(encoding="utf-8"))
HAS_RUNTIME = importlib.util.find_spec("onnxruntime") is not None


@pytest.fixture
def onnx():
    return pytest.importorskip("onnx")


# --------------------------------------------------------------------------------- the operator


@pytest.mark.parametrize("name", GOLDEN["onnx node tests"])
def test_onnx_own_tests_of_the_operator_pass(name):
    case = GOLDEN["onnx node tests"][name]
    inputs = [None if a is None else np.array(a[1], a[0]) for a in case["inputs"]]
    for ours, expected in zip(
        onnx_ops.gru(case["attributes"], inputs), case["outputs"], strict=True
    ):
        if expected is not None:
            assert_close(ours, np.array(expected, np.float32), "foreign")


def test_onnx_own_tests_of_the_operator_are_all_there(onnx):
    assert sorted(golden.node_tests()) == sorted(GOLDEN["onnx node tests"])


def test_onnx_own_tests_pass_through_onnx_run(onnx):
    cases = golden.node_test_cases()
    assert len(cases) >= 6
    for case in cases:
        for inputs, outputs in case.data_sets:
            found = interop.onnx_run(case.model, inputs)
            for ours, expected in zip(found.values(), outputs, strict=True):
                assert_close(ours, expected, "foreign")


@pytest.mark.parametrize("name", golden.ONNX)
def test_the_operator_gives_the_runtimes_numbers(name):
    case = golden.ONNX[name]
    expected = [GOLDEN["onnx"][name]]
    if HAS_RUNTIME and importlib.util.find_spec("onnx"):
        expected.append(golden.onnx_results(**case))
    found = onnx_ops.gru(case["attributes"], golden.onnx_arguments(**case))
    for outputs in expected:
        for ours, theirs in zip(found, outputs, strict=True):
            assert_close(ours, np.array(theirs, np.float32), "foreign")


def test_layout_1_is_layout_0_with_the_axes_turned():
    case = golden.ONNX["both directions, lengths, clip"]
    X, W, R, B, lengths, h0 = golden.onnx_arguments(**case)
    Y, Y_h = onnx_ops.gru(case["attributes"], [X, W, R, B, lengths, h0])
    turned = [X.swapaxes(0, 1), W, R, B, lengths, h0.swapaxes(0, 1)]
    Y_1, Y_h_1 = onnx_ops.gru(case["attributes"] | {"layout": 1}, turned)
    assert_close(Y_1, Y.transpose(2, 0, 1, 3), "exact")
    assert_close(Y_h_1, Y_h.swapaxes(0, 1), "exact")


@pytest.mark.parametrize("clip", [None, 0.5])
def test_padding_is_never_read_and_a_row_of_no_steps_keeps_its_state(clip):
    case = golden.ONNX["both directions, lengths, clip"]
    X, W, R, B, _, h0 = golden.onnx_arguments(**case)
    lengths = np.array([2, 5, 0], np.int32)
    attributes = case["attributes"] | {"clip": clip}
    Y, Y_h = onnx_ops.gru(attributes, [X, W, R, B, lengths, h0])
    X = X.copy()
    X[2:, 0], X[:, 2] = np.nan, np.nan
    again = onnx_ops.gru(attributes, [X, W, R, B, lengths, h0])
    assert_close(again, (Y, Y_h), "exact")
    assert not Y[2:, :, 0].any()
    assert_close(Y_h[:, 2], h0[:, 2], "exact")


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"activations": ["Sigmoid"]}, "needs 2 activations"),
        ({"activations": ["Sigmoid", "Gelu"]}, "unknown activation 'gelu'"),
        ({"direction": "sideways"}, "unknown direction"),
    ],
)
def test_a_wrong_operator_is_refused(attributes, sentence):
    inputs = golden.onnx_arguments(**golden.ONNX["relu and softplus"])
    with pytest.raises(ConversionError, match=sentence):
        onnx_ops.gru(attributes, inputs)


def test_lengths_beyond_the_sequence_are_refused():
    X, W, R, B, _, h0 = golden.onnx_arguments(**golden.ONNX["relu and softplus"])
    with pytest.raises(ValueError, match=r"3 numbers in 0\.\.5"):
        onnx_ops.gru({}, [X, W, R, B, np.array([1, 6, 2]), h0])


# ------------------------------------------------------------------------------- whole models


def runtime(graph):
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )


MODELS = {
    "everything": lambda rng: everything(rng, mask_zero=False),
    "everything, masked": lambda rng: everything(rng, mask_zero=True),
    "language model": language_model,
    "numbers": lambda rng: randomised(
        Sequential([GRU(4, use_bias=False), Dense(2)], seed=1), rng, (None, None, 3)
    ),
    **{
        f"merge {mode}": lambda rng, mode=mode: randomised(
            Sequential([Bidirectional(GRU(3, return_sequences=True), mode)], seed=1), rng,
            (None, None, 3),
        )
        for mode in ("concat", "sum", "mul", "ave")
    },
    "linear": lambda rng: randomised(
        Sequential([GRU(3, activation="linear")], seed=1), rng,
        (None, None, 3),
    ),
}  # fmt: skip


def input_for(model, rng, B, T):
    if isinstance(model.layers[0], Embedding):
        return rng.integers(0, model.layers[0].input_dim, (B, T))
    return rng.standard_normal((B, T, model.input_shape[-1])).astype(np.float32)


@pytest.mark.parametrize("name", MODELS)
def test_the_graph_runs_at_any_batch_size_and_length(onnx, rng, name):
    model = MODELS[name](rng)
    graph = interop.to_onnx(model)
    for B, T in ((1, 1), (2, 9), (7, 3), (3, 40)):
        x = input_for(model, rng, B, T)
        expected = model.predict(x)
        assert_close(interop.onnx_run(graph, {"x": x})["y"], expected, "foreign")
        if HAS_RUNTIME:
            assert_close(runtime(graph).run(None, {"x": x})[0], expected, "foreign")


@pytest.mark.parametrize("name", MODELS)
def test_a_graph_of_ours_comes_back_to_the_bit(onnx, rng, name):
    model = MODELS[name](rng)
    again = interop.from_onnx(interop.to_onnx(model))
    kept = [layer for layer in model.layers if not isinstance(layer, Dropout)]
    assert [type(a) for a in again.layers] == [type(b) for b in kept]
    for ours, theirs in zip(kept, again.layers, strict=True):
        for key, array in ours.params.items():
            assert_close(theirs.params[key], array, "exact")
    x = input_for(model, rng, 4, 6)
    assert_close(again.predict(x), model.predict(x), "rounding")


def test_a_float64_model_keeps_its_precision(onnx, rng):
    model = everything(rng, dtype="float64")
    x = rng.integers(0, 9, (4, 6))
    found = interop.onnx_run(interop.to_onnx(model), {"x": x})["y"]
    assert found.dtype == np.float64
    # An epsilon and HardSigmoid's 1/6 are float32 in the file.
    assert np.abs(found - model.predict(x)).max() < 1e-7


def test_the_states_go_in_and_out_so_that_chunks_make_the_whole(onnx, rng):
    model = language_model(rng)
    graph = interop.to_onnx(model, states=True)
    x = rng.integers(0, 9, (3, 7))
    state = {name: np.zeros((3, 4), np.float32) for name in ("gru", "gru_1")}
    pieces = []
    for part in (x[:, :3], x[:, 3:4], x[:, 4:]):
        feeds = {"x": part} | {f"{name}_h0": h for name, h in state.items()}
        outputs = interop.onnx_run(graph, feeds)
        pieces.append(outputs["y"])
        state = {name: outputs[f"{name}_h"] for name in state}
    assert_close(np.concatenate(pieces, axis=1), model.predict(x), "foreign")


def test_lengths_are_an_input_of_the_graph(onnx, rng):
    model = everything_without_flip(rng)
    graph = interop.to_onnx(model, lengths=True)
    x, lengths = rng.integers(0, 9, (4, 6)), np.array([6, 2, 1, 4], np.int32)
    y = interop.onnx_run(graph, {"x": x, "lengths": lengths})["y"]
    for row, length in enumerate(lengths):
        alone = model.predict(x[row : row + 1, :length])
        assert_close(y[row : row + 1], alone, "foreign")
    if HAS_RUNTIME:
        found = runtime(graph).run(None, {"x": x, "lengths": lengths})[0]
        assert_close(found, y, "foreign")
    same_weights_of(interop.from_onnx(graph), model)


def everything_without_flip(rng):
    layers = [
        Embedding(9, 3),
        Bidirectional(GRU(3, return_sequences=True, reset_after=False)),
        GRU(4, return_sequences=True),
        GRU(5, go_backwards=True),
        Dense(2),
    ]
    return randomised(Sequential(layers, seed=1), rng)


def same_weights_of(one, other):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        assert_close(a, b, "exact")


def test_graphs_are_files_too(onnx, rng, tmp_path):
    model = language_model(rng)
    interop.write(model, tmp_path / "m.onnx")
    same_weights_of(interop.read(tmp_path / "m.onnx"), model)
    same_weights_of(interop.from_onnx((tmp_path / "m.onnx").read_bytes()), model)
    assert same_weights is not None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("settings", [{}, {"last": True}, {"time_first": True}, {"both": True}])
def test_graphs_that_pytorch_exports_are_read(onnx, rng, settings):
    torch = pytest.importorskip("torch")
    import io

    class Model(torch.nn.Module):
        def __init__(self, last=False, time_first=False, both=False):
            super().__init__()
            self.last = last
            self.encoder = torch.nn.Embedding(7, 3)
            self.rnn = torch.nn.GRU(3, 4, 2, batch_first=not time_first, bidirectional=both)
            self.head = torch.nn.Linear(8 if both else 4, 5)

        def forward(self, x):
            y, _ = self.rnn(self.encoder(x))
            return torch.softmax(self.head(y[:, -1] if self.last else y), -1)

    module, file = Model(**settings).eval(), io.BytesIO()
    example = torch.zeros(3, 5, dtype=torch.long)
    axes = {"x": {0: "a", 1: "b"}}
    torch.onnx.export(
        module, (example,), file, dynamo=False, input_names=["x"], dynamic_axes=axes,
        opset_version=17,
    )  # fmt: skip
    model = interop.from_onnx(file.getvalue())
    x = rng.integers(0, 7, (2, 6))
    turn = settings.get("time_first", False)
    theirs = module(torch.from_numpy(x.T.copy() if turn else x)).detach().numpy()
    assert_close(model.predict(x), theirs.swapaxes(0, 1) if turn else theirs, "foreign")


# ---------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("layer", "options", "sentence"),
    [
        (GRU(3, return_state=True), {}, "return_state"),
        (GRU(3, stateful=True), {}, "stateful"),
        (GRU(3, go_backwards=True, return_sequences=True), {"lengths": True}, "with lengths"),
        (Bidirectional(GRU(3), merge_mode=None), {}, "merge_mode=None"),
    ],
)
def test_what_a_graph_cannot_express_is_refused(onnx, layer, options, sentence):
    model = Sequential([layer])
    model.build((None, None, 2))
    with pytest.raises(ConversionError, match=sentence):
        interop.to_onnx(model, **options)


def test_a_mask_that_the_update_gate_cannot_carry_is_refused(onnx):
    model = Sequential([Embedding(5, 2, mask_zero=True), GRU(3, recurrent_activation="relu")])
    model.build((None, None))
    with pytest.raises(ConversionError, match="the mask of the Embedding"):
        interop.to_onnx(model)


def graph_of_one(onnx, node_changes=None, extra=None):
    """A GRU operator alone, with attributes changed or inputs turned into constants."""
    from onnx import TensorProto, helper, numpy_helper

    _, W, R, B, _, _ = golden.onnx_arguments(**golden.ONNX["relu and softplus"])
    constants = {"W": W, "R": R, "B": B} | (extra or {})
    names = [n if n in {"X", *constants} else "" for n in ("X", "W", "R", "B", "lengths", "h0")]
    settings = {"hidden_size": 4, "linear_before_reset": 1} | (node_changes or {})
    node = helper.make_node("GRU", names, ["Y", "Y_h"], **settings)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["T", "B", 2])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["T", 1, "B", 4])],
        [numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_the_operator_alone_becomes_a_layer(onnx):
    model = interop.from_onnx(graph_of_one(onnx))
    [layer] = model.layers
    assert (layer.units, layer.reset_after, layer.return_sequences) == (4, True, True)


@pytest.mark.parametrize(
    ("changes", "extra", "sentence"),
    [
        ({"clip": 0.5}, {}, "clip=0.5"),
        ({"activations": ["Sigmoid", "Elu"]}, {}, r"elu\(alpha=1\)"),
        ({"activations": ["HardSigmoid", "Tanh"]}, {}, r"hardsigmoid\(alpha=0.2"),
        ({"direction": "reverse"}, {}, "order of reading"),
        ({}, {"h0": np.ones((1, 3, 4), np.float32)}, "the state h0, which would be lost"),
        ({}, {"lengths": np.array([5, 2, 3], np.int32)}, "sequence_lens built in"),
    ],
)
def test_what_a_layer_cannot_express_is_refused(onnx, changes, extra, sentence):
    with pytest.raises(ConversionError, match=sentence):
        interop.from_onnx(graph_of_one(onnx, changes, extra))


def test_unknown_operators_are_refused_by_name(onnx, rng):
    graph = interop.to_onnx(language_model(rng))
    graph.graph.node[0].op_type = "Einsum"
    for run in (interop.from_onnx, lambda g: interop.onnx_run(g, {})):
        with pytest.raises(ConversionError, match="operator Einsum"):
            run(graph)
    graph.graph.node[0].op_type = "Gather"
    graph.graph.node[0].domain = "com.example"
    with pytest.raises(ConversionError, match=r"operator com.example\.Gather"):
        interop.from_onnx(graph)


def test_numbers_in_other_files_are_never_opened(onnx, rng, tmp_path):
    graph = interop.to_onnx(language_model(rng))
    onnx.save(
        graph, tmp_path / "m.onnx", save_as_external_data=True, location="weights",
        size_threshold=0,
    )  # fmt: skip
    with pytest.raises(ConversionError, match=r"torch\.onnx\.export\(\.\.\., external_data=False"):
        interop.from_onnx(tmp_path / "m.onnx")
    with pytest.raises(ConversionError, match="external_data"):
        interop.onnx_run(tmp_path / "m.onnx", {})


def test_two_ways_through_a_graph_are_refused(onnx, rng):
    graph = interop.to_onnx(language_model(rng))
    doubled = onnx.helper.make_node("Add", ["dense/y", "dense/product"], ["sum"])
    del graph.graph.node[-1]
    graph.graph.node.extend([doubled, onnx.helper.make_node("Identity", ["sum"], ["y"])])
    with pytest.raises(ConversionError, match="joins several values"):
        interop.from_onnx(graph)


def test_a_file_that_is_no_graph_gets_one_sentence(onnx, tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(ConversionError, match="not an ONNX model"):
        interop.read(tmp_path / "m.onnx")
    with pytest.raises(TypeError, match="must be a path"):
        interop.from_onnx(3)


def test_what_is_missing_or_empty_or_does_not_fit_gets_one_sentence(onnx, rng, tmp_path):
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(ConversionError, match="its graph has no output"):
        interop.from_onnx(tmp_path / "empty.onnx")
    with pytest.raises(ConversionError, match=r"absent\.onnx: there is no such file"):
        interop.onnx_run(tmp_path / "absent.onnx", {})
    model = Sequential([GRU(4)], seed=0)
    model.build((None, None, 3))
    graph = interop.to_onnx(model)
    with pytest.raises(ValueError, match="inputs are x; expected 1, got 0"):
        interop.onnx_run(graph, [])
    with pytest.raises(ValueError, match=r"Transpose .* cannot be computed from \(3,\)"):
        interop.onnx_run(graph, [np.ones(3, np.float32)])


def test_a_small_graph_cannot_ask_for_terabytes(onnx):
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("ConstantOfShape", ["size"], ["y"])],
        "greedy",
        [],
        [helper.make_tensor_value_info("y", 1, [None])],
        [onnx.numpy_helper.from_array(np.array([1 << 40]), "size")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    for reader in (interop.from_onnx, lambda p: interop.onnx_run(p, {})):
        with pytest.raises(ConversionError, match="must have at most"):
            reader(proto)


def small_graph(onnx, nodes, outputs=("y",), **constants):
    """A graph of a few nodes between x (batch, time, 3) and its outputs."""
    helper = onnx.helper
    graph = helper.make_graph(
        [
            helper.make_node(kind, inputs, [out], **settings)
            for kind, inputs, out, settings in nodes
        ],
        "small",
        [helper.make_tensor_value_info("x", 1, [None, None, 3])],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs],
        [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


COLUMN = np.ones((20_000, 1), np.float32)
GREEDY = {
    "an outer product": [("MatMul", ["c", "r"], "y", {})],
    "a sum that broadcasts": [("Add", ["c", "r"], "y", {})],
    "a table looked up again and again": [("Gather", ["r", "i"], "y", {"axis": 0})],
    "one that doubles": [
        ("Concat", [f"c{k}" if k else "c"] * 2, f"c{k + 1}", {"axis": 0}) for k in range(40)
    ],
}


@pytest.mark.parametrize("case", GREEDY)
def test_a_small_graph_cannot_grow_without_bound(onnx, case):
    nodes = [*GREEDY[case]]
    constants = {"c": COLUMN, "r": COLUMN.T, "i": np.zeros(20_000, np.int64)}
    graph = small_graph(onnx, nodes, [nodes[-1][2]], **constants)
    for reader in (
        interop.from_onnx,
        lambda p: interop.onnx_run(p, {"x": np.ones((1, 1, 3), "f")}),
    ):
        with pytest.raises(ConversionError, match="must have at most"):
            reader(graph)


def test_a_graph_whose_input_is_fixed_to_a_size_beyond_memory_is_not_run(onnx):
    graph = graph_of_one(onnx)
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 10**9
    with pytest.raises(ConversionError, match="too many numbers to run the graph with"):
        interop.from_onnx(graph)
    assert len(interop.from_onnx(graph, check=False).layers) == 1


def test_damaged_graphs_get_one_sentence_and_never_another_error(onnx, rng):
    whole = interop.to_onnx(language_model(rng)).SerializeToString()
    for _ in range(300):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), 3):
            data[at] = rng.integers(256)
        try:
            interop.from_onnx(bytes(data))
        except ConversionError as error:
            assert len(str(error)) < 1000


W3, R4 = np.ones((1, 12, 3), np.float32), np.ones((1, 12, 4), np.float32)
GRU_NODE = ("GRU", ["x", "W", "R"], "Y", {"hidden_size": 4})
GRU_AND = {"W": W3, "R": R4}
REFUSED_GRAPHS = {
    "an activation at the input": ([("Tanh", ["x"], "y", {})], {}, "alone at the input"),
    "no layer at all": ([("Identity", ["x"], "y", {})], {}, "expected a GRU in the graph"),
    "nothing computes the output": ([("Identity", ["x"], "z", {})], {}, "computes 'y'"),
    "nothing computes an input": ([("Tanh", ["z"], "y", {})], {}, "computes 'z'"),
    "two activations in a row": (
        [("Tanh", ["x"], "t", {}), ("Relu", ["t"], "y", {})], {}, "what is not a layer",
    ),
    "a scaled product": (
        [("Gemm", ["x", "M"], "y", {"alpha": 0.5})], {"M": np.ones((3, 2), "f")}, "is scaled",
    ),
    "a difference": ([("Sub", ["x", "c"], "y", {})], {"c": np.ones(3, "f")}, "no.*part of a layer"),
    "an activation after a GRU": (
        [GRU_NODE, ("Tanh", ["Y"], "y", {})], GRU_AND, "after a Dense only",
    ),
    "a normalisation over time": (
        [("LayerNormalization", ["x", "g"], "y", {"axis": 1})], {"g": np.ones(3, "f")},
        "not over the last axis",
    ),
    "the first step alone": (
        [GRU_NODE, ("Gather", ["Y", "i"], "y", {"axis": 0})], GRU_AND | {"i": np.array(0)},
        "not its last step",
    ),
    "weights that are computed": (
        [("Transpose", ["x"], "W", {}), ("GRU", ["x", "W", "R"], "y", {"hidden_size": 4})],
        {"R": R4}, "not constants of the graph",
    ),
    "two values side by side": (
        [("Cast", ["x"], "e", {"to": 1}), ("Concat", ["x", "p"], "both", {"axis": 2}),
         ("GRU", ["both", "W", "R"], "y", {"hidden_size": 4})],
        GRU_AND | {"p": np.ones((1, 1, 1), "f")}, "side by side",
    ),
    "the last step of both directions": (
        [("GRU", ["x", "W", "R"], "Y", {"hidden_size": 4, "direction": "bidirectional"}),
         ("Gather", ["Y", "i"], "y", {"axis": 0})],
        {"W": np.ones((2, 12, 3), "f"), "R": np.ones((2, 12, 4), "f"), "i": np.array(-1)},
        "own last state",
    ),
    "weights of a wrong rank": (
        [("GRU", ["x", "W", "R"], "y", {"hidden_size": 4})],
        {"W": W3, "R": np.ones(12, np.float32)}, "cannot be followed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_GRAPHS)
def test_graphs_that_are_no_row_of_layers_are_refused(onnx, case):
    nodes, constants, sentence = REFUSED_GRAPHS[case]
    with pytest.raises(ConversionError, match=sentence):
        interop.from_onnx(small_graph(onnx, nodes, **constants))


def test_a_mask_that_no_embedding_makes_is_refused(onnx, rng):
    graph = interop.to_onnx(MODELS["everything, masked"](rng))
    del graph.graph.node[next(i for i, n in enumerate(graph.graph.node) if n.op_type == "Gather")]
    graph.graph.input.append(onnx.helper.make_tensor_value_info("embedding/y", 1, [None, None, 3]))
    with pytest.raises(ConversionError, match="a mask that no Embedding makes"):
        interop.from_onnx(graph)


def test_operators_over_other_axes_are_refused_when_run(onnx):
    x = np.ones((2, 4, 3), np.float32)
    for node, sentence in (
        (("LayerNormalization", ["x", "g"], "y", {"axis": 1}), "LayerNormalization must be over"),
        (("Softmax", ["x"], "y", {"axis": 0}), "Softmax must be over"),
        (("Constant", [], "y", {"value_string": "words"}), "neither numbers nor a tensor"),
    ):
        with pytest.raises(ConversionError, match=sentence):
            interop.onnx_run(small_graph(onnx, [node], g=np.ones(3, "f")), {"x": x})


def test_sparse_numbers_and_files_beyond_protobuf_are_refused(onnx, tmp_path, monkeypatch):
    graph = small_graph(onnx, [("Identity", ["x"], "y", {})])
    graph.graph.sparse_initializer.add()
    with pytest.raises(ConversionError, match="sparse"):
        interop.onnx_run(graph, {})
    (tmp_path / "m.onnx").write_bytes(bytes(100))
    monkeypatch.setattr(onnx_ops, "_MAX_BYTES", 99)
    with pytest.raises(ConversionError, match="expected at most 99 bytes"):
        interop.from_onnx(tmp_path / "m.onnx")


def test_layers_that_the_operator_set_lacks_are_refused(onnx):
    from gru_np.layers import Reshape

    for layers, shape, sentence in (
        ([Reshape((-1, 2)), GRU(3)], (None, None, 2), "no operator is known for reshape"),
        (
            [Bidirectional(GRU(3), backward_layer=GRU(3, go_backwards=True, reset_after=False))],
            (None, None, 2), "one reset_after",
        ),
        ([GRU(3, zoneout=0.1)], (None, None, 2), "zoneout=0.1"),
        ([GRU(3, layer_norm=True)], (None, None, 2), "layer_norm=True"),
        ([GRU(3, learn_initial_state=True)], (None, None, 2), "learn_initial_state=True"),
    ):  # fmt: skip
        model = Sequential(layers)
        model.build(shape)
        with pytest.raises(ConversionError, match=sentence):
            interop.to_onnx(model)


def test_missing_and_unknown_inputs_are_named(onnx, rng):
    graph = interop.to_onnx(language_model(rng))
    with pytest.raises(ValueError, match="missing x"):
        interop.onnx_run(graph, {})
    with pytest.raises(ValueError, match="got z"):
        interop.onnx_run(graph, {"x": np.ones((1, 1), int), "z": np.ones(1)})


def test_without_onnx_the_extra_is_named(rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'gru_np\[onnx\]'"):
        interop.to_onnx(language_model(rng))
    with pytest.raises(ImportError, match=r"pip install 'gru_np\[onnx\]'"):
        interop.onnx_run(b"", {})


# ------------------------------------------------------------------- axes, precision, attributes


def gru_graph(onnx, D=1, layout=0, dtype=np.float32, output="Y", reshaped=False, **settings):
    """A graph of one GRU operator with random weights, its numbers in one type."""
    rng = np.random.default_rng(20)
    shapes = {"W": (D, 12, 3), "R": (D, 12, 4), "B": (D, 24)}
    arrays = {k: (0.5 * rng.standard_normal(s)).astype(dtype) for k, s in shapes.items()}
    helper = onnx.helper
    direction = "bidirectional" if D == 2 else "forward"
    nodes = [helper.make_node(
        "GRU", ["x", "W", "R", "B"], ["Y", ""] if output == "Y" else ["", "Y_h"], hidden_size=4,
        direction=direction, layout=layout, linear_before_reset=1, **settings,
    )]  # fmt: skip
    if reshaped:
        nodes.append(helper.make_node("Reshape", [output, "shape"], ["y"]))
        arrays["shape"] = np.array([0, 0, 8] if output == "Y" else [0, 8])
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", kind, [None, None, 3])],
        [helper.make_tensor_value_info("y" if reshaped else output, kind, None)],
        [onnx.numpy_helper.from_array(a, n) for n, a in arrays.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


@pytest.mark.parametrize("output", ["Y", "Y_h"])
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("D", [1, 2])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_layout_and_precision_of_the_operator_comes_in(onnx, rng, D, layout, output, dtype):
    graph = gru_graph(onnx, D, layout, dtype, output)
    model = interop.from_onnx(graph)
    assert model.dtype == (np.float64 if dtype == np.float64 else np.float32)
    x = rng.standard_normal((2, 6, 3)).astype(dtype)
    y = interop.onnx_run(graph, {"x": x if layout else x.swapaxes(0, 1)})[output]
    if output == "Y":
        y = y if layout else y.transpose(2, 0, 1, 3)
        y = y.reshape(2, 6, 4 * D)
    else:
        y = (y if layout else y.swapaxes(0, 1)).reshape(2, 4 * D)
    bound = 1e-2 if dtype == np.float16 else 1e-5  # the graph computes in half precision
    assert np.abs(model.predict(x) - y).max() <= bound
    assert "the whole graph, by onnx_run" in model.conversion.checked[0]


def test_weights_in_bfloat16_come_in_exactly(onnx):
    graph = gru_graph(onnx)
    wide = interop.from_onnx(graph)
    for tensor in graph.graph.initializer:
        numbers = onnx.numpy_helper.to_array(tensor).astype(np.float32)
        upper = (numbers.view(np.uint32) >> 16).astype(np.uint16)
        tensor.ClearField("float_data")
        tensor.data_type, tensor.raw_data = onnx.TensorProto.BFLOAT16, upper.tobytes()
    model = interop.from_onnx(graph)
    cut = wide.params["gru/W_hh"].view(np.uint32) >> 16 << 16
    assert_close(model.params["gru/W_hh"], cut.view(np.float32), "exact")


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("GRU", {"output_sequence": 1}), ("Gemm", {"broadcast": 1}), ("Identity", {"gain": 2.0})],
)
def test_an_attribute_that_is_not_known_is_refused_and_not_dropped(onnx, kind, settings):
    graph = small_graph(onnx, [(kind, ["x", "x", "x"], "y", settings)])
    for reader in (interop.from_onnx, lambda p: interop.onnx_run(p, {})):
        with pytest.raises(ConversionError, match=f"{kind} 'y' has the attribute .* would be lost"):
            reader(graph)


def test_a_dropout_that_drops_while_it_runs_is_refused(onnx):
    graph = small_graph(
        onnx, [("Dropout", ["x", "ratio", "on"], "y", {})], ratio=np.float32(0.5), on=np.array(True)
    )
    with pytest.raises(ConversionError, match="drops at random"):
        interop.onnx_run(graph, {"x": np.ones((1, 2, 3), "f")})


def test_other_inputs_and_outputs_of_a_graph_are_said(onnx, rng):
    model = Sequential([GRU(4, return_sequences=True)], seed=0)
    model.build((None, None, 3))
    said = interop.from_onnx(interop.to_onnx(model, lengths=True, states=True)).conversion
    assert said.assumed == (
        "the output y counts, gru_h not",
        "lengths, gru_h0: zero states and full lengths, unless a call says",
    )
    assert not interop.from_onnx(interop.to_onnx(model), check=False).conversion.checked


def test_looking_at_a_stateful_model_leaves_its_state(onnx, rng, tmp_path):
    model = Sequential([GRU(4, return_sequences=True, stateful=True)], seed=0)
    x = rng.standard_normal((2, 5, 3)).astype(np.float32)
    model.predict(x, batch_size=2)
    before = model.layers[0].state.copy()
    assert before.any()
    interop.to_onnx(model, states=True)
    assert_close(model.layers[0].state, before, "exact")


# ---------------------------------------------------------------------- in proportion to the file


def test_nodes_without_outputs_get_one_sentence(onnx):
    for kind in ("Identity", "Einsum"):
        graph = small_graph(onnx, [("Identity", ["x"], "y", {})])
        graph.graph.node.insert(0, onnx.helper.make_node(kind, ["x"], []))
        for reader in (interop.from_onnx, lambda p: interop.onnx_run(p, {})):
            with pytest.raises(ConversionError, match=f"{kind} '' has no output"):
                reader(graph)


@pytest.mark.parametrize("kind", ["Identity", "Constant"])
def test_many_nodes_take_as_many_looks_and_no_more(onnx, kind, monkeypatch):
    count = 20_000
    if kind == "Constant":
        nodes = [("Constant", [], f"c{i}", {"value_int": 1}) for i in range(count)]
        nodes.append(("Identity", ["x"], "y", {}))
    else:
        names = ["x", *(f"v{i}" for i in range(1, count)), "y"]
        nodes = [("Identity", [names[i]], names[i + 1], {}) for i in range(count)]
    graph = small_graph(onnx, nodes)
    looks = 0
    held = onnx_ops._numbers_to_come

    def counted(*arguments):
        nonlocal looks
        looks += 1
        return held(*arguments)

    monkeypatch.setattr(onnx_ops, "_numbers_to_come", counted)
    y = interop.onnx_run(graph, {"x": np.ones((1, 2, 3), "f")})["y"]
    assert y.shape == (1, 2, 3)
    assert looks == len(nodes)
    with pytest.raises(ConversionError, match="expected a GRU"):
        interop.from_onnx(graph)


def test_arrays_that_nothing_needs_any_more_are_forgotten(onnx):
    nodes = [("Add", ["x", "x"], "v0", {})]
    nodes += [("Add", [f"v{i}", f"v{i}"], f"v{i + 1}", {}) for i in range(50)]
    graph = small_graph(onnx, nodes, ["v50"], c=np.zeros(1))
    x = np.ones((1, 1_000_000, 3), np.float32)  # 12 MB, and 51 of it are more than the room
    assert interop.onnx_run(graph, {"x": x})["v50"][0, 0, 0] == 2.0**51
    assert onnx_ops.room(graph, {}) == 2**28


def test_weights_that_are_shared_do_not_multiply_without_bound(onnx):
    M = np.zeros((500, 500), np.float32)  # 1 MB, in 900 layers
    first = np.zeros((3, 500), np.float32)
    nodes = [("MatMul", ["x", "first"], "v0", {})]
    nodes += [("MatMul", [f"v{i}", "M"], f"v{i + 1}", {}) for i in range(900)]
    with pytest.raises(ConversionError, match="uses its weights again and again"):
        interop.from_onnx(small_graph(onnx, nodes, ["v900"], M=M, first=first))
    tiny = np.zeros((3, 3), np.float32)
    nodes = [("MatMul", [f"v{i}" if i else "x", "M"], f"v{i + 1}", {}) for i in range(1200)]
    with pytest.raises(ConversionError, match="after 1000 layers, and no model has more"):
        interop.from_onnx(small_graph(onnx, nodes, ["v1200"], M=tiny))


def test_a_file_of_four_megabytes_cannot_ask_for_four_gigabytes(onnx):
    big = np.zeros((1000, 1000), np.float32)
    nodes = [("Concat", ["M"] * 200, "wide", {"axis": 0}), ("Identity", ["x"], "y", {})]
    graph = small_graph(onnx, nodes, M=big)  # 800 MB of 4
    for reader in (
        interop.from_onnx, lambda p: interop.onnx_run(p, {"x": np.ones((1, 2, 3), "f")}),
    ):  # fmt: skip
        with pytest.raises(ConversionError, match="must have at most 268,435,456 bytes"):
            reader(graph)


def test_models_without_time_go_there_and_back(onnx, rng):
    model = Sequential([Dense(4, activation="relu"), Dense(2)], seed=0)
    model.build((None, 3))
    graph = interop.to_onnx(model)
    assert len(graph.graph.input[0].type.tensor_type.shape.dim) == 2
    again = interop.from_onnx(graph)
    x = rng.standard_normal((5, 3)).astype(np.float32)
    assert_close(again.predict(x), model.predict(x), "exact")
