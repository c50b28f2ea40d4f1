"""PyTorch's nn.GRU as a call: stacks, both axis orders, unbatched input, h_0 and h_n.

Notation: B batch, T time, I input, H hidden, K layers, D directions.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gru_np._aliases import Array, Gradients
from gru_np._checks import require_count, require_rank, require_rate
from gru_np._intake import as_array, as_floats, as_integers
from gru_np.interop.layouts import NAMES
from gru_np.interop.pytorch_parts import TORCH_NAMES
from gru_np.layers import GRU, Bidirectional
from gru_np.layers.dropout import dropout_mask


class TorchGRU:
    """A stack of GRU layers that is called, and names its parameters, as torch.nn.GRU.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
        I, H, K.
    bias : bool
        Whether there are biases.
    batch_first : bool
        Whether arrays are (B, T, ...); PyTorch's default is (T, B, ...).
    dropout : float
        Probability, while training, of dropping an output on its way to the next layer.
    bidirectional : bool
        Whether every layer reads from both ends.
    dtype : {"float32", "float64"}
        What parameters are.
    seed : int, optional
        Decides the initial parameters, U(-1/√H, 1/√H) as PyTorch's.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.interop import TorchGRU
    >>> gru = TorchGRU(3, 4, num_layers=2, bidirectional=True, seed=0)
    >>> output, h_n = gru(np.ones((5, 2, 3), np.float32))
    >>> output.shape, h_n.shape
    ((5, 2, 8), (4, 2, 4))
    >>> gru(np.ones((5, 3), np.float32))[1].shape  # unbatched
    (4, 4)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = "float32",
        seed: int | None = None,
    ):
        self.input_size = require_count("TorchGRU", "input_size", input_size)
        self.hidden_size = require_count("TorchGRU", "hidden_size", hidden_size)
        self.num_layers = require_count("TorchGRU", "num_layers", num_layers)
        self.bias, self.batch_first, self.bidirectional = bias, batch_first, bidirectional
        self.dropout = require_rate("TorchGRU", "dropout", dropout)
        self.dtype = np.dtype(dtype)
        self.directions = 2 if bidirectional else 1
        rng, bound = np.random.default_rng(seed), 1 / math.sqrt(hidden_size)
        self.layers: list[Any] = []
        for k in range(num_layers):
            gru = GRU(hidden_size, use_bias=bias, return_sequences=True, return_state=True)
            layer = Bidirectional(gru) if bidirectional else gru
            enters = input_size if k == 0 else hidden_size * self.directions
            layer.build((None, None, enters), self.dtype, rng)
            for array in layer.params.values():
                array[...] = rng.uniform(-bound, bound, array.shape)
            self.layers.append(layer)

    def __call__(
        self, x: Any, h_0: Any = None, lengths: Any = None, training: bool = False
    ) -> tuple[Array, Array]:
        """Compute (output, h_n); see `forward`."""
        return self.forward(x, h_0, lengths, training)[0]

    def forward(
        self,
        x: Any,
        h_0: Any = None,
        lengths: Any = None,
        training: bool = False,
        rng: np.random.Generator | None = None,
    ) -> tuple[tuple[Array, Array], Any]:
        """Run over x; give (output, h_n) and what `backward` needs.

        Parameters
        ----------
        x : (T, B, I), (B, T, I) if batch_first, or (T, I) for a single sequence
        h_0 : (K D, B, H), or (K D, H) for a single sequence, optional
            Zeros if absent.
        lengths : (B,) int, optional
            Steps of each row that count, in any order, for PyTorch's packed sequences; past them
            the output is zero and h_n is the state at the last step that counts.
        training : bool
            Whether outputs are dropped between the layers.
        rng : Generator, optional
            Draws what is dropped.
        """
        x = as_floats("TorchGRU", x)
        single = x.ndim == 2
        axes = ("time", self.input_size) if single else (
            *(("batch", "time") if self.batch_first else ("time", "batch")), self.input_size
        )  # fmt: skip
        require_rank("TorchGRU", "x", x, axes)
        if single:
            x = x[None]
        elif not self.batch_first:
            x = x.swapaxes(0, 1)
        B, T, _ = x.shape
        K, D, H = self.num_layers, self.directions, self.hidden_size
        states = None
        if h_0 is not None:
            h_0 = as_floats("TorchGRU", h_0, "h_0")
            require_rank("TorchGRU", "h_0", h_0, (K * D, H) if single else (K * D, B, H))
            states = h_0.reshape(K, D, B, H)
        mask = None
        if lengths is not None:
            lengths = as_integers("TorchGRU", lengths, "lengths")
            if lengths.shape != (B,) or (lengths < 0).any() or (lengths > T).any():
                raise ValueError(f"TorchGRU: lengths must be {B} numbers in 0..{T}, got {lengths}")
            mask = np.arange(T) < lengths[:, None]
        y, last, kept = x, [], []
        drops: list[Array | None] = []
        rng = rng or np.random.default_rng()
        for k, layer in enumerate(self.layers):
            begin = None if states is None else tuple(states[k]) if D == 2 else states[k, 0]
            (y, *ends), saved = layer.forward(y, mask=mask, initial_state=begin)
            last += ends
            kept.append(saved)
            drops.append(None)
            if training and self.dropout and k < K - 1:
                drops[k] = dropout_mask(rng, y.shape, self.dropout, y.dtype)
                y = y * drops[k]
        if mask is not None:
            y = np.where(mask[:, :, None], y, 0)
        h_n = np.stack(last)
        if single:
            output, h_n = y[0], h_n[:, 0]
        else:
            output = y if self.batch_first else y.swapaxes(0, 1)
        return (output, h_n), (kept, drops, mask, single, h_0 is not None)

    def backward(
        self, doutput: Array | None, dh_n: Array | None, saved: Any
    ) -> tuple[Array, Array | None, Gradients]:
        """Give dx, dh_0 (None if h_0 was absent), and the gradients by PyTorch's names."""
        kept, drops, mask, single, has_initial = saved
        dy = None
        if doutput is not None:
            turn = single or self.batch_first
            dy = doutput[None] if single else doutput if turn else doutput.swapaxes(0, 1)
            # y = np.where(mask[:, :, None], y, 0)
            dy = dy if mask is None else np.where(mask[:, :, None], dy, 0)
        if dh_n is not None and single:
            dh_n = dh_n[:, None]
        D = self.directions
        dh_0: list[Array] = []
        gradients: Gradients = {}
        for k in reversed(range(self.num_layers)):
            ends = [None] * D if dh_n is None else list(dh_n[D * k : D * (k + 1)])
            dy, of_layer = self.layers[k].backward((dy, *ends), kept[k])
            # y = y * drops[k - 1]
            if k and drops[k - 1] is not None:
                dy = dy * drops[k - 1]
            gradients |= self._named(k, of_layer)
            prefixes = ("forward/", "backward/") if D == 2 else ("",)
            if has_initial:
                dh_0 = [of_layer[f"{prefix}initial_state"] for prefix in prefixes] + dh_0
        assert dy is not None
        dx = dy[0] if single else dy if self.batch_first else dy.swapaxes(0, 1)
        stacked = np.stack(dh_0) if has_initial else None
        return dx, stacked[:, 0] if single and stacked is not None else stacked, gradients

    def _named(self, k: int, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Give the arrays of layer k by PyTorch's names."""
        ends = (("forward/", ""), ("backward/", "_reverse")) if self.bidirectional else (("", ""),)
        return {
            f"{theirs}_l{k}{end}": arrays[prefix + ours]
            for prefix, end in ends
            for ours, theirs in zip(NAMES, TORCH_NAMES, strict=True)
            if prefix + ours in arrays
        }

    def state_dict(self) -> dict[str, Array]:
        """Give the parameters by PyTorch's names; the arrays themselves, not copies."""
        named = (self._named(k, layer.params) for k, layer in enumerate(self.layers))
        return {name: array for one in named for name, array in one.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take all parameters by PyTorch's names."""
        own = self.state_dict()
        arrays = {name: as_array("TorchGRU", value, name) for name, value in state.items()}
        wanted = {name: array.shape for name, array in own.items()}
        found = {name: array.shape for name, array in arrays.items()}
        if wanted != found:
            odd = sorted(n for n in wanted.keys() | found if wanted.get(n) != found.get(n))
            raise ValueError(
                f"TorchGRU: the state dict must have the names and shapes of this stack; it "
                f"differs in {', '.join(odd)}"
            )
        for name, array in own.items():
            array[...] = arrays[name]
