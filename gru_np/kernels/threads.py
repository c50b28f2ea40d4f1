"""Share work among a few Python threads around kernels that release the GIL.

`run(task, count)` calls task(0) ... task(count - 1). The caller works too, taking whatever is left,
so it needs no free worker: callers may overlap, and nothing can wait for itself. Workers are daemon
threads that only ever wait for work, so the interpreter may exit at any time. A forked child starts
without them and makes its own when it needs some.
"""

import os
import threading
from functools import lru_cache
from queue import SimpleQueue

from gru_np.kernels._settings import num_threads


class _Job:
    """One call of `run`: indices to take, and how many are still to finish."""

    def __init__(self, task, count):
        self.task, self.left, self.unfinished = task, list(range(count))[::-1], count
        self.lock, self.finished, self.error = threading.Lock(), threading.Event(), None

    def work(self):
        """Take indices until none is left."""
        while True:
            try:
                index = self.left.pop()  # atomic
            except IndexError:
                return
            try:
                self.task(index)
            except BaseException as error:  # re-raised in the caller, whatever it is
                self.error = error
            with self.lock:
                self.unfinished -= 1
                if self.unfinished == 0:
                    self.finished.set()


class _Pool:
    """Workers that wait on one queue; started when first needed."""

    def __init__(self):
        self.queue, self.workers, self.lock = SimpleQueue(), 0, threading.Lock()

    def _serve(self):
        while True:
            self.queue.get().work()

    def run(self, task, count):
        """Call task(0) ... task(count - 1), here and in workers, and wait for all."""
        job = _Job(task, count)
        with self.lock:
            while self.workers < count - 1:
                self.workers += 1
                threading.Thread(
                    target=self._serve, name=f"gru_np-{self.workers}", daemon=True
                ).start()
        for _ in range(count - 1):
            self.queue.put(job)
        job.work()
        job.finished.wait()
        if job.error is not None:
            raise job.error


_pool = _Pool()


def _forget_pool():
    """In a forked child: the workers did not come along."""
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def run(task, count):
    """Call task(0) ... task(count - 1), in parallel if count is more than 1."""
    if count == 1:
        task(0)
    else:
        _pool.run(task, count)


# Under this many floating-point operations a second thread costs more than it saves.
OPERATIONS_PER_THREAD = 1e7


def threads_for(operations, parts):
    """Threads worth using for so many operations that can be cut in `parts`."""
    return max(1, min(num_threads(), parts, int(operations / OPERATIONS_PER_THREAD)))


@lru_cache(maxsize=256)
def cut(count, threads, grain):
    """Bounds of `threads` slices of range(count), multiples of `grain` where that is fair.

    The list is kept for the next call of this kind; it is not to be changed.
    """
    if count < threads * grain:
        grain = 1
    tiles = -(-count // grain)
    return [min(count, tiles * i // threads * grain) for i in range(threads + 1)]
