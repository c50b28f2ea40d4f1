"""A whole language model's way down and back, in the same memory time after time.

    ids -> embedding -> GRU layers -> dense, softmax and cross-entropy -> all gradients

A small model's step is over in some fifty microseconds, and the compiled functions are half of
that. What surrounds them for one layer at a time, to look at its input and to find memory for what
it gives, would take longer than they do; here it is done once, for all steps of the same shape.
The functions are those that the layers use, so the bits are theirs.
"""

import numpy as np

from gru_np._checks import require_rank
from gru_np.kernels import fused, head, training
from gru_np.kernels._arguments import require_inside, require_layer
from gru_np.kernels.threads import OPERATIONS_PER_THREAD

MOST_TOKENS = 4096


class TokenPass:
    """Memory for a pass over ids (B, T), and what is to be called to run it.

    Parameters
    ----------
    embedding : (V, E)
    layers : list of (W_ih, W_hh, b_ih or None, b_hh or None, reset_after)
    dense : (W, b or None)
    B, T : int
    sequence : bool
        Whether every step has a label, (B, T), or the last one only, (B,).

    All arrays are contiguous, writable and of one dtype. They are looked at here, and read as they
    are at each run.

    Attributes
    ----------
    gradients : list of dict or tuple of array
        By the parameters: of the dense layer (W, b), of each GRU layer from the last to the first
        (W_ih, W_hh, b_ih, b_hh), of the embedding (W,); None for what is absent. Views, one after
        the other, of `flat`.
    saved : list of `fused.Saved`
        One for each GRU layer.
    top : array
        What the dense layer saw, (B, T, H) or (B, H).
    hits : (positions,)
        As `training.CrossEntropy` has them.
    """

    def __init__(self, embedding, layers, dense, B, T, sequence):
        W, b = dense
        dtype, size = W.dtype, embedding.shape[1]
        for layer in layers:
            size = require_layer(*layer[:4], size, dtype)
        require_rank("token_pass", "W of the dense layer", W, ("classes", size))
        shapes = [(W.shape, None if b is None else b.shape)]
        for layer in reversed(layers):
            shapes.append([None if array is None else array.shape for array in layer[:4]])
        shapes.append((embedding.shape,))
        sizes = [0 if s is None else int(np.prod(s)) for group in shapes for s in group]
        self.flat = np.zeros(sum(sizes), dtype)
        pieces = iter(np.split(self.flat, np.cumsum(sizes)[:-1]))
        self.gradients = [
            tuple(
                piece if s is None else piece.reshape(s)
                for s, piece in zip(group, pieces, strict=False)
            )
            for group in shapes
        ]
        self.embedding = embedding
        self.ids = np.zeros((T, B), np.intp)
        self.x = x = np.empty((T, B, embedding.shape[1]), dtype)
        # the gradient by each layer's input lies where the layer before wants it
        self.dx = dx = np.empty_like(x)
        self.saved, forth, back = [], [], []
        of_layers = self.gradients[-2:0:-1]
        for layer, of_layer in zip(layers, of_layers, strict=True):
            W_ih, W_hh, b_ih, b_hh, reset_after = layer
            H = W_hh.shape[1]
            h, dh = np.zeros((T + 1, B, H), dtype), np.zeros((T + 1, B, H), dtype)
            rows = fused.rows_for(T, B, H, reset_after, dtype)
            saved = fused.Saved(x, h, rows, None, W_ih, W_hh, b_ih, b_hh, reset_after)
            dh0, nothing = np.empty((B, H), dtype), np.empty(3 * H, dtype)
            biases = [g if len(g) else nothing for g in of_layer[2:]]
            self.saved.append(saved)
            forth.append(fused.forward_of(saved))
            back.append(fused.backward_of(saved, dh, dx, dh0, *of_layer[:2], *biases))
            x, dx = h[1:], dh[1:]
        top, dtop = (x, dx) if sequence else (x[-1], dx[-1])
        self.top = top.transpose(1, 0, 2) if sequence else top
        n = T * B if sequence else B
        self.labels = np.zeros((T, B) if sequence else B, np.intp)
        self.losses, self.hits = np.empty(n), np.empty(n)
        top_layer = training.cross_entropy_of(
            self.losses, self.hits, dtop, *self.gradients[0], top, np.arange(n) * top.shape[-1],
            W, b, self.labels.reshape(-1), training.NO_WEIGHT, float(n),
        )  # fmt: skip
        (dW,) = self.gradients[-1]
        last = training.embedding_gradient_of(dW, self.ids.reshape(-1), self.dx.reshape(-1))
        self.bounds = [
            ("ids", self.ids.reshape(-1), len(embedding)),
            ("labels", self.labels.reshape(-1), len(W)),
        ]
        self.calls = [*forth, top_layer, *reversed(back), last]

    def __reduce__(self):
        """Copies would not share memory as these arrays do: who copies a model makes its own."""
        return type(None), ()

    def run(self, ids, labels, states):
        """Go down and back; give the mean of the cross-entropy.

        Parameters
        ----------
        ids : (B, T) int
            Of the embedding.
        labels : (B, T) or (B,) int
        states : list of (B, H) or None
            What each GRU layer begins with.
        """
        self.ids[...] = ids.T
        self.labels[...] = labels.T
        for name, integers, end in self.bounds:
            wrong = head.first_outside(integers, end)
            require_inside("token_pass", name, wrong, integers, end)
        # the ids are known to be there; to clip them is the mode that writes without a copy
        np.take(self.embedding, self.ids, 0, self.x, "clip")
        for saved, state in zip(self.saved, states, strict=True):
            saved.h[0] = 0 if state is None else state
        for call in self.calls:
            call()
        return float(np.add.reduce(self.losses))


def is_small(V, E, layers, B, T):
    """Whether no part of such a pass is worth a second thread; layers are pairs (I, H).

    Nor is it much memory to keep.
    """
    operations = [12 * T * B * H * (I + H) for I, H in layers]  # noqa: E741
    operations += [6 * T * B * V * layers[-1][1], 8 * (T * B + V) * E]
    return max(operations) < OPERATIONS_PER_THREAD and T * B <= MOST_TOKENS
