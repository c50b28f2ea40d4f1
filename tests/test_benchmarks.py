"""The benchmark itself: numbers, references, the workers' pipe, tables. No timing is judged."""

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import (
    goals,
    parts,
    peak,
    plan,
    problems,
    reference,
    report,
    run,
    settings,
    size,
    statistics,
)
from benchmarks.contestants import CONTESTANTS, OURS, Entry, UnsupportedError
from benchmarks.contestants.base import Contestant, Task, fastest
from benchmarks.measurement import Measurement
from benchmarks.workers import ROOT, Worker, WorkerError, environment

NUMPY = "gru_np-numpy"
AHEAD = "forward: ahead of the best rival at every shape"
SHAPE = problems.Shape(3, 5, 2, 4)
MODEL = problems.LanguageModel(7, 2, 4, 2, 3, 5)
PEAK = {"GHz": 3.0, "GFLOP/s": 96.0, "theory GFLOP/s": 96.0, "lanes": 8.0,
        "L2 read GB/s": 90.0, "L3 read GB/s": 50.0, "triad GB/s": 20.0}  # fmt: skip


@pytest.fixture(autouse=True)
def the_machine_is_not_measured(monkeypatch):
    """It takes seconds, and nothing here needs it."""
    monkeypatch.setattr(peak, "measure", lambda threads, caches: dict(PEAK))


@pytest.fixture
def worker(tmp_path):
    one = Worker(NUMPY, 1, tmp_path / "log")
    yield one
    one.close()


def row(median, **more):
    return {"median": median, "q1": median, "q3": median, "fastest": median, "repeats": 3, **more}


def fake_results(ours=1e-3, rival=2e-3):
    """One forward case in which torch ran, OpenVINO disagreed and torch.compile failed."""
    shape = problems.Shape(32, 100, 64, 256)
    contestants = {
        OURS: row(ours, agrees=True, error=1e-7, **{"peak share": 0.9, "GFLOP/s": 86.0}),
        "torch": row(rival, agrees=True, error=2e-7, **{"peak share": 0.4, "GFLOP/s": 40.0}),
        "torch.compile": {"failed": "no answer within 60 s"},
        "openvino": {"agrees": False, "array": "h", "error": 1e-3, "tolerance": 1e-5},
    }
    record = {
        "case": problems.to_record(shape),
        "contestants": contestants,
        "others_cores": 0.0,
        "idle_seconds": 0.0,
        "best_rival": "torch",
        "ratio": rival / ours,
        "operations": shape.operations(False),
        "bytes_moved": shape.bytes_moved(),
    }
    machine = {"cpu": "A processor", "cores": 2, "caches": {"L2": 1 << 19}, "features": ["fma"],
               "system": "Linux", "gru_np": "0", "commit": "", "python": "3"}  # fmt: skip
    return {
        "machine": machine,
        "peak": {"1": dict(PEAK)},
        "versions": {"torch": "2"},
        "absent": {"jax": "jax is not installed"},
        "started": "then",
        "finished": "now",
        "sections": {"forward": {"1": {shape.label: record}}},
    }


# ---------------------------------------------------------------------- problems and references


def test_every_process_makes_the_same_numbers_from_the_same_case():
    for make, case in [(problems.gru_problem, SHAPE), (problems.model_problem, MODEL)]:
        first, second = make(case), make(problems.case_from(problems.to_record(case)))
        assert first.keys() == second.keys()
        for name, values in first.items():
            np.testing.assert_array_equal(values, second[name])
            assert np.any(values), name  # biases and states are not zero


def test_operations_count_both_products_of_every_step_and_backward_twice_as_many():
    B, T, I, H = 3, 5, 2, 4  # noqa: E741
    assert SHAPE.operations(False) == T * (2 * B * I * 3 * H + 2 * B * H * 3 * H)
    assert SHAPE.operations(True) == 3 * SHAPE.operations(False)


def test_a_full_run_has_every_case_that_the_goals_name():
    labels = [shape.label for shape in plan.full().cases["forward"]]
    assert len(labels) == len(set(labels)) == 11
    assert set(labels) > goals.NAMED and goals.MEMORY_BOUND in labels
    assert goals.TINY in {model.label for model in plan.full().cases["language_model"]}


def test_the_reference_gradient_of_a_language_model_is_that_of_its_loss():
    p = {k: v.astype(float) if v.dtype == np.float32 else v
         for k, v in problems.model_problem(MODEL).items()}  # fmt: skip
    ids, rng, eps = p.pop("ids")[0], np.random.default_rng(5), 1e-5
    _, grads, _ = reference.model_gradients(p, MODEL.layers, ids)
    for name in p:
        direction = rng.standard_normal(p[name].shape)
        up, down = ({**p, name: p[name] + s * eps * direction} for s in (1, -1))
        numeric = (
            reference.model_gradients(up, MODEL.layers, ids)[0]
            - reference.model_gradients(down, MODEL.layers, ids)[0]
        ) / (2 * eps)
        assert abs(numeric - (grads[name] * direction).sum()) < 1e-7 * max(1, abs(numeric)), name


def test_squares_of_a_repeated_id_are_summed_apart_only_when_asked():
    together, apart = (reference.model_answers(MODEL, flag) for flag in (False, True))
    difference = abs(together["moved embedding"] - apart["moved embedding"])
    assert difference.max() > 1e-5


@pytest.mark.parametrize("spoil", ["value", "shape", "nan", "missing"])
def test_an_answer_that_is_wrong_in_one_array_does_not_agree(spoil):
    expected = reference.gru_answers(SHAPE, training=True)
    actual = {k: v.astype(np.float32) for k, v in expected.items()}
    assert reference.compare(actual, expected)["agrees"]
    if spoil == "value":
        actual["dW_hh"][1, 2] += 1e-3 * abs(expected["dW_hh"]).max()
    elif spoil == "shape":
        actual["dW_hh"] = actual["dW_hh"].T
    elif spoil == "nan":
        actual["dW_hh"][1, 2] = np.nan
    else:
        del actual["dW_hh"]
    found = reference.compare(actual, expected)
    assert not found["agrees"] and found["array"] == "dW_hh"


def test_logits_and_log_probabilities_are_the_same_answer():
    expected = reference.generation_answers(MODEL)
    shifted = {**expected, "log_probabilities": expected["log_probabilities"] + 3.0}
    assert reference.compare(shifted, expected)["agrees"]
    wrong = {**expected, "greedy": (expected["greedy"] + 1) % MODEL.V}
    assert not reference.compare(wrong, expected)["agrees"]


# -------------------------------------------------------------------------------- the workers


@pytest.mark.parametrize("section", ["forward", "training"])
def test_a_worker_prepares_answers_and_times(worker, tmp_path, section):
    path = tmp_path / "answer.npz"
    assert "numpy" in worker.ask(do="hello")["versions"]
    worker.ask(do="prepare", section=section, case=problems.to_record(SHAPE))
    worker.ask(do="answer", path=str(path))
    with np.load(path) as answer:
        assert reference.compare(dict(answer), reference.answers(section, SHAPE))["agrees"]
    assert worker.ask(do="warm", seconds=0)["seconds"] > 0
    assert worker.ask(do="time", calls=2)["seconds"] > 0
    assert worker.ask(do="memory")["bytes"] > 1 << 20


def test_a_failure_is_told_and_the_worker_goes_on(worker):
    with pytest.raises(WorkerError, match="nothing is prepared"):
        worker.ask(do="time", calls=1)
    with pytest.raises(WorkerError, match="AttributeError"):
        worker.ask(do="prepare", section="no such", case=problems.to_record(SHAPE))
    assert worker.ask(do="hello")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_worker_that_is_not_asked_is_stopped(worker):
    worker.ask(do="hello")
    state = Path(f"/proc/{worker.process.pid}/stat")
    deadline = time.monotonic() + 5
    while state.read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline, "still running"
    worker.ask(do="hello")
    assert worker.idle_seconds == 0


def test_a_worker_that_takes_too_long_is_ended(worker):
    case = problems.to_record(SHAPE)
    worker.ask(do="prepare", section="forward", case=case)
    with pytest.raises(WorkerError, match="no answer within"):
        worker.ask(limit=0.3, do="warm", seconds=60)
    assert not worker.alive


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG")
def test_a_stopped_worker_dies_with_its_parent(tmp_path):
    program = f"""
import os, pathlib
from benchmarks.workers import Worker
worker = Worker({NUMPY!r}, 1, pathlib.Path({str(tmp_path / "log")!r}))
worker.ask(do="hello")
print(worker.process.pid, flush=True)
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    pid, deadline = int(done.stdout), time.monotonic() + 5
    while Path(f"/proc/{pid}/stat").exists():
        # Where nobody reaps orphans a dead process stays as a zombie.
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break
        assert time.monotonic() < deadline, "survived"


def test_every_thread_pool_is_set_and_nobody_is_told_how_to_wait(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    found = environment("keras-jax", 2)
    assert found["OMP_NUM_THREADS"] == found["GRU_NP_NUM_THREADS"] == "2"
    assert found["KERAS_BACKEND"] == "jax" and "OMP_WAIT_POLICY" not in found


# ------------------------------------------------------------------------------------ the run


def tiny_plan():
    return plan.Plan(
        sections=["forward", "training", "size"],
        threads=[1],
        contestants=[NUMPY],
        cases={"forward": [SHAPE, problems.Shape(1, 1, 2, 3)], "training": [SHAPE]},
        repeats=2,
        repetition=1e-4,
        warm=0.0,
    )


def test_a_dry_run_writes_json_and_tables(tmp_path):
    path = tmp_path / "dry.json"
    results = run.execute(tiny_plan(), path, resume=False)
    assert json.loads(path.read_text()) == results
    assert list(tmp_path.glob("*.tmp")) == []
    record = results["sections"]["training"]["1"][SHAPE.label]
    assert record["contestants"][NUMPY]["agrees"] and record["contestants"][NUMPY]["repeats"] == 2
    assert record["ratio"] is None and record["best_rival"] == ""
    report.write(results, path, None)
    page = path.with_suffix(".md").read_text()
    assert "3, 5, 2, 4" in page and NUMPY in page


def test_resuming_measures_only_what_is_missing(tmp_path, monkeypatch):
    path, made = tmp_path / "dry.json", count()
    first = run.execute(tiny_plan(), path, resume=False)
    label = SHAPE.label
    del first["sections"]["training"]["1"][label]
    path.write_text(json.dumps(first))
    measure = run.Run._case
    monkeypatch.setattr(run.Run, "_case", lambda *a: (next(made), measure(*a))[1])
    second = run.execute(tiny_plan(), path, resume=True)
    assert next(made) == 1
    assert label in second["sections"]["training"]["1"]
    assert second["sections"]["forward"] == first["sections"]["forward"]


def test_resuming_on_another_machine_is_refused(tmp_path):
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"machine": {"cpu": "another"}}))
    with pytest.raises(SystemExit, match="another machine"):
        run.execute(tiny_plan(), path, resume=True)


def test_an_interrupt_leaves_what_was_measured(tmp_path, monkeypatch):
    measure, calls = run.Run._case, count()

    def second_is_interrupted(*arguments):
        if next(calls):
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(run.Run, "_case", second_is_interrupted)
    path = tmp_path / "part.json"
    run.execute(tiny_plan(), path, resume=False)
    assert list(json.loads(path.read_text())["sections"]["forward"]["1"]) == [SHAPE.label]


class FakeWorker:
    """Answers from the reference at once; the class keeps who was asked what, in order."""

    idle_seconds, alive = 0.0, True
    process = SimpleNamespace(pid=os.getpid())
    asked: ClassVar[list[tuple[str, str, int]]] = []
    logs: ClassVar[list[Path]] = []
    fails: ClassVar[dict[tuple[str, str, int], Exception]] = {}

    def __init__(self, name, threads, log):
        self.name, self.threads = name, threads
        self.logs.append(log)

    def send(self, **request):
        self.request = request
        self.asked.append((request["do"], self.name, self.threads))

    def receive(self, limit):
        asked = self.request["do"], self.name, self.threads
        if asked in self.fails:
            raise self.fails[asked]
        if self.request["do"] == "prepare":
            self.case = self.request["section"], problems.case_from(self.request["case"])
        elif self.request["do"] == "answer":
            np.savez(self.request["path"], **reference.answers(*self.case))
        return {"versions": {}, "seconds": 1e-3 / self.threads, "GFLOP/s": 50.0 * self.threads}

    def ask(self, limit, **request):
        self.send(**request)
        return self.receive(limit)

    def close(self):
        self.alive = False


@pytest.fixture
def fakes(monkeypatch):
    """Two contestants with one thread and with two, none of them real."""
    monkeypatch.setattr(run, "Worker", FakeWorker)
    monkeypatch.setattr(run, "missing", lambda name: "")
    for kept in ("asked", "logs", "fails"):
        monkeypatch.setattr(FakeWorker, kept, type(getattr(FakeWorker, kept))())
    small = tiny_plan()
    small.sections, small.cases = ["forward"], {"forward": [SHAPE]}
    small.threads, small.contestants = [1, 2], [OURS, "torch"]
    return small


def test_one_and_two_threads_take_turns_in_every_round(tmp_path, fakes):
    results = run.execute(fakes, tmp_path / "both.json", resume=False)
    everyone = [(name, n) for n in (1, 2) for name in (peak.TURN, OURS, "torch")]
    asked = FakeWorker.asked
    assert [who[1:] for who in asked if who[0] == "time"] == everyone * fakes.repeats
    first = next(k for k, who in enumerate(asked) if who[0] == "time")
    assert sum(who[0] == "warm" for who in asked[:first]) == 4  # all are ready before any turn
    assert sorted(who[1:] for who in asked if who[0] == "drop") == sorted(everyone)
    assert len(set(FakeWorker.logs)) == len(FakeWorker.logs) == 6
    for n in (1, 2):
        record = results["sections"]["forward"][str(n)][SHAPE.label]
        assert record["contestants"][OURS]["median"] == pytest.approx(1e-3 / n)
        assert record["peak in turn"]["median"] == 50.0 * n
        assert record["ratio"] == pytest.approx(1.0) and record["best_rival"] == "torch"


def test_a_number_of_threads_that_is_there_already_is_not_measured_again(tmp_path, fakes):
    path = tmp_path / "half.json"
    first = run.execute(fakes, path, resume=False)
    del first["sections"]["forward"]["1"][SHAPE.label]
    path.write_text(json.dumps(first))
    FakeWorker.asked.clear()
    second = run.execute(fakes, path, resume=True)
    assert {threads for *_, threads in FakeWorker.asked} == {1}
    assert second["sections"]["forward"]["2"] == first["sections"]["forward"]["2"]
    assert SHAPE.label in second["sections"]["forward"]["1"]


@pytest.mark.parametrize("what", ["prepare", "time"])
def test_a_failure_with_two_threads_leaves_the_time_with_one(tmp_path, fakes, what):
    FakeWorker.fails[what, "torch", 2] = WorkerError("no answer within 30 s")
    FakeWorker.fails["time", peak.TURN, 1] = WorkerError("it died")
    results = run.execute(fakes, tmp_path / "failed.json", resume=False)
    one, two = (results["sections"]["forward"][n][SHAPE.label] for n in ("1", "2"))
    assert "median" in one["contestants"]["torch"] and "peak in turn" not in one
    assert two["contestants"]["torch"]["failed"] == "no answer within 30 s"
    assert "median" not in two["contestants"]["torch"] and two["best_rival"] == ""
    assert "peak share in turn" in two["contestants"][OURS]


def test_who_cannot_start_with_two_threads_is_absent(tmp_path, fakes):
    FakeWorker.fails["hello", "torch", 2] = WorkerError("no such library")
    results = run.execute(fakes, tmp_path / "absent.json", resume=False)
    assert results["absent"] == {"torch": "no such library"}
    for n in ("1", "2"):
        assert list(results["sections"]["forward"][n][SHAPE.label]["contestants"]) == [OURS]


def test_who_took_too_long_to_compile_is_not_asked_for_as_many_steps_again(tmp_path, fakes):
    fakes.contestants, fakes.unroll_limit = [OURS, "torch.compile"], 0.0
    fakes.cases = {"forward": [SHAPE, problems.Shape(3, 6, 2, 4), problems.Shape(3, 4, 2, 4)]}
    FakeWorker.fails["prepare", "torch.compile", 1] = WorkerError("no answer within 0 s")
    results = run.execute(fakes, tmp_path / "slow.json", resume=False)
    asked = [threads for do, name, threads in FakeWorker.asked
             if (do, name) == ("prepare", "torch.compile")]  # fmt: skip
    assert asked == [1, 1]  # T = 5, not T = 6, then T = 4, and neither with two threads
    for label in ("3,5,2,4", "3,6,2,4"):
        other = results["sections"]["forward"]["2"][label]["contestants"]["torch.compile"]
        assert "no more steps" in other["failed"]


def test_a_contestant_is_added_by_one_module_and_one_line(tmp_path, fakes, monkeypatch):
    newcomer = Entry("newcomer", "Newcomer", (), ())
    monkeypatch.setitem(CONTESTANTS, "newcomer", newcomer)
    fakes.contestants.append("newcomer")
    path = tmp_path / "new.json"
    results = run.execute(fakes, path, resume=False)
    assert "newcomer" in results["sections"]["forward"]["2"][SHAPE.label]["contestants"]
    report.write(results, path, None)
    assert "newcomer" in path.with_suffix(".md").read_text()
    if find_spec("matplotlib"):
        assert path.with_name("new-ratios.png").stat().st_size > 5000


def test_what_computes_less_than_float32_is_shown_with_its_error_and_beats_nobody(tmp_path, fakes):
    fakes.contestants.append("openvino-default")
    path = tmp_path / "apart.json"
    results = run.execute(fakes, path, resume=False)
    record = results["sections"]["forward"]["1"][SHAPE.label]
    found = record["contestants"]["openvino-default"]
    assert found["own precision"] and "median" in found and "agrees" not in found
    found["median"] = 1e-9
    assert statistics.best_rival("median", record["contestants"]) == "torch"
    report.write(results, path, None)
    assert "openvino-default, not float32" in path.with_suffix(".md").read_text()


def test_results_say_who_was_left_out_and_why(tmp_path, fakes):
    fakes.quick = True
    left_out = run.execute(fakes, tmp_path / "some.json", resume=False)["left out"]
    assert left_out["jax"] == "not chosen" and "slow to start" in left_out["flax"]
    assert OURS not in left_out
    assert "left out: torch.compile (slow to start" in command.roll_call(plan.quick())
    assert "left out: nobody" in command.roll_call(plan.full())


def test_the_fastest_of_several_ways_plays_and_is_named():
    def task(seconds):
        return Task(lambda: time.sleep(seconds), dict)

    chosen = fastest({"slow": task(3e-3), "quick": task(1e-4)})
    assert chosen.way == "quick"
    results = fake_results()
    rows = results["sections"]["forward"]["1"]["32,100,64,256"]["contestants"]
    rows["torch"]["way"] = "nn.GRUCell"
    assert "- torch, nn.GRUCell: (32, 100, 64, 256)" in report.full_table(results, "forward", "1")


def test_any_shape_can_be_measured_and_goes_where_it_belongs():
    chosen = plan.full()
    chosen.take_shapes(["7,9,11,13", "1,1,64,64", "50,8,16,1,1,12", "50,8,16,1,3,12"])
    layers = [problems.Shape(7, 9, 11, 13), problems.Shape(1, 1, 64, 64)]
    one, three = (problems.LanguageModel(50, 8, 16, 1, B, 12) for B in (1, 3))
    assert chosen.cases == {
        "forward": layers, "training": layers, "language_model": [one, three], "generation": [one],
    }  # fmt: skip


def test_every_setting_that_was_tried_can_be_played():
    import inspect

    from benchmarks.contestants import class_of, missing

    for name in CONTESTANTS:
        if not missing(name):
            cls = class_of(name)
            assert cls.SETTINGS != Contestant.SETTINGS, f"{name} does not say its settings"
            for arguments in cls.TRIED.values():
                inspect.signature(cls).bind(**arguments)


def test_two_runs_are_compared_case_by_case(tmp_path, capsys):
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, ours in zip(paths, (2e-3, 1e-3), strict=True):
        path.write_text(json.dumps(fake_results(ours)))
    assert command.main(["--compare", *map(str, paths)]) == 0
    shown = capsys.readouterr().out
    assert "The same machine." in shown
    assert "| 32, 100, 64, 256: gru_np | 2.00 ms | 1.00 ms | 2.00 × |" in shown
    other = fake_results()
    other["machine"]["cpu"], other["sections"] = "Another", {}
    paths[1].write_text(json.dumps(other))
    assert command.main(["--compare", *map(str, paths)]) == 0
    shown = capsys.readouterr().out
    assert "two machines" in shown and "no case in common" in shown


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"sections": 3, "machine": {"cpu": "x"}}'])
@pytest.mark.parametrize("option", ["--report", "--compare"])
def test_a_file_that_is_no_run_is_refused_in_a_sentence(tmp_path, capsys, option, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    files = [str(path)] * (2 if option == "--compare" else 1)
    assert command.main([option, *files]) == 2
    assert "expected the JSON of a run" in capsys.readouterr().err
    strange = fake_results()
    strange["sections"]["forward"]["1"]["32,100,64,256"]["contestants"]["fast_gru"] = {}
    path.write_text(json.dumps(strange))
    assert command.main([option, *files]) == 2
    assert "not in this version, fast_gru" in capsys.readouterr().err


def test_the_99th_percentile_is_that_of_single_calls():
    one = Measurement("forward", SHAPE, 1)
    one.enter(OURS, {}, 5)
    for k in range(10):
        singles = [1e-3] * 9 + [5e-3 if k == 3 else 1e-3]
        one.take(OURS, {"seconds": 1e-3, "singles": singles})
    found = one.record(None)["contestants"][OURS]
    assert found["singles"] == 100 and 1e-3 < found["p99"] <= 5e-3 and found["median"] == 1e-3


def test_who_disagrees_gets_no_time(tmp_path, monkeypatch):
    monkeypatch.setitem(reference.TOLERANCE, "h", 0.0)
    small = tiny_plan()
    small.sections = ["forward"]
    results = run.execute(small, tmp_path / "strict.json", resume=False)
    found = results["sections"]["forward"]["1"][SHAPE.label]["contestants"][NUMPY]
    assert found["agrees"] is False and "median" not in found and found["error"] > 0


def test_the_share_in_turn_is_computed_round_by_round(tmp_path, monkeypatch):
    seconds, peaks = iter([2e-9, 4e-9, 1e-9]), iter([1e3, 1e3, 8e3])  # medians: 2e-9 and 1e3
    ask = Worker.ask

    def timed(worker, limit=600, **request):
        reply = ask(worker, limit, **request)
        if request["do"] != "time":
            return reply
        if worker.name == peak.TURN:
            assert 0 < reply["GFLOP/s"] < 1e6
            return {"GFLOP/s": next(peaks)}
        return {"seconds": next(seconds)}

    pytest.importorskip("llvmlite")
    monkeypatch.setattr(Worker, "ask", timed)
    small = tiny_plan()
    small.sections, small.cases, small.repeats = ["training"], {"training": [SHAPE]}, 3
    results = run.execute(small, tmp_path / "turns.json", resume=False)
    record = results["sections"]["training"]["1"][SHAPE.label]
    assert record["peak in turn"] == {"median": 1e3, "q1": 1e3, "q3": 4.5e3}
    # Operations over 2, 4 and 1 ns, over 1000, 1000 and 8000 GFLOP/s: the third round is slowest.
    expected = SHAPE.operations(True) / 4 / 1e3
    found = record["contestants"][NUMPY]
    assert found["peak share in turn"] == pytest.approx(expected)
    assert found["peak share"] == pytest.approx(SHAPE.operations(True) / 2 / PEAK["GFLOP/s"])


def test_a_machine_that_cannot_run_the_loop_goes_on_without_its_turns(tmp_path, monkeypatch):
    monkeypatch.setattr(peak, "TURN", "nobody")
    results = run.execute(tiny_plan(), tmp_path / "without.json", resume=False)
    record = results["sections"]["forward"]["1"][SHAPE.label]
    assert record["contestants"][NUMPY]["repeats"] == 2 and "peak in turn" not in record
    assert "nobody" not in results["absent"]


# --------------------------------------------------------------------------------- the tables


def test_a_summary_has_quartiles():
    assert statistics.summary([4.0, 1.0, 3.0, 2.0, 5.0]) == {
        "median": 3.0, "q1": 2.0, "q3": 4.0, "fastest": 1.0, "repeats": 5,
    }  # fmt: skip


def test_our_own_numpy_path_is_not_a_rival():
    rows = {OURS: row(3.0), NUMPY: row(1.0), "torch": row(6.0), "jax": {"failed": "why"}}
    assert statistics.best_rival("median", rows) == "torch"
    assert statistics.ratio("median", rows, "torch", OURS) == 2.0
    assert statistics.ratio("median", rows, "jax", OURS) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (12.0, "12.0 s"),
        (0.9996, "1.00 s"),
        (0.155, "155 ms"),
        (5.3e-6, "5.30 µs"),
        (4e-7, "400 ns"),
    ],
)
def test_times_are_written_in_the_unit_that_suits(seconds, text):
    assert report.time(seconds) == text


def test_losses_stay_in_the_table_and_stand_out():
    text = report.readme_text(fake_results(ours=2e-3, rival=1.5e-3))
    assert "| 32, 100, 64, 256 | 2.00 ms | 90 % | **0.75 ×** torch | **0.75 ×** |" in text
    won = report.readme_text(fake_results())
    assert "| 1.00 ms | 90 % | 2.00 × torch | 2.00 × |" in won


def test_who_failed_or_disagreed_is_listed_with_the_reason():
    text = report.full_text(fake_results(), [])
    assert "openvino (32, 100, 64, 256): disagrees: h 1.0e-03 (allowed 1e-05)" in text
    assert "torch.compile (32, 100, 64, 256): failed: no answer within 60 s" in text
    assert "jax: jax is not installed" in text


def test_a_run_on_a_busy_machine_says_that_it_is_worth_nothing():
    results = fake_results()
    assert "not quiet" not in report.readme_text(results)
    (record,) = results["sections"]["forward"]["1"].values()
    record["others_cores"] = 1.0
    assert "not quiet" in report.readme_text(results)


def test_goals_name_what_was_missed():
    judged = goals.judged(fake_results(rival=2e-3), "median")
    assert not judged[AHEAD].missed
    (missed,) = [goal for text, goal in judged.items() if "2.5 times torch" in text]
    assert missed.worst.value == pytest.approx(2.0) and len(missed.missed) == 1
    assert "**missed 1 of 1**" in report.goals_table(fake_results())


def test_goals_by_the_fastest_judge_what_the_medians_do_not():
    results = fake_results(ours=2e-3, rival=1e-3)
    (record,) = results["sections"]["forward"]["1"].values()
    rows = record["contestants"]
    rows[OURS]["fastest"], rows["torch"]["fastest"] = 8e-4, 9e-4
    rows["jax"] = row(3e-3, fastest=8.8e-4)  # the best rival by the fastest, not by the medians
    by_medians, by_fastest = (goals.judged(results, by)[AHEAD] for by in ("median", "fastest"))
    assert by_medians.missed and by_medians.worst.value == pytest.approx(0.5)
    assert not by_fastest.missed and by_fastest.worst.value == pytest.approx(1.1)
    where = "of 1.00: forward (32,100,64,256), one thread"
    line = f"| {AHEAD} | **missed 1 of 1** | 0.50 {where} | reached | 1.10 {where} |"
    assert line in report.goals_table(results)
    assert report.GOALS_NOTE in report.full_text(results, [])
    assert "0.50 ×" in report.readme_text(results)  # by the medians, as ever


def test_the_share_of_the_peak_by_the_fastest_is_of_the_best_peak_of_the_run():
    results = results_with_turns()
    (record,) = results["sections"]["forward"]["1"].values()
    record["contestants"][OURS]["fastest"] = record["operations"] / 0.7 / 96e9  # PEAK: 96 GFLOP/s
    text = report.goals_table(results)
    assert "0.81 of 0.85 (0.66 of the run's best): (32,100,64,256)" in text
    assert "| 0.70 of 0.85: (32,100,64,256) |" in text


def test_the_gain_of_two_threads_is_fastest_over_fastest_for_the_same_cases():
    results = fake_results(ours=2e-3)
    ((label, one),) = results["sections"]["forward"]["1"].items()
    two = fake_results(ours=1.6e-3)["sections"]["forward"]["1"][label]
    results["sections"]["forward"]["2"] = {label: two}
    one["contestants"][OURS]["fastest"], two["contestants"][OURS]["fastest"] = 9e-4, 5e-4
    (text,) = [goal.text for goal in goals.GOALS if goal.text.startswith("two threads")]
    assert goals.judged(results, "median")[text].worst.value == pytest.approx(1.25)
    assert goals.judged(results, "fastest")[text].worst.value == pytest.approx(1.8)


def test_a_file_without_the_fastest_is_judged_by_the_medians_only():
    results = fake_results()
    (record,) = results["sections"]["forward"]["1"].values()
    for one in record["contestants"].values():
        one.pop("fastest", None)
    assert goals.judged(results, "fastest") == {}
    lines = report.goals_table(results).splitlines()[2:]
    assert lines and all(line.endswith("| - | - |") for line in lines)


def results_with_turns():
    """Like `fake_results`, from a run in which the peak took turns."""
    results = fake_results()
    (record,) = results["sections"]["forward"]["1"].values()
    record["peak in turn"] = {"median": 72.0, "q1": 60.0, "q3": 90.0}
    record["contestants"][OURS] |= {"peak share in turn": 0.81, "peak share": 0.66}
    return results


def test_the_goal_of_the_peak_is_judged_by_the_share_in_turn_and_names_the_other():
    assert "| 0.81 of 0.85 (0.66 of the run's best): (32,100,64,256) |" in report.goals_table(
        results_with_turns()
    )


def test_tables_show_the_share_in_turn_and_full_ones_the_share_of_the_best_too():
    results = results_with_turns()
    assert "| 1.00 ms | 81 % | 2.00 × torch |" in report.readme_text(results)
    assert "measured in turn" in report.readme_text(results)
    page = report.full_text(results, [])
    assert "1.00 ms (1.00 ms to 1.00 ms, 81 % / 66 %)" in page
    assert "| 72 GFLOP/s (60 to 90, 75 %) |" in page


def test_a_file_from_before_the_turns_is_reported_with_the_share_of_the_best():
    results = fake_results()
    assert "| 1.00 ms | 90 % |" in report.readme_text(results)
    assert "| reached | 0.90 of 0.85: (32,100,64,256) |" in report.goals_table(results)
    page = report.full_text(results, [])
    assert "(1.00 ms to 1.00 ms, 90 %)" in page and "in turn" not in page


def test_two_threads_together_run_the_loop_at_a_rate_that_is_a_mean():
    pytest.importorskip("llvmlite")
    turn, rounds = peak.Turn(2, seconds=0.01), []

    def slow(n, a, b):
        time.sleep(2e-3 if len(rounds) % 4 else 8e-3)
        rounds.append(n)

    turn.loops.fma = slow
    start = time.perf_counter()
    found = turn.time()["GFLOP/s"]
    work = sum(rounds) * peak.CHAINS * turn.loops.lanes * 2 / 1e9
    assert found >= work / (time.perf_counter() - start)  # both threads count
    assert found < 2 * rounds[0] * peak.CHAINS * turn.loops.lanes * 2 / 1e9 / 2e-3  # not the best


def test_the_readme_is_replaced_between_its_markers_only():
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    once = report.insert(page, "new")
    assert once.startswith("before\n") and once.endswith("\nafter\n") and "old" not in once
    assert report.insert(once, "new") == once
    assert report.insert("no markers", "new") == "no markers"


def test_pictures_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks import plots

    for figure in plots.write(fake_results(), tmp_path / "x.json"):
        assert figure.stat().st_size > 5000
    marks = plots.marks()
    assert list(marks) == [name for name, entry in CONTESTANTS.items() if entry.rival]
    assert len(set(marks.values())) == len(marks)


@pytest.mark.parametrize("wrong", ["--only=nothing", "--threads=0", "--contestants=nobody"])
def test_the_command_line_refuses_what_it_does_not_know(wrong, capsys):
    with pytest.raises(SystemExit):
        command.main([wrong])
    for label in ("1,2,3", "8,3,0,4", "1,2,3,x", "1,2,3,4,5"):
        assert command.main(["--shapes", label]) == 2
        assert f"'{label}': expected B,T,I,H, four whole numbers" in capsys.readouterr().err


def test_the_closure_of_a_distribution_has_what_it_requires():
    found = size.closure(["numba"] if "numba" in size.own_requirements() else ["numpy"])
    if "numba" not in found:
        pytest.skip("numba is not installed")
    assert {"numba", "llvmlite", "numpy"} <= found.keys()
    assert all(size.bytes_of(one) > 1000 for one in found.values())


def test_the_machine_loops_compute_what_they_say():
    pytest.importorskip("llvmlite")
    loops = peak.Loops()
    # Every chain tends to b / (1 - a) = 1; the first is added twice.
    assert loops.fma(100, 0.5, 0.5) == peak.CHAINS + 1
    step = peak.SUMS * loops.lanes
    ones = np.ones(4 * step, np.float32)
    # Sums begin anew with every pass.
    assert loops.read(ones.ctypes.data, len(ones), 3) == 4 * (peak.SUMS + 1)
    b, c, a = np.full((3, 2 * step), [[1], [2], [0]], np.float32)
    loops.triad(b.ctypes.data, c.ctypes.data, a.ctypes.data, len(a), 3.0)
    assert (a == 7).all()


def test_an_unsupported_section_says_so():
    with pytest.raises(UnsupportedError, match="does not train"):
        Contestant().training(SHAPE, {})
    assert os.path.exists(ROOT / "benchmarks" / "README.md")


@pytest.mark.parametrize("B", [3, 40], ids=["one block of rows", "two"])
def test_the_parts_of_a_forward_pass_make_the_pass(B):
    fused = pytest.importorskip("gru_np.kernels.fused")
    shape = problems.Shape(B, 1, 11, 35)
    weights, problem, arguments = parts.laid_out(shape)
    _, h, _, _, states, *_, block, _ = arguments
    rows = B % block or block  # of the last block, whose states are there to look at
    run_part = parts.passes()
    expected, _ = fused.gru_forward(problem["x"], problem["h0"], *weights, inference=True)
    row = len(states) // 3 // block
    states[: rows * row].reshape(rows, row)[:, :35] = problem["h0"][-rows:]
    for which in range(1, len(parts.PARTS)):
        run_part(which, *arguments)
    assert np.array_equal(h.reshape(2, B, 35)[1, -rows:], expected[1, -rows:])


def test_the_table_of_parts_says_what_they_leave_possible():
    pytest.importorskip("numba")
    shape = problems.Shape(9, 3, 5, 20)
    found = parts.measure(shape, 1, parts.passes(), peak.Loops())
    found = {name: {"fastest": 1e-3, "median": 1e-3} for name in found}
    results = {"commit": "c", "cpu": "p", "rounds": 1, "shapes": {shape.label: found}}
    assert "| 9, 3, 5, 20 | 1.00 ms |" + 5 * " 100 % |" + " 20 % | 1.00 ms | 100 % |" in parts.text(
        results
    )


@pytest.mark.parametrize("label", ["1,2", "8,3,4,x", "8,3,0,4"])
def test_the_parts_of_a_shape_that_is_none_are_refused_in_a_sentence(label, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["parts", "--shapes", label])
    with pytest.raises(SystemExit) as ended:
        parts.main()
    assert ended.value.code == 2
    assert f"'{label}': expected B,T,I,H, four whole numbers from 1" in capsys.readouterr().err


def test_settings_say_what_was_tried_and_what_it_cost():
    found = {
        "settings": "as it was best",
        "tried": {"other": {"a": 1.5, "b": 0.8, "c": 2.0}, "no": {}},
    }
    text = settings.text({"machine": {"cpu": "A processor"}, "contestants": {"lib": found}})
    assert "**lib**: as it was best." in text
    assert (
        "| other | 1.50 × | **0.80 ×** to 2.00 × |" in text and "| no | - | no figure yet |" in text
    )
    page = f"x {settings.MARKERS[0]} old {settings.MARKERS[1]} y"
    assert "old" not in report.insert(page, text, settings.MARKERS)
    assert all(marker in settings.README.read_text() for marker in settings.MARKERS)
