"""The files of Keras: `.keras` archives and `.weights.h5`, read and written without Keras.

An archive is read as what it is, a zip with a JSON and an HDF5 file: class names come from a closed
table, nothing is imported by name or run, links are not followed, and the shape of every dataset is
compared with what the settings call for before it is read. h5py is all that is needed.

    layers/<class>[_<n>]/vars/<i>                       Embedding, Dense, LayerNormalization
    layers/gru/cell/vars/<i>                            kernel, recurrent_kernel, bias
    layers/bidirectional/forward_layer/cell/vars/<i>    and backward_layer
"""

import io
import json
import lzma
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gru_np._aliases import Array, Shape
from gru_np._checks import spell
from gru_np._files import open_input
from gru_np._replace import replace_file
from gru_np.interop import layouts
from gru_np.interop.common import (
    Conversion,
    ConversionError,
    as_float_array,
    assemble,
    directions,
    parameters_of,
    require_package,
)
from gru_np.interop.keras_settings import WHO, Entry, chain, describe, entries_of, major
from gru_np.layers import (
    GRU,
    Bidirectional,
    Dense,
    Embedding,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Layer,
    LayerNormalization,
    Masking,
)
from gru_np.model import Sequential

_MAX_TRIES = 10_000  # ways to place the layers of a model in a file of weights
_OF_FILE = Conversion(
    unchecked=("nothing was run: a file is read without Keras; settings and shapes were compared",)
)
_OF_WEIGHTS = Conversion(
    unchecked=("nothing was run: a file is read without Keras; shapes were compared",),
    assumed=("the settings are those of the model that took the weights; the file has none",),
)
_MAX_CONFIG = 2**24  # bytes of JSON; a model of a hundred layers has a few 100,000


# ------------------------------------------------------------------------------ arrays, both ways
# A layer of Keras' keeps arrays in places below it: {place: [array, ...]}, "" being its own.


def shapes_of(layer: Layer, features: int | None) -> dict[str, list[tuple[int, ...]]]:
    """Give the shapes Keras has for a layer that is fed this many features."""
    shapes = [p.shape for p in layer.parameters((None, None, features)).values()]
    if isinstance(layer, GRU | Bidirectional):
        places: dict[str, list[tuple[int, ...]]] = {}
        for prefix, gru in directions(layer):
            rows = 3 * gru.units
            bias = [(2, rows) if gru.reset_after else (rows,)] if gru.use_bias else []
            place = f"{prefix[:-1]}_layer/cell" if prefix else "cell"
            places[place] = [(features or 0, rows), (gru.units, rows), *bias]
        return places
    if isinstance(layer, Dense):
        shapes = [shape[::-1] for shape in shapes]
    return {"": shapes} if shapes else {}


def to_places(layer: Layer, params: Mapping[str, Array]) -> dict[str, list[Array]]:
    """From our parameters to Keras' arrays."""
    if isinstance(layer, GRU | Bidirectional):
        places = {}
        for prefix, gru in directions(layer):
            own = {k.removeprefix(prefix): a for k, a in params.items() if k.startswith(prefix)}
            place = f"{prefix[:-1]}_layer/cell" if prefix else "cell"
            places[place] = layouts.to_keras_arrays(own, gru.reset_after)
        return places
    if isinstance(layer, Dense):
        return {"": [np.ascontiguousarray(a.T) for a in params.values()]}
    return {"": list(params.values())} if params else {}


def _from_places(layer: Layer, places: Mapping[str, list[Array]]) -> dict[str, Array]:
    """From Keras' arrays to our parameters."""
    if isinstance(layer, GRU | Bidirectional):
        return {
            prefix + name: array
            for (prefix, gru), arrays in zip(directions(layer), places.values(), strict=True)
            for name, array in layouts.from_keras_arrays(arrays, gru.reset_after).items()
        }
    arrays = places.get("", [])
    if isinstance(layer, Dense):
        return dict(zip(("W", "b"), [a.T for a in arrays], strict=False))
    if isinstance(layer, LayerNormalization):
        names = [n for n, wanted in (("gamma", layer.scale), ("beta", layer.center)) if wanted]
        return dict(zip(names, arrays, strict=True))
    return dict(zip(("W",), arrays, strict=False))


def masked_outputs(model: Sequential) -> tuple[str, ...]:
    """Say where a mask makes outputs that nothing should read differ."""
    masked = any(isinstance(a, Masking) or getattr(a, "mask_zero", False) for a in model.layers)
    twofold = [a.name for a in model.layers if isinstance(a, Bidirectional)
               and a.layer.return_sequences]  # fmt: skip
    if not (masked and twofold):
        return ()
    return (
        f"outputs at steps that the mask leaves out: {', '.join(twofold)} gives zeros there in "
        "Keras, the state it carried here",
    )


def fill(
    entries: list[Entry], features: int | None, read: Callable[..., dict[str, list[Array]]]
) -> list[tuple[Layer, dict[str, Array]]]:
    """Read the parameters of each layer, once it is known which shapes they must have."""
    rows = []
    zeroing = [entry.source for entry in entries if entry.zeroes]
    require_masks_alike(WHO, [entry.layer for entry in entries], zeroing)
    shape: Shape = (None, None, features)
    for entry in entries:
        if isinstance(entry.layer, Embedding):
            shape = (None, None)
        try:
            wanted = shapes_of(entry.layer, shape[-1])
        except ValueError as error:
            raise ConversionError(f"{WHO}: {error}") from error
        rows.append((entry.layer, _from_places(entry.layer, read(entry, wanted))))
        shape = entry.layer.output_shape(shape)
    return rows


def require_masks_alike(who: str, layers: list[Layer], zeroing: Sequence[str] = ()) -> None:
    """Refuse the three places where a mask means another thing there than here.

    Behind a GRU which turns the sequence round, on its way to another or to a mean over time,
    Keras hands the mask on as it is, and ours turns it round with the sequence. Keras' largest
    value over time is that of padding too. And its GRU can give zeros at steps that do not count.
    """
    turned: Layer | None = None
    masked = False
    for layer in layers:
        masked |= isinstance(layer, Masking) or (isinstance(layer, Embedding) and layer.mask_zero)
        if masked and isinstance(layer, GlobalMaxPooling1D):
            raise ConversionError(
                f"{who}: {layer.name} (GlobalMaxPooling1D) pools masked steps in Keras, not here; "
                "GlobalAveragePooling1D leaves them out in both"
            )
        recurrent = isinstance(layer, GRU | Bidirectional)
        if masked and layer.name in zeroing:
            raise ConversionError(
                f"{who}: {layer.name} has zero_output_for_mask=True, and gives zeros where the "
                "mask leaves a step out; ours gives the state it carried"
            )
        pooled = isinstance(layer, GlobalAveragePooling1D | GlobalMaxPooling1D)
        if masked and (recurrent or pooled) and turned is not None:
            raise ConversionError(
                f"{who}: {turned.name} has go_backwards=True, and the mask that goes on from it to "
                f"{layer.name} is in the order of the input in Keras, in that of the output here"
            )
        if isinstance(layer, GRU) and layer.go_backwards and layer.return_sequences:
            turned = layer
        if pooled or (recurrent and not directions(layer)[0][1].return_sequences):
            masked = False


def require_shapes(who: str, wanted: list[Any], found: list[Any]) -> None:
    """Refuse arrays of other shapes than the settings call for."""
    if wanted != found:
        raise ConversionError(
            f"{WHO}: {who}: the settings call for arrays {', '.join(map(spell, wanted)) or 'none'}"
            f"; found {', '.join(map(spell, found)) or 'none'}"
        )


# ------------------------------------------------------------------------------- reading files


def from_file(path: str, into: Sequential | None) -> Sequential:
    """Read an archive; or weights alone, into a model that is there."""
    if path.endswith(".keras"):
        if into is not None:
            raise ValueError(f"{WHO}: into is for .weights.h5; a .keras archive has its settings")
        return _guarded(path, _from_archive)
    if not path.endswith(".weights.h5"):
        raise ConversionError(
            f"{WHO}: {path} must end in .keras or .weights.h5; Keras 3 writes both, with "
            "model.save and model.save_weights"
        )
    if into is None:
        raise ConversionError(
            f"{WHO}: {path} holds weights and no settings (activations, masks, the order of the "
            "layers); use the .keras archive, or pass into=the built model that takes them"
        )
    if not into.built:
        raise ValueError(f"{WHO}: the model given as into must be built first")

    def take(path: str) -> Sequential:
        h5py = require_package("h5py", "keras", WHO)
        with open_input(path) as stream, h5py.File(stream, "r") as file:
            entries = _places_in(file, into)
            assert into.input_shape is not None
            read: set[str] = set()
            rows = fill(entries, into.input_shape[-1], _reader(file, read))
            _require_all_read(file, read)
        into.set_weights([array for _, params in rows for array in params.values()])
        into.conversion = _OF_WEIGHTS
        return into

    return _guarded(path, take)


def _places_in(file: Any, into: Sequential) -> list[Entry]:
    """Find the place of each layer in a file of weights, which names the classes of Keras' alone.

    A Dense may stand inside a TimeDistributed there, a GRU be an RNN around a GRUCell. Which of
    ours is which follows from how many there are, and from the shapes; or it is left open.
    """
    groups = _open(file, "layers", "Group")
    entries = entries_of(describe(into)["config"]["layers"][1:], 3)
    other = {Dense: "time_distributed", GRU: "rnn"}
    present = {
        base: sum(name == base or name.rpartition("_")[0] == base for name in groups)
        for base in other.values()
    }
    found: list[list[Entry]] = []
    tried = 0

    def place(i: int, done: list[Entry], counts: dict[str, int], shape: Shape) -> None:
        nonlocal tried
        if len(found) > 1 or (tried := tried + 1) > _MAX_TRIES:
            return
        if i == len(entries):
            if all(counts.get(base, 0) == present[base] for base in present):
                found.append(done)
            return
        entry = entries[i]
        bases = [base for cls, base in other.items() if type(entry.layer) is cls and present[base]]
        for base in [entry.place.split("/")[1].rstrip("_0123456789"), *bases]:
            number = counts.get(base, 0)
            where = f"layers/{base}_{number}" if number else f"layers/{base}"
            option = entry._replace(place=where, wrapped=base == "time_distributed")
            try:
                _datasets(file, option, shapes_of(entry.layer, shape[-1]))
            except ConversionError:
                continue
            after = entry.layer.output_shape((None, None) if isinstance(entry.layer, Embedding)
                                             else shape)  # fmt: skip
            place(i + 1, [*done, option], counts | {base: number + 1}, after)

    assert into.input_shape is not None
    if not any(present.values()):
        return entries
    place(0, [], {}, into.input_shape)
    if len(found) != 1:
        raise ConversionError(
            f"{WHO}: the file has {', '.join(f'{n} {base}' for base, n in present.items() if n)}, "
            "and which layers of the model they are "
            + ("is left open" if found else "cannot be found out")
            + "; use the .keras archive, which says so"
        )
    return found[0]


def _guarded(path: str, read: Callable[[str], Sequential]) -> Sequential:
    """Let every fault of a file end in one sentence that names it."""
    require_package("h5py", "keras", WHO)
    try:
        return read(path)
    except ConversionError as error:
        raise ConversionError(f"{error} ({path})") from error
    except (
        OSError, EOFError, LookupError, TypeError, AttributeError, ValueError, ArithmeticError,
        RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, AssertionError,
    ) as error:  # fmt: skip
        raise ConversionError(f"{WHO}: {path} cannot be read: {error!r}") from error


def _from_archive(path: str) -> Sequential:
    import h5py

    with open_input(path) as whole, zipfile.ZipFile(whole) as archive:
        names = [info.filename for info in archive.infolist()]
        if len(set(names)) != len(names):
            raise ConversionError(f"{WHO}: the archive holds two files of one name")
        metadata = _settings(archive, "metadata.json")
        version = major(metadata.get("keras_version"), "metadata.json")
        config = _settings(archive, "config.json")
        described, shape = chain(config)
        enters = shape or [None, None, None]
        entries = entries_of(described, version)
        if archive.getinfo("model.weights.h5").compress_type != zipfile.ZIP_STORED:
            raise ConversionError(
                f"{WHO}: model.weights.h5 must lie in the archive uncompressed, as Keras puts it"
            )
        # Stored, it is read in place: nothing is unpacked, to memory or to disk.
        with archive.open("model.weights.h5") as stream, h5py.File(stream, "r") as file:
            read: set[str] = set()
            model = assemble(WHO, fill(entries, enters[-1], _reader(file, read)), len(enters))
            _require_all_read(file, read)
    model.conversion = Conversion(unchecked=_OF_FILE.unchecked + masked_outputs(model))
    return model


def _settings(archive: zipfile.ZipFile, name: str) -> Any:
    """Read settings from an archive, if they are of a size that settings have."""
    size = archive.getinfo(name).file_size
    if size > _MAX_CONFIG:
        raise ConversionError(f"{WHO}: {name} must have at most {_MAX_CONFIG} bytes, has {size}")
    with archive.open(name) as stream:
        return json.loads(stream.read(_MAX_CONFIG))


def _datasets(
    file: Any, entry: Entry, wanted: Mapping[str, list[tuple[int, ...]]]
) -> dict[str, list[Any]]:
    """Find the arrays of one layer, unread, and require their shapes."""
    datasets = {}
    for place, shapes in wanted.items():
        inside = (entry.place, "layer" if entry.wrapped else "", place, "vars")
        group = _open(file, "/".join(part for part in inside if part), "Group")
        datasets[place] = [_open(group, str(i), "Dataset") for i in range(len(group))]
        require_shapes(entry.source, shapes, [d.shape for d in datasets[place]])
    return datasets


def _reader(file: Any, done: set[str]) -> Callable[..., dict[str, list[Array]]]:
    """Give what reads the arrays of one layer, and notes in `done` which it has read."""

    def read(entry: Entry, wanted: Mapping[str, list[tuple[int, ...]]]) -> dict[str, list[Array]]:
        arrays = {}
        for place, datasets in _datasets(file, entry, wanted).items():
            arrays[place] = [as_float_array(WHO, entry.source, _read_dataset(d)) for d in datasets]
            done.update(d.name for d in datasets)
        return arrays

    return read


def _require_all_read(file: Any, read: set[str]) -> None:
    """Refuse a file that holds weights which nothing in its settings takes."""
    import h5py

    def look(name: str, item: Any) -> str | None:
        known = not isinstance(item, h5py.Dataset) or "seed_generator" in name
        return None if known or f"/layers/{name}" in read else name

    extra = _open(file, "layers", "Group").visititems(look)
    if extra is not None:
        raise ConversionError(
            f"{WHO}: the file holds layers/{extra}, which no layer of the settings takes; it "
            "would be lost"
        )


def _open(group: Any, path: str, kind: str) -> Any:
    """Go down the path by hard links alone: others can point into other files."""
    import h5py

    for name in path.split("/"):
        link = group.get(name, getlink=True) if isinstance(group, h5py.Group) else None
        if link is None:
            raise ConversionError(f"{WHO}: expected {path} in the HDF5 file, found no {name}")
        if not isinstance(link, h5py.HardLink):
            raise ConversionError(
                f"{WHO}: {path} in the HDF5 file is a {type(link).__name__}, which is not followed"
            )
        group = group[name]
    if type(group).__name__ != kind:
        raise ConversionError(f"{WHO}: expected {path} to be a {kind}, found {group!r}")
    return group


def _read_dataset(dataset: Any) -> Array:
    """Read a dataset whose bytes lie in the file itself, as they are."""
    if dataset.external or dataset.is_virtual:
        raise ConversionError(f"{WHO}: {dataset.name} keeps its data in another file")
    if dataset.id.get_create_plist().get_nfilters():
        raise ConversionError(f"{WHO}: {dataset.name} is compressed, which Keras does not do")
    if dataset.dtype.kind != "f" or dataset.dtype.itemsize > 8:
        raise ConversionError(f"{WHO}: {dataset.name} must hold floats, got {dataset.dtype}")
    if dataset.size and dataset.id.get_storage_size() < dataset.nbytes:
        raise ConversionError(f"{WHO}: {dataset.name} is longer than what the file holds of it")
    return dataset[()]


# ------------------------------------------------------------------------------- writing files


def write_file(who: str, path: str, model: Sequential, described: dict[str, Any]) -> None:
    """Write an archive, or weights alone; replaced whole or not at all."""
    if not path.endswith((".keras", ".weights.h5")):
        raise ValueError(f"{who}: path must end in .keras or .weights.h5, got {path}")
    h5py = require_package("h5py", "keras", who)
    weights = io.BytesIO()
    entries = entries_of(described["config"]["layers"][1:], 3)
    with h5py.File(weights, "w") as file:
        file.create_group("vars")
        for layer, entry in zip(model.layers, entries, strict=True):
            file.create_group(f"{entry.place}/vars")
            for place, arrays in to_places(layer, parameters_of(layer)).items():
                group = file.require_group("/".join(p for p in (entry.place, place, "vars") if p))
                for i, array in enumerate(arrays):
                    group.create_dataset(str(i), data=array)
    if path.endswith(".weights.h5"):
        replace_file(path, [memoryview(weights.getvalue())])
        return
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        # A fixed date: equal models give equal bytes.
        for name, content in (
            ("metadata.json", json.dumps({"keras_version": "3.0.0", "date_saved": ""}).encode()),
            ("config.json", json.dumps(described).encode()),
            ("model.weights.h5", weights.getvalue()),
        ):
            file.writestr(zipfile.ZipInfo(name), content)
    replace_file(path, [memoryview(archive.getvalue())])
