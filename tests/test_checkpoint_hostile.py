"""Checkpoints that are damaged, foreign or hostile: one sentence, little memory, nothing run."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import textwrap
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_np import _safetensors, checkpoint
from gru_np.checkpoint import CheckpointError

READERS = [checkpoint.load, checkpoint.read_config, checkpoint.read_tensors]
DESCRIPTORS = "/proc/self/fd"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def assemble(header, payload=b"", length=None):
    """A file from its parts; a header may be a dict or what it should say literally."""
    if not isinstance(header, bytes):
        header = (header if isinstance(header, str) else json.dumps(header)).encode()
    return (len(header) if length is None else length).to_bytes(8, "little") + header + payload


def signed(table=None, payload=b"", literal=None, **changes):
    """A checkpoint whose digests are right, whatever else is wrong with it."""
    content = {
        "format": 1,
        "payload_sha256": hashlib.sha256(payload).hexdigest(),
        "config": {"units": 4},
        **changes,
    }
    inner = json.dumps(content) if literal is None else literal
    metadata = {"header_sha256": "0" * 64, "gru_np": inner}
    start = assemble({"__metadata__": metadata, **(table or {})})
    return start.replace(b"0" * 64, hashlib.sha256(start).hexdigest().encode(), 1) + payload


def entry(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


def literal_entry(dtype='"F32"', shape="[2]", offsets="[0,8]"):
    text = f'{{"W":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}}}'
    return assemble(text, bytes(8))


GOOD = b"".join(checkpoint._encode({"units": 4}, {"W": np.ones((2, 3), np.float32)}))
START = 8 + int.from_bytes(GOOD[:8], "little")
F32 = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
BRACES = "begins with { and ends with }"

# name: (bytes of the file, what the message says)
MALFORMED = {
    "empty file": (b"", "found only 0 bytes"),
    "too short for a length": (b"\x02\0\0\0", "found only 4 bytes"),
    "length of zero": (assemble(b"", b"{}", 0), "2 to 2 in this one, found 0"),
    "length beyond the file": (assemble(b"{}", b"", 3), "2 to 2 in this one, found 3"),
    "length of 2**63": (assemble(b"{}", b"", 2**63), "found 9223372036854775808"),
    "length beyond 100 MB": (assemble(b"{}", b"", 100_000_001), "found 100000001"),
    "pickle": (b"\x80\x04cos\nsystem\n(S'true'\ntR.", "expected a safetensors file"),
    "zip": (b"PK\x03\x04" + bytes(100), "expected a safetensors file|begins with"),
    "npy": (b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', }" + bytes(90), "expected a safetensors"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "expected a safetensors file"),
    "text": (b"import os; os.system('true')" * 9, "expected a safetensors file"),
    "zeros": (bytes(4096), "found 0"),
    "header not UTF-8": (assemble(b'{"\xff":1}'), "header is not valid.*utf-8"),
    "header in UTF-16": (assemble('{"a":1}'.encode("utf-16-le")), BRACES),
    "header with a byte order mark": (assemble(b"\xef\xbb\xbf{}"), BRACES),
    "header not JSON": (assemble("{not json at all}"), "header is not valid"),
    "header an array": (assemble("[1, 2, 3]"), BRACES),
    "header a string": (assemble('"hello"'), BRACES),
    "header cut": (assemble('{"W":{}'), "header is not valid"),
    "header with more behind": (assemble('{"W":' + F32 + "} {}", bytes(8)), "Extra data"),
    "white space before the header": (assemble(" {}"), BRACES),
    "NUL behind the header": (assemble("{}\0\0"), BRACES),
    "NaN in the header": (literal_entry(shape="[NaN]"), "found NaN"),
    "infinite number in the header": (literal_entry(shape="[1e999]"), "range of a float"),
    "number of 5000 digits": (literal_entry(shape=f"[{'9' * 5000}]"), "4300 digits"),
    "number of 4000 digits": (literal_entry(shape=f"[{'9' * 4000}]"), "shape of at most 64"),
    "100,000 brackets": (assemble('{"a":' + "[" * 100_000 + "}"), "at most 32 deep"),
    "deep objects": (assemble('{"a":' * 50 + "1" + "}" * 50), "at most 32 deep"),
    "same key twice": (assemble(f'{{"W":{F32},"W":{F32}}}', bytes(8)), "key occurs twice"),
    "metadata twice": (assemble('{"__metadata__":{},"__metadata__":{}}'), "key occurs twice"),
    "dtype twice": (assemble('{"W":' + F32[:-1] + ',"dtype":"F32"}}', bytes(8)), "twice"),
    "metadata not an object": (assemble({"__metadata__": "x"}), "expected metadata of strings"),
    "metadata not of strings": (assemble({"__metadata__": {"a": 1}}), "metadata of strings"),
    "entry not an object": (assemble({"W": 1}), r"W: expected \['data_offsets', 'dtype', 'shape'"),
    "entry without shape": (assemble({"W": {"dtype": "F32", "data_offsets": [0, 0]}}), "W: expe"),
    "entry with one field more": (assemble({"W": entry(file="/etc/passwd")}, bytes(8)), "'file'"),
    "unknown dtype": (literal_entry(dtype='"O"'), "dtype of .* found 'O'"),
    "complex dtype": (literal_entry(dtype='"C64"', shape="[1]"), "found 'C64'"),
    "dtype a NumPy string": (literal_entry(dtype='"|O8"'), "expected a dtype"),
    "dtype a list": (literal_entry(dtype="[]"), "expected a dtype"),
    "negative dimension": (literal_entry(shape="[-2]"), "expected a shape"),
    "dimension a float": (literal_entry(shape="[2.0]"), "expected a shape"),
    "dimension a bool": (literal_entry(shape="[2,true]"), "expected a shape"),
    "dimension a string": (literal_entry(shape='["2"]'), "expected a shape"),
    "shape a number": (literal_entry(shape="2"), "expected a shape"),
    "shape of 65 dimensions": (literal_entry(shape=str([2] + [1] * 64)), "at most 64 sizes"),
    "shape overflowing 64 bits": (literal_entry(shape=f"[{2**62},4,2]"), "found 8"),
    "shape of a petabyte": (literal_entry(shape=f"[{2**48}]"), f"expected {2**50} bytes"),
    "shape too large by one": (literal_entry(shape="[3]"), "expected 12 bytes .* found 8"),
    "shape too small by one": (literal_entry(shape="[1]"), "expected 4 bytes .* found 8"),
    "huge dimension beside a zero": (
        assemble({"W": entry(shape=(0, 2**60), offsets=(0, 0))}),
        "beside a zero",
    ),
    "huge product beside a zero": (
        assemble({"W": entry(shape=(2**20, 0, 2**20), offsets=(0, 0))}),
        "beside a zero",
    ),
    "one offset": (literal_entry(offsets="[0]"), "expected data_offsets"),
    "three offsets": (literal_entry(offsets="[0,4,8]"), "expected data_offsets"),
    "negative offset": (literal_entry(offsets="[-8,0]"), "expected data_offsets"),
    "offset a float": (literal_entry(offsets="[0,8.0]"), "expected data_offsets"),
    "begin after end": (literal_entry(offsets="[8,0]"), "expected data_offsets"),
    "offsets beyond the file": (literal_entry(offsets="[800,808]"), "begin at byte 0"),
    "overlap": (assemble({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)), "byte 8 .*4"),
    "shared range": (assemble({"a": entry(), "b": entry()}, bytes(8)), "byte 8"),
    "hole": (assemble({"a": entry(), "b": entry(offsets=(12, 20))}, bytes(20)), "byte 8 .* 12"),
    "trailing bytes": (literal_entry() + b"x", "expected 8 bytes after the header, found 9"),
    "payload cut": (literal_entry()[:-1], "expected 8 bytes after the header, found 7"),
    "name with NUL": (assemble({"a\0b": entry()}, bytes(8)), "control characters"),
    "empty name": (assemble({"": entry()}, bytes(8)), "1 to 1024 characters"),
    "endless name": (assemble({"n" * 5000: entry()}, bytes(8)), "1 to 1024 characters"),
    "surrogate name": (assemble({"\ud800": entry()}, bytes(8)), "surrogates"),
    "100,000 empty arrays": (
        assemble({f"{i}": entry(shape=(0,), offsets=(0, 0)) for i in range(100_000)}),
        "more memory than",
    ),
    "one wide character": (
        assemble(b'{"__metadata__":{"a":"' + b"x" * 9_000_000 + "😀".encode() + b'"}}'),
        "more memory than",
    ),
    "crowded lists": (assemble('{"a":[' + "[]," * 700_000 + "[]]}"), "more memory than"),
}

# Sound safetensors files that are no checkpoints, or checkpoints with something wrong inside.
BAD_CONTENT = {
    "no metadata": (literal_entry(), "found a safetensors file without gru_np"),
    "metadata of others": (
        assemble({"__metadata__": {"format": "pt"}, "W": entry()}, bytes(8)),
        "expected a checkpoint of gru_np, found a safetensors file without gru_np",
    ),
    "no digest": (assemble({"__metadata__": {"gru_np": "{}"}}), "without header_sha256"),
    "empty digest": (
        assemble({"__metadata__": {"gru_np": "{}", "header_sha256": ""}}),
        "header is damaged",
    ),
    "wrong digest": (
        assemble({"__metadata__": {"gru_np": "{}", "header_sha256": "0" * 64}}),
        "header is damaged",
    ),
    "content not JSON": (signed(literal="units: 4"), "config is not valid"),
    "content a list": (signed(literal="[]"), "config is not valid"),
    "content empty": (signed(literal=""), "config is not valid"),
    "content deep": (signed(literal='{"a":' + "[" * 100_000), "at most 32 deep"),
    "content with NaN": (signed(literal='{"format":NaN}'), "found NaN"),
    "content with 1e999": (signed(literal='{"format":1e999}'), "range of a float"),
    "content with a key twice": (signed(literal='{"format":1,"format":1}'), "key occurs twice"),
    "content with more behind": (signed(literal="{} {}"), "Extra data"),
    "content crowded": (
        signed(literal='{"a":{' + ",".join(f'"{i:x}":0' for i in range(500_000)) + "}}"),
        "more memory than",
    ),
    "false float": (signed(config={"a": {"$float": "1.5"}}), r"\$float, found '1.5'"),
    "float of a number": (signed(config={"a": {"$float": 1}}), r"\$float, found 1"),
    "format of the future": (signed(format=2), "format 1, found 2: a later version"),
    "format zero": (signed(format=0), "format 1, found 0"),
    "format a string": (signed(format="1"), "format 1, found '1'"),
    "format true": (signed(format=True), "format 1, found True"),
    "no format": (signed(literal='{"config":{}}'), "format 1, found None"),
    "no config": (
        signed(literal='{"format":1,"payload_sha256":""}'),
        r"expected \['config', 'format', 'payload_sha256'\]",
    ),
    "unknown key": (signed(module="os"), "'module'"),
    "config a list": (signed(config=[]), "config to be a dict"),
    "config a float": (signed(config={"$float": "nan"}), "config to be a dict"),
    "payload digest a number": (signed(payload_sha256=1), "payload_sha256 a string"),
}

BAD_PAYLOAD = {
    "wrong payload digest": (signed(payload_sha256="0" * 64), "arrays are damaged"),
    "payload of another file": (GOOD[:START] + bytes(24), "arrays are damaged"),
    "boolean that is 2": (
        signed({"W": entry("BOOL", (2,), (0, 2))}, b"\1\2"),
        "W: expected booleans, 0 or 1, found 2",
    ),
}


def refused(read, path, content, text):
    """Reading the file raises one sentence that names file and fault, and leaves nothing open."""
    path.write_bytes(content)
    before = os.listdir(DESCRIPTORS) if os.path.isdir(DESCRIPTORS) else None
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=text) as caught:
            read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message and len(message) < 500 + len(str(path))
    assert peak <= 4 * len(content) + 2**26
    assert before is None or os.listdir(DESCRIPTORS) == before


def test_at_least_64_kinds_of_malformed_files_are_tried():
    assert len(MALFORMED) + len(BAD_CONTENT) + len(BAD_PAYLOAD) >= 64


@pytest.mark.parametrize("kind", MALFORMED)
def test_no_malformed_file_is_read_by_any_reader(path, kind):
    content, text = MALFORMED[kind]
    for read in READERS if len(content) < 1_000_000 else READERS[:1]:
        refused(read, path, content, text)


@pytest.mark.parametrize("kind", BAD_CONTENT)
def test_no_checkpoint_with_bad_content_is_read(path, kind):
    refused(checkpoint.load, path, *BAD_CONTENT[kind])
    with pytest.raises(CheckpointError):
        checkpoint.read_config(path)
    checkpoint.read_tensors(path)  # as a safetensors file it is sound


@pytest.mark.parametrize("kind", BAD_PAYLOAD)
def test_no_checkpoint_with_bad_payload_is_loaded(path, kind):
    refused(checkpoint.load, path, *BAD_PAYLOAD[kind])


def test_the_makers_of_hostile_files_make_good_ones_too(path):
    path.write_bytes(signed({"W": entry()}, bytes(8)))
    assert checkpoint.load(path)[0] == {"units": 4}
    path.write_bytes(literal_entry())
    assert checkpoint.read_tensors(path)[1]["W"].shape == (2,)
    path.write_bytes(GOOD)
    assert checkpoint.load(path)[1]["W"].sum() == 6


def test_bfloat16_is_read_as_float32_exactly(path):
    values = np.array([1.0, -2.5, 0.0, np.inf, 2.0**-130], np.float32)
    payload = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    path.write_bytes(signed({"W": entry("BF16", (5,), (0, 10))}, payload))
    _, arrays = checkpoint.load(path, lambda config: {"W": ((5,), np.float32)})
    assert np.array_equal(arrays["W"], values) and arrays["W"].dtype == np.float32
    arrays["W"][0] = 2  # writable


# ------------------------------------------------------------------------------------- damage


def test_every_truncation_is_an_error(path):
    for length in range(len(GOOD)):
        path.write_bytes(GOOD[:length])
        with pytest.raises(CheckpointError):
            checkpoint.load(path)


def test_every_flipped_bit_is_an_error(path):
    for position in range(8 * len(GOOD)):
        damaged = bytearray(GOOD)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            checkpoint.load(path)
        if position < 8 * START and position % 7 == 0:
            with pytest.raises(CheckpointError):
                checkpoint.read_config(path)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(data=st.data())
def test_random_damage_raises_nothing_but_checkpoint_errors(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "damaged"
    damaged = bytearray(data.draw(st.sampled_from([GOOD, literal_entry(), signed()])))
    pieces = st.binary(max_size=4) | st.sampled_from([b"9" * 30, b"[[", b'"', b"{}", b"\\u", b"-"])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(damaged)))
        damaged[at : at + data.draw(st.integers(0, 4))] = data.draw(pieces)
    path.write_bytes(damaged)
    for read in READERS:
        try:
            read(path)
        except CheckpointError as error:
            assert str(error).startswith(f"{path}: ")


def test_a_file_that_shrinks_while_it_is_read_is_an_error(path):
    checkpoint.save(path, {}, {"W": np.ones(100_000)})

    def shrink(config):
        os.truncate(path, path.stat().st_size // 2)
        return {"W": ((100_000,), float)}

    with pytest.raises(CheckpointError, match="shrank while it was read"):
        checkpoint.load(path, shrink)


def test_a_failing_disk_is_a_checkpoint_error(path, monkeypatch):
    def fail(*_):
        raise OSError(5, "Input/output error")

    path.write_bytes(GOOD)
    monkeypatch.setattr(_safetensors, "read_into", fail)
    with pytest.raises(CheckpointError, match="cannot be read: Input/output error"):
        checkpoint.load(path)


# ------------------------------------------------------------------ what is not a regular file


@pytest.mark.parametrize("read", READERS)
def test_only_regular_files_are_read(tmp_path, monkeypatch, read):
    monkeypatch.chdir(tmp_path)  # names of sockets must be short
    os.mkfifo("fifo")
    os.symlink("loop", "loop")
    os.symlink("nowhere", "dangling")
    cases = {
        "fifo": "expected a regular file, found a FIFO",
        "socket": "cannot be read",
        ".": "expected a regular file, found a directory",
        "/dev/zero": "expected a regular file, found a character device",
        "loop": "cannot be read: Too many levels",
        "dangling": "cannot be read: No such file",
        "absent": "^absent: cannot be read: No such file or directory$",
        "absent/x": "cannot be read: No such file",
        "/dev/null/x": "cannot be read: Not a directory",
        "a\0b": "embedded null",
        "n" * 300: "cannot be read: File name too long",
    }
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        before = os.listdir(DESCRIPTORS) if os.path.isdir(DESCRIPTORS) else None
        for path, text in cases.items():
            with pytest.raises(CheckpointError, match=text):
                read(path)
        assert before is None or os.listdir(DESCRIPTORS) == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_a_checkpoint_error(path):
    path.write_bytes(GOOD)
    path.chmod(0)
    with pytest.raises(CheckpointError, match="cannot be read: Permission denied"):
        checkpoint.load(path)


def test_a_file_larger_than_allowed_is_refused(path):
    path.write_bytes(GOOD)
    for read in READERS:
        read(path, max_bytes=len(GOOD))
        with pytest.raises(CheckpointError, match=f"{len(GOOD) - 1} bytes, found {len(GOOD)}"):
            read(path, max_bytes=len(GOOD) - 1)


# -------------------------------------------------------------------------------------- memory

CROWDS = {
    "lists": "[" + ",".join(["[]"] * 50_000) + "]",
    "lists of one": "[" + ",".join(["[0]"] * 40_000) + "]",
    "lists of strings": "[" + ",".join(['["ab"]'] * 30_000) + "]",
    "nested lists": "[" + ",".join(["[[[[[[]]]]]]"] * 15_000) + "]",
    "dicts": "[" + ",".join(["{}"] * 50_000) + "]",
    "dicts of one": "[" + ",".join(['{"a":"bc"}'] * 30_000) + "]",
    "dicts of six": "[" + ",".join(['{"a":0,"b":0,"c":0,"d":0,"e":0,"f":0}'] * 10_000) + "]",
    "one dict": "{" + ",".join(f'"{i:x}":"ab"' for i in range(43_700)) + "}",
    "dict of dicts": "{" + ",".join(f'"{i:x}":{{"x{i:x}":0}}' for i in range(21_900)) + "}",
    "strings": "[" + ",".join(['"ab"'] * 50_000) + "]",
    "floats": "[" + ",".join(["1.5"] * 50_000) + "]",
    "integers": "[" + ",".join(["999"] * 50_000) + "]",
    "one wide string": '["' + "a" * 300_000 + '\\ud83d\\ude00"]',
}


@pytest.mark.parametrize("crowd", CROWDS)
def test_parsing_takes_no_more_memory_than_foreseen(crowd):
    text = '{"a":' + CROWDS[crowd] + "}"
    tracemalloc.start()
    foreseen, _ = _safetensors.weigh(text)
    _, counting = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    _safetensors.parse(text, foreseen)
    _, parsing = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert parsing <= foreseen
    assert counting <= 3 * len(text) + 2**20
    with pytest.raises(ValueError, match="more memory than"):
        _safetensors.parse(text, foreseen - 1)


@pytest.mark.parametrize("piece", ['\\"', '"a",', '"', "\\", '"\\', '\\\\"', "]", '":'])
def test_weighing_takes_linear_time_and_little_memory_on_any_text(piece):
    text = '"' + piece * 100_000  # quadratic time would be minutes
    tracemalloc.start()
    _safetensors.weigh(text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= 3 * len(text) + 2**20


def test_a_config_of_many_words_makes_its_file_large_enough_to_be_loaded(path, monkeypatch):
    """A table of words needs more memory than 4 x its text: then spaces make room."""
    monkeypatch.setattr(_safetensors, "SPARE_MEMORY", 2**20)  # 64 MiB would take a huge table
    words = {f"w{i}": i for i in range(20_000)}
    checkpoint.save(path, {"index": words, "counts": words}, {"W": np.ones(3)})
    content = path.read_bytes()
    tracemalloc.start()
    config, _ = checkpoint.load(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert config == {"index": words, "counts": words}
    assert peak <= 4 * len(content) + 2**20
    length = int.from_bytes(content[:8], "little")
    assert content[8 + length - 1000 : 8 + length] == b" " * 1000
    monkeypatch.setattr(_safetensors, "SPARE_MEMORY", 2**20 - 1000)
    with pytest.raises(CheckpointError, match="more memory than"):
        checkpoint.load(path)  # there is just enough room, not more


def test_loading_takes_the_memory_of_the_arrays_once(path):
    checkpoint.save(path, {}, {"W": np.ones((1000, 4000)), "V": np.ones((500, 1000))})
    tracemalloc.start()
    _, arrays = checkpoint.load(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.1 * path.stat().st_size, arrays.keys()


# ----------------------------------------------------------------------- nothing else is touched


def test_loading_imports_runs_and_opens_nothing_else(tmp_path):
    """All files above are read under an audit hook, which is told what Python does."""
    kinds = {**MALFORMED, **BAD_CONTENT, **BAD_PAYLOAD, "good": (GOOD, "")}
    for number, (content, _) in enumerate(kinds.values()):
        (tmp_path / f"{number:03}").write_bytes(content)
    program = """
        import os, sys
        from gru_np import checkpoint

        paths = sorted(os.path.join(sys.argv[1], name) for name in os.listdir(sys.argv[1]))
        seen, watching = [], False

        def hook(event, arguments):
            if watching:
                seen.append((event, str(arguments[:1])))

        sys.addaudithook(hook)
        loaded = 0
        for path in paths:
            for read in (checkpoint.load, checkpoint.read_config, checkpoint.read_tensors):
                watching = True
                try:
                    read(path)
                    loaded += 1
                except checkpoint.CheckpointError:
                    pass
                watching = False
                if seen != [("open", str((path,)))]:
                    sys.exit(f"{read.__name__}({path}): {seen}")
                seen.clear()
        print(len(paths), loaded)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    tried, loaded = map(int, run.stdout.split())
    assert tried == len(kinds)
    assert loaded >= 3 + len(BAD_CONTENT)
