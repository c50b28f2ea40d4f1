"""To and from ONNX: whole models as graphs that ONNX Runtime runs at any batch size and length.

Embedding becomes Gather, Dense becomes MatMul, Add and its activation, and GRU the operator of the
same name with its weights in the order z, r, h (`layouts`). Notation: B batch, T time, H hidden.

A mask, which the GRU operator does not know, is written into the update gate: one more input
feature, 1 where a step does not count, with the weight 10,000 in the rows of z. There z =
σ(a + 10000) = 1 and h' = (1 - z) ⊙ n + z ⊙ h is h: the step copies the state, wherever it stands.
"""

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from gru_np._aliases import Array, Shape
from gru_np._checks import spell
from gru_np._replace import replace_file
from gru_np.interop import layouts, onnx_ops
from gru_np.interop.common import (
    MAX_LAYERS,
    NOT_ASKED,
    Conversion,
    ConversionError,
    answer,
    assemble,
    directions,
    of_direction,
    optional_package,
    parameters_of,
    random_batch,
    require_agreement,
    require_expressible,
    require_package,
)
from gru_np.layers import GRU, Bidirectional, Dense, Dropout, Embedding, Layer, LayerNormalization
from gru_np.model import Sequential

OPSET = 17  # the first with LayerNormalization
_IR_VERSION = 8
_COPY = 1e4  # added to the pre-activation of z where a step must copy the state
_MAX_FIXED = 2**22  # numbers of an input whose size the graph itself fixes
_MAX_ROOM = 2**30  # bytes that a graph may take while it is checked
_SHARED_ROOM = 2**26  # bytes of parameters beyond a few times what the file has
_LAST = np.iinfo(np.int64).min  # the end of a slice that runs down to the first element

# Ours, ONNX' name, its alpha and beta.
_ACTIVATIONS: dict[str, tuple[str, tuple[float, ...]]] = {
    "tanh": ("Tanh", ()),
    "sigmoid": ("Sigmoid", ()),
    "relu": ("Relu", ()),
    "linear": ("Affine", (1.0, 0.0)),
    "hard_sigmoid": ("HardSigmoid", (1 / 6, 0.5)),
}
_DENSE = {"softmax": "Softmax", "sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu"}


# ------------------------------------------------------------------------------------- to ONNX


def to_onnx(
    model: Sequential,
    path: Any = None,
    *,
    lengths: bool = False,
    states: bool = False,
    check: bool = True,
) -> Any:
    """Write a model as an ONNX graph with free batch and time axes.

    Parameters
    ----------
    model : Sequential
        Built.
    path : path, optional
        Where to write it; replaced whole or not at all.
    lengths : bool
        Give the graph a second input "lengths" (batch,), int32: the steps of each row that count.
    states : bool
        Give each GRU an input "<layer>_h0" (batch, units) and an output "<layer>_h" with the
        state at its end, for streaming; of a Bidirectional, (2, batch, units).
    check : bool
        Run the graph on random input before returning, by `onnx_run` and, if it is installed,
        by ONNX Runtime.

    Returns
    -------
    onnx.ModelProto
        Inputs "x": (batch, time) int64 if the first layer is an Embedding, else (batch, time,
        features); then those above. Outputs "y", then the states. Operator set 17.

    Raises
    ------
    ConversionError
        Where the operator cannot do what ours does: zoneout, layer normalisation inside, ...
    ImportError
        If onnx is not installed: pip install 'gru_np[onnx]'.

    Notes
    -----
    An Embedding with mask_zero keeps its meaning, at any position. With `lengths`, outputs past a
    length are zero before the layers that follow; here they are the last state. Attributes, such as
    an epsilon, are float32 in ONNX whatever the model is.

    Examples
    --------
    >>> import onnx
    >>> from gru_np import GRU, Sequential, interop
    >>> model = Sequential([GRU(4)], seed=0)
    >>> model.build((None, None, 3))
    >>> graph = interop.to_onnx(model)
    >>> [node.op_type for node in graph.graph.node]
    ['Transpose', 'GRU', 'Squeeze', 'Identity']
    """
    if not model.built:
        raise ValueError("to_onnx: the model must be built first; fit it, load it or call build")
    require_package("onnx", "onnx", "to_onnx")
    proto = _Writer(model, lengths, states).write()
    if check:
        _check_graph(proto, model, lengths, states)
    if path is not None:
        replace_file(os.fsdecode(path), [memoryview(proto.SerializeToString())])
    return proto


class _Writer:
    """The graph of one model while it grows, node by node."""

    def __init__(self, model: Sequential, lengths: bool, states: bool):
        import onnx

        self.onnx = onnx
        self.model, self.lengths, self.states = model, lengths, states
        self.nodes: list[Any] = []
        self.constants: dict[str, Array] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.padding: str | None = None  # (B, T, 1), 1 where a step does not count

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(
            self.onnx.helper.make_node(kind, inputs, [output], name=output, **attributes)
        )
        return output

    def constant(self, name: str, array: Any) -> str:
        self.constants[name] = np.asarray(array, order="C")
        return name

    def value(self, name: str, dtype: Any, shape: list[Any]) -> Any:
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.onnx.helper.make_tensor_value_info(name, kind, shape)

    def write(self) -> Any:
        model, helper = self.model, self.onnx.helper
        assert model.input_shape is not None
        shape: Shape = model.input_shape
        tokens = isinstance(model.layers[0], Embedding)
        time = ["time"] if tokens or len(shape) == 3 else []
        axes = ["batch", *time, *([] if tokens else shape[-1:])]
        self.inputs.append(self.value("x", np.int64 if tokens else model.dtype, axes))
        if self.lengths:
            self.inputs.append(self.value("lengths", np.int32, ["batch"]))
        name = "x"
        for layer in model.layers:
            name = self.layer(layer, name, shape)
            shape = layer.output_shape(shape)
        self.node("Identity", [name], "y")
        # The axis that is not a feature and not the batch is time.
        ends = ["batch", *(["time"] if len(shape) == 3 else []), shape[-1]]
        self.outputs.insert(0, self.value("y", model.dtype, ends))
        graph = helper.make_graph(
            self.nodes,
            model.name,
            self.inputs,
            self.outputs,
            [self.onnx.numpy_helper.from_array(a, n) for n, a in self.constants.items()],
        )
        from gru_np import __version__

        proto = helper.make_model(
            graph,
            producer_name="gru_np",
            producer_version=__version__,
            ir_version=_IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        self.onnx.checker.check_model(proto, full_check=True)
        return proto

    def layer(self, layer: Layer, x: str, shape: Shape) -> str:
        """Write one layer; give the name of its output."""
        name, p, dtype = layer.name, parameters_of(layer), self.model.dtype
        if isinstance(layer, Dropout):
            return x
        if isinstance(layer, Embedding):
            if layer.mask_zero:
                equal = self.node(
                    "Equal", [x, self.constant(f"{name}/zero", np.int64(0))], f"{name}/is_padding"
                )
                kind = self.onnx.helper.np_dtype_to_tensor_dtype(dtype)
                cast = self.node("Cast", [equal], f"{name}/padding", to=kind)
                axis = self.constant(f"{name}/last_axis", np.array([-1]))
                self.padding = self.node("Unsqueeze", [cast, axis], f"{name}/padding_feature")
            return self.node("Gather", [self.constant(f"{name}/W", p["W"]), x], f"{name}/y")
        if isinstance(layer, Dense):
            y = self.node("MatMul", [x, self.constant(f"{name}/W", p["W"].T)], f"{name}/product")
            if "b" in p:
                y = self.node("Add", [y, self.constant(f"{name}/b", p["b"])], f"{name}/a")
            if layer.activation in (None, "linear"):
                return y
            axis_of = {"axis": -1} if layer.activation == "softmax" else {}
            return self.node(_DENSE[layer.activation], [y], f"{name}/y", **axis_of)
        if isinstance(layer, LayerNormalization):
            gamma = p["gamma"] if layer.scale else np.ones(shape[-1] or 1, dtype)
            names = [x, self.constant(f"{name}/gamma", gamma)]
            if layer.center:
                names.append(self.constant(f"{name}/beta", p["beta"]))
            return self.node(
                "LayerNormalization", names, f"{name}/y", axis=-1, epsilon=layer.epsilon
            )
        if isinstance(layer, GRU | Bidirectional):
            return self.gru(layer, x)
        raise ConversionError(f"to_onnx: no operator is known for {name} ({type(layer).__name__})")

    def gru(self, layer: GRU | Bidirectional, x: str) -> str:
        """Write a GRU of one or two directions, with what turns its axes."""
        name, grus = layer.name, directions(layer)
        D, first = len(grus), grus[0][1]
        self.require_gru(layer)
        if self.padding is not None:
            x = self.node("Concat", [x, self.padding], f"{name}/x_and_padding", axis=2)
        time_first = self.node("Transpose", [x], f"{name}/time_first", perm=[1, 0, 2])
        W, R, B = self.weights(layer)
        inputs = [
            time_first,
            self.constant(f"{name}/W", W),
            self.constant(f"{name}/R", R),
            "" if B is None else self.constant(f"{name}/B", B),
            "lengths" if self.lengths else "",
            self.initial(layer),
        ]
        while not inputs[-1]:
            inputs.pop()
        functions = [
            _ACTIVATIONS[a] for _, g in grus for a in (g.recurrent_activation, g.activation)
        ]
        given = [settings for _, settings in functions if settings]
        Y, Y_h = f"{name}/Y", f"{name}/Y_h"
        attributes: dict[str, Any] = {
            "direction": "bidirectional"
            if D == 2
            else "reverse"
            if first.go_backwards
            else "forward",
            "hidden_size": first.units,
            "linear_before_reset": int(first.reset_after),
            "activations": [function for function, _ in functions],
        }
        if given:
            attributes["activation_alpha"] = [alpha for alpha, _ in given]
            attributes["activation_beta"] = [beta for _, beta in given]
        self.nodes.append(
            self.onnx.helper.make_node("GRU", inputs, [Y, Y_h], name=name, **attributes)
        )
        if self.states:
            self.write_state(layer, Y_h)
        if D == 2:
            return self.merge(layer, Y, Y_h)  # type: ignore[arg-type]
        axis = self.constant(f"{name}/axis", np.array([1 if first.return_sequences else 0]))
        if not first.return_sequences:
            self.padding = None
            return self.node("Squeeze", [Y_h, axis], f"{name}/y")
        y = self.node("Squeeze", [Y, axis], f"{name}/y_time_first")
        y = self.node("Transpose", [y], f"{name}/y", perm=[1, 0, 2])
        if first.go_backwards:  # ours comes in the order of reading
            y = self.flip(y, f"{name}/y_as_read")
            if self.padding is not None:
                self.padding = self.flip(self.padding, f"{name}/padding_as_read")
        return y

    def flip(self, x: str, output: str) -> str:
        """Turn the time axis of (B, T, ...) round."""
        ends = {"start": -1, "end": _LAST, "time": 1, "step": -1}
        names = [self.constant(f"{output}/{k}", np.array([v])) for k, v in ends.items()]
        return self.node("Slice", [x, *names], output)

    def merge(self, layer: Bidirectional, Y: str, Y_h: str) -> str:
        """Bring the two directions together: Y (T, 2, B, H) to (B, T, ...), Y_h to (B, ...)."""
        name = layer.name
        sequences = layer.layer.return_sequences
        if sequences:
            both = self.node("Transpose", [Y], f"{name}/both", perm=[2, 0, 1, 3])  # (B, T, 2, H)
        else:
            self.padding = None
            both = self.node("Transpose", [Y_h], f"{name}/both", perm=[1, 0, 2])  # (B, 2, H)
        if layer.merge_mode == "concat":
            shape = [0, 0, 2 * layer.layer.units] if sequences else [0, 2 * layer.layer.units]
            to = self.constant(f"{name}/shape", np.array(shape))
            return self.node("Reshape", [both, to], f"{name}/y")
        if layer.merge_mode == "sum":  # the one whose axes are an input in operator set 17
            axes = self.constant(f"{name}/axes", np.array([-2]))
            return self.node("ReduceSum", [both, axes], f"{name}/y", keepdims=0)
        kind = {"ave": "ReduceMean", "mul": "ReduceProd"}[str(layer.merge_mode)]
        return self.node(kind, [both], f"{name}/y", axes=[-2], keepdims=0)

    def weights(self, layer: Layer) -> tuple[Array, Array, Array | None]:
        """Give W (D, 3H, I), R (D, 3H, H), B (D, 6H), with the padding's column in W if any."""
        Ws, Rs, Bs = [], [], []
        for prefix, gru in directions(layer):
            W, R, B = layouts.to_onnx_arrays(of_direction(layer, prefix))
            if self.padding is not None:
                column = np.zeros((len(W), 1), W.dtype)
                column[: gru.units] = _COPY  # rows z, r, h
                W = np.concatenate([W, column], axis=1)
            Ws.append(W)
            Rs.append(R)
            Bs.append(np.zeros(6 * gru.units, W.dtype) if B is None else B)
        biased = any(gru.use_bias for _, gru in directions(layer))
        return np.stack(Ws), np.stack(Rs), np.stack(Bs) if biased else None

    def initial(self, layer: Layer) -> str:
        """Give the name of initial_h (D, B, H), "" for zeros."""
        name, grus = layer.name, directions(layer)
        if not self.states:
            return ""
        units = grus[0][1].units
        shape = ["batch", units] if len(grus) == 1 else [2, "batch", units]
        self.inputs.append(self.value(f"{name}_h0", self.model.dtype, shape))
        if len(grus) == 2:
            return f"{name}_h0"
        axis = self.constant(f"{name}/direction", np.array([0]))
        return self.node("Unsqueeze", [f"{name}_h0", axis], f"{name}/initial_h")

    def write_state(self, layer: Layer, Y_h: str) -> None:
        """Make the state at the end an output of the graph."""
        name, grus = layer.name, directions(layer)
        units = grus[0][1].units
        if len(grus) == 2:
            self.node("Identity", [Y_h], f"{name}_h")
            self.outputs.append(self.value(f"{name}_h", self.model.dtype, [2, "batch", units]))
            return
        self.node("Squeeze", [Y_h, f"{name}/direction"], f"{name}_h")
        self.outputs.append(self.value(f"{name}_h", self.model.dtype, ["batch", units]))

    def require_gru(self, layer: GRU | Bidirectional) -> None:
        """Refuse what the operator cannot do."""
        name, grus = layer.name, [gru for _, gru in directions(layer)]
        for gru in grus:
            allowed = ("learn_initial_state",) if self.states else ()
            require_expressible("to_onnx", "ONNX", gru, name, allowed)
            if gru.return_state:
                raise ConversionError(
                    f"to_onnx: {name} has return_state=True, which gives two outputs; use "
                    "states=True for a graph with the states as outputs"
                )
            if gru.stateful and not self.states:
                raise ConversionError(
                    f"to_onnx: {name} has stateful=True, and a graph keeps nothing between runs; "
                    "use states=True and hand the state on"
                )
            if self.padding is not None and gru.recurrent_activation in ("relu", "linear"):
                raise ConversionError(
                    f"to_onnx: {name} has recurrent_activation={gru.recurrent_activation!r}, which "
                    "never stays at 1, so the mask of the Embedding (mask_zero) would be lost"
                )
        if grus[0].reset_after != grus[-1].reset_after:
            raise ConversionError(f"to_onnx: both directions of {name} must have one reset_after")
        if isinstance(layer, Bidirectional) and layer.merge_mode is None:
            raise ConversionError(f"to_onnx: {name} has merge_mode=None, which gives two outputs")
        turned = isinstance(layer, GRU) and layer.go_backwards and layer.return_sequences
        if turned and self.lengths:
            raise ConversionError(
                f"to_onnx: {name} has go_backwards=True and return_sequences=True; with lengths, "
                "every row of its output would begin at another step"
            )


def _check_graph(proto: Any, model: Sequential, lengths: bool, states: bool) -> None:
    """Run the graph here, and in ONNX Runtime if it is installed, against the model itself."""
    x = random_batch(model)
    B, T = x.shape[:2]
    rng = np.random.default_rng(1)
    feeds: dict[str, Array] = {"x": x.astype(np.int64) if x.dtype.kind in "iu" else x}
    if lengths:
        feeds["lengths"] = np.full(B, T, np.int32)
    initial: list[Any] = [None] * len(model.layers)
    for i, layer in enumerate(model.layers):
        if states and isinstance(layer, GRU | Bidirectional):
            grus = directions(layer)
            shape = (B, grus[0][1].units) if len(grus) == 1 else (2, B, grus[0][1].units)
            h0 = rng.standard_normal(shape).astype(model.dtype)
            feeds[f"{layer.name}_h0"] = h0
            initial[i] = h0 if len(grus) == 1 else tuple(h0)
    ours = answer(model, x, states=initial).y
    theirs = onnx_ops.onnx_run(proto, feeds)["y"]
    # Attributes, such as an epsilon or HardSigmoid's 1/6, are float32 whatever the model is.
    tolerance = 1e-7 if model.dtype == np.float64 else None
    require_agreement("to_onnx", "onnx_run", ours, theirs, tolerance)
    runtime = optional_package("onnxruntime")
    if runtime is not None and model.dtype == np.float32:
        session = runtime.InferenceSession(
            proto.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        require_agreement("to_onnx", "ONNX Runtime", ours, session.run(["y"], feeds)[0])


# ----------------------------------------------------------------------------------- from ONNX


def from_onnx(model: Any, *, check: bool = True) -> Sequential:
    """Make a model from an ONNX graph that is a row of layers around GRU operators.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto
        As `to_onnx`, PyTorch's or Keras' exporters write them. The first output counts. Inputs
        that only feed sequence_lens or initial_h are what our layers take as `mask` and
        `initial_state` when they are called.
    check : bool
        Run both on random input before returning. Without it, axes that are turned in unusual
        ways go unnoticed.

    Returns
    -------
    Sequential
        In float32 if the graph is in half precision. Its `conversion` says what was checked.

    Raises
    ------
    ConversionError
        Naming the operator, the attribute or the term that would be lost: clip, an activation, an
        initial state or lengths that are constants, ... Or the file has its numbers in another,
        as torch.onnx.export writes it by default: external_data=False puts them inside.
    ImportError
        If onnx is not installed: pip install 'gru_np[onnx]'.

    Examples
    --------
    >>> import onnx
    >>> from gru_np import GRU, Sequential, interop
    >>> model = Sequential([GRU(4)], seed=0)
    >>> model.build((None, None, 3))
    >>> interop.from_onnx(interop.to_onnx(model)).layers
    [GRU(units=4)]
    """
    proto = _widened(onnx_ops.load("from_onnx", model))
    try:
        reader = _Reader(proto)
        rows = reader.read()
        taken = sum(array.nbytes for _, params in rows for array in params.values())
        if taken > 4 * proto.ByteSize() + _SHARED_ROOM:
            raise ConversionError(
                f"from_onnx: the graph of {proto.ByteSize():,} bytes uses its weights again and "
                f"again, and its layers would have {taken:,} bytes of them"
            )
        made = assemble("from_onnx", rows, reader.rank())
        checked = reader.check(made) if check else NOT_ASKED
        made.conversion = Conversion(checked.checked, checked.unchecked, reader.assumed())
    except ConversionError:
        raise
    except (
        ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError,
    ) as error:  # fmt: skip
        raise ConversionError(f"from_onnx: the graph cannot be followed: {error}") from error
    return made


def _widened(proto: Any) -> Any:
    """Give a graph in half precision as one in float32, exactly; any other as it is."""
    import onnx

    half, whole = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16), onnx.TensorProto.FLOAT
    values = [value.type.tensor_type.elem_type for value in proto.graph.input]
    if not any(kind in half for kind in [*values, *(t.data_type for t in proto.graph.initializer)]):
        return proto
    wide = onnx.ModelProto()
    wide.CopyFrom(proto)
    graph = wide.graph
    tensors = [*graph.initializer]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                tensors.append(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i in half:
                attribute.i = whole
    for tensor in tensors:
        if tensor.data_type in half:
            array = onnx_ops.array_of(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    for value in [*graph.input, *graph.output, *graph.value_info]:
        if value.type.tensor_type.elem_type in half:
            value.type.tensor_type.elem_type = whole
    return wide


class _Reader:
    """Walks from the first output back to the input and makes layers of what it meets."""

    def __init__(self, proto: Any):
        self.proto, self.version = proto, onnx_ops.opset(proto)
        self.constants = onnx_ops.Values(onnx_ops.initializers_of(proto), onnx_ops.room(proto, {}))
        self.graph_inputs = [v for v in proto.graph.input if v.name not in self.constants]
        self.source: dict[str, Any] = {}
        # What depends on the sizes of the input alone, or on nothing: no data passes through it.
        self.sizes: set[str] = set()
        for node in proto.graph.node:
            self.source.update({name: node for name in node.output if name})
            names = [name for name in node.input if name]
            if all(name in self.constants for name in names):
                self.constants.run(node, self.version)
            elif node.op_type == "Shape" or all(self.is_still(name) for name in names):
                self.sizes.update(node.output)
        self.rows: list[tuple[Layer, dict[str, Array]]] = []
        # What is known from nodes behind, for a node to come.
        self.activation: str | None = None
        self.bias: Array | None = None
        self.merge = "concat"
        self.flipped = self.last_step = self.masked = False
        self.seen: dict[str, bool] = {}  # whether a value is a mask

    def is_still(self, name: str) -> bool:
        return name in self.constants or name in self.sizes

    def refuse(self, node: Any, reason: str) -> ConversionError:
        return ConversionError(f"from_onnx: {onnx_ops.label(node)} {reason}")

    def read(self) -> list[tuple[Layer, dict[str, Array]]]:
        """Give the layers from input to output."""
        name = self.proto.graph.output[0].name
        inputs = {value.name for value in self.graph_inputs}
        while name not in inputs:
            node = self.source.get(name)
            if node is None:
                raise ConversionError(f"from_onnx: nothing in the graph computes {name!r}")
            attributes = onnx_ops.attributes_of(node, self.version)
            name = self.step(node, attributes, name)
        self.input = name
        if self.activation or self.bias is not None:
            raise ConversionError("from_onnx: an activation or a bias stands alone at the input")
        if not self.rows:
            raise ConversionError("from_onnx: expected a GRU in the graph, found none")
        if self.masked:
            raise ConversionError("from_onnx: a mask that no Embedding makes would be lost")
        return self.rows[::-1]

    def step(self, node: Any, attributes: Mapping[str, Any], output: str) -> str:
        """Take one node; give the name of the value it was fed."""
        kind, data = node.op_type, [n for n in node.input if n and not self.is_still(n)]
        constants = [self.constants[n] for n in node.input if n in self.constants]
        if kind == "GRU":
            return self.gru(node, attributes, output)
        if len(self.rows) > MAX_LAYERS:
            raise self.refuse(node, f"comes after {MAX_LAYERS} layers, and no model has more")
        if kind == "Concat" and len(data) == 2 and self.is_padding(data[1]):
            return data[0]  # the weights say the rest: `gru` has looked
        if len(data) != 1:
            raise self.refuse(node, "joins several values; gru_np models are layers in a row")
        if kind in {v: k for k, v in _DENSE.items()}:
            if self.activation or self.bias is not None:
                raise self.refuse(node, "is followed by what is not a layer")
            self.activation = {v: k for k, v in _DENSE.items()}[kind]
        elif kind == "Add" and constants and constants[0].ndim == 1 and self.bias is None:
            self.bias = constants[0]
        elif kind == "MatMul" and node.input[0] == data[0] and constants[0].ndim == 2:
            self.dense(constants[0].T)
        elif kind == "Gemm" and node.input[0] == data[0]:
            scaled = (attributes.get("alpha", 1.0), attributes.get("beta", 1.0)) != (1.0, 1.0)
            if scaled or attributes.get("transA", 0) or (self.bias is not None):
                raise self.refuse(node, "is scaled or transposed, which no layer is")
            self.bias = constants[1] if len(constants) > 1 else None
            W = constants[0]
            self.dense(W if attributes.get("transB", 0) else W.T)
        elif kind == "LayerNormalization":
            self.norm(node, attributes, constants)
        elif kind == "Gather" and node.input[1] == data[0] and constants[0].ndim == 2:
            V, E = constants[0].shape
            self.add(Embedding(V, E, mask_zero=self.masked), {"W": constants[0]})
            self.masked = False
        elif kind in ("ReduceSum", "ReduceMean", "ReduceProd"):
            self.merge = {"ReduceSum": "sum", "ReduceMean": "ave", "ReduceProd": "mul"}[kind]
        elif kind in ("Gather", "Slice"):
            self.select(node, kind, constants)
        elif kind not in ("Transpose", "Squeeze", "Unsqueeze", "Reshape", "Identity", "Dropout",
                          "Cast", "Expand"):  # fmt: skip
            raise self.refuse(node, "is not part of a layer that gru_np has")
        return data[0]

    def select(self, node: Any, kind: str, constants: list[Array]) -> None:
        """Take a Gather or Slice of a sequence: its last step, all of it, or it turned round."""
        if kind == "Gather":
            self.last_step = constants[0].size == 1 and int(constants[0].reshape(-1)[0]) == -1
        else:
            start, step = int(constants[0].reshape(-1)[0]), 1
            if len(constants) > 3:
                step = int(constants[3].reshape(-1)[0])
            self.flipped, self.last_step = step == -1, step == 1 and start == -1
        if not (self.flipped or self.last_step):
            raise self.refuse(node, "takes a part of a sequence that is not its last step")

    def add(self, layer: Layer, params: dict[str, Array]) -> None:
        if self.activation or self.bias is not None:
            raise ConversionError(
                f"from_onnx: an activation or a bias follows {type(layer).__name__}, which gru_np "
                "has after a Dense only"
            )
        self.rows.append((layer, params))

    def dense(self, W: Array) -> None:
        params = {"W": W} if self.bias is None else {"W": W, "b": self.bias}
        layer = Dense(len(W), self.activation, self.bias is not None)
        self.activation = self.bias = None
        self.add(layer, params)

    def norm(self, node: Any, attributes: Mapping[str, Any], constants: list[Array]) -> None:
        if attributes.get("axis", -1) not in (-1, 2):
            raise self.refuse(node, "is not over the last axis")
        params = dict(zip(("gamma", "beta"), constants, strict=False))
        # The operator's epsilon is a float32: 1e-3 comes as 0.0010000000474974513.
        epsilon = float(str(np.float32(attributes.get("epsilon", 1e-5))))
        self.add(LayerNormalization(epsilon, len(constants) > 1), params)

    def is_padding(self, name: str) -> bool:
        """Say whether a value is 1 where the token is 0, as `to_onnx` writes a mask."""
        if name not in self.seen:
            self.seen[name] = self.looks_like_padding(name)
        return self.seen[name]

    def looks_like_padding(self, name: str) -> bool:
        for kind in ("Unsqueeze", "Cast"):
            while name in self.source and self.source[name].op_type == "Slice":
                name = self.source[name].input[0]
            if name not in self.source or self.source[name].op_type != kind:
                return False
            name = self.source[name].input[0]
        node = self.source.get(name)
        other = [self.constants[n] for n in node.input if n in self.constants] if node else []
        return node is not None and node.op_type == "Equal" and [o.tolist() for o in other] == [0]

    def gru(self, node: Any, attributes: Mapping[str, Any], output: str) -> str:
        """Take a GRU node: its weights, its form, and refuse what our layer does not have."""
        names = [*node.input, "", "", ""][:6]
        if attributes.get("clip"):
            raise self.refuse(
                node, f"has clip={attributes['clip']}; gru_np's layers do not clip what enters a "
                "gate (onnx_run does)",
            )  # fmt: skip
        lengths, initial = (self.constants.get(name) for name in names[4:6])
        if lengths is not None or names[4] in self.sizes:
            raise self.refuse(
                node, "has sequence_lens built in, which a layer takes with each call"
            )
        if initial is not None and np.any(initial):
            raise self.refuse(node, "has a constant initial_h, the state h0, which would be lost")
        W, R, B = (self.constants.get(name) for name in names[1:4])
        if W is None or R is None or (names[3] and B is None):
            raise self.refuse(node, "has weights that are not constants of the graph")
        D = len(W)
        masked = self.source_kind(names[0]) == "Concat"
        if masked:
            W = self.without_copy(node, W)
        reset_after = bool(attributes.get("linear_before_reset", 0))
        sequences = output == node.output[0] and not self.last_step
        grus, params = [], []
        functions = onnx_ops.activations(attributes, D)
        backwards = attributes.get("direction", "forward") == "reverse"
        if backwards and sequences and not self.flipped:
            raise self.refuse(
                node, "reads backwards and gives the whole sequence in the order of the input; "
                "gru_np's GRU gives it in the order of reading",
            )  # fmt: skip
        for d in range(D):
            sigma, phi = (self.activation_name(node, *f) for f in functions[2 * d : 2 * d + 2])
            own = layouts.from_onnx_arrays(W[d], R[d], None if B is None else B[d])
            params.append(own)
            grus.append(
                GRU(
                    R.shape[2], phi, sigma, B is not None, reset_after=reset_after,
                    return_sequences=sequences, go_backwards=backwards or d == 1,
                )
            )  # fmt: skip
        if D == 1:
            self.add(grus[0], params[0])
        else:
            if self.last_step:
                raise self.refuse(
                    node,
                    "gives the last step of both directions; gru_np's Bidirectional gives each "
                    "direction's own last state",
                )
            ways = zip(("forward", "backward"), params, strict=True)
            both = {f"{way}/{k}": a for way, own in ways for k, a in own.items()}
            self.add(Bidirectional(grus[0], self.merge, grus[1]), both)
        self.check_gru(node, attributes, self.rows[-1], W, R, B)
        self.merge, self.flipped, self.last_step = "concat", False, False
        self.masked = self.masked or masked
        return str(names[0])

    def source_kind(self, name: str) -> str:
        while name in self.source and self.source[name].op_type in ("Transpose", "Identity"):
            name = self.source[name].input[0]
        return self.source[name].op_type if name in self.source else ""

    def without_copy(self, node: Any, W: Array) -> Array:
        """Take off the column that `to_onnx` adds for a mask, if it is that."""
        H, column = W.shape[1] // 3, W[:, :, -1]
        if not ((column[:, :H] == _COPY).all() and not column[:, H:].any()):
            raise self.refuse(node, "is fed two values put side by side")
        return W[:, :, :-1]

    def activation_name(self, node: Any, name: str, settings: dict[str, float]) -> str:
        for ours, (theirs, values) in _ACTIVATIONS.items():
            same = name == theirs.lower()
            if same and np.allclose(list(settings.values()), values, rtol=1e-6, atol=0):
                return ours
        spelled = ", ".join(f"{k}={v:g}" for k, v in settings.items())
        raise self.refuse(
            node, f"has the activation {name}({spelled}); gru_np's layers have "
            f"{', '.join(_ACTIVATIONS)} (onnx_run knows all of ONNX')",
        )  # fmt: skip

    def check_gru(
        self, node: Any, attributes: Mapping[str, Any], row: Any, W: Array, R: Array, B: Any
    ) -> None:
        """Compare the operator with the layer, from a random state."""
        rng = np.random.default_rng(20140603)
        layer, params = row
        D, H, T, rows = len(W), R.shape[2], 5, 3
        x = rng.standard_normal((T, rows, W.shape[2])).astype(W.dtype)
        h0 = rng.standard_normal((D, rows, H)).astype(W.dtype)
        plain = {k: v for k, v in attributes.items() if k != "layout"}
        theirs, _ = onnx_ops.gru(plain, [x, W, R, B, None, h0])
        settings = {"return_sequences": True}
        if D == 1:
            copy: Any = GRU(**layer.get_config() | settings)
        else:
            halves = [GRU(**g.get_config() | settings) for _, g in directions(layer)]
            copy = Bidirectional(halves[0], "concat", halves[1])
        copy.params, copy.built = params, True
        ours = copy.forward(x.swapaxes(0, 1), initial_state=h0[0] if D == 1 else tuple(h0))[0]
        if D == 1 and layer.go_backwards:
            ours = ours[:, ::-1]
        theirs = theirs.transpose(2, 0, 1, 3).reshape(rows, T, D * H)
        require_agreement("from_onnx", node.name or "GRU", ours, theirs)

    def check(self, model: Sequential) -> Conversion:
        """Run the whole graph and the model on random input, batch first or time first."""
        value = next(v for v in self.graph_inputs if v.name == self.input)
        fixed = [d.dim_value for d in value.type.tensor_type.shape.dim]
        for other in self.graph_inputs:
            sizes = [d.dim_value or 1 for d in other.type.tensor_type.shape.dim]
            if math.prod(sizes) > _MAX_FIXED:
                raise ConversionError(
                    f"from_onnx: the input {other.name!r} is fixed to {spell(tuple(sizes))}, too "
                    f"many numbers to run the graph with; pass check=False to do without"
                )
        error: ConversionError | None = None
        for time_first in (False, True):
            sizes = [*fixed, 0, 0][:2]
            B, T = sizes[::-1] if time_first else sizes
            x = random_batch(model, B or 3, T or 5)
            feeds = {self.input: self.cast(value, x.swapaxes(0, 1) if time_first else x)}
            for other in self.graph_inputs:
                if other.name != self.input:
                    feeds[other.name] = self.neutral(other, len(x), x.shape[1])
            ours = answer(model, x).y
            tolerance = 1e-7 if x.itemsize == 8 and ours.dtype == np.float64 else None
            try:
                arrays = onnx_ops.initializers_of(self.proto) | feeds
                room = min(_MAX_ROOM, onnx_ops.room(self.proto, feeds))
                theirs = next(iter(onnx_ops.run(self.proto, arrays, room).values()))
            except (ConversionError, ValueError, IndexError) as one:
                error = error or ConversionError(f"from_onnx: the check failed: {one}")
                continue
            for found in _readings(ours, theirs):
                try:
                    require_agreement("from_onnx", "the graph", ours, found, tolerance)
                except ConversionError as one:
                    error = error or ConversionError(f"from_onnx: the check failed: {one}")
                    continue
                way = "time first" if time_first else "batch first"
                how = f"the whole graph, by onnx_run, on {spell(x.shape)} random input, {way}"
                return Conversion((how,))
        assert error is not None
        raise error

    def rank(self) -> int:
        """Give the number of axes of what enters, 3 if the graph does not say."""
        value = next(v for v in self.graph_inputs if v.name == self.input)
        tensor = value.type.tensor_type
        return len(tensor.shape.dim) if tensor.HasField("shape") else 3

    def assumed(self) -> tuple[str, ...]:
        """Say which outputs and inputs of the graph the layers do not have."""
        first, *others = [value.name for value in self.proto.graph.output]
        notes = [f"the output {first} counts, {', '.join(others)} not"] if others else []
        beside = [v.name for v in self.graph_inputs if v.name != self.input]
        if beside:
            notes.append(f"{', '.join(beside)}: zero states and full lengths, unless a call says")
        return tuple(notes)

    def cast(self, value: Any, x: Array) -> Array:
        import onnx

        kind = value.type.tensor_type.elem_type
        return x.astype(onnx.helper.tensor_dtype_to_np_dtype(kind))

    def neutral(self, value: Any, B: int, T: int) -> Array:
        """Give full lengths or a zero state for an input that is not the data."""
        dims = value.type.tensor_type.shape.dim
        if len(dims) == 1:
            return self.cast(value, np.full(B, T))
        shape = [d.dim_value or B for d in dims]
        return self.cast(value, np.zeros(shape, np.float32))


def _readings(ours: Array, theirs: Array) -> Iterator[Array]:
    """Give what a graph answers in the shape of ours, in each order its axes may have.

    The GRU operator's own Y is (T, D, B, H) or, with layout 1, (B, T, D, H); its Y_h (D, B, H) or
    (B, D, H); any graph's output may have time first.
    """
    if theirs.size != ours.size:
        yield theirs
        return
    orders: dict[int, list[tuple[int, ...]]] = {
        4: [(2, 0, 1, 3), (0, 1, 2, 3)],
        3: [(0, 1, 2), (1, 0, 2)],
    }
    for order in orders.get(theirs.ndim, [tuple(range(theirs.ndim))]):
        yield theirs.transpose(order).reshape(ours.shape)
