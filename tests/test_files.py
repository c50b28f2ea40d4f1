"""Files that a user names are read whole, in proportion to what they hold."""

import os
import tracemalloc

import pytest

from gru_np._files import read_input


def test_an_empty_file_takes_no_memory_for_what_it_might_hold(tmp_path):
    path = tmp_path / "empty"
    path.write_bytes(b"")
    tracemalloc.start()
    try:
        assert read_input(path, 2**31) == b""
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="no files without a size here")
def test_a_file_without_a_size_is_read_up_to_the_largest_size_allowed():
    content = read_input("/proc/self/maps")
    assert content.count(b"\n") > 10
    with pytest.raises(ValueError, match="expected at most 5 bytes, found more"):
        read_input("/proc/self/maps", 5)
