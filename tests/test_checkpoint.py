"""Checkpoints: what is saved comes back, to the bit, here and in other readers."""

import json
import math
import os
import stat
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_np import _safetensors, checkpoint
from gru_np.checkpoint import CheckpointError

CONFIG = {
    "layers": [{"class": "GRU", "units": 4, "reset_after": True}],
    "vocabulary": ["<pad>", "Ünï", "日本", "😀", '"\\\n'],
    "history": {"loss": [1.5, math.nan, math.inf, -math.inf]},
    "random": {"state": 2**127 + 12345, "learning_rate": 0.1, "none": None},
}


def some_arrays():
    rng = np.random.default_rng(7)
    return {
        "params/W": rng.standard_normal((12, 4)).astype(np.float32),
        "params/b": rng.standard_normal(12),
        "step": np.array(17, np.int64),
        "seen": np.array([True, False, True]),
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture
def saved(path):
    checkpoint.save(path, CONFIG, some_arrays())
    return path


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# ---------------------------------------------------------------------------- what comes back


def test_config_and_arrays_come_back_exactly(saved):
    config, arrays = checkpoint.load(saved)
    assert repr(config) == repr(CONFIG)  # repr, for NaN differs from itself
    assert arrays.keys() == some_arrays().keys()
    for name, array in some_arrays().items():
        assert same_bits(arrays[name], array), name
    assert repr(checkpoint.read_config(saved)) == repr(CONFIG)


@pytest.mark.parametrize(
    "dtype", ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "q", "Q"]
)
def test_every_dtype_comes_back_in_every_layout(path, dtype):
    rng = np.random.default_rng(8)
    base = rng.integers(0, 256, (3, 4, 5)).astype(dtype)
    read_only = base.copy()
    read_only.flags.writeable = False
    arrays = {
        "contiguous": base,
        "transposed": base.T,
        "fortran": np.asfortranarray(base),
        "strided": base[:, ::2],
        "reversed": base[::-1, :, ::-1],
        "broadcast": np.broadcast_to(base[0, 0], (2, 3, 5)),
        "read-only": read_only,
        "byte-swapped": base.astype(base.dtype.newbyteorder(">")),
        "zero-dimensional": base[1, 2, 3, ...],
        "empty": base[:0],
        "empty inside": base[:, :0],
        "one": base[:1, :1, :1],
    }
    checkpoint.save(path, {}, arrays)
    _, loaded = checkpoint.load(path)
    for name, array in arrays.items():
        assert same_bits(loaded[name], array.astype(array.dtype.newbyteorder("="))), name


def test_special_floats_keep_their_bits(path):
    bits = np.array([0x7FF8000000000001, 0xFFF0000000000000, 0x8000000000000000, 1], np.uint64)
    checkpoint.save(path, {}, {"x": bits.view(np.float64)})
    assert np.array_equal(checkpoint.load(path)[1]["x"].view(np.uint64), bits)


def test_loaded_arrays_own_aligned_writable_memory(saved):
    for array in checkpoint.load(saved)[1].values():
        flags = array.flags
        assert flags.owndata and flags.writeable and flags.aligned and flags.c_contiguous
        assert array.dtype.isnative


def test_saving_changes_nothing_in_its_arguments(path):
    arrays, before = some_arrays(), repr(CONFIG)
    checkpoint.save(path, CONFIG, arrays)
    assert repr(CONFIG) == before
    assert all(same_bits(arrays[name], array) for name, array in some_arrays().items())


def test_equal_input_gives_equal_bytes(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    checkpoint.save(first, CONFIG, some_arrays())
    checkpoint.save(second, CONFIG, dict(reversed(some_arrays().items())))
    assert first.read_bytes() == second.read_bytes()


def test_loading_and_saving_again_gives_equal_bytes(saved, tmp_path):
    checkpoint.save(tmp_path / "again", *checkpoint.load(saved))
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()


def test_arrays_are_aligned_in_the_file(path):
    arrays = {dtype: np.ones(3, dtype) for dtype in ["u1", "f8", "f2", "f4", "?", "i8"]}
    checkpoint.save(path, {}, arrays)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    table = json.loads(data[8 : 8 + length])
    for name, array in arrays.items():
        assert table[name]["data_offsets"][0] % array.itemsize == 0


def test_the_metadata_is_strict_json(saved):
    metadata, _ = checkpoint.read_tensors(saved)
    content = json.loads(metadata["gru_np"], parse_constant=pytest.fail)
    assert content["format"] == 1
    assert content["config"]["history"]["loss"][1] == {"$float": "nan"}


# Keys that look like the mark of a NaN; lone surrogates, as from errors="surrogateescape".
AWKWARD = st.sampled_from(["$float", "$$float", "nan", "\ud800", "\x00", "__metadata__"])
TEXTS = st.text(max_size=5) | AWKWARD
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(config=st.dictionaries(TEXTS, JSON_VALUES, max_size=4))
def test_any_config_comes_back(config, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any config"
    path.write_bytes(b"".join(checkpoint._encode(config, {})))
    # To repr every NaN is the same, but the order of keys, -0.0, and 1, 1.0 or True are not.
    assert repr(checkpoint.read_config(path)) == repr(config)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(data=st.data())
def test_any_arrays_come_back(data, tmp_path_factory):
    names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=6)
    shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)
    dtypes = st.sampled_from(list(_safetensors.DTYPES.values()))
    drawn = data.draw(st.dictionaries(names, st.tuples(shapes, dtypes), max_size=5))
    rng = np.random.default_rng(len(drawn))
    arrays = {
        name: np.asarray(rng.integers(0, 120, shape)).astype(dtype)
        for name, (shape, dtype) in drawn.items()
    }
    path = tmp_path_factory.getbasetemp() / "any arrays"
    path.write_bytes(b"".join(checkpoint._encode({}, arrays)))
    _, loaded = checkpoint.load(path)
    assert loaded.keys() == arrays.keys()
    assert all(same_bits(loaded[name], array) for name, array in arrays.items())


def test_tuples_become_lists_and_numpy_scalars_numbers(path):
    config = {"t": (1, (2,)), "f": np.float32(0.1), "i": np.int64(3), "b": np.bool_(True)}
    checkpoint.save(path, config, {})
    loaded = checkpoint.read_config(path)
    assert loaded == {"t": [1, [2]], "f": float(np.float32(0.1)), "i": 3, "b": True}
    assert [type(loaded[key]) for key in "fib"] == [float, int, bool]


def nested(depth):
    value = math.nan
    for _ in range(depth - 1):
        value = [value]
    return {"a": value}


def test_a_config_may_be_30_deep_and_no_deeper(path):
    checkpoint.save(path, nested(30), {})
    assert repr(checkpoint.read_config(path)) == repr(nested(30))
    with pytest.raises(ValueError, match="at most 30 deep"):
        checkpoint.save(path, nested(31), {})
    endless = {}
    endless["again"] = endless
    with pytest.raises(ValueError, match="at most 30 deep"):
        checkpoint.save(path, endless, {})


def test_paths_of_every_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ["plain", b"bytes", "./dot", tmp_path / "absolute", "Ünï 日本", "n" * 255]:
        checkpoint.save(path, {"path": str(path)}, {})
        assert checkpoint.read_config(path) == {"path": str(path)}
    assert len(os.listdir()) == 6


def test_names_are_never_paths(path):
    names = ["../../etc/passwd", "/etc/passwd", "..", "C:\\x", "|ls", "a/b", "日本", "%s{0}"]
    checkpoint.save(path, {}, {name: np.ones(2) for name in names})
    assert sorted(checkpoint.load(path)[1]) == sorted(names)
    assert os.listdir(path.parent) == [path.name]


# ------------------------------------------------------------------------ what cannot be saved


@pytest.mark.parametrize(
    ("config", "arrays", "error", "text"),
    [
        ([], {}, TypeError, "config must be a dict, got list"),
        ({1: 2}, {}, TypeError, "keys of config must be str, got 1"),
        ({"a": [0, {"b": {1, 2}}]}, {}, TypeError, r"config\['a'\]\[1\]\['b'\] must be .* got set"),
        ({"a": b"bytes"}, {}, TypeError, "must be a JSON value, got bytes"),
        ({"a": np.ones(2)}, {}, TypeError, "must be a JSON value, got ndarray"),
        ({"a": 1j}, {}, TypeError, "must be a JSON value, got complex"),
        ({"a": np.longdouble(1)}, {}, TypeError, "must be a JSON value, got longdouble"),
        ({"a": 10**5000}, {}, ValueError, "4300 digits"),
        ({}, {"W": [1, 2]}, TypeError, "W must be a NumPy array without a mask, got list"),
        ({}, {"W": np.ma.ones(2)}, TypeError, "without a mask, got MaskedArray"),
        ({}, {"W": np.array(["a"])}, TypeError, "W must be bool, integer, or float .* got <U1"),
        ({}, {"W": np.array([None])}, TypeError, "got object"),
        ({}, {"W": np.ones(2, complex)}, TypeError, "got complex128"),
        ({}, {"W": np.ones(2, np.clongdouble)}, TypeError, "got c"),
        ({}, {"W": np.ones(2, "f4,i4")}, TypeError, "W must be"),
        ({}, {"W": np.ones(2, "M8[s]")}, TypeError, "W must be"),
        ({}, {"W": np.empty((0, 2**40))}, ValueError, "huge dimension"),
        ({}, {1: np.ones(2)}, TypeError, "names of arrays must be str, got 1"),
        ({}, {"": np.ones(2)}, ValueError, "1 to 1024 characters"),
        ({}, {"n" * 1025: np.ones(2)}, ValueError, "1 to 1024 characters"),
        ({}, {"__metadata__": np.ones(2)}, ValueError, "not be __metadata__"),
        ({}, {"a\x00b": np.ones(2)}, ValueError, "control characters"),
        ({}, {"\ud800": np.ones(2)}, ValueError, "surrogates"),
    ],
)
def test_what_cannot_be_saved_is_refused_and_nothing_written(saved, config, arrays, error, text):
    before = saved.read_bytes()
    with pytest.raises(error, match=text):
        checkpoint.save(saved, config, arrays)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_a_config_too_large_for_the_format_is_refused(path, monkeypatch):
    monkeypatch.setattr(_safetensors, "MAX_HEADER", 1000)
    with pytest.raises(ValueError, match="must fit into 1000 bytes, got 1"):
        checkpoint.save(path, {"a": "x" * 1000}, {})
    assert not path.exists()


# --------------------------------------------------------------------- what the caller expects


def test_expected_arrays_are_required_exactly(path):
    checkpoint.save(path, {}, {"W": np.ones((3, 2)), "b": np.ones(3), "old": np.ones(1)})
    wrong = {"W": ((2, 3), "f8"), "b": ((3,), np.float32), "new": ((4,), "f8")}
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path, lambda config: wrong)
    message = str(caught.value)
    assert "new is missing" in message
    assert "old is unexpected" in message
    assert "W is float64 (3, 2) instead of float64 (2, 3)" in message
    assert "b is float64 (3,) instead of float32 (3,)" in message
    right = {"W": ([3, 2], float), "b": ((3,), "f8"), "old": ((1,), np.dtype("f8"))}
    assert checkpoint.load(path, lambda config: right)[1].keys() == right.keys()


def test_a_long_list_of_differences_is_cut(path):
    checkpoint.save(path, {}, {})
    with pytest.raises(CheckpointError, match=r"49 is missing; and 950 more$"):
        checkpoint.load(path, lambda config: {str(i): ((1,), "f4") for i in range(1000)})


def test_expected_sees_the_config_before_the_arrays_are_read(path, monkeypatch):
    checkpoint.save(path, {"units": 4}, {"W": np.ones(5)})
    monkeypatch.setattr(_safetensors, "read_array", lambda *_: pytest.fail("read too early"))
    seen = []
    with pytest.raises(CheckpointError, match="W is unexpected"):
        checkpoint.load(path, lambda config: seen.append(config) or {})
    assert seen == [{"units": 4}]


@pytest.mark.parametrize(
    "expected",
    [
        lambda config: config["layers"],
        lambda config: config["units"]["x"],
        lambda config: config.layers,
        lambda config: {"W": ((1 // 0,), "f4")},
        lambda config: {"W": ((3,), "no dtype")},
        lambda config: {"W": 3},
        lambda config: None,
        lambda config: int("x"),
    ],
)
def test_a_config_the_caller_cannot_read_is_a_checkpoint_error(path, expected):
    checkpoint.save(path, {"units": 4}, {"W": np.ones(5)})
    with pytest.raises(CheckpointError, match="config is not that of a model"):
        checkpoint.load(path, expected)


def test_a_checkpoint_error_of_the_caller_gets_the_name_of_the_file(path):
    checkpoint.save(path, {"units": -4}, {})

    def expected(config):
        raise CheckpointError(f"units: expected a positive number, found {config['units']}")

    with pytest.raises(CheckpointError, match=r"model.safetensors: units: .* found -4"):
        checkpoint.load(path, expected)


def test_finite_numbers_are_required_where_asked_for(path):
    W, v = np.ones((3, 4), np.float32), np.full(2, np.inf)
    W[1, 2] = np.nan
    checkpoint.save(path, {}, {"params/W": W, "params/n": np.ones(2, int), "v/W": v})
    text = r"params/W\[1, 2\]: expected a finite number, found nan \(in all 1 of 12"
    for finite in (["params/"], ("v/x", "params/"), "params/"):
        with pytest.raises(CheckpointError, match=text):
            checkpoint.load(path, finite=finite)
    assert np.isnan(checkpoint.load(path)[1]["params/W"][1, 2])
    assert checkpoint.load(path, finite=["other/"])[1].keys() == {"params/W", "params/n", "v/W"}
    checkpoint.save(path, {}, {"scalar": np.array(np.nan)})
    with pytest.raises(CheckpointError, match=": scalar: expected a finite"):
        checkpoint.load(path, finite="scalar")


# ------------------------------------------------------------------- other readers and writers


def test_the_safetensors_library_reads_the_arrays(saved):
    numpy_reader = pytest.importorskip("safetensors.numpy")
    loaded = numpy_reader.load_file(saved)
    assert loaded.keys() == some_arrays().keys()
    for name, array in some_arrays().items():
        assert same_bits(loaded[name], array), name


def test_torch_reads_the_arrays(saved):
    pytest.importorskip("torch")
    torch_reader = pytest.importorskip("safetensors.torch")
    loaded = torch_reader.load_file(saved)
    for name, array in some_arrays().items():
        assert same_bits(loaded[name].numpy(), array), name


def test_plain_safetensors_files_of_others_are_read(path):
    numpy_writer = pytest.importorskip("safetensors.numpy")
    numpy_writer.save_file(some_arrays(), path, {"format": "np"})
    metadata, loaded = checkpoint.read_tensors(path)
    assert metadata == {"format": "np"}
    assert all(same_bits(loaded[name], array) for name, array in some_arrays().items())
    with pytest.raises(CheckpointError, match="expected a checkpoint of gru_np, found a safetens"):
        checkpoint.load(path)


def test_torch_state_dicts_are_read_and_bfloat16_becomes_float32(path):
    torch = pytest.importorskip("torch")
    torch_writer = pytest.importorskip("safetensors.torch")
    torch.manual_seed(0)
    state = torch.nn.GRU(2, 4).state_dict()
    torch_writer.save_file(state, path, {"format": "pt"})
    arrays = checkpoint.read_tensors(path)[1]
    assert all(same_bits(arrays[name], tensor.numpy()) for name, tensor in state.items())
    torch_writer.save_file({k: v.bfloat16() for k, v in state.items()}, path)
    arrays = checkpoint.read_tensors(path)[1]
    for name, tensor in state.items():
        assert same_bits(arrays[name], tensor.bfloat16().float().numpy())


def test_importing_and_saving_need_nothing_but_numpy(path):
    program = """
        import sys
        for name in ("safetensors", "numba", "tqdm"):
            sys.modules[name] = None  # importing it raises ImportError
        import numpy as np
        from gru_np import checkpoint
        checkpoint.save(sys.argv[1], {}, {"W": np.ones(3)})
        print(checkpoint.load(sys.argv[1])[1]["W"].sum())
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(path)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert run.stdout.strip() == "3.0"


# ------------------------------------------------------------------------- links, permissions


def test_a_new_file_has_the_permissions_of_the_umask(path):
    before = os.umask(0o027)
    try:
        checkpoint.save(path, {}, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o666, 0o700])
def test_permissions_of_the_file_replaced_are_kept(saved, mode):
    saved.chmod(mode)
    checkpoint.save(saved, {"new": True}, {})
    assert stat.S_IMODE(saved.stat().st_mode) == mode
    assert checkpoint.read_config(saved) == {"new": True}


def test_a_symbolic_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    real, link = tmp_path / "there" / "real", tmp_path / "link"
    link.symlink_to(real)
    for value in (1, 2):  # the first time the link points to nothing
        checkpoint.save(link, {"value": value}, {})
        assert link.is_symlink() and not real.is_symlink()
        assert checkpoint.read_config(real) == checkpoint.read_config(link) == {"value": value}
    assert os.listdir(real.parent) == ["real"]


def test_an_open_reader_keeps_the_file_it_opened(saved):
    with open(saved, "rb") as file:
        before = file.read(10)
        checkpoint.save(saved, {}, {})
        file.seek(0)
        assert file.read(10) == before
