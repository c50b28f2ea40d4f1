"""How many threads; free of numba, so that it can be asked and set before anything is compiled."""

import os


def cores() -> int:
    """Processor cores this process may use, counting hyper-threads of a core once."""
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # not Linux
        return os.cpu_count() or 1
    cores = set()
    for cpu in allowed:
        folder = f"/sys/devices/system/cpu/cpu{cpu}/topology/"
        try:
            with open(folder + "physical_package_id") as a, open(folder + "core_id") as b:
                cores.add((a.read(), b.read()))
        except OSError:
            cores.add((cpu, ""))
    return len(cores)


_threads: int | None = None


def num_threads() -> int:
    """Threads that kernels may use: `set_num_threads`, else GRU_NP_NUM_THREADS, else all cores."""
    global _threads
    if _threads is None:
        text = os.environ.get("GRU_NP_NUM_THREADS", "")
        _threads = int(text) if text.isdigit() and int(text) > 0 else cores()
    return _threads


def set_num_threads(n: int) -> None:
    """Use at most n threads in compiled kernels; results do not depend on it.

    Parameters
    ----------
    n : int
        At least 1. The default is the environment variable GRU_NP_NUM_THREADS, or else the number
        of processor cores available to the process.

    Raises
    ------
    ValueError
        If n is not a positive integer.

    Examples
    --------
    >>> import gru_np
    >>> gru_np.set_num_threads(1)
    """
    global _threads
    if isinstance(n, bool) or not hasattr(n, "__index__") or n.__index__() < 1:
        raise ValueError(f"set_num_threads: n must be a positive integer, got {n!r}")
    _threads = n.__index__()
