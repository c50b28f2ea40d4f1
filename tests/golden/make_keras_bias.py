"""Nine steps of Keras on a small GRU whose bias is clipped or constrained, for tests/test_bias.py.

Run with Keras 3, any backend: `python make_keras_bias.py > keras_bias.json`.
"""

import json
import sys

import keras
import numpy as np

keras.config.set_floatx("float64")
rng = np.random.default_rng(7)
x, y = rng.standard_normal((4, 5, 3)).round(2), rng.standard_normal((4, 2)).round(2)
kernel, recurrent = (rng.standard_normal((n, 12)).round(2) / 2 for n in (3, 4))
dense = rng.standard_normal((4, 2)).round(2)


def run(optimizer, reset_after, constraint=None):
    """Give the predictions and the bias after nine steps on one batch."""
    gru = keras.layers.GRU(4, reset_after=reset_after, bias_constraint=constraint)
    model = keras.Sequential([keras.layers.Input((5, 3)), gru, keras.layers.Dense(2)])
    bias = np.full((2, 12) if reset_after else 12, 0.03)
    model.set_weights([kernel, recurrent, bias, dense, np.zeros(2)])
    model.compile(optimizer, "mse")
    for _ in range(9):
        model.train_on_batch(x, y)
    return {"y": model.predict(x, verbose=0).tolist(), "bias": model.get_weights()[2].tolist()}


def sgd(**options):
    """Make the optimiser of most runs."""
    return keras.optimizers.SGD(0.3, **options)


runs = {}
for form in (True, False):
    rows = "after" if form else "before"
    runs[f"sgd {rows}"] = run(sgd(), form)
    runs[f"adam {rows}"] = run(keras.optimizers.Adam(0.05), form)
    runs[f"clipnorm {rows}"] = run(sgd(clipnorm=0.05), form)
    runs[f"adam clipnorm {rows}"] = run(keras.optimizers.Adam(0.05, clipnorm=0.05), form)
    runs[f"max_norm {rows}"] = run(sgd(), form, keras.constraints.MaxNorm(0.03))
    runs[f"unit_norm {rows}"] = run(sgd(), form, keras.constraints.UnitNorm())
    runs[f"non_neg {rows}"] = run(sgd(), form, keras.constraints.NonNeg())
data = {"x": x, "y": y, "kernel": kernel, "recurrent": recurrent, "dense": dense}
data = {name: array.tolist() for name, array in data.items()}
json.dump({"keras": keras.__version__, "data": data, "runs": runs}, sys.stdout)
