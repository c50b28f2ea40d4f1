"""Write interop.json: what PyTorch, Keras, ONNX and ONNX Runtime make of the same few weights.

    KERAS_BACKEND=torch python tests/golden/make_interop.py

Each case holds the weights in the other library's own layout and names, an input, and the output.
The tests compare with the file, and with `results` where the library is installed.
"""

import json
import sys
from pathlib import Path

import numpy as np

PATH = Path(__file__).with_name("interop.json")
B, T, I, H, V, U = 3, 5, 2, 4, 7, 3  # noqa: E741


def draw(seed, *shapes, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return [(0.6 * rng.standard_normal(shape)).astype(dtype) for shape in shapes]


# ------------------------------------------------------------------------------------- PyTorch

TORCH = {
    "stack of two, both directions": {"layers": 2, "bidirectional": True, "bias": True},
    "stack of three without bias": {"layers": 3, "bidirectional": False, "bias": False},
}


def torch_arguments(layers, bidirectional, bias):
    """Give the state dict, x (B, T, I) and h0 (layers * directions, B, H), in float64."""
    ends = ["", "_reverse"] if bidirectional else [""]
    state = {}
    for k in range(layers):
        enters = I if k == 0 else H * len(ends)
        for i, end in enumerate(ends):
            shapes = [(3 * H, enters), (3 * H, H), (3 * H,), (3 * H,)]
            arrays = draw(10 * k + i, *shapes, dtype=np.float64)
            for name, array in zip(
                ("weight_ih", "weight_hh", "bias_ih", "bias_hh"), arrays, strict=True
            ):
                if bias or name.startswith("weight"):
                    state[f"{name}_l{k}{end}"] = array
    x, h0 = draw(99, (B, T, I), (layers * len(ends), B, H), dtype=np.float64)
    return state, x, h0


def torch_results(layers, bidirectional, bias):
    """Give y (B, T, directions * H)."""
    import torch

    state, x, h0 = torch_arguments(layers, bidirectional, bias)
    gru = torch.nn.GRU(
        I, H, layers, bias=bias, bidirectional=bidirectional, batch_first=True, dtype=torch.float64
    )
    gru.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    with torch.no_grad():
        return gru(torch.from_numpy(x), torch.from_numpy(h0))[0].numpy()


# --------------------------------------------------------------------------------------- Keras

KERAS = {
    "reset after": {"reset_after": True},
    "reset before": {"reset_after": False},
    "reset before, relu and hard sigmoid": {
        "reset_after": False, "activation": "relu", "recurrent_activation": "hard_sigmoid",
    },
    "reset after, without bias": {"reset_after": True, "use_bias": False},
}  # fmt: skip


def keras_arguments(reset_after, use_bias=True, **_):
    """Give Keras' arrays, x (B, T, I) and the initial state (B, H)."""
    bias = (2, 3 * H) if reset_after else (3 * H,)
    kernel, recurrent_kernel, b, x, h0 = draw(5, (I, 3 * H), (H, 3 * H), bias, (B, T, I), (B, H))
    return [kernel, recurrent_kernel, *([b] if use_bias else [])], x, h0


def keras_results(**settings):
    """Give y (B, T, H)."""
    import keras

    arrays, x, h0 = keras_arguments(**settings)
    layer = keras.layers.GRU(H, return_sequences=True, **settings)
    layer.build(x.shape)
    for variable, array in zip(layer.weights, arrays, strict=False):
        variable.assign(array)
    y = layer(x, initial_state=keras.ops.convert_to_tensor(h0))
    return keras.ops.convert_to_numpy(y)


# ---------------------------------------------------------------------------------------- ONNX

ONNX = {
    "both directions, lengths, clip": {
        "attributes": {"direction": "bidirectional", "clip": 0.7, "linear_before_reset": 1},
        "lengths": [2, 5, 3],
    },
    "alpha and beta": {
        "attributes": {
            "direction": "bidirectional",
            "activations": ["HardSigmoid", "ScaledTanh", "Sigmoid", "Elu"],
            "activation_alpha": [0.25, 1.5, 0.75],
            "activation_beta": [0.4, 0.5],
        },
        "lengths": None,
    },
    "reverse": {"attributes": {"direction": "reverse"}, "lengths": [5, 1, 4]},
    # Alpha is given where ONNX Runtime's default is not that of ONNX' operator of the name.
    **{
        name: {"attributes": {"activations": [f, g]} | settings, "lengths": None}
        for name, f, g, settings in (
            (
                "affine and leaky relu",
                "Affine",
                "LeakyRelu",
                {"activation_alpha": [0.3, 0.2], "activation_beta": [0.5]},
            ),
            (
                "softsign and thresholded relu",
                "Softsign",
                "ThresholdedRelu",
                {"activation_alpha": [0.3]},
            ),
            ("relu and softplus", "Relu", "Softplus", {}),
        )
    },
}


def onnx_arguments(attributes, lengths):
    """Give X, W, R, B, sequence_lens, initial_h as the operator takes them."""
    D = 2 if attributes.get("direction") == "bidirectional" else 1
    shapes = [(T, B, I), (D, 3 * H, I), (D, 3 * H, H), (D, 6 * H), (D, B, H)]
    X, W, R, b, h0 = draw(7, *shapes)
    return [X, W, R, b, None if lengths is None else np.array(lengths, np.int32), h0]


def onnx_results(attributes, lengths):
    """Give Y (T, D, B, H) and Y_h (D, B, H) of ONNX Runtime."""
    import onnxruntime
    from onnx import TensorProto, helper

    names = ["X", "W", "R", "B", "lengths", "h0"]
    arrays = onnx_arguments(attributes, lengths)
    feeds = {n: a for n, a in zip(names, arrays, strict=True) if a is not None}
    D = arrays[1].shape[0]
    node = helper.make_node(
        "GRU", [n if n in feeds else "" for n in names], ["Y", "Y_h"], hidden_size=H, **attributes
    )
    kinds = {"f": TensorProto.FLOAT, "i": TensorProto.INT32}
    graph = helper.make_graph(
        [node],
        "gru",
        [helper.make_tensor_value_info(n, kinds[a.dtype.kind], a.shape) for n, a in feeds.items()],
        [
            helper.make_tensor_value_info("Y", TensorProto.FLOAT, (T, D, B, H)),
            helper.make_tensor_value_info("Y_h", TensorProto.FLOAT, (D, B, H)),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)


def node_test_cases():
    """Give ONNX' test cases of the GRU operator alone: collecting all takes half a minute."""
    import importlib

    cases = importlib.import_module("onnx.backend.test.case.node")
    importlib.import_module("onnx.backend.test.case.node.gru")  # which adds its cases to the list
    return [case for case in cases._NodeTestCases if case.name.startswith("test_gru")]


def node_tests():
    """Give ONNX' own tests of the GRU operator: attributes, inputs, outputs."""
    from gru_np.interop import onnx_ops

    found = {}
    for case in node_test_cases():
        [node] = case.model.graph.node
        attributes = onnx_ops.attributes_of(node, onnx_ops.opset(case.model))
        [(given, expected)] = case.data_sets
        given = iter(given)
        inputs = [next(given) if name else None for name in node.input]
        outputs = dict(zip([n for n in node.output if n], expected, strict=True))
        found[case.name] = {
            "attributes": attributes,
            "inputs": [None if a is None else [a.dtype.str, a.tolist()] for a in inputs],
            "outputs": [outputs[n].tolist() if n else None for n in [*node.output, ""][:2]],
        }
    return found


def main():
    import keras
    import onnx
    import onnxruntime
    import torch

    content = {
        "versions": {
            "python": sys.version.split()[0], "numpy": np.__version__,
            "torch": torch.__version__, "keras": keras.__version__,
            "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__,
        },
        "torch": {name: torch_results(**case).tolist() for name, case in TORCH.items()},
        "keras": {name: keras_results(**case).tolist() for name, case in KERAS.items()},
        "onnx": {
            name: [a.tolist() for a in onnx_results(**case)] for name, case in ONNX.items()
        },
        "onnx node tests": node_tests(),
    }  # fmt: skip
    PATH.write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
