"""A GRU over segments of a window, for long horizons: all channels share one small net.

Notation: B windows, L rows in, H rows out, C channels, s the segment, n = L/s, m = H/s, d units.
"""

from typing import Any

import numpy as np

from gru_np import kernels
from gru_np._aliases import Array, Generator, Gradients, Shape
from gru_np._checks import require_count, require_rank, require_rate
from gru_np._intake import as_floats
from gru_np.layers.base import Layer, Parameter
from gru_np.layers.dropout import dropout_mask


class SegmentGRU(Layer):
    """Forecast H rows of C channels from L rows, a segment at a time: (B, L, C) to (B, H, C).

        u = x - x_L                           the last row taken off, each channel a sequence
        e_i = relu(W_in u_{segment i} + b_in)          i = 1 ... n
        h = GRU(e_1 ... e_n)                           the state after the last segment
        g_j = GRU step from h with [position_j, channel_c]         j = 1 ... m, all from the same h
        y_{segment j} = W_out dropout(g_j) + b_out + x_L

    Parameters
    ----------
    horizon, segment, units : int
        H, s, d (even). s must divide H and the rows that are given.
    dropout : float
        Of g.
    seed, name, trainable
        As for every layer.

    Notes
    -----
    Parameters: W_in (d, s), b_in, the GRU's W_ih, W_hh (3d, d), b_ih, b_hh, position (m, d/2),
    channel (C, d/2), W_out (s, d), b_out. Source: SegRNN, arXiv:2308.11200, with one GRU.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np.layers import SegmentGRU
    >>> x = np.random.default_rng(0).standard_normal((2, 12, 3))
    >>> SegmentGRU(horizon=8, segment=4, units=6, seed=0)(x).shape
    (2, 8, 3)
    """

    def __init__(self, horizon: int, segment: int, units: int, dropout: float = 0.0, **common: Any):
        super().__init__(**common)
        self.horizon = require_count("SegmentGRU", "horizon", horizon)
        self.segment = require_count("SegmentGRU", "segment", segment)
        self.units = require_count("SegmentGRU", "units", units, least=2)
        self.dropout = require_rate("SegmentGRU", "dropout", dropout)
        if horizon % segment or units % 2:
            raise ValueError(
                f"SegmentGRU: segment must divide horizon and units must be even, got segment "
                f"{segment}, horizon {horizon}, units {units}"
            )

    def parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        """Give the parameters for L rows of C channels."""
        d, s, m, C = self.units, self.segment, self.horizon // self.segment, input_shape[-1]
        assert C is not None
        return {
            "W_in": Parameter((d, s), "glorot_uniform", out_first=True),
            "b_in": Parameter((d,), "zeros"),
            "W_ih": Parameter((3 * d, d), "glorot_uniform", out_first=True),
            "W_hh": Parameter((3 * d, d), "orthogonal", out_first=True),
            "b_ih": Parameter((3 * d,), "zeros"),
            "b_hh": Parameter((3 * d,), "zeros"),
            "position": Parameter((m, d // 2), "random_normal"),
            "channel": Parameter((C, d // 2), "random_normal"),
            "W_out": Parameter((s, d), "glorot_uniform", out_first=True),
            "b_out": Parameter((s,), "zeros"),
        }

    def output_shape(self, input_shape: Shape) -> Shape:
        """(B, H, C)."""
        return (input_shape[0], self.horizon, input_shape[-1])

    def compute_mask(self, x: Array, mask: Array | None) -> Array | None:
        """End the mask here: the steps of the output are others."""
        return None

    def _gru(self) -> tuple[Any, ...]:
        return tuple(self.params[name] for name in ("W_ih", "W_hh", "b_ih", "b_hh"))

    def forward(
        self,
        x: Any,
        mask: Array | None = None,
        training: bool = False,
        rng: Generator | None = None,
    ) -> tuple[Array, Any]:
        """Give the forecast, and what `backward` needs."""
        x = as_floats(self.name, x)
        self.ensure_built(x)
        p, s, d = self.params, self.segment, self.units
        require_rank(self.name, "x", x, ("batch", "time", len(p["channel"])))
        B, L, C = x.shape
        if L % s:
            raise ValueError(f"{self.name}: the rows of x must be a multiple of {s}, got {L}")
        m = self.horizon // s
        last = x[:, -1:]
        u = (x - last).transpose(0, 2, 1).reshape(B * C, L // s, s)
        u = np.ascontiguousarray(u.transpose(1, 0, 2))  # (n, B C, s)
        e = u @ p["W_in"].T + p["b_in"]
        e = np.where(e.real > 0, e, 0)
        h, encoder = kernels.gru_forward(e, None, *self._gru())
        place = np.concatenate(
            [np.repeat(p["position"], C, axis=0), np.tile(p["channel"], (m, 1))], axis=1
        ).reshape(m, 1, C, d)
        inputs = np.broadcast_to(place, (m, B, C, d)).reshape(1, m * B * C, d)
        start = np.tile(h[-1], (m, 1))
        g, decoder = kernels.gru_forward(inputs, start, *self._gru())
        g = g[1]
        drop = None
        if training and self.dropout:
            drop = dropout_mask(self.rng(rng), g.shape, self.dropout, g.real.dtype)
            g = g * drop
        y = (g @ p["W_out"].T + p["b_out"]).reshape(m, B, C, s)
        y = y.transpose(1, 0, 3, 2).reshape(B, m * s, C) + last
        return y, (x.shape, u, e, h.shape, encoder, decoder, g, drop)

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        """Give dx and the gradients of the parameters."""
        (B, L, C), u, e, h_shape, encoder, decoder, g, drop = saved
        p, s, d = self.params, self.segment, self.units
        m = self.horizon // s
        # y = y.transpose(1, 0, 3, 2).reshape(B, m * s, C) + last
        dlast = dy.sum(axis=1, keepdims=True)
        da = dy.reshape(B, m, s, C).transpose(1, 0, 3, 2).reshape(m * B * C, s)
        # y = g @ W_out.T + b_out
        gradients = {"W_out": da.T @ g, "b_out": da.sum(axis=0)}
        dg = da @ p["W_out"]
        # g = g * drop
        if drop is not None:
            dg = dg * drop
        # g, decoder = gru_forward(inputs, start, ...)
        dinputs, dstart, *of_decoder = kernels.gru_backward(
            np.stack([np.zeros_like(dg), dg]), decoder
        )
        # inputs = broadcast(place, (m, B, C, d))
        dplace = dinputs.reshape(m, B, C, d).sum(axis=1)
        gradients["position"] = dplace[..., : d // 2].sum(axis=1)
        gradients["channel"] = dplace[..., d // 2 :].sum(axis=0)
        # start = np.tile(h[-1], (m, 1))
        dh = np.zeros(h_shape, dg.dtype)
        dh[-1] = dstart.reshape(m, B * C, d).sum(axis=0)
        # h, encoder = gru_forward(e, None, ...)
        de, _, *of_encoder = kernels.gru_backward(dh, encoder)
        for name, one, other in zip(
            ("W_ih", "W_hh", "b_ih", "b_hh"), of_encoder, of_decoder, strict=True
        ):
            gradients[name] = one + other
        # e = relu(u @ W_in.T + b_in)
        de = (de * (e.real > 0)).reshape(-1, d)
        gradients["W_in"] = de.T @ u.reshape(-1, s)
        gradients["b_in"] = de.sum(axis=0)
        # u = (x - last) as segments
        du = (de @ p["W_in"]).reshape(L // s, B * C, s).transpose(1, 0, 2)
        dx = du.reshape(B, C, L).transpose(0, 2, 1).copy()
        # last = x[:, -1:]
        dx[:, -1:] += dlast - dx.sum(axis=1, keepdims=True)
        return dx, gradients
