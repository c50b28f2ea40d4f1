"""Damage files of every form that is read, and read them: one sentence, little memory, no code.

Bytes are flipped, cut off, inserted, doubled and taken from another file of the same form. What is
still readable is fine; what is not raises ValueError (CheckpointError, ConversionError, AudioError
are such), says so in one line, and takes no more memory than a few times the file.
"""

import importlib.util
import json
import os
import pickle
import tempfile
import time
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("GRU_NP_KERNELS", "0")

import numpy as np
from counting import BrokenPromiseError, data, main, make, require, settings

from gru_np import interop, series, speech, text

MEMORY = 64 * 2**20  # bytes beyond four times the file's own
SECONDS = 10.0
Reader = Callable[[Path], object]


def run(cases: int, rng: np.random.Generator, counts: Counter) -> None:
    """Read damaged files in turn; first those that were crafted to run code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        forms = _forms(folder)
        planted = folder / "planted"
        for crafted in _crafted(folder, planted):
            for reader, _ in forms.values():
                _read(reader, crafted, counts)
            require(not planted.exists(), f"{crafted.name}: code in a file was run")
            counts["crafted files that ran no code"] += 1
        originals = {form: path.read_bytes() for form, (_, path) in forms.items()}
        for case in range(cases):
            form = list(forms)[case % len(forms)]
            reader, path = forms[form]
            damaged = path.with_name(f"damaged-{path.name}")
            damaged.write_bytes(_damage(originals[form], rng))
            _read(reader, damaged, counts)
            counts[f"{form} files"] += 1


def _read(reader: Reader, path: Path, counts: Counter) -> None:
    """Read one file; anything but a result or a sentence is a broken promise."""
    tracemalloc.start()
    begin = time.monotonic()
    try:
        reader(path)
        counts["read all the same"] += 1
    except (ValueError, OSError, ImportError) as error:  # the last names the extra that reads it
        sentence = str(error)
        if not sentence or len(sentence.splitlines()) > 2:
            raise BrokenPromiseError(f"{_kept(path)}: no sentence but {sentence!r}") from error
        counts["refused in a sentence"] += 1
    except Exception as error:
        raise BrokenPromiseError(f"{_kept(path)}: {type(error).__name__}: {error}") from error
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    if peak >= MEMORY + 4 * path.stat().st_size:
        raise BrokenPromiseError(f"{_kept(path)}: {peak:,} bytes of memory")
    if time.monotonic() - begin >= SECONDS:
        raise BrokenPromiseError(f"{_kept(path)}: over {SECONDS:g} seconds")


def _kept(path: Path) -> str:
    """Copy a file that broke a promise to where it outlives this process, and name it."""
    kept = Path(tempfile.gettempdir(), f"gru_np-stress-{path.name}")
    kept.write_bytes(path.read_bytes())
    return str(kept)


def _damage(content: bytes, rng: np.random.Generator) -> bytes:
    """Do one to four kinds of damage to the content of a file."""
    damaged = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(len(damaged) + 1))
        size = int(rng.integers(1, 40))
        kind = rng.integers(6)
        if kind == 0 and damaged:
            damaged[at % len(damaged)] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del damaged[at:]
        elif kind == 2:
            damaged[at:at] = rng.bytes(size)
        elif kind == 3:
            damaged[at : at + size] = damaged[at : at + size] * 2
        elif kind == 4:
            damaged[at : at + size] = b"\xff" * size
        else:  # numbers and punctuation in text, where the meaning is
            damaged[at : at + 1] = bytes([rng.choice(list(b'0123456789-.,:;"{}[]\n e'))])
    return bytes(damaged)


def _forms(folder: Path) -> dict[str, tuple[Reader, Path]]:
    """Write a good file of every form, and say what reads it."""
    model = make("language model")
    model.fit(*data("language model"), **settings("language model"))
    names = {"checkpoint": "a.safetensors", "PyTorch": "b.torch.safetensors"}
    if importlib.util.find_spec("onnx"):
        names["ONNX"] = "c.onnx"
    if importlib.util.find_spec("h5py"):
        names["Keras"] = "d.keras"
    forms: dict[str, tuple[Reader, Path]] = {}
    for form, name in names.items():
        interop.write(model, folder / name)
        forms[form] = (interop.read, folder / name)
    model.save(folder / "resumed.safetensors")
    forms["run to resume"] = (_resume, folder / "resumed.safetensors")

    speech.write_wav(folder / "tone.wav", np.sin(np.arange(400) / 5), 8000)
    forms["WAV"] = (speech.read_audio, folder / "tone.wav")
    days = np.datetime64("2024-02-27") + np.arange(30)
    rows = "".join(f"{day},{i / 7:.3f},{i % 5}\n" for i, day in enumerate(days))
    (folder / "table.csv").write_text("date,load,kind\n" + rows)
    forms["CSV"] = (series.read_csv, folder / "table.csv")
    (folder / "words.vec").write_text("2 3\napple .1 .2 .3\npear 1e-2 -4 5\n")
    forms["word vectors"] = (text.load_vectors, folder / "words.vec")
    tokenizer = text.Tokenizer()
    tokenizer.fit_on_texts(["an apple, a pear", "a plum"])
    (folder / "tokenizer.json").write_text(tokenizer.to_json())
    forms["tokenizer"] = (_read_tokenizer, folder / "tokenizer.json")
    return forms


def _resume(path: Path) -> object:
    """Go on with a run as `fit(resume=...)` does, which believes more of a file than `load`."""
    return make("language model").fit(
        *data("language model"), epochs=1, resume=path, **settings("language model")
    )


def _read_tokenizer(path: Path) -> object:
    return text.tokenizer_from_json(path.read_text(encoding="utf-8"))


class _Planted:
    """What a pickle makes: a call of the reader's `open`."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def _crafted(folder: Path, planted: Path) -> list[Path]:
    """Write files that run code where a reader unpickles, imports or evaluates what they say."""
    bomb = pickle.dumps({"state_dict": _Planted(planted)})
    call = f"open({str(planted)!r}, 'w')"
    lambdas = {"module": "builtins", "class_name": "Lambda", "config": {"function": call}}
    model = {"class_name": "Sequential", "config": {"layers": [lambdas]}}
    content = {
        "pickle.pt": bomb,
        "pickle.safetensors": bomb,
        "code.py": call.encode(),
        "array.npy": np.lib.format.MAGIC_PREFIX + bytes([1, 0, 118, 0]) + bomb,
        "model.json": json.dumps(model).encode(),
        "table.csv": f"a,b\n={call},1\n__import__('os'),2\n".encode(),
    }
    made = []
    for name, bytes_of in content.items():
        made.append(folder / name)
        made[-1].write_bytes(bytes_of)
    archives = {
        "archive.pt": {"archive/data.pkl": bomb, "archive/version": b"3"},
        "lambda.keras": {"config.json": json.dumps(model).encode(), "model.weights.h5": b""},
        "upwards.keras": {"../planted": b"x", "config.json": b"{}"},
    }
    for name, members in archives.items():
        made.append(folder / name)
        with zipfile.ZipFile(made[-1], "w") as archive:
            for member, bytes_of in members.items():
                archive.writestr(member, bytes_of)
    return made


if __name__ == "__main__":
    main("files", __doc__, run, short=600, long=58_000)
