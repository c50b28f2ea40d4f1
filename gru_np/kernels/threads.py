"""Share work among a few Python threads around kernels that release the GIL.

`run(task, count)` calls task(0) ... task(count - 1). The caller works too, taking whatever is left,
so it needs no free worker: callers may overlap, and nothing can wait for itself. `together(task,
most)` calls the parts of a task at the same time, so that they may wait for each other: in as many
threads as are free, in the caller alone if there are none.

Workers are daemon threads that only ever wait for work, so the interpreter may exit at any time. A
forked child starts without them and makes its own when it needs some.
"""

import os
import threading
from functools import lru_cache
from queue import SimpleQueue
from time import monotonic

import numpy as np

from gru_np.kernels._settings import cores, num_threads
from gru_np.kernels.meetings import APART, DONE, POSSIBLE


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


class _Team:
    """One call of `together`: parts that run at the same time, the caller's being the first."""

    def __init__(self, task, parts):
        self.task, self.parts, self.error = task, parts, None
        self.meetings = np.zeros(parts * APART, np.int64)
        self.left, self.finished = list(range(1, parts)), threading.Event()
        self.missing, self.lock = parts - 1, threading.Lock()

    def work(self, part=None):
        """Do a part: the first, or for a worker one that is left."""
        if part is None:
            try:
                part = self.left.pop()
            except IndexError:
                return
        try:
            self.task(part, self.parts, self.meetings)
        except BaseException as error:  # re-raised in the caller, whatever it is
            self.error = error
        # whether it ended well or not: nobody may wait for this part any more
        self.meetings[part * APART] = DONE
        if part:
            with self.lock:
                self.missing -= 1
                if self.missing == 0:
                    self.finished.set()

    def join(self):
        """Wait for all parts, whatever interrupts: they may still be writing to shared memory."""
        # The kernel has waited already, but for a part that took too long or failed.
        while self.missing and (self.error or self.meetings[::APART].min() < DONE):
            try:
                self.finished.wait()
            except BaseException as error:
                self.error = error


class _Pool:
    """Workers that wait on one queue; started when first needed."""

    def __init__(self):
        self.queue, self.workers, self.lock = SimpleQueue(), 0, threading.Lock()
        # Workers that no team counts on. A worker that a team counts on may have other jobs before,
        # but none that waits for anything, so it will come.
        self.free = 0
        # When teams that meet at every step are formed again, and how long they rest next.
        self.ready, self.rest = 0.0, 0.0

    def _serve(self):
        while True:
            self.queue.get().work()

    def _grow(self, workers):
        """Have so many workers, if the system allows; the lock is held."""
        while self.workers < workers:
            thread = threading.Thread(
                target=self._serve, name=f"gru_np-{self.workers + 1}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # too many threads, or the interpreter is about to exit
                return
            self.workers += 1
            self.free += 1

    def run(self, task, count):
        """Call task(0) ... task(count - 1), here and in workers, and wait for all."""
        job = _Job(task, count)
        with self.lock:
            self._grow(count - 1)
        for _ in range(count - 1):
            self.queue.put(job)
        job.work()
        job.finished.wait()
        if job.error is not None:
            raise job.error

    def together(self, task, most, closely):
        """Call all parts of a task, here and in free workers, and wait for all."""
        if closely and monotonic() < self.ready:
            task(0, 1, _ALONE)
            return
        with self.lock:
            self._grow(most - 1)
            taken = min(self.free, most - 1)
            self.free -= taken
        team = _Team(task, taken + 1)
        try:
            for _ in range(taken):
                self.queue.put(team)
            team.work(0)
            team.join()
        except BaseException as error:  # an interrupt in one of these lines
            team.error = error
            team.meetings[0] = DONE
            for _ in range(taken):  # some may not have been put; the others will find nothing left
                self.queue.put(team)
            team.join()
        finally:
            with self.lock:
                self.free += taken
        if team.error is not None:
            raise team.error
        if not closely:
            return
        if team.meetings[1]:
            # dissolved: if two in a row were, other programs need the cores
            self.ready = monotonic() + self.rest
            self.rest = max(REST, min(2 * self.rest, LONGEST_REST))
        else:
            self.rest = 0.0


# Seconds without teams that meet at every step, once two in a row had to be dissolved; twice as
# long when that happens to the next. A single one may have met no more than a late start.
REST, LONGEST_REST = 0.05, 2.0
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


# More threads than these would only wait for each other.
CORES = cores()
_ALONE = np.zeros(APART, np.int64)


def together(task, most, closely=False):
    """Call task(part, parts, meetings) for part = 0 ... parts - 1, all at the same time.

    parts is at most `most` and the number of cores, and may be 1. The parts may wait for each other
    by `meetings`, see `gru_np.kernels.meetings`, and their kernel ends with `meetings.finish`. Say
    `closely` if they wait so often that they are better alone than beside a busy program.
    """
    most = min(most, CORES)
    if most == 1 or not POSSIBLE:
        task(0, 1, _ALONE)
    else:
        _pool.together(task, most, closely)


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
