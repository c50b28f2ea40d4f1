"""Write keras2.json: archives of Keras 2 (tf_keras), with an input and what Keras 2 makes of it.

    python tests/golden/make_keras2.py    # needs tensorflow and tf_keras

Each case holds config.json as Keras 2 wrote it, the datasets of its HDF5 file by name, x and y; a
case whose settings gru_np cannot follow is here to be refused. Weights have two decimals, which
keeps the file small.
"""

import io
import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np

PATH = Path(__file__).with_name("keras2.json")
B, T, F, V = 3, 5, 2, 7


def cases():
    """Give the models by name; a batch of numbers (B, T, F) or of ids (B, T) goes in."""
    import tf_keras as keras

    L = keras.layers
    numbers, ids = keras.Input((None, F)), keras.Input((None,))
    y = L.Embedding(V, 3, mask_zero=True)(ids)
    y = L.Bidirectional(L.GRU(2, return_sequences=True), merge_mode="ave")(y)
    y = L.RNN(L.GRUCell(4, reset_after=False), return_sequences=True)(L.LayerNormalization()(y))
    functional = keras.Model(ids, L.Dense(2, activation="softmax")(L.GRU(3)(L.Dropout(0.3)(y))))
    yield "a row of numbers", keras.Sequential([
        numbers,
        L.Masking(0.0),
        L.GRU(4, return_sequences=True, implementation=1, activation="relu"),
        L.TimeDistributed(L.Dense(3, activation="tanh")),
        L.GRU(2, go_backwards=True, use_bias=False),
        L.LayerNormalization(),
    ])  # fmt: skip
    yield "a functional model of ids", functional
    yield "time first", keras.Sequential([numbers, L.GRU(4, time_major=True)])
    yield (
        "a hard sigmoid",
        keras.Sequential([numbers, L.GRU(4, recurrent_activation="hard_sigmoid")]),
    )
    yield (
        "zeros where masked",
        keras.Sequential([numbers, L.Masking(), L.GRU(4, zero_output_for_mask=True)]),
    )


def main():
    import h5py

    written = {}
    for number, (name, model) in enumerate(cases()):
        rng = np.random.default_rng(number)
        model.set_weights([np.round(0.6 * rng.standard_normal(w.shape), 2) for w in model.weights])
        if len(model.input_shape) == 2:
            x = rng.integers(1, V, (B, T))
            x[0, 3:] = x[2, :2] = 0
        else:
            x = np.round(rng.standard_normal((B, T, F)), 2)
            x[0, 3:] = x[2, 1] = 0
        with tempfile.TemporaryDirectory() as folder:
            model.save(f"{folder}/m.keras")
            with zipfile.ZipFile(f"{folder}/m.keras") as archive:
                parts = {part: archive.read(part) for part in archive.namelist()}
        arrays = {}

        def keep(path, item, arrays=arrays):
            if isinstance(item, h5py.Dataset):
                arrays[path] = np.round(item[()].astype(float), 2).tolist()

        with h5py.File(io.BytesIO(parts["model.weights.h5"])) as file:
            file.visititems(keep)
        written[name] = {
            "metadata": json.loads(parts["metadata.json"]) | {"date_saved": ""},
            "config": json.loads(parts["config.json"]),
            "arrays": arrays,
            "x": x.tolist(),
            "y": np.asarray(model(x, training=False)).tolist(),
        }
    PATH.write_text(json.dumps(written, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
