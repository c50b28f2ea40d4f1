"""To and from PyTorch: modules and state dicts. Reading a state dict needs no torch.

Notation: B batch, T time, I input, H hidden, V vocabulary, E embedding, F features, U units.

    nn.GRU        weight_ih_l{k}[_reverse] (3H, I), weight_hh_l{k} (3H, H), bias_ih_l{k},
                  bias_hh_l{k} (3H,): ours, layer by layer; rows r, z, n
    nn.GRUCell    weight_ih, weight_hh, bias_ih, bias_hh: likewise
    nn.Embedding  weight (V, E)          nn.Linear     weight (U, F), bias (U,)
    nn.LayerNorm  weight (F,), bias (F,)

A stack of k layers becomes k layers named gru, gru_l1, gru_l2, ..., and `to_torch` puts layers so
named together again.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gru_np._aliases import Array
from gru_np._checks import require_choice
from gru_np.interop.common import (
    NOT_ASKED,
    Conversion,
    ConversionError,
    assemble,
    directions,
    of_direction,
    optional_package,
    parameters_of,
    require_expressible,
    set_dense_activation,
)
from gru_np.interop.layouts import NAMES
from gru_np.interop.pytorch_checks import check_module, check_part, check_parts
from gru_np.interop.pytorch_parts import (
    ACTIVATIONS,
    TORCH_NAMES,
    Part,
    in_order,
    parts_of_module,
    parts_of_state,
    read_state,
    unwrapped,
)
from gru_np.layers import (
    GRU,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    GRUCell,
    Layer,
    LayerNormalization,
)
from gru_np.model import Sequential

_WHO = "from_torch"
_WRAPPERS = ("DataParallel", "DistributedDataParallel")


# --------------------------------------------------------------------------------- from torch


def from_torch(
    source: Any,
    *,
    return_sequences: bool | None = None,
    last: str | None = None,
    activations: Mapping[str, str] | None = None,
    kinds: Mapping[str, str] | None = None,
    order: list[str] | None = None,
    check: bool | str = True,
) -> Any:
    """Make a model from a PyTorch module, a state dict, or a `.safetensors` file with one.

    Parameters
    ----------
    source : torch.nn.Module, mapping of str to array or tensor, or path
        nn.GRU (any layers, directions, biases), nn.GRUCell, or a model of nn.Embedding, nn.GRU,
        nn.Linear, nn.LayerNorm, nn.Dropout and activations, applied one after another in the
        order of their definition. `batch_first` plays no part: weights do not depend on it.
    return_sequences : bool, optional
        Whether what follows the last GRU sees every time step, or the last one alone. A module
        says this itself when it is run; a state dict cannot, so that it must be said if anything
        follows. Where nothing does, every step is given, as nn.GRU does.
    last : {"step", "state"}, optional
        Which last one, where return_sequences is False: output[:, -1], or h_n, the state each
        direction ends with. They differ if the last GRU reads from both ends, and then ours gives
        "state".
    activations : dict of str to str, optional
        Activation after a Linear, by its name: {"decoder": "softmax"}. For a state dict, which
        does not hold them.
    kinds : dict of str to str, optional
        What a group of keys is, where its shapes leave it open: "Embedding", "Linear",
        "LayerNorm" (its epsilon is then PyTorch's default, 1e-5).
    order : list of str, optional
        Names of the groups of keys from input to output, where the shapes leave it open. A file
        keeps its tensors in alphabetical order.
    check : bool or "parts"
        Run both on random input before returning, if torch is installed: the module itself, and
        each GRU by itself. A forward that wants lengths or a state beside the batch gets full
        lengths and zeros; one that cannot be called so is refused, for what it does beside its
        modules would be lost unseen. "parts" compares the GRUs alone, False nothing.

    Returns
    -------
    Sequential, or GRUCell for a single nn.GRUCell
        In the precision of the weights; 16-bit floats become float32, exactly. Its `conversion`
        says what was checked and what was assumed.

    Raises
    ------
    ConversionError
        If it cannot be exact: LSTM, projections, weight normalisation, a forward that does more
        than apply its modules in a row, padding_idx, ...; the sentence names what would be lost.
        Or if a state dict can be read in two ways, and which option says in which.

    Notes
    -----
    Nothing is unpickled: a `.pt` file is refused.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import interop
    >>> rng = np.random.default_rng(0)
    >>> shapes = {"weight_ih_l0": (12, 3), "weight_hh_l0": (12, 4), "bias_ih_l0": (12,),
    ...           "bias_hh_l0": (12,)}
    >>> state_dict = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    >>> model = interop.from_torch(state_dict)
    >>> model.predict(np.ones((2, 5, 3))).shape
    (2, 5, 4)
    """
    if isinstance(check, str):
        require_choice(_WHO, "check", check, ["parts"])
    if last is not None:
        require_choice(_WHO, "last", last, ["step", "state"])
        if return_sequences:
            raise ValueError(f"{_WHO}: last={last!r} is for return_sequences=False")
        return_sequences = False
    module = source if callable(getattr(source, "state_dict", None)) else None
    assumed: list[str] = []
    if module is not None:
        while type(module).__name__ in _WRAPPERS:
            module = module.module
        told = {"activations": activations, "kinds": kinds, "order": order}
        if any(value is not None for value in told.values()):
            names = ", ".join(name for name, value in told.items() if value is not None)
            raise ValueError(f"{_WHO}: {names} is for a state dict; a module says that itself")
        parts = list(parts_of_module(module, ""))
        open_axes = [part.label for part in parts if part.settings.get("dim") == 1]
        if open_axes and check is not True:
            raise ConversionError(
                f"{_WHO}: {open_axes[0]} is a softmax over axis 1, and only a run of the module "
                "(check=True) shows whether that is the last"
            )
    else:
        ordered = isinstance(source, Mapping)
        state, assumed = (source, []) if ordered else read_state(source)
        parts = parts_of_state(unwrapped(state), dict(kinds or {}))
        parts = in_order(parts, order, trust=ordered)
    if not any(part.arrays for part in parts):
        raise ConversionError(f"{_WHO}: expected weights of a GRU, found none")
    given = dict(activations or {})
    if len(parts) == 1 and parts[0].kind == "GRUCell":
        cell = _cell(parts[0])
        cell.conversion = check_parts([(parts[0], [cell])]) if check else NOT_ASKED  # type: ignore[attr-defined]
        return cell
    sequences = True if return_sequences is None else return_sequences
    if module is None or check is not True:  # nothing will show it
        sequences = _decide(parts, return_sequences, last)
        assumed += _assumed(parts, sequences, given if module is None else None)
    model, made = _to_model(parts, sequences, given, from_state=module is None)
    if given:
        raise ConversionError(
            f"{_WHO}: activations names {', '.join(map(repr, given))}, but no linear layer there"
        )
    found = check_parts(made) if check else NOT_ASKED
    if module is not None and check is True and optional_package("torch") is not None:

        def candidates() -> Iterator[Sequential]:
            choices = (True, False) if return_sequences is None else (return_sequences,)
            return (_to_model(parts, choice, {}, from_state=False)[0] for choice in choices)

        model, whole = check_module(module, model, candidates)
        found = Conversion(found.checked + whole.checked)
    elif check:
        why = "a state dict does not hold it" if module is None else "only the parts were asked for"
        found = Conversion(
            found.checked, (*found.unchecked, f"what is done between the modules: {why}")
        )
    model.conversion = Conversion(found.checked, found.unchecked, tuple(assumed))
    return model


def _decide(parts: list[Part], return_sequences: bool | None, last: str | None) -> bool:
    """Say whether the last GRU of a state dict gives every step, or refuse to guess."""
    at = max((i for i, p in enumerate(parts) if p.kind in ("GRU", "GRUCell")), default=None)
    if at is None:
        return True
    gru, follows = parts[at], ", ".join(part.label for part in parts[at + 1 :])
    if return_sequences is None:
        if not follows:
            return True
        raise ConversionError(
            f"{_WHO}: nothing but a run of the module says whether {follows} is applied to every "
            f"step of {gru.label} or to the last; pass return_sequences=True, or last='step' or "
            "'state' (--return-sequences, --last)"
        )
    if not return_sequences and gru.bidirectional and last != "state":
        raise ConversionError(
            f"{_WHO}: {gru.label} reads from both ends, so output[:, -1] and the last states h_n "
            "differ; gru_np gives the states: pass last='state' (--last state) if they are what "
            "the model uses, for there is no layer here for the other"
        )
    return return_sequences


def _assumed(
    parts: list[Part], sequences: bool, activations: Mapping[str, str] | None
) -> list[str]:
    """Say what a state dict leaves open, and how it is read; of a module (None), its forward."""
    notes = [f"{' -> '.join(part.label for part in parts)}, in this order and nothing between"]
    grus = [part for part in parts if part.kind in ("GRU", "GRUCell")]
    if grus:
        notes.append(f"{grus[-1].label} gives {'every step' if sequences else 'its last state'}")
    for part in parts if activations is not None else ():
        if part.kind == "Linear":
            activation = activations.get(part.name, "no activation")  # type: ignore[union-attr]
            notes.append(f"{part.label} is followed by {activation}")
        elif part.kind == "LayerNorm":
            notes.append(f"{part.label} has PyTorch's default epsilon, 1e-5")
        elif part.kind == "Embedding":
            notes.append(f"{part.label} has no padding_idx and no max_norm")
    return notes


def _to_model(
    parts: list[Part], return_sequences: bool, activations: dict[str, str], from_state: bool
) -> tuple[Sequential, list[tuple[Part, list[Layer]]]]:
    """Make the layers; also say which layers came from which part."""
    rows: list[tuple[Layer, dict[str, Array]]] = []
    spans = []
    last_gru = max((i for i, p in enumerate(parts) if p.kind in ("GRU", "GRUCell")), default=-1)
    for i, part in enumerate(parts):
        begin = len(rows)
        name = part.name or part.kind.lower()
        if part.kind == "GRU":
            rows += _stack(part, name, return_sequences or i != last_gru)
        elif part.kind == "GRUCell":
            params = _cell(part).params
            everything = return_sequences or i != last_gru
            gru = GRU(part.units, return_sequences=everything, use_bias="b_ih" in params, name=name)
            rows.append((gru, params))
        elif part.kind == "Embedding":
            V, E = part.arrays["weight"].shape
            rows.append((Embedding(V, E, name=name), {"W": part.arrays["weight"]}))
        elif part.kind == "Linear":
            rows.append(_dense(part, name, activations.pop(part.name, None)))
            after = parts[i + 1].kind if i + 1 < len(parts) else None
            if from_state and after == "Linear" and rows[-1][0].activation is None:  # type: ignore[attr-defined]
                raise ConversionError(
                    f"{_WHO}: a state dict does not say what stands between {name} and "
                    f"{parts[i + 1].label}; pass activations={{{part.name!r}: 'relu'}}, or "
                    "'linear' if nothing does"
                )
        elif part.kind == "LayerNorm":
            renamed = {"weight": "gamma", "bias": "beta"}
            params = {renamed[key]: array for key, array in part.arrays.items()}
            norm = LayerNormalization(
                part.settings.get("epsilon", 1e-5), "beta" in params, "gamma" in params, name=name
            )
            rows.append((norm, params))
        elif part.kind == "Dropout":
            rows.append((Dropout(part.settings["p"], name=name), {}))
        elif part.kind in ACTIVATIONS:
            set_dense_activation(_WHO, rows, ACTIVATIONS[part.kind], part.label)
        spans.append((part, begin, len(rows)))
    model = assemble(_WHO, rows)
    return model, [(part, model.layers[begin:end]) for part, begin, end in spans]


def _dense(part: Part, name: str, activation: str | None) -> tuple[Layer, dict[str, Array]]:
    renamed = {"weight": "W", "bias": "b"}
    params = {renamed[key]: array for key, array in part.arrays.items()}
    return Dense(len(params["W"]), activation, "b" in params, name=name), params


def _cell(part: Part) -> GRUCell:
    params = {ours: part.arrays[key] for ours, key in zip(NAMES, TORCH_NAMES, strict=True)
              if key in part.arrays}  # fmt: skip
    _require_gru_rows(part, params)
    cell = GRUCell(part.units, use_bias="b_ih" in params, name=part.name or None)
    cell.params, cell.built = params, True
    return cell


def _stack(
    part: Part, name: str, return_sequences: bool
) -> Iterator[tuple[Layer, dict[str, Array]]]:
    """Give the layers of an nn.GRU, with the dropout that stands between them."""
    H, rate = part.units, part.settings.get("dropout", 0.0)
    ends = ["", "_reverse"] if part.bidirectional else [""]
    bias = any(key.startswith("bias") for key in part.arrays)
    names = TORCH_NAMES if bias else TORCH_NAMES[:2]
    wanted = [f"{key}_l{k}{end}" for k in range(part.layers) for end in ends for key in names]
    if sorted(wanted) != sorted(part.arrays):
        odd = sorted(set(wanted) ^ set(part.arrays))
        raise ConversionError(f"{_WHO}: {part.label} has an incomplete set of keys: {odd}")
    for k in range(part.layers):
        last = k == part.layers - 1
        this = f"{name}_l{k}" if k else name
        each = [
            {ours: part.arrays[f"{key}_l{k}{end}"] for ours, key in zip(NAMES, names, strict=False)}
            for end in ends
        ]
        for params in each:
            _require_gru_rows(part, params)
        gru = GRU(H, return_sequences=return_sequences or not last, use_bias=bias, name=this)
        if len(ends) == 1:
            yield gru, each[0]
        else:
            both = zip(("forward", "backward"), each, strict=True)
            yield (
                Bidirectional(gru, name=this),
                {f"{d}/{ours}": array for d, params in both for ours, array in params.items()},
            )
        if rate and not last:
            yield Dropout(rate, name=f"{this}_dropout"), {}


def _require_gru_rows(part: Part, params: dict[str, Array]) -> None:
    rows, H = params["W_hh"].shape
    if rows != 3 * H:
        what = {H: "an RNN", 4 * H: "an LSTM"}.get(rows, "something else")
        raise ConversionError(
            f"{_WHO}: {part.label} has {rows} rows for {H} units, which makes it {what}; "
            "a GRU has three rows a unit"
        )


# ----------------------------------------------------------------------------------- to torch


def to_torch(
    model: Any,
    *,
    names: Mapping[str, str] | None = None,
    stack: bool = False,
    tensors: bool = False,
    check: bool = True,
) -> dict[str, Any]:
    """Give the weights of a model as a state dict for PyTorch modules.

    Parameters
    ----------
    model : Sequential or layer
        Of GRU (reset after the product, tanh, sigmoid), Bidirectional (concat), GRUCell,
        Embedding, Dense, LayerNormalization, Dropout.
    names : dict of str to str, optional
        Name of a module in PyTorch by the name of our layer, "" for none. By default our name;
        for a model of one module, none, so that the keys are those of nn.GRU itself.
    stack : bool
        Put adjacent GRU layers of one size into one nn.GRU of several layers. Layers that
        `from_torch` made from one are put together again in any case.
    tensors : bool
        Give torch tensors, not NumPy arrays.
    check : bool
        Run both on random input before returning, if torch is installed.

    Returns
    -------
    dict of str to array or tensor
        For `load_state_dict`. Activations, dropout rates and masks are no part of a state dict:
        they are for the module to have.

    Raises
    ------
    ConversionError
        Where PyTorch's GRU cannot do what ours does: reset_after=False, other activations,
        go_backwards, a merge that is not "concat", zoneout, ...

    Examples
    --------
    >>> from gru_np import GRU, Sequential, interop
    >>> model = Sequential([GRU(4)], seed=0)
    >>> model.build((None, None, 3))
    >>> {name: array.shape for name, array in interop.to_torch(model).items()}
    {'weight_ih_l0': (12, 3), 'weight_hh_l0': (12, 4), 'bias_ih_l0': (12,), 'bias_hh_l0': (12,)}
    """
    who = "to_torch"
    layers = list(model.layers) if isinstance(model, Sequential) else [model]
    if not all(layer.built for layer in layers):
        raise ValueError(f"{who}: the model must be built first; fit it, load it or call build")
    parts: list[tuple[Part, list[Layer]]] = []
    for layer in layers:
        _add_part(who, parts, layer, stack)
    parts = [(part, made) for part, made in parts if part.arrays]
    chosen = dict(names or {})
    state: dict[str, Any] = {}
    for part, made in parts:
        if check:
            check_part(part, made, who)
        prefix = chosen.pop(part.name, "" if len(parts) == 1 else part.name)
        for key, array in part.arrays.items():
            state[f"{prefix}.{key}" if prefix else key] = array.copy()
    if chosen:
        raise ValueError(f"{who}: names has {', '.join(map(repr, chosen))}, which no module is")
    if tensors:
        import torch

        state = {key: torch.from_numpy(array) for key, array in state.items()}
    return state


def _add_part(who: str, parts: list[tuple[Part, list[Layer]]], layer: Layer, stack: bool) -> None:
    p = parameters_of(layer)
    if isinstance(layer, Embedding):
        parts.append((Part(layer.name, "Embedding", {"weight": p["W"]}), [layer]))
    elif isinstance(layer, Dense):
        arrays = {"weight": p["W"]} | ({"bias": p["b"]} if "b" in p else {})
        parts.append((Part(layer.name, "Linear", arrays), [layer]))
    elif isinstance(layer, LayerNormalization):
        if "beta" in p and "gamma" not in p:
            raise ConversionError(
                f"{who}: {layer.name} shifts but does not scale, and PyTorch's LayerNorm has no "
                "bias without a weight"
            )
        names = {"gamma": "weight", "beta": "bias"}
        arrays = {names[ours]: array for ours, array in p.items()}
        settings = {"epsilon": layer.epsilon}
        parts.append((Part(layer.name, "LayerNorm", arrays, settings), [layer]))
    elif isinstance(layer, Dropout):
        parts.append((Part(layer.name, "Dropout"), [layer]))
    elif isinstance(layer, GRUCell):
        _require_torch_gru(who, layer, layer.name)
        named = zip(NAMES, TORCH_NAMES, strict=True)
        arrays = {key: p[ours] for ours, key in named if ours in p}
        parts.append((Part(layer.name, "GRUCell", arrays), [layer]))
    elif isinstance(layer, GRU | Bidirectional):
        _add_gru(who, parts, layer, stack)
    else:
        raise ConversionError(
            f"{who}: no module of PyTorch's is known for {layer.name} ({type(layer).__name__})"
        )


def _add_gru(
    who: str, parts: list[tuple[Part, list[Layer]]], layer: GRU | Bidirectional, stack: bool
) -> None:
    """Add a GRU layer: to the stack before it if it belongs there, else as a module of its own."""
    if isinstance(layer, Bidirectional) and layer.merge_mode != "concat":
        raise ConversionError(
            f"{who}: {layer.name} has merge_mode={layer.merge_mode!r}; "
            "PyTorch concatenates the two directions"
        )
    for _, gru in directions(layer):
        _require_torch_gru(who, gru, layer.name)
    if isinstance(layer, GRU) and layer.go_backwards:
        raise ConversionError(
            f"{who}: {layer.name} has go_backwards=True, and PyTorch has no GRU that reads "
            "backwards alone"
        )
    before = [entry for entry in parts if entry[0].kind != "Dropout"]
    onto = before[-1] if before else None
    k = 0
    if onto is not None and onto[0].kind == "GRU":
        part, made = onto
        alike = part.bidirectional == isinstance(layer, Bidirectional) and all(
            gru.units == part.units and gru.use_bias == ("bias_ih_l0" in part.arrays)
            for _, gru in directions(layer)
        )
        wide = part.units * (2 if part.bidirectional else 1)
        fits = alike and of_direction(layer, directions(layer)[0][0])["W_ih"].shape[1] == wide
        if fits and (stack or layer.name == f"{part.name}_l{part.layers}"):
            k = part.layers
    if k == 0:
        part, made = Part(layer.name, "GRU"), []
        parts.append((part, made))
    made.append(layer)
    for (prefix, _), end in zip(directions(layer), ("", "_reverse"), strict=False):
        params = of_direction(layer, prefix)
        for ours, key in zip(NAMES, TORCH_NAMES, strict=True):
            if ours in params:
                part.arrays[f"{key}_l{k}{end}"] = params[ours]


def _require_torch_gru(who: str, gru: Any, name: str) -> None:
    if not gru.reset_after:
        raise ConversionError(
            f"{who}: {name} has reset_after=False, which PyTorch cannot express: its reset gate "
            "acts after the product with W_hn, and r ⊙ (W_hn h) is not W_hn (r ⊙ h)"
        )
    for setting, only in (("activation", "tanh"), ("recurrent_activation", "sigmoid")):
        if getattr(gru, setting) != only:
            raise ConversionError(
                f"{who}: {name} has {setting}={getattr(gru, setting)!r}; "
                f"PyTorch's GRU has {only} only"
            )
    require_expressible(who, "PyTorch", gru, name)
