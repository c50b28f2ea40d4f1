"""PyTorch: what a state dict leaves open is asked for, what a forward does beside its modules seen.

The right values are PyTorch's own, computed by the module that was converted.
"""

import importlib.util
import inspect
import sys
import warnings

import numpy as np
import pytest
from conftest import assert_close
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_interop import gru_state, linear, needs_torch, write_safetensors

from gru_np import GRU, Bidirectional, Dense, Embedding, Sequential, checkpoint, cli, interop
from gru_np.interop import ConversionError

torch = None
if importlib.util.find_spec("torch") is not None:
    import torch


# ------------------------------------------------------------------------ a state dict leaves open


def classifier(rng, bidirectional=False):
    """The state dict of an nn.GRU and an nn.Linear."""
    state = gru_state(rng, prefix="rnn.")
    if bidirectional:
        state |= {f"{k}_reverse": a for k, a in gru_state(rng, prefix="rnn.").items()}
    return state | linear(rng, "head", 3, 8 if bidirectional else 4)


def test_a_head_that_sees_every_step_or_the_last_is_asked_for(rng):
    state = classifier(rng)
    with pytest.raises(ConversionError, match="head is applied to every step of rnn or"):
        interop.from_torch(state)
    x = rng.standard_normal((2, 6, 2)).astype(np.float32)
    every = interop.from_torch(state, return_sequences=True).predict(x)
    assert every.shape == (2, 6, 3)
    for given_as in ({"return_sequences": False}, {"last": "step"}, {"last": "state"}):
        assert_close(interop.from_torch(state, **given_as).predict(x), every[:, -1], "exact")
    with pytest.raises(ValueError, match="is for return_sequences=False"):
        interop.from_torch(state, return_sequences=True, last="step")
    with pytest.raises(ValueError, match="last must be one of 'step', 'state'"):
        interop.from_torch(state, last="word")


def test_the_last_of_two_directions_has_two_meanings_and_one_of_them_is_ours(rng):
    state = classifier(rng, bidirectional=True)
    for open_ in ({"return_sequences": False}, {"last": "step"}):
        with pytest.raises(ConversionError, match=r"reads from both ends.*last='state'"):
            interop.from_torch(state, **open_)
    model = interop.from_torch(state, last="state")
    x = rng.standard_normal((2, 6, 2)).astype(np.float32)
    both = interop.from_torch(state, return_sequences=True).layers[0](x)
    ends = np.concatenate([both[:, -1, :4], both[:, 0, 4:]], axis=-1)
    assert_close(model.layers[0](x), ends, "rounding")


def test_an_nn_gru_alone_gives_every_step_as_it_does(rng):
    model = interop.from_torch(gru_state(rng))
    assert model.layers[0].return_sequences
    assert "GRU gives every step" in model.conversion.assumed


def test_what_was_assumed_of_a_state_dict_is_said(rng):
    state = classifier(rng) | {"norm.weight": np.ones(4), "norm.bias": np.ones(4)}
    state = {"table.weight": rng.standard_normal((7, 2)), **state}
    model = interop.from_torch(
        state, last="step", kinds={"norm": "LayerNorm", "table": "Embedding"},
        order=["table", "rnn", "norm", "head"], activations={"head": "softmax"},
    )  # fmt: skip
    assert model.conversion.assumed == (
        "table -> rnn -> norm -> head, in this order and nothing between",
        "rnn gives its last state",
        "table has no padding_idx and no max_norm",
        "norm has PyTorch's default epsilon, 1e-5",
        "head is followed by softmax",
    )
    assert "what is done between the modules: a state dict does not hold it" in (
        model.conversion.unchecked
    )


def test_what_cannot_be_checked_without_torch_is_said(rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    said = interop.from_torch(gru_state(rng)).conversion
    assert not said.checked
    assert "nothing was run: torch is not installed" in said.unchecked[0]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_what_a_wrapper_puts_before_every_key_is_taken_off(rng, prefix):
    state = classifier(rng)
    wrapped = {prefix + key: array for key, array in state.items()}
    model = interop.from_torch(wrapped, last="step")
    assert [layer.name for layer in model.layers] == ["rnn", "head"]


def test_a_checkpoint_around_a_state_dict_says_what_to_pass(rng):
    with pytest.raises(ConversionError, match=r"'epoch', 'state_dict'; pass what is under 'state_"):
        interop.from_torch({"epoch": 3, "state_dict": gru_state(rng)})


def test_tied_weights_of_save_model_are_found_by_their_other_name(rng, tmp_path):
    state = {"encoder.weight": rng.standard_normal((7, 4)).astype("f")}
    state |= gru_state(rng, I=4, prefix="rnn.") | {"decoder.bias": rng.standard_normal(7)}
    state = {k: np.asarray(a, np.float32) for k, a in state.items()}
    with (tmp_path / "m.safetensors").open("wb") as file:
        write_safetensors(file, state, {"format": "pt", "decoder.weight": "encoder.weight"})
    model = interop.read(tmp_path / "m.safetensors", return_sequences=True,
                         kinds={"encoder": "Embedding"})  # fmt: skip
    assert [type(layer) for layer in model.layers] == [Embedding, GRU, Dense]
    assert_close(model.layers[2].params["W"], state["encoder.weight"], "exact")
    assert "decoder.weight is encoder.weight, as the file says" in model.conversion.assumed


@pytest.mark.parametrize("padding", [b"\n", b"\t \r\n", b"  "])
def test_a_header_may_be_padded_with_any_white_space(rng, tmp_path, padding):
    path = tmp_path / "m.safetensors"
    with path.open("wb") as file:
        write_safetensors(file, gru_state(rng))
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].rstrip() + padding * 3
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    assert interop.read(path).layers[0].units == 4


# ------------------------------------------------------------------------------ the command line


def test_convert_of_a_state_dict_asks_says_and_converts(rng, tmp_path, capsys):
    source, target = tmp_path / "m.safetensors", tmp_path / "ours.safetensors"
    with source.open("wb") as file:
        write_safetensors(file, {k: np.asarray(a, "f") for k, a in classifier(rng).items()})
    assert cli.main(["convert", str(source), str(target)]) == 2
    assert "(--return-sequences, --last)" in capsys.readouterr().err
    assert not target.exists()
    options = ["--last", "step", "--activation", "head=softmax"]
    assert cli.main(["convert", str(source), str(target), *options]) == 0
    said = capsys.readouterr().out
    assert f"{source}: assumed: rnn -> head, in this order and nothing between" in said
    assert "assumed: head is followed by softmax" in said
    assert "not checked: what is done between the modules" in said
    model = Sequential.load(target)
    assert model.predict(rng.standard_normal((5, 17, 2))).shape == (5, 3)
    assert model.layers[-1].activation == "softmax"
    assert cli.main(["convert", str(source), str(target), "--activation", "head"]) == 2
    assert "--activation must be NAME=VALUE, got 'head'" in capsys.readouterr().err
    assert cli.main(["convert", str(target), str(tmp_path / "n"), "--last", "step"]) == 2
    assert "last is for a PyTorch state dict" in capsys.readouterr().err


def test_convert_says_what_stays_behind(rng, tmp_path, capsys):
    from gru_np import text

    model = Sequential([Embedding(5, 3, mask_zero=True), GRU(4), Dense(2, "softmax")], seed=0)
    model.build((None, None))
    model.tokenizer, model.labels = text.CharTokenizer.fit("abcde"), ["x", "y"]
    model.save(tmp_path / "m.safetensors")
    target = str(tmp_path / "m.torch.safetensors")
    assert cli.main(["convert", str(tmp_path / "m.safetensors"), target]) == 0
    said = capsys.readouterr().out
    for what in ("tokenizer", "labels", "mask_zero of embedding"):
        assert f"not in {target}: {what}" in said
    assert cli.main(["convert", str(tmp_path / "m.safetensors"), str(tmp_path / "folder")]) == 0
    assert "not in" not in capsys.readouterr().out


def test_a_file_is_told_by_what_it_holds_and_not_by_its_name(rng, tmp_path):
    model = Sequential([GRU(4)], seed=0)
    model.build((None, None, 3))
    model.save(tmp_path / "ours.torch.safetensors")
    assert interop.read(tmp_path / "ours.torch.safetensors").layers[0].units == 4
    checkpoint.save(tmp_path / "theirs.safetensors", {}, interop.to_torch(model))
    assert interop.read(tmp_path / "theirs.safetensors").layers[0].return_sequences


def test_a_state_dict_that_we_write_says_beside_it_what_it_leaves_open(rng, tmp_path):
    layers = [Embedding(7, 3), GRU(4, return_sequences=True), Bidirectional(GRU(2))]
    model = Sequential([*layers, Dense(3, "relu"), Dense(5, "softmax")], seed=0)
    model.build((None, None))
    path = tmp_path / "m.torch.safetensors"
    interop.write(model, path)
    x = rng.integers(0, 7, (3, 6))
    assert_close(interop.read(path).predict(x), model.predict(x), "exact")
    for evil in ({"order": 1}, {"last": "step"}, {"activations": {"dense": 3}}, [], {"check": 0}):
        checkpoint.save(path, {"from_torch": evil}, interop.to_torch(model))
        with pytest.raises(ConversionError, match="what stands beside the state dict must be"):
            interop.read(path)


# ------------------------------------------------------------------------------- living modules


def module_of(forward, bidirectional=False, batch_first=True, **members):
    """An Embedding, a GRU and a Linear, and a forward of one's own."""

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(7, 3)
            self.rnn = torch.nn.GRU(3, 4, batch_first=batch_first, bidirectional=bidirectional)
            self.head = torch.nn.Linear(8 if bidirectional else 4, 5)
            for name, member in members.items():
                setattr(self, name, member)

    Module.forward = forward
    torch.manual_seed(0)
    return Module()


def with_state(self, x, hidden):
    y, hidden = self.rnn(self.table(x), hidden)
    return self.head(y), hidden


def with_lengths(self, x, lengths):
    from torch.nn.utils import rnn

    packed = rnn.pack_padded_sequence(self.table(x), lengths, batch_first=True)
    y, _ = self.rnn(packed)
    return self.head(rnn.pad_packed_sequence(y, batch_first=True)[0])


def with_both(self, x, h0, x_len):
    assert x_len.dtype == torch.int64
    return with_state(self, x, h0)[0]


def with_none(self, x, cache):
    assert cache is None
    return with_state(self, x, cache)


ALIKE = {
    "a state": (with_state, "hidden being zero states"),
    "lengths": (with_lengths, "lengths being full lengths"),
    "both": (with_both, "h0 being zero states, x_len being full lengths"),
    "None": (with_none, "cache being None"),
    "a default": (lambda self, x, hidden=None: with_state(self, x, hidden), "batch first"),
    "its last step": (
        lambda self, x: self.head(self.rnn(self.table(x))[0][:, -1]), "batch first",
    ),
    "its last state": (lambda self, x: self.head(self.rnn(self.table(x))[1][-1]), "batch first"),
    "no gradient": (
        lambda self, x: with_state(self, x, None)[0].detach(), "batch first",
    ),
}  # fmt: skip


@needs_torch
@pytest.mark.parametrize("case", ALIKE)
def test_a_forward_that_wants_more_than_a_batch_is_called_with_it(rng, case):
    forward, how = ALIKE[case]
    module = module_of(forward)
    model = interop.from_torch(module)
    assert how in model.conversion.checked[-1]
    x = rng.integers(0, 7, (2, 6))
    theirs = module.head(module.rnn(module.table(torch.from_numpy(x)))[0]).detach().numpy()
    assert_close(model.predict(x), theirs if model.layers[1].return_sequences else theirs[:, -1],
                 "foreign")  # fmt: skip
    assert module.training


MORE = {
    "a functional relu": lambda y: torch.relu(y),
    "a scaling": lambda y: 2 * y,
    "a residual": lambda y: y + y.mean(),
    "log_softmax": lambda y: torch.log_softmax(y, -1),
}


@needs_torch
@pytest.mark.parametrize("what", MORE)
@pytest.mark.parametrize("case", ["a state", "lengths", "both", "None"])
def test_what_such_a_forward_does_beside_its_modules_is_refused(case, what):
    forward = ALIKE[case][0]

    def more(self, x, **extra):
        y = forward(self, x, **extra)
        return MORE[what](y[0] if isinstance(y, tuple) else y)

    more.__signature__ = inspect.signature(forward)
    with pytest.raises(ConversionError, match="gives another answer here"):
        interop.from_torch(module_of(more))


@needs_torch
def test_a_forward_that_nothing_can_call_is_refused_unless_that_is_wanted():
    def needs_more(self, x, speaker):
        return with_state(self, x, None)[0] + speaker["bias"]

    with pytest.raises(
        ConversionError, match=r"what its forward does cannot be checked; check=.pa"
    ):
        interop.from_torch(module_of(needs_more))
    with pytest.raises(ConversionError, match="nothing but a run of the module says whether head"):
        interop.from_torch(module_of(needs_more), check="parts")
    model = interop.from_torch(module_of(needs_more), check="parts", return_sequences=True)
    said = model.conversion
    assert said.assumed == (
        "table -> rnn -> head, in this order and nothing between", "rnn gives every step"
    )  # fmt: skip
    assert "what is done between the modules: only the parts were asked for" in said.unchecked
    assert said.checked
    said = interop.from_torch(module_of(needs_more), check=False, last="step").conversion
    assert said.unchecked == ("nothing was run: check=False",)
    assert said.assumed
    with pytest.raises(ValueError, match="check must be one of 'parts'"):
        interop.from_torch(module_of(needs_more), check="all")


@needs_torch
def test_the_last_step_of_two_directions_is_refused_and_their_states_are_not():
    def last_step(self, x):
        return self.head(self.rnn(self.table(x))[0][:, -1])

    def last_states(self, x):
        return self.head(torch.cat(list(self.rnn(self.table(x))[1]), dim=-1))

    with pytest.raises(ConversionError, match=r"gives another answer here|gives .* there and"):
        interop.from_torch(module_of(last_step, bidirectional=True))
    model = interop.from_torch(module_of(last_states, bidirectional=True))
    assert isinstance(model.layers[1], Bidirectional)
    assert not model.layers[1].layer.return_sequences


@needs_torch
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_modules_in_half_precision_come_in(rng, dtype):
    module = module_of(with_state).to(getattr(torch, dtype))
    model = interop.from_torch(module)
    assert model.dtype == (np.float64 if dtype == "float64" else np.float32)
    wide = module.rnn.weight_hh_l0.detach().to(torch.float64).numpy()
    assert_close(model.params["rnn/W_hh"], wide.astype(model.dtype), "exact")
    assert module.rnn.weight_hh_l0.dtype == getattr(torch, dtype)
    assert interop.from_torch(torch.nn.GRU(2, 4, dtype=getattr(torch, dtype))).conversion.checked


@needs_torch
def test_looking_at_a_module_leaves_it_as_it_was():
    def keeps(self, x):
        y, self.kept = self.rnn(self.table(x), self.kept)
        self.calls += 1
        return self.head(y) + 0 * torch.rand(1)

    module = module_of(keeps, kept=None, calls=0)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    interop.from_torch(module)
    assert (module.kept, module.calls, module.training) == (None, 0, True)
    assert torch.equal(torch.rand(2), expected)


@needs_torch
def test_what_trains_otherwise_is_refused_with_the_way_round_it():
    for setting, value in (("padding_idx", 0), ("scale_grad_by_freq", True)):
        module = module_of(with_state, table=torch.nn.Embedding(7, 3, **{setting: value}))
        with pytest.raises(ConversionError, match=f"table has {setting}.*predictions are the same"):
            interop.from_torch(module)
        setattr(module.table, setting, None if setting == "padding_idx" else False)
        assert interop.from_torch(module).conversion.checked


@needs_torch
def test_wrappers_are_looked_through_and_scripts_are_not():
    module = module_of(lambda self, x: self.head(self.rnn(self.table(x))[0]))
    assert len(interop.from_torch(torch.nn.DataParallel(module)).layers) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch would rather have it exported otherwise
        script = torch.jit.trace(torch.nn.Linear(3, 2), torch.zeros(2, 3))
    with pytest.raises(ConversionError, match="is a ScriptModule, whose code is not read"):
        interop.from_torch(script)


@needs_torch
def test_what_a_module_says_itself_cannot_be_told():
    for told in ({"activations": {"head": "softmax"}}, {"order": ["table"]}, {"kinds": {}}):
        with pytest.raises(ValueError, match=f"{next(iter(told))} is for a state dict"):
            interop.from_torch(module_of(with_state), **told)


@needs_torch
def test_a_buffer_that_forward_may_use_is_not_lost():
    module = module_of(with_state)
    module.register_buffer("scale", torch.ones(3))
    with pytest.raises(ConversionError, match="scale would be lost"):
        interop.from_torch(module)


@needs_torch
def test_a_softmax_over_axis_1_counts_as_the_last_where_a_run_shows_it():
    def classes(self, x):
        return self.soft(self.head(self.rnn(self.table(x))[0][:, -1]))

    def steps(self, x):
        return self.soft(self.head(self.rnn(self.table(x))[0]))

    soft = torch.nn.Softmax(dim=1)
    assert interop.from_torch(module_of(classes, soft=soft)).layers[-1].activation == "softmax"
    with pytest.raises(ConversionError, match="another answer"):
        interop.from_torch(module_of(steps, soft=soft))
    with pytest.raises(ConversionError, match="softmax over axis 1, and only a run"):
        interop.from_torch(module_of(classes, soft=soft), check="parts")


@st.composite
def modules(draw):
    """Settings of a module that PyTorch can express, and what its forward does."""
    return {
        "ids": draw(st.booleans()),
        "grus": draw(st.lists(st.fixed_dictionaries({
            "hidden_size": st.integers(1, 4), "num_layers": st.integers(1, 2),
            "bias": st.booleans(), "bidirectional": st.booleans(),
        }), min_size=1, max_size=2)),
        "batch_first": draw(st.booleans()),
        "norm": draw(st.sampled_from([None, True, False])),
        "last": draw(st.sampled_from(["every", "step", "state"])),
        "head": draw(st.sampled_from([None, "linear", "relu", "softmax"])),
        "extra": draw(st.sampled_from(["", "hidden", "lengths"])),
        "beside": draw(st.sampled_from(["nothing", "nothing", "relu", "scale"])),
        "dtype": draw(st.sampled_from(["float32", "float64", "float16", "bfloat16"])),
        "seed": draw(st.integers(0, 99)),
    }  # fmt: skip


def drawn_module(c):
    """Make the module; forward(x[, hidden or lengths])."""
    nn = torch.nn

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            width = 3
            self.table = nn.Embedding(7, 3) if c["ids"] else nn.Identity()
            grus = []
            for one in c["grus"]:
                grus.append(nn.GRU(width, batch_first=c["batch_first"], **one))
                width = one["hidden_size"] * (2 if one["bidirectional"] else 1)
            self.grus = nn.ModuleList(grus)
            norm = c["norm"]
            self.norm = nn.Identity() if norm is None else nn.LayerNorm(width, bias=norm)
            ends = {"relu": [nn.ReLU()], "softmax": [nn.Softmax(-1)]}.get(c["head"], [])
            self.head = nn.Sequential(*([nn.Linear(width, 3), *ends] if c["head"] else []))

    def run(self, x):
        y = self.table(x)
        for gru in self.grus:
            y, h = gru(y)
        if c["last"] == "step":
            y = y[:, -1] if c["batch_first"] else y[-1]
        elif c["last"] == "state":
            y = torch.cat(list(h[-2:] if self.grus[-1].bidirectional else h[-1:]), dim=-1)
        y = self.head(self.norm(y))
        return {"relu": torch.relu, "scale": lambda y: 2 * y}.get(c["beside"], lambda y: y)(y)

    forwards = {
        "": lambda self, x: run(self, x),
        "hidden": lambda self, x, hidden: (run(self, x), hidden),
        "lengths": lambda self, x, lengths: run(self, x),
    }
    Module.forward = forwards[c["extra"]]
    torch.manual_seed(c["seed"])
    return Module().to(getattr(torch, c["dtype"]))


# Its answers to three random rows are positive, and the relu in its forward was not seen.
ONE_UNIT = {
    "ids": True, "batch_first": False, "norm": None, "last": "state", "head": None, "extra": "",
    "beside": "relu", "dtype": "float32", "seed": 3,
    "grus": [{"hidden_size": 1, "num_layers": 1, "bias": False, "bidirectional": True}],
}  # fmt: skip


@needs_torch
@settings(max_examples=40, deadline=None)
@given(modules())
@example(ONE_UNIT)
def test_a_drawn_module_is_exact_or_refused(c):
    module = drawn_module(c)
    try:
        model = interop.from_torch(module)
    except ConversionError:
        # Refused where forward does more, or takes the last step of both directions; or not at all.
        both = c["grus"][-1]["bidirectional"] and c["last"] == "step"
        assert c["beside"] != "nothing" or both
        return
    assert model.conversion.checked
    rng = np.random.default_rng(c["seed"])
    x = rng.integers(0, 7, (2, 6)) if c["ids"] else rng.standard_normal((2, 6, 3)).astype("f")
    wide = module.to(torch.float64)
    fed = torch.from_numpy(x if c["ids"] else x.astype(float))
    fed = fed if c["batch_first"] else fed.swapaxes(0, 1)
    y = wide(fed, *([None] if c["extra"] else []))
    y = (y[0] if isinstance(y, tuple) else y).detach().numpy()
    if not c["batch_first"] and y.ndim == 3:
        y = y.swapaxes(0, 1)
    # A norm divides by a deviation that may be small, and float32's rounding grows with it.
    bound = 1e-5 if c["norm"] is None else 1e-3
    assert np.abs(model.predict(x) - y).max() <= bound


def test_what_was_checked_as_a_file_was_written_is_said(rng, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip("h5py")
    model = Sequential([GRU(4)], seed=0)
    model.build((None, None, 3))
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for name, unchecked in {
        "m.torch.safetensors": "nothing was run: torch is not installed",
        "m.keras": "nothing was run: a file is written without Keras",
        "m.onnx": "ONNX Runtime was not run: it is not installed",
        "m.py": "the file tests itself: run it",
    }.items():
        assert interop.write(model, tmp_path / name).unchecked == (unchecked,)
    assert interop.write(model, tmp_path / "m.safetensors") == interop.Conversion()
