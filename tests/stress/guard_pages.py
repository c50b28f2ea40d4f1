"""Do kernels read or write outside of their arrays? Ask the processor.

Every array that a kernel is given, writes or works in is laid right behind or right before a page
that nobody may touch: one element too far ends the process. Cases are drawn: shapes, layouts and
byte orders, and in a third of them something that does not fit, such as a bias of another shape, an
id outside of the table, a tampered `saved`. Each must give what NumPy gives, or be refused by an
exception; a worker that dies is counted, and another goes on behind the case that killed it.

    python tests/stress/guard_pages.py                  # short, a few seconds
    python tests/stress/guard_pages.py --cases 20000
    python tests/stress/guard_pages.py --only 17        # one case, in this process
"""

import argparse
import copy
import ctypes
import mmap
import subprocess
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from gru_np import GRU, Dense, Embedding, Sequential, gru_backward, gru_forward, kernels, losses
from gru_np.optimizers import Adam, AdamW

SHORT = 400
PAGE = mmap.PAGESIZE
REFUSALS = ValueError, TypeError, IndexError, OverflowError
INTEGERS = [order + kind for order in "<>" for kind in ("i1", "i2", "i4", "i8", "u1", "u2", "u4")]

# ------------------------------------------------------------------------------- guarded memory

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int


def guarded(size, dtype, behind=True):
    """New memory for an array with a page that may not be touched before and after it.

    It ends where the second page begins, or begins where the first one ends.
    """
    dtype = np.dtype(dtype)
    count = int(np.prod(size, dtype=np.int64)) * dtype.itemsize
    pages = -(-count // PAGE) * PAGE
    memory = mmap.mmap(-1, pages + 2 * PAGE)
    whole = np.frombuffer(memory, np.uint8)
    for page in (whole.ctypes.data, whole.ctypes.data + PAGE + pages):
        if _libc.mprotect(page, PAGE, mmap.PROT_READ & 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
    begin = PAGE + (pages - count if behind else 0)
    return whole[begin : begin + count].view(dtype).reshape(size)


class Guarding:
    """NumPy for a module of kernels, whose new arrays lie between guarded pages."""

    def __init__(self, rng):
        self.rng = rng

    def __getattr__(self, name):
        return getattr(np, name)

    def empty(self, shape, dtype=float):
        array = guarded(shape, dtype, self.rng.random() < 0.7)
        if array.dtype.kind == "f":
            array[...] = np.nan  # what was not written is not to be read
        return array

    def zeros(self, shape, dtype=float):
        return guarded(shape, dtype, self.rng.random() < 0.7)

    def empty_like(self, a):
        return self.empty(a.shape, a.dtype)

    def zeros_like(self, a):
        return self.zeros(a.shape, a.dtype)


def guard_the_kernels():
    """Let every kernel work between guarded pages: results, saved gates, scratch memory, plans."""
    kernels.warmup()  # whatever is compiled has NumPy's own functions in it
    from gru_np.kernels import ctc, fused, passes, streaming, training

    rng = np.random.default_rng(0)
    guarding = Guarding(rng)

    class Scratch:
        def get(self, name, dtype, size):
            return guarding.empty(size, dtype)

    for module in (fused, training, passes, streaming, ctc):
        module.np = guarding
        for name in ("aligned", "lent"):
            if hasattr(module, name):
                setattr(module, name, guarding.empty)
        if hasattr(module, "scratch"):
            module.scratch = Scratch()


# ------------------------------------------------------------------------------------ the forms


def laid(rng, a):
    """The same numbers in memory of some other order."""
    a = np.asarray(a)
    form = rng.integers(10)
    if form < 4 or not a.size:
        out = guarded(a.shape, a.dtype, form < 3)
        out[...] = a
    elif form == 4:
        out = guarded(a.shape, a.dtype.newbyteorder(">"))
        out[...] = a
    elif form == 5:
        out = np.frombuffer(b"\0" + a.tobytes() + b"\0" * 7, np.uint8)
        out = out[1 : 1 + a.nbytes].view(a.dtype).reshape(a.shape)  # misaligned, read-only
    elif form == 6:
        out = guarded(a.shape, a.dtype)
        out[...] = a
        out.flags.writeable = False
    elif form == 7:
        out = guarded(a.shape[::-1], a.dtype).T
        out[...] = a
    elif form == 8:
        out = guarded((*a.shape, 2), a.dtype)[..., 1]
        out[...] = a
    else:
        out = guarded(a.shape, a.dtype)[::-1] if a.ndim else guarded(a.shape, a.dtype)
        out[...] = a
    return out


def of_another_shape(rng, a):
    """An array that does not fit where `a` does."""
    shape = list(a.shape) or [1]
    axis = rng.integers(len(shape))
    shape[axis] = max(0, shape[axis] + int(rng.choice([-1, 1, 7, -shape[axis]])))
    if tuple(shape) == a.shape or rng.random() < 0.2:
        shape.append(1)
    return np.resize(a, shape) if a.size else np.zeros([*shape, 1], a.dtype)


def integers(rng, values):
    """Integers of some type and byte order that can hold them."""
    values = np.asarray(values)
    while True:
        dtype = np.dtype(str(rng.choice(INTEGERS)))
        info = np.iinfo(dtype)
        if not values.size or (info.min <= values.min() and values.max() <= info.max):
            out = guarded(values.shape, dtype)
            out[...] = values
            return out


def outside(rng, values, end):
    """The same with one that is not in 0..end-1."""
    values = values.copy()
    wrong = [end, end + 1, -1, 127, 2**31 - 1, 2**31, -(2**31), 2**56, -(2**62)]
    values.flat[rng.integers(values.size)] = rng.choice([w for w in wrong if not 0 <= w < end])
    return values


def shape_of(rng):
    """T, B, I, H: mostly small, with whole vectors and one more among them."""
    T, B = int(rng.choice([1, 2, 5, 9])), int(rng.choice([1, 2, 3, 8, 33]))
    I, H = (int(n) for n in rng.choice([1, 2, 7, 8, 16, 17, 31, 48], 2))  # noqa: E741
    return T, B, I, H


# ------------------------------------------------------------------------------------ the cases


class InNumPy:
    """Reference: everything in NumPy."""

    def __enter__(self):
        self.token = kernels._in_numpy.set(True)

    def __exit__(self, *_):
        kernels._in_numpy.reset(self.token)


def agree(actual, expected):
    """Whether results are the same but for rounding."""
    if isinstance(expected, tuple | list):
        return len(actual) == len(expected) and all(map(agree, actual, expected))
    if expected is None:
        return actual is None
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        return False
    if not expected.size or expected.dtype.kind == "b":
        return bool((actual == expected).all())
    single = np.dtype(np.float32) == expected.dtype
    scale = np.abs(expected).max()
    return np.abs(actual - expected).max() <= (1e-4 if single else 1e-10) * max(scale, 1e-30)


def judged(call, bad):
    """What a case comes to."""
    if bad:
        try:
            call()
        except REFUSALS:
            return "refused"
        return f"wrong: {bad} was taken"
    with InNumPy():
        expected = call()
    actual = call()
    return "right" if agree(actual, expected) else "wrong: not what NumPy gives"


def gru(rng):
    T, B, I, H = shape_of(rng)  # noqa: E741
    dtype = rng.choice(["f4", "f8"])
    shapes = {
        "x": (T, B, I), "h0": (B, H), "W_ih": (3 * H, I), "W_hh": (3 * H, H), "b_ih": (3 * H,),
        "b_hh": (3 * H,),
    }  # fmt: skip
    arrays = {
        name: (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(dtype)
        for name, shape in shapes.items()
    }
    for name in ("h0", "b_ih", "b_hh"):
        if rng.random() < 0.3:
            arrays[name] = None
        elif rng.random() < 0.1:
            arrays[name] = arrays[name].astype("f8")
    settings = {"reset_after": bool(rng.integers(2))}
    if rng.random() < 0.3:
        settings["lengths"] = integers(rng, rng.integers(0, T + 1, B))
    if rng.random() < 0.3:
        settings["mask"] = rng.random((T, B)) < 0.7
    dh = rng.standard_normal((T + int(rng.integers(2)), B, H)).astype(dtype)
    present = [name for name, array in arrays.items() if array is not None]
    bad, tamper = "", None
    if rng.random() < 0.4:
        kind = rng.integers(6)
        name = str(rng.choice(present))
        if kind < 2:
            arrays[name] = of_another_shape(rng, arrays[name])
            bad = f"{name} of {arrays[name].shape}"
        elif kind == 2:
            settings["lengths"] = outside(rng, rng.integers(0, T + 1, B), T + 1)
            bad = "lengths"
        elif kind == 3:
            settings["mask"] = of_another_shape(rng, np.ones((T, B), bool))
            bad = "mask"
        elif kind == 4:
            dh = of_another_shape(rng, dh) if rng.random() < 0.7 else dh + 1j
            bad = f"dh of {dh.dtype} {dh.shape}"
            if dh.shape in ((T, B, H), (T + 1, B, H)) and dh.dtype.kind == "f":
                bad = ""
        else:
            tamper = str(rng.choice(["x", "h", "rows", "W_ih", "W_hh", "reset_after"]))
            bad = f"saved with another {tamper}"
    arrays = {name: None if a is None else laid(rng, a) for name, a in arrays.items()}
    dh = laid(rng, dh)

    def call():
        h, saved = gru_forward(**arrays, **settings)
        inferred, _ = gru_forward(**arrays, **settings, inference=True)
        assert agree(inferred, h)
        if tamper == "reset_after":
            saved = saved._replace(reset_after=not saved.reset_after)
        elif tamper:
            old = getattr(saved, tamper)
            new = of_another_shape(rng, old) if rng.random() < 0.7 else old.astype("f2")
            saved = saved._replace(**{tamper: new})
        return h, gru_backward(dh, saved)

    return judged(call, bad)


def ctc(rng):
    B, T, V, L = (int(rng.integers(1, most)) for most in (5, 12, 9, 6))
    V, blank = V + 1, int(rng.integers(V + 1))
    logits = rng.standard_normal((B, T, V)).astype(rng.choice(["f4", "f8"]))
    labels = (blank + rng.integers(1, V, (B, L))) % V
    steps, counts = rng.integers(0, T + 1, B), rng.integers(0, L + 1, B)
    bad = ""
    if rng.random() < 0.4:
        bad = str(rng.choice(["labels", "steps", "counts", "blank", "shape"]))
        if bad == "labels":
            counts[:] = L
            labels = outside(rng, labels, V)
        elif bad == "steps":
            steps = outside(rng, steps, T + 1)
        elif bad == "counts":
            counts = outside(rng, counts, L + 1)
        elif bad == "blank":
            blank = int(rng.choice([V, -1, 2**40]))
        else:
            steps = of_another_shape(rng, steps)
    else:
        labels[np.arange(L) >= counts[:, None]] = 99  # not read
    arguments = (
        laid(rng, logits), integers(rng, labels), integers(rng, steps), integers(rng, counts), blank
    )  # fmt: skip
    return judged(lambda: kernels.ctc_loss(*arguments), bad)


def embedding(rng):
    B, T, V, E = (int(rng.integers(1, most)) for most in (7, 9, 20, 40))
    ids, bad = rng.integers(0, V, (B, T)), ""
    dy = rng.standard_normal((B, T, E)).astype(rng.choice(["f4", "f8"]))
    expected = np.zeros((V, E), dy.dtype)
    np.add.at(expected, ids, dy)
    if rng.random() < 0.4:
        bad = str(rng.choice(["ids", "shape", "floats"]))
        if bad == "ids":
            ids = outside(rng, ids, V)
        elif bad == "shape":
            ids = of_another_shape(rng, ids)
        else:
            ids = ids + 0.5
    ids = integers(rng, ids) if ids.dtype.kind == "i" else ids
    dy = laid(rng, dy) if dy.dtype.isnative else dy
    if not dy.dtype.isnative:
        bad = bad or "dy of another byte order"
    if bad:
        return judged(lambda: kernels.embedding_gradient(ids, dy, V), bad)
    dW = kernels.embedding_gradient(ids, dy, V)
    return "right" if agree(dW, expected) else "wrong: not the sums"


def head(rng):
    B, T, V, H = (int(rng.integers(1, most)) for most in (6, 7, 50, 40))
    positions = (B, T) if rng.random() < 0.7 else (B,)
    dtype = rng.choice(["f4", "f8"])
    h, W, b = (rng.standard_normal(s).astype(dtype) for s in [(*positions, H), (V, H), (V,)])
    labels, bad = rng.integers(0, V, positions), ""
    weight = rng.random(positions) if rng.random() < 0.3 else None
    kept = rng.random(positions) < 0.7 if rng.random() < 0.3 else None
    if rng.random() < 0.4:
        bad = str(rng.choice(["labels", "b", "W", "label shape", "weight", "kept"]))
        if bad == "labels":
            labels, kept = outside(rng, labels, V), None
        elif bad == "b":
            b = of_another_shape(rng, b)
        elif bad == "W":
            W = rng.standard_normal((V, H + 1)).astype(dtype)
        elif bad == "label shape":
            labels = of_another_shape(rng, labels)
        elif bad == "weight":
            weight = of_another_shape(rng, np.ones(positions))
        else:
            kept = of_another_shape(rng, np.ones(positions, bool))
    elif kept is not None:
        labels[~kept] = 9999  # not read
    W, b, labels = laid(rng, W), laid(rng, b), integers(rng, labels)
    if rng.random() < 0.5:
        lying = guarded((*positions, H), dtype)
        lying[...] = h
        h = lying

    def call():
        return kernels.dense_cross_entropy(h, W, b, labels, weight, kept, 3.0)

    if bad:
        return judged(call, bad)
    found, counts = call(), np.ones(positions, bool) if kept is None else kept
    x = h.astype("f8") @ np.asarray(W, "f8").T + np.asarray(b, "f8")
    x -= x.max(axis=-1, keepdims=True)
    log_p = x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
    safe = np.where(counts, labels.astype(int), 0)
    w = np.where(counts, 1.0 if weight is None else weight, 0.0) / 3
    value = -(w * np.take_along_axis(log_p, safe[..., None], -1)[..., 0]).sum()
    dx = w[..., None] * (np.exp(log_p) - (np.arange(V) == safe[..., None]))
    expected = dx @ np.asarray(W, "f8"), dx.reshape(-1, V).T @ h.reshape(-1, H).astype("f8")
    same = agree((found.dh, found.dW), [e.astype(dtype) for e in expected])
    close = abs(found.value - value) <= 1e-4 * max(1.0, abs(value))
    return "right" if same and close else "wrong: not the cross-entropy"


def adam(rng):
    dtype = rng.choice(["f4", "f8"])
    shapes = [tuple(int(n) for n in rng.integers(1, 40, rng.integers(1, 3))) for _ in range(3)]
    if rng.random() < 0.2:
        shapes[0] = (300, 200)
    start = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    gradients = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    clip = {"clipnorm": 0.5} if rng.random() < 0.3 else {}
    make = AdamW if rng.random() < 0.3 else Adam
    params, bad = [], ""
    for array in start:
        p = guarded(array.shape, array.dtype, rng.random() < 0.5)
        p[...] = array
        params.append(p)
    grads = [laid(rng, g) for g in gradients]
    if rng.random() < 0.4:
        bad = str(rng.choice(["read-only", "late read-only", "shape", "complex", "masked"]))
        if bad == "read-only":
            params[1].flags.writeable = False
        elif bad == "shape":
            grads[1] = of_another_shape(rng, gradients[1])
        elif bad == "complex":
            grads[1] = gradients[1] + 1j
        elif bad == "masked":
            grads[1] = np.ma.array(gradients[1], mask=np.ones(shapes[1], bool))

    def call():
        optimizer, names = make(0.1, **clip), ["a", "b", "c"]
        own = params if bad else [copy.deepcopy(p) for p in params]
        for _ in range(2):
            optimizer.apply(
                dict(zip(names, own, strict=True)), dict(zip(names, grads, strict=True))
            )
            if bad == "late read-only":
                own[1].flags.writeable = False
        return own

    return judged(call, bad)


def language_model(rng, sequence=True):
    V, E, H = int(rng.integers(3, 12)), int(rng.integers(1, 9)), int(rng.integers(1, 20))
    layers = [
        Embedding(V, E),
        GRU(H, return_sequences=sequence, reset_after=bool(rng.integers(2))),
        Dense(V),
    ]
    model = Sequential(layers, seed=int(rng.integers(99)), dtype=str(rng.choice(["f4", "f8"])))
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, optimizer="adam")
    model.build((None, None))
    return model, V


def spoil(rng, model, where):
    """Put an array that does not fit where the user can: in a layer's parameters."""
    layer = model.layers[where]
    name = str(rng.choice(list(layer.params)))
    layer.params[name] = of_another_shape(rng, layer.params[name])
    return f"{name} of {layer.params[name].shape} in {layer.name}"


def training(rng):
    model, V = language_model(rng)
    B, T = int(rng.integers(2, 9)), int(rng.integers(1, 9))
    ids, labels = rng.integers(0, V, (B, T)), rng.integers(0, V, (B, T))
    bad = ""
    if rng.random() < 0.5:
        kind = rng.integers(4)
        if kind == 0:
            ids, bad = outside(rng, ids, V), "an id"
        elif kind == 1:
            labels, bad = outside(rng, labels, V), "a label"
        elif kind == 2:
            bad = spoil(rng, model, int(rng.integers(1, 3)))
        else:
            model.layers[0].input_dim += 1000
            ids, bad = outside(rng, ids, V), "an id in a table whose input_dim was changed"
    ids, labels = integers(rng, ids), integers(rng, labels)

    def call():
        own = copy.deepcopy(model)
        return [float(own.train_on_batch(ids, labels)) for _ in range(2)]

    if bad:
        return judged(call, bad)
    with InNumPy():
        expected = call()
    return "right" if np.allclose(call(), expected, rtol=1e-3) else "wrong: another loss"


def stepping(rng):
    model, V = language_model(rng, sequence=True)
    B = int(rng.integers(1, 6))
    H = model.layers[1].units
    ids, bad = rng.integers(0, V, B), ""
    states = [None, rng.standard_normal((B, H)).astype(rng.choice(["f4", "f8"])), None]
    if rng.random() < 0.5:
        kind = rng.integers(4)
        if kind == 0:
            ids, bad = outside(rng, ids, V), "an id"
        elif kind == 1:
            states[1] = of_another_shape(rng, states[1])
            bad = f"a state of {states[1].shape}"
        elif kind == 2:
            bad = spoil(rng, model, int(rng.integers(1, 3)))
        else:
            model.layers[0].input_dim += 1000
            ids, bad = outside(rng, ids, V), "an id in a table whose input_dim was changed"
    ids, states[1] = integers(rng, ids), laid(rng, states[1])

    def call():
        model._compiled.clear()
        y, after = model.step(ids, states)
        again, _ = model.step(ids, after)
        return y, after[1], again

    return judged(call, bad)


CASES = [gru, gru, ctc, embedding, head, adam, training, stepping]

# ------------------------------------------------------------------------- workers and counting


def work(first, last, seed):
    """Run some cases in this process, and print what each comes to."""
    warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
    if not kernels.available():
        sys.exit("guard_pages: there are no compiled kernels to test; install numba")
    kernels.pays(10**9, 0.0)  # long enough for everything to be compiled
    guard_the_kernels()
    for i in range(first, last):
        rng = np.random.default_rng([seed, i])
        case = CASES[i % len(CASES)]
        print(i, "begins", flush=True)
        try:
            verdict = case(rng)
        except Exception as error:  # what should have been right was refused, or worse
            verdict = f"wrong: {type(error).__name__}: {str(error).splitlines()[0]}"
        print(i, f"{case.__name__}: " * verdict.startswith("wrong") + verdict, flush=True)


def main():
    """Run all cases in workers; exit status 1 if any crashed or was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--short", action="store_true", help=f"{SHORT} cases, the default")
    parser.add_argument("--cases", type=int, default=SHORT)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="one case, in this process")
    parser.add_argument("--worker", type=int, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only is not None:
        return work(args.only, args.only + 1, args.seed)
    if args.worker:
        return work(*args.worker, args.seed)
    counts, faults, i = {"right": 0, "refused": 0, "wrong": 0, "crashed": 0}, [], 0
    while i < args.cases:
        command = [sys.executable, __file__, "--worker", str(i), str(args.cases)]
        command += ["--seed", str(args.seed)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        running = None
        for line in done.stdout.splitlines():
            number, verdict = line.split(" ", 1)
            if verdict == "begins":
                running = int(number)
                continue
            kind = verdict if verdict in counts else "wrong"
            counts[kind] += 1
            if kind == "wrong":
                faults.append(f"case {number}: {verdict}")
            i, running = int(number) + 1, None
        if running is not None:
            counts["crashed"] += 1
            name = CASES[running % len(CASES)].__name__
            faults.append(f"case {running}: {name} ended the process, {done.returncode}")
            i = running + 1
        elif done.returncode:
            sys.exit(done.returncode)
    print("\n".join(faults), end="\n" if faults else "")
    print(f"{args.cases} cases: " + ", ".join(f"{n} {kind}" for kind, n in counts.items()))
    return 1 if counts["wrong"] or counts["crashed"] else 0


if __name__ == "__main__":
    sys.exit(main())
