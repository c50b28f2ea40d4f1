"""PyTorch's own modules beside our layers, on the same random input.

Notation: B batch, T time, I input, H hidden, D directions.
"""

import copy
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gru_np._aliases import Array
from gru_np._checks import spell
from gru_np.interop.common import (
    Conversion,
    ConversionError,
    optional_package,
    random_batch,
    require_agreement,
)
from gru_np.interop.pytorch_parts import Part
from gru_np.layers import GRU, Bidirectional, GRUCell, Layer
from gru_np.model import Sequential

_WHO = "from_torch"
_ADVICE = 'check="parts" compares the modules one by one, and nothing that forward does beside them'


def check_part(part: Part, layers: list[Layer], who: str = _WHO) -> bool:
    """Run PyTorch's own GRU with these arrays, and our layers; say whether that was possible."""
    torch = optional_package("torch")
    if torch is None or part.kind not in ("GRU", "GRUCell"):
        return False  # the others are a table, a product and a sum: their shapes say it all
    rng = np.random.default_rng(20140603)
    B, T, H, D = 3, 5, part.units, 2 if part.bidirectional else 1
    dtype = np.result_type(*part.arrays.values())
    I = part.sizes()[0]  # noqa: E741
    assert I is not None
    x = rng.standard_normal((B, T, I)).astype(dtype)
    tensors = {key: torch.from_numpy(array.astype(dtype)) for key, array in part.arrays.items()}
    bias = any(key.startswith("bias") for key in part.arrays)
    if part.kind == "GRUCell":
        h0 = rng.standard_normal((B, H)).astype(dtype)
        with torch.random.fork_rng(devices=[]):  # it draws weights, which are replaced
            theirs = torch.nn.GRUCell(I, H, bias=bias, dtype=torch.from_numpy(x).dtype)
        theirs.load_state_dict(tensors)
        with torch.no_grad():
            h = torch.from_numpy(h0)
            for t in range(T):
                h = theirs(torch.from_numpy(x[:, t]), h)
        ours = h0
        for t in range(T):
            ours = layers[0].forward(x[:, t], initial_state=ours)[0] if isinstance(
                layers[0], GRUCell
            ) else layers[0].step(x[:, t], ours)[0]  # fmt: skip
        require_agreement(who, part.label, ours, h.numpy())
        return True
    grus = [layer for layer in layers if isinstance(layer, GRU | Bidirectional)]
    h0 = rng.standard_normal((D * len(grus), B, H)).astype(dtype)
    with torch.random.fork_rng(devices=[]):
        theirs = torch.nn.GRU(
            I, H, len(grus), bias=bias, bidirectional=D == 2, dtype=torch.from_numpy(x).dtype,
            batch_first=True,
        )  # fmt: skip
    theirs.load_state_dict(tensors)
    with torch.no_grad():
        y, _ = theirs(torch.from_numpy(x), torch.from_numpy(h0))
    # Each layer may give the last state only; its settings are not changed.
    ours = x
    for k, layer in enumerate(grus):
        begin = h0[D * k : D * (k + 1)]
        ours = _sequence(layer).forward(ours, initial_state=begin[0] if D == 1 else tuple(begin))[0]
    require_agreement(who, part.label, ours, y.numpy())
    return True


def _sequence(layer: Any) -> Any:
    """Give a layer with the same parameters that returns the whole sequence and nothing else."""
    plain = {"return_sequences": True, "return_state": False, "stateful": False}
    if isinstance(layer, GRU):
        made: Any = GRU(**layer.get_config() | plain)
    else:
        one, other = (GRU(**g.get_config() | plain) for g in (layer.layer, layer.backward_layer))
        made = Bidirectional(one, layer.merge_mode, other)
    made.params, made.built = layer.params, True
    return made


def check_parts(parts: list[tuple[Part, list[Layer]]]) -> Conversion:
    """Compare each GRU by itself, and say so."""
    names = [part.label for part, layers in parts if check_part(part, layers)]
    if names:
        how = f"torch.nn's own GRU with the weights of {', '.join(names)}, from random states"
        return Conversion((how,))
    return Conversion(unchecked=("nothing was run: torch is not installed, or no GRU is there",))


def check_module(
    module: Any, model: Sequential, candidates: Callable[[], Iterator[Sequential]]
) -> Any:
    """Call the module itself; give the candidate that answers alike, and how that was found.

    What forward takes beside a batch is given as its name says: full lengths, or zero states.
    """
    import torch

    # Many rows: a relu in forward is not seen where every output happens to be positive.
    x = random_batch(model, batch=61)
    grus = [m for m in module.modules() if type(m).__name__ in ("GRU", "GRUCell")]
    time_first = any(not getattr(gru, "batch_first", True) for gru in grus)
    own = _copy(module, model)
    error: ConversionError | None = None
    failed: Exception | None = None
    for turned in (time_first, not time_first):
        fed = torch.from_numpy(x.swapaxes(0, 1).copy() if turned else x)
        for said, extra in _arguments(module, grus, *x.shape[:2]):
            try:
                with torch.no_grad(), torch.random.fork_rng(devices=[]):
                    theirs = _output(copy.deepcopy(own)(fed, **extra), torch)
            except Exception as one:  # whatever a forward raises: it needs another call
                failed = failed or one
                continue
            for candidate in candidates():
                y = theirs.swapaxes(0, 1) if turned and theirs.ndim == 3 else theirs
                try:
                    require_agreement(_WHO, type(module).__name__, candidate.predict(x), y)
                except ConversionError as one:
                    error = error or one
                    continue
                way = "time first" if turned else "batch first"
                how = f"the module itself on {spell(x.shape)} random input, {way}{said}"
                return candidate, Conversion((how,))
    if error is not None:
        raise error
    raise ConversionError(
        f"{_WHO}: {type(module).__name__} cannot be called with a batch, nor with lengths or zero "
        f"states beside it ({type(failed).__name__}: {failed}), so what its forward does cannot be "
        f"checked; {_ADVICE}"
    )


def _copy(module: Any, model: Sequential) -> Any:
    """Give a copy of a module that computes in the precision of the model, on the processor."""
    import torch

    try:
        own = copy.deepcopy(module)
    except Exception as error:  # tensors of a graph, locks, ...: whatever the module holds
        raise ConversionError(
            f"{_WHO}: {type(module).__name__} cannot be copied to be run ({error}); {_ADVICE}"
        ) from error
    return own.eval().to("cpu", getattr(torch, model.dtype.name))


def _arguments(
    module: Any, grus: list[Any], B: int, T: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give what forward may want beside a batch, by name, and a word on it."""
    import torch

    takes = list(inspect.signature(module.forward).parameters.values())
    open_ended = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    wanted = [p.name for p in takes[1:] if p.default is p.empty and p.kind not in open_ended]
    # Random weights and zeros: what multiplies a state is seen, what is done to one is not.
    gru = grus[0] if grus else None
    D = 2 if getattr(gru, "bidirectional", False) else 1
    shape = (D * getattr(gru, "num_layers", 1), B, getattr(gru, "hidden_size", 1))
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    dtype = dtype if dtype == torch.float64 else torch.float32
    lengths = torch.full((B,), T, dtype=torch.int64)
    state = torch.zeros(shape[1:] if type(gru).__name__ == "GRUCell" else shape, dtype=dtype)
    choices = {"full lengths": lengths, "zero states": state, "None": None}
    if not wanted:
        yield "", {}
        return
    if len(wanted) > 2:
        return
    orders = []
    for name in wanted:
        first = "full lengths" if "len" in name.lower() else "zero states"
        orders.append([first, *(choice for choice in choices if choice != first)])
    for chosen in itertools.product(*orders):
        pairs = list(zip(wanted, chosen, strict=True))
        said = "".join(f", {name} being {choice}" for name, choice in pairs)
        yield said, {name: choices[choice] for name, choice in pairs}


def _output(y: Any, torch: Any) -> Array:
    """Give the output of a module as an array: the first, if there are several."""
    if isinstance(y, torch.nn.utils.rnn.PackedSequence):
        y = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True)[0]
    if isinstance(y, tuple | list) and len(y):
        return _output(y[0], torch)
    if not isinstance(y, torch.Tensor):
        raise ConversionError(f"{_WHO}: forward gives a {type(y).__name__}, not a tensor")
    return y.detach().numpy()
