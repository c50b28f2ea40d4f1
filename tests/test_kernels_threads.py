"""Teams of threads: their meetings, their bits, and what may go wrong in one of them."""

import os
import threading

import numpy as np
import pytest
from conftest import assert_close
from problems import draw, holes
from test_kernels import DTYPES, FORMS, PROBLEM, forget_plans, in_new_process, thread_count

pytest.importorskip("numba", reason="the compiled kernels need numba", exc_type=ImportError)

from gru_np.kernels import fused, meetings, threads

__all__ = ["thread_count"]  # a fixture


@pytest.fixture(autouse=True)
def as_many_cores_as_wanted(monkeypatch):
    """Do not make teams smaller than a test asks for."""
    monkeypatch.setattr(threads, "CORES", 16)
    monkeypatch.setattr(threads, "REST", 0.0)
    monkeypatch.setattr(threads, "LONGEST_REST", 0.0)


def meet_often(part, parts, places):
    meetings.count_meetings(places, part, parts, 5)


def test_the_parts_of_a_team_run_at_the_same_time():
    for most in (1, 2, 3):
        seen = []

        def task(part, parts, places, seen=seen):
            meet_often(part, parts, places)
            seen.append((part, parts))

        threads.together(task, most)
        assert (0, len(seen)) in seen or len(seen) < most  # the last ones may still be leaving
        assert {parts for _, parts in seen} == {most}


def test_callers_at_the_same_time_share_the_workers_there_are():
    sizes, wrong = [], []

    def task(part, parts, places):
        meet_often(part, parts, places)
        if part == 0:
            sizes.append(parts)

    def repeat():
        try:
            for _ in range(20):
                threads.together(task, 3)
                threads.run(lambda i: None, 3)
        except BaseException as error:
            wrong.append(error)

    callers = [threading.Thread(target=repeat) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong and len(sizes) == 80 and set(sizes) <= {1, 2, 3}
    # none of them was lost
    assert threads._pool.free == threads._pool.workers


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("who", [0, 1, 2])
def test_an_error_in_one_part_frees_the_others_and_reaches_the_caller(who, error):
    def task(part, parts, places):
        if part == who:
            raise error("from a part")
        meet_often(part, parts, places)

    with pytest.raises(error, match="from a part"):
        threads.together(task, 3)
    threads.together(meet_often, 3)
    assert threads._pool.free == threads._pool.workers


def test_without_a_new_thread_there_is_a_smaller_team(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "_pool", threads._Pool())
    monkeypatch.setattr(threading.Thread, "start", refuse)
    seen = []
    threads.together(lambda part, parts, places: seen.append((part, parts)), 3)
    threads.run(seen.append, 3)
    assert seen == [(0, 1), 0, 1, 2]


def test_shares_of_units_are_whole_panels():
    for vectors in range(1, 60):
        for parts in range(1, 7):
            bounds = fused._cut_units(vectors, parts)
            assert bounds[0] == 0 and bounds[-1] == vectors and bounds == sorted(bounds)
            assert len(bounds) == parts + 1
            for bound in bounds[1:-1]:
                # a last vector alone would have shared a panel of two
                assert bound in (0, vectors) or (bound % 3 == 0 and vectors - bound != 1)


SHAPES = [(9, 1, 7, 100), (7, 5, 10, 30), (4, 37, 6, 150), (3, 2, 5, 3), (5, 20, 0, 250)]


@DTYPES
@FORMS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_units_shared_by_threads_give_the_same_bits(
    shape, reset_after, dtype, rng, thread_count, monkeypatch
):
    monkeypatch.setattr(fused, "OWN_BYTES", 0)
    forget_plans()
    arrays = draw(rng, *shape, dtype=dtype)
    for settings in ({}, {"mask": holes(rng, *shape[:2])}):
        results = []
        for n in (1, 2, 3, 16):
            thread_count(n)
            h, saved = fused.gru_forward(*arrays.values(), reset_after, **settings)
            inferred, _ = fused.gru_forward(*arrays.values(), reset_after, inference=True)
            results.append((h, *fused.gru_backward(np.cos(h), saved), saved.rows))
            if not settings:
                assert_close(inferred, h, "exact")
        for other in results[1:]:
            assert_close(other, results[0], "exact")


@DTYPES
@FORMS
@pytest.mark.parametrize("B", [41, 5])
@pytest.mark.parametrize("last", [2, 3, 5, 8, 30])
def test_a_team_dissolved_in_the_middle_gives_the_same_bits(
    last, B, reset_after, dtype, rng, thread_count, monkeypatch
):
    monkeypatch.setattr(fused, "OWN_BYTES", 0)
    forget_plans()
    arrays = draw(rng, 9, B, 11, 70, dtype=dtype)
    thread_count(1)

    def both_ways():
        h, saved = fused.gru_forward(*arrays.values(), reset_after)
        return (h, saved.rows, *fused.gru_backward(np.cos(h), saved))

    expected = both_ways()
    thread_count(3)

    def together(task, most, closely):
        def soon_dissolved(part, parts, places):
            places[1] = last  # the meeting after which the first part goes on alone
            task(part, parts, places)

        threads.together(soon_dissolved, most, closely)

    monkeypatch.setattr(fused, "together", together)
    assert_close(both_ways(), expected, "exact")


def test_after_two_teams_in_a_row_were_dissolved_teams_rest(monkeypatch):
    monkeypatch.setattr(threads, "_pool", threads._Pool())
    monkeypatch.setattr(threads, "REST", 100.0)
    sizes = []

    def task(part, parts, places):
        if part == 0:
            sizes.append(parts)
            places[1] = 1

    for closely in (True, True, True, False):
        threads.together(task, 2, closely)
    assert sizes == [2, 2, 1, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_teams_survive_fork_and_interpreter_exit():
    code = (
        PROBLEM
        + """
    import os, warnings
    from gru_np.kernels import fused, threads
    warnings.simplefilter("ignore")
    fused.OWN_BYTES, fused.STEP_OPERATIONS = 0, 0
    threads.OPERATIONS_PER_THREAD, threads.CORES = 1, 16
    kernels.set_num_threads(3)
    x, W_hh = np.ones((6, 2, 2), "f4"), rng.standard_normal((300, 100)).astype("f4")
    W_ih = np.ones((300, 2), "f4")
    before = run()
    child = os.fork()
    if child == 0:
        os._exit(0 if (run() == before).all() else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), (run() == before).all())
    """
    )
    assert in_new_process(code) == ["0", "True"]
