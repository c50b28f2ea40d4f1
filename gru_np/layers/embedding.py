"""The table of token vectors.

Notation: V vocabulary, E embedding size.
"""

from typing import Any

import numpy as np

from gru_np import constraints, kernels, regularizers
from gru_np._aliases import Array, Generator, Gradients, Shape
from gru_np._checks import require_count, require_rate, spell
from gru_np._intake import REAL, as_array, as_integers
from gru_np._positions import is_within
from gru_np.layers.base import Layer, Parameter, Rule
from gru_np.layers.dropout import dropout_mask


class Embedding(Layer):
    """Look up a vector for each token id: y = W[x].

    Parameters
    ----------
    input_dim : int
        V: ids run from 0 to V - 1. `Tokenizer.vocab_size` is the right number.
    output_dim : int
        E, the size of each vector.
    embeddings_initializer : str or initializer
        How the table begins; "uniform" is U(-0.05, 0.05).
    mask_zero : bool
        Treat id 0 as padding: a mask then travels with the data to GRU, loss and metrics.
    weights : (V, E) array, optional
        Begin with these vectors, e.g. pre-trained ones. A list of one array, too, as in Keras.
    input_length : int, optional
        Accepted because Keras scripts give it; lengths are read off the input.
    dropout : float
        Share of the vocabulary that training does without, drawn anew for every batch: all vectors
        of such a token are zero, those of others are divided by 1 - dropout.
    embeddings_regularizer : str or Regularizer, optional
        Penalty of the table; see `gru_np.regularizers`.
    embeddings_constraint : str or Constraint, optional
        What it obeys after each step of the optimiser; see `gru_np.constraints`.
    seed, name, trainable
        As for every layer; `trainable=False` freezes the table.

    Notes
    -----
    Dropout of whole tokens: Gal and Ghahramani 2016, arXiv:1512.05287, section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> from gru_np import Embedding
    >>> table = np.arange(6.0).reshape(3, 2)
    >>> Embedding(3, 2, weights=table)(np.array([[2, 0]])).tolist()
    [[[4.0, 5.0], [0.0, 1.0]]]
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        mask_zero: bool = False,
        weights: Any = None,
        input_length: int | None = None,
        *,
        dropout: float = 0.0,
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        **common: Any,
    ):
        super().__init__(**common)
        self.input_dim = require_count("Embedding", "input_dim", input_dim)
        self.output_dim = require_count("Embedding", "output_dim", output_dim)
        self.embeddings_initializer = embeddings_initializer
        self.mask_zero = mask_zero
        self.input_length = input_length
        self.dropout = require_rate("Embedding", "dropout", dropout)
        self.embeddings_regularizer = regularizers.get(embeddings_regularizer)
        self.embeddings_constraint = constraints.get(embeddings_constraint)
        if isinstance(weights, list | tuple) and len(weights) == 1:
            weights = weights[0]
        self.weights = None if weights is None else as_array("Embedding", weights, "weights", REAL)
        if self.weights is not None and self.weights.shape != (input_dim, output_dim):
            raise ValueError(
                f"Embedding: weights must have shape (input_dim, output_dim) = "
                f"{spell((input_dim, output_dim))}, got {spell(self.weights.shape)}"
            )

    @property
    def random(self) -> bool:
        """Whether there is dropout to draw."""
        return bool(self.dropout)

    def get_config(self) -> dict[str, Any]:
        """Give the constructor arguments but the first weights: they live in the parameters."""
        return super().get_config() | {"weights": None}

    def rules(self) -> dict[str, Rule]:
        """Give the rule of the table."""
        return {"W": Rule(self.embeddings_regularizer, self.embeddings_constraint)}

    def parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        """W (V, E)."""
        return {"W": Parameter((self.input_dim, self.output_dim), self.embeddings_initializer)}

    def build(self, input_shape: Shape, dtype: Any, rng: Generator) -> None:
        """Draw the table W (V, E), or copy the given one."""
        if self.weights is None:
            super().build(input_shape, dtype, rng)
        else:
            self.params = {"W": np.array(self.weights, dtype, order="C")}
            self.built = True

    def ensure_built(self, x: Array) -> None:
        """Build in the dtype of the given weights, if any: ids have none to offer."""
        if not self.built:
            given = self.weights is not None and self.weights.dtype.kind == "f"
            dtype = self.weights.dtype if given else np.dtype("float32")  # type: ignore[union-attr]
            self.build((None, *x.shape[1:]), dtype, np.random.default_rng(self.seed))

    def output_shape(self, input_shape: Shape) -> Shape:
        """Add an axis of E numbers."""
        return (*input_shape, self.output_dim)

    def compute_mask(self, x: Array, mask: Array | None) -> Array | None:
        """Mark padding: id 0, where `mask_zero` says so."""
        if not self.mask_zero:
            return mask
        real: Array = as_array(self.name, x) != 0
        return real if mask is None else real & mask

    def forward(
        self,
        x: Any,
        mask: Array | None = None,
        training: bool = False,
        rng: Generator | None = None,
    ) -> tuple[Array, Any]:
        """Look up the vectors of the ids; in training some tokens of the vocabulary are missing."""
        x = self.require_ids(x)
        self.ensure_built(x)
        y = self.params["W"][x]
        if not training or not self.dropout:
            return y, (x, None)
        m = dropout_mask(self.rng(rng), (self.input_dim,), self.dropout, y.real.dtype)[
            x, None
        ]  # (B, T, 1)
        return y * m, (x, m)

    def backward(self, dy: Array, saved: Any) -> tuple[None, Gradients]:
        """Give dW: each row is the sum of dy over the places where its token stood."""
        (x, m), W = saved, self.params["W"]
        # y = y * m
        if m is not None:
            dy = dy * m
        if kernels.takes(dy, W):
            return None, {"W": kernels.embedding_gradient(x, dy, len(W))}
        x = x.reshape(-1)
        # y = W[x]: rows of dy sorted by token, so that each sum runs over one contiguous piece
        order = np.argsort(x, kind="stable")
        tokens, first = np.unique(x[order], return_index=True)
        dW = np.zeros(W.shape, dy.dtype)
        if tokens.size:
            dW[tokens] = np.add.reduceat(dy.reshape(-1, W.shape[1])[order], first, axis=0)
        return None, {"W": dW}

    def require_ids(self, x: Any) -> Array:
        """Give x as an array of token ids, or say which one is wrong and where."""
        x = as_integers(
            self.name, x, "x", "integer token ids", "use x.astype(int) if they are whole numbers"
        )
        if not is_within(x, self.input_dim):
            wrong = (x < 0) | (x >= self.input_dim)
            where = tuple(int(i) for i in np.argwhere(wrong)[0])
            token = int(x[where])
            need = f"; use input_dim={token + 1} or more" if token > 0 else ""
            raise ValueError(
                f"{self.name}: token ids must be in 0..{self.input_dim - 1}, "
                f"got {token} at {spell(where)}{need}"
            )
        return x
