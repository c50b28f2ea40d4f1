# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # What do z and r do when a GRU reads a text?
#
# **Answer.** $z$ decides what is forgotten, and when. In this model most units replace their state
# at almost every character; a few hold it over a word or more, and let go when a space has been
# read: there $z$ drops. $r$ decides what the next candidate sees of the old state, and nailing it
# open costs more than silencing any unit. Single units can be read: one knows whether a word is
# under way, another whether a line has begun. None of this was asked for; the only aim was to
# predict the next character.

# %%
import inspect
import textwrap

import numpy as np

from gru_np import GRU, Dense, Embedding, Sequential, gates, text
from gru_np.optimizers import Adam

# %% [markdown]
# ## A small model on a real text
#
# The text is the source of a module that every Python has. The model reads it as 16 streams side
# by side and predicts each next character. It takes some ten seconds.

# %%
source = inspect.getsource(textwrap) + inspect.getsource(inspect)[:36_000]
tokenizer = text.CharTokenizer.fit(source, unknown="\ufffd")
held_out = 4000
x, y = text.stream(tokenizer.encode(source[:-held_out]), 16)
model = Sequential(
    [
        Embedding(tokenizer.vocab_size, 24),
        GRU(48, return_sequences=True),
        Dense(tokenizer.vocab_size, activation="softmax"),
    ],
    seed=0,
)
model.tokenizer = tokenizer
model.compile("sparse_categorical_crossentropy", Adam(5e-3, global_clipnorm=1.0))
history = model.fit(x, y, batch_size=16, epochs=8, tbptt=50, shuffle=False, verbose=0)
print(f"{len(source):,} characters; nats per character, epoch by epoch:")
print(np.round(history.history["loss"], 2))
assert history.history["loss"][-1] < 2.4

# %%
_ = history.plot()

# %% [markdown]
# ## The gates under the text
#
# New text, read from an empty state. One column a character, one row a unit, those with the
# longest memory at the top. Bright is open: $z$ near 1 keeps the state.

# %%
new = source[-held_out:]
begin = new.index("\n    def ") if "\n    def " in new else new.index("\n")
passage = new[begin + 1 : begin + 91]
read = gates.trace(model, passage)["gru"]
_ = gates.plot_gates(read, ["z", "r", "h"])

# %% [markdown]
# ## How long each unit remembers
#
# On the direct path a state is multiplied by $z$ at every step, and half of it is gone where the
# product falls below $\tfrac12$; were $z$ constant, after $\ln \tfrac12 / \ln z$ steps. The median
# over the held-out text, unit by unit:

# %%
ids = tokenizer.encode(new)[None]
long_read = gates.trace(model, ids[:, :-1], ids[:, 1:])["gru"]
half = gates.half_life(long_read)
print("half-lives in characters, shortest, quartiles, longest:")
print(np.quantile(half, [0, 0.25, 0.5, 0.75, 1]).round(1))
longer = gates.half_life(long_read, 0.9)
print("and in the tenth of the moments when they hold on longest:")
print(np.quantile(longer, [0, 0.25, 0.5, 0.75, 1]).round(1))
saturated = gates.saturation(long_read)
for name, share in saturated._asdict().items():
    print(f"{name:7} mean share of steps {share.mean():.2f}, highest of a unit {share.max():.2f}")

# %% [markdown]
# ## Where the gates move
#
# The mean of $z$ and $r$ over all units, by the kind of character that has just been read:

# %%
kinds = {
    "letter": lambda c: c.isalpha() or c == "_",
    "digit": str.isdigit,
    "space": lambda c: c == " ",
    "newline": lambda c: c == "\n",
    "bracket": lambda c: c in "()[]{}",
    "other": lambda c: not c.isalnum() and c not in " \n_()[]{}",
}
kind_of = np.array([next(k for k, f in kinds.items() if f(c)) for c in long_read.labels[0]])
print(f"{'':8} {'z':>6} {'r':>6}")
for kind in kinds:
    here = kind_of == kind
    if here.any():
        print(f"{kind:8} {long_read.z[0, here].mean():6.3f} {long_read.r[0, here].mean():6.3f}")
z_after = {kind: long_read.z[0, kind_of == kind].mean() for kind in ("letter", "space")}
assert z_after["space"] < z_after["letter"]

# %% [markdown]
# ## Which units follow what
#
# Features of the text against states, by correlation:

# %%
line_start = np.array([new[: t + 1].rfind("\n") for t in range(len(new) - 1)])
position = np.arange(len(new) - 1) - line_start
indent = np.array(
    [len(line) - len(line.lstrip(" ")) for line in new.split("\n") for _ in range(len(line) + 1)]
)[: len(new) - 1]
in_word = np.array([c.isalpha() or c == "_" for c in new[:-1]])
leading = np.array(
    [new[start + 1 : t + 1].strip() == "" for t, start in enumerate(line_start)], float
)
features = {
    "position in the line": position,
    "indentation": indent,
    "inside a word": in_word,
    "before the line's first word": leading,
}
found = gates.correlations(long_read, {name: f[None] for name, f in features.items()})
best = {}
for f, name in enumerate(found.names):
    unit = int(np.argmax(np.abs(found.values[:, f])))
    best[name] = unit
    print(f"{name:30} unit {unit:3d}, correlation {found.values[unit, f]:+.2f}, "
          f"half-life {half[unit]:.1f}")  # fmt: skip
assert np.abs(found.values).max() > 0.5

# %% [markdown]
# The unit that knows best where a line has its indentation, coloured over the passage:

# %%
_ = gates.plot_unit(read, best["before the line's first word"])

# %% [markdown]
# ## What is each unit worth, and each gate?
#
# Silence one unit at a time, or nail a gate, and measure the loss again (nats per character). No
# unit is indispensable. The gates are: not even their mean can stand in for them.

# %%
worth = gates.ablation(model, ids[:, :400], ids[:, 1:401])
cost = worth.units - worth.loss
print(f"as it is {worth.loss:.3f} nats; dearest unit {cost.argmax()} +{cost.max():.3f}, "
      f"median unit +{np.median(cost):.3f}")  # fmt: skip
for what, loss in worth.gates.items():
    print(f"{what:9} {loss - worth.loss:+.3f}")
assert min(worth.gates.values()) > worth.loss + cost.max()

# %% [markdown]
# ## One unit, one step, every number
#
# The diagram of the cell, with what actually flowed through it:

# %%
_ = gates.plot_cell(read, step=5, unit=best["inside a word"])
