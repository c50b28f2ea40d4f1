"""Every model that the documentation makes is saved, loaded and converted: exact, or refused.

What is right is what the model itself predicts.
"""

import doctest
import runpy

import numpy as np
import pytest
from test_docs import ROOT, documented, installed, python_blocks

from gru_np import Sequential, interop
from gru_np.interop import ConversionError
from gru_np.interop.common import random_batch

FORMS = {".safetensors": None, "": None, ".py": None, ".torch.safetensors": None,
         ".keras": "h5py", ".onnx": "onnx"}  # fmt: skip


def with_models():
    """The docstrings whose examples make a model and need NumPy alone."""
    for test in documented():
        source = "".join(example.source for example in test.examples)
        needs = [
            p for p in ("torch", "keras", "matplotlib", "soundfile") if f"import {p}" in source
        ]
        if "Sequential" in source and not needs:
            yield test


def moves(model, folder):
    """Move a built model through every form; give the forms it could not have."""
    x = random_batch(model, 3, 5)
    y = model.predict(x, batch_size=3)
    for layer in model.layers:
        if hasattr(layer, "reset_states"):
            layer.reset_states()
    refused = []
    for ending, package in FORMS.items():
        if package is not None and not installed(package):
            continue
        path = folder / f"model{ending}"
        try:
            interop.write(model, path)
            if ending == ".py":
                found = runpy.run_path(str(path))["predict"](x)
            else:
                found = interop.read(path).predict(x, batch_size=3)
        except ConversionError:
            refused.append(ending)
            continue
        if ending in ("", ".safetensors"):
            np.testing.assert_array_equal(found, y)
        # A state dict has no masks: only where there is none is it the whole model.
        elif ending != ".torch.safetensors" or not any(
            getattr(layer, "mask_zero", False) for layer in model.layers
        ):
            scale = max(1.0, float(np.abs(y).max()))
            assert np.abs(found - y).max() <= 1e-5 * scale, ending
    return refused


@pytest.mark.parametrize("test", list(with_models()), ids=lambda test: test.name)
def test_models_of_the_docstrings_move(test, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False).run(
        test, out=lambda text: None, clear_globs=False
    )
    for value in list(test.globs.values()):
        carries = isinstance(value, Sequential) and value.built and value.layers
        if carries and all(np.isfinite(array).all() for array in value.get_weights()):
            refused = moves(value, tmp_path)
            assert not {".safetensors", ""} & set(refused)


def test_models_of_the_readme_move(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "readme"}
    for code, _ in python_blocks((ROOT / "README.md").read_text(encoding="utf-8")):
        exec(compile(code, "README.md", "exec"), names)
    models = [value for value in names.values() if isinstance(value, Sequential)]
    assert models
    for model in models:
        assert not moves(model, tmp_path)
