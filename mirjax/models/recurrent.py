"""Recurrent layers: simple RNN, LSTM and GRU, in one or both directions, with every variant the literature counts.

Arrays: sequences `[B, T, C]` (maps `[B, T, F, C]` are read as `[B, T, F·C]`) → `[B, T, D]`, or the last step `[B, D]`.
Weights of one direction of a layer: `kernel (C, G·n)`, `recurrent_kernel (n, G·n)`, `bias (G·n)`, and where asked for
`recurrent_bias (G·n)` and `peepholes (3, n)`; the columns hold the G gates side by side:

    rnn   h = φ(Wx + Uh + b)
    lstm  i, f, g, o:  c = f·c + i·g,  h = o·φ(c);  i and f see the old c through peepholes, o the new one
    gru   z, r, h̃:     h = z·h + (1 − z)·h̃,  h̃ = φ(Wx + U(r·h) + b), or reset afterwards φ(Wx + b + r·(Uh + b′))

with σ for the gates and φ = tanh. Every row stops at its last real step, where its backward direction starts.
Sources: Gers & Schmidhuber 2000 (peepholes); Cho et al. 2014 (GRU); Schuster & Paliwal 1997 (both directions).
Names: `Recurrent`, `GATES`.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from mirjax.models import blocks, geometry, layers
from mirjax.models.geometry import Window

_HIGHEST = lax.Precision.HIGHEST
GATES = {"rnn": 1, "lstm": 4, "gru": 3}  # columns of the kernels, in units

_matmul = functools.partial(jnp.matmul, precision=_HIGHEST)


def _rnn_step(state, x, weights, activation, gate):
    (h,) = state
    return (activation(x + _matmul(h, weights["recurrent_kernel"]) + weights["recurrent_bias"]),)


def _lstm_step(state, x, weights, activation, gate):
    h, c = state
    i, f, g, o = jnp.split(x + _matmul(h, weights["recurrent_kernel"]) + weights["recurrent_bias"], 4, axis=-1)
    if "peepholes" in weights:
        to_i, to_f, to_o = weights["peepholes"][:, None]
        i, f = i + to_i * c, f + to_f * c
    c = gate(f) * c + gate(i) * activation(g)
    if "peepholes" in weights:
        o = o + to_o * c
    return gate(o) * activation(c), c


def _gru_step(state, x, weights, activation, gate, reset_after):
    (h,) = state
    kernel, bias = weights["recurrent_kernel"], weights["recurrent_bias"]
    split = 2 * h.shape[-1]
    if reset_after:
        product = _matmul(h, kernel) + bias
        z, r = jnp.split(gate(x[..., :split] + product[..., :split]), 2, axis=-1)
        candidate = activation(x[..., split:] + r * product[..., split:])
    else:
        gates = x[..., :split] + _matmul(h, kernel[:, :split]) + bias[:, :split]
        z, r = jnp.split(gate(gates), 2, axis=-1)
        candidate = activation(x[..., split:] + _matmul(r * h, kernel[:, split:]) + bias[:, split:])
    return (z * h + (1 - z) * candidate,)


class _Direction(nn.Module):
    """One direction of one layer: x [B, T, C] → (every step [B, T, n], the last one [B, n])."""

    cell: str
    n: int
    reverse: bool
    peepholes: bool
    two_biases: bool
    reset_after: bool
    activation: str
    gate_activation: str
    kernel_init: str
    recurrent_init: str
    forget_bias: float

    @nn.compact
    def __call__(self, x, steps):
        n, gates = self.n, GATES[self.cell]
        kernel = self._gates("kernel", self.kernel_init, x.shape[-1], gates).astype(x.dtype)
        recurrent_kernel = self._gates("recurrent_kernel", self.recurrent_init, n, gates)
        bias = self.param("bias", self._first_bias, (gates * n,))
        weights = {"recurrent_kernel": recurrent_kernel, "recurrent_bias": jnp.zeros((1, gates * n))}
        if self.two_biases:
            weights["recurrent_bias"] = self._zeros("recurrent_bias", gates * n)[None]
        if self.peepholes:
            weights["peepholes"] = self._zeros("peepholes", 3, n)
        weights = jax.tree.map(lambda leaf: leaf.astype(x.dtype), weights)
        layers.tally(x.shape[1] * (x.shape[2] + n) * gates * n)

        inputs = _matmul(x, kernel) + bias.astype(x.dtype)[None, None]  # of all steps in one product
        options = {"reset_after": self.reset_after} if self.cell == "gru" else {}
        step = {"rnn": _rnn_step, "lstm": _lstm_step, "gru": _gru_step}[self.cell]
        functions = {"activation": self.activation, "gate": self.gate_activation}
        functions = {role: blocks.activation(name) for role, name in functions.items()}
        step = functools.partial(step, weights=weights, **functions, **options)

        def advance(state, now):
            t, inputs = now
            new = step(state, inputs)
            if steps is not None:  # a row stands still where it is padding: at its end, or before its start
                real = (t < steps)[:, None]
                new = tuple(jnp.where(real, after, before) for after, before in zip(new, state, strict=True))
            return new, new[0]

        state = (jnp.zeros((x.shape[0], n), x.dtype),) * (2 if self.cell == "lstm" else 1)
        over_time = (jnp.arange(x.shape[1]), jnp.moveaxis(inputs, 1, 0))
        state, outputs = lax.scan(advance, state, over_time, reverse=self.reverse)
        return jnp.moveaxis(outputs, 0, 1), state[0]

    def _gates(self, name, init, size, gates):
        """A matrix for each gate, each drawn by itself."""

        def draw(key, shape):
            keys = jax.random.split(key, gates)
            return jnp.concatenate([blocks.initialiser(init)(key, (size, self.n)) for key in keys], axis=1)

        return self.param(name, draw, (size, gates * self.n))

    def _zeros(self, name, *shape):
        return self.param(name, lambda key, shape: jnp.zeros(shape), shape)

    def _first_bias(self, key, shape):
        bias = jnp.zeros(shape)
        return bias.at[self.n : 2 * self.n].set(self.forget_bias) if self.cell == "lstm" else bias


class Recurrent(nn.Module):
    """Recurrent layers one after the other: a sequence [B, T, C] → [B, T, D], or its last step [B, D].

    Attributes:
      cell: `rnn`, `lstm` or `gru`.
      units: of each layer (of each direction of it).
      bidirectional: a second direction from the last step to the first; D = 2 units, forward first.
      many_to_many: every step; else the last one only (of the backward direction: step 0).
      peepholes: of an LSTM: the gates see the cell, through one weight a unit.
      two_biases: an input and a recurrent bias for each gate (cuDNN, torch), else one.
      reset_after: of a GRU: reset after the recurrent product (cuDNN, torch), else before it (Cho et al. 2014).
      activation: φ, a name in `blocks.ACTIVATIONS`.
      gate_activation: σ of the gates: `sigmoid`, or `hard_sigmoid` as in Keras 1.
      dropout: rate between layers.
      kernel_init: initialiser of the input kernels, for each gate.
      recurrent_init: initialiser of the recurrent kernels, for each gate.
      forget_bias: of an LSTM: first value of the forget gate's bias (1 Keras; 0 torch and madmom).
      names: of the maps; `recurrent1`, `recurrent2`, … when empty.
    """

    cell: str
    units: tuple[int, ...]
    bidirectional: bool = False
    many_to_many: bool = True
    peepholes: bool = False
    two_biases: bool = False
    reset_after: bool = False
    activation: str = "tanh"
    gate_activation: str = "sigmoid"
    dropout: float = 0.0
    kernel_init: str = "glorot_uniform"
    recurrent_init: str = "orthogonal"
    forget_bias: float = 1.0
    names: tuple[str, ...] = ()

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Names of the layers' maps, in order."""
        return self.names or tuple(f"recurrent{i + 1}" for i in range(len(self.units)))

    @property
    def windows(self) -> tuple[Window, ...]:
        """Every layer sees all steps; they all leave, or the last one."""
        last = len(self.units) - 1
        return tuple(
            geometry.everything(name, keeps=self.many_to_many or i < last) for i, name in enumerate(self.feature_layers)
        )

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Sequence [B, T, C] or map [B, T, F, C] → [B, T, D] (zeros where padding was), or [B, D].

        Raises:
          ValueError: another rank, no step at all, or a cell or option that does not exist.
        """
        self._check(x)
        x = blocks.mask_time(x.reshape(*x.shape[:2], -1), steps)
        last = x
        for i, (name, n) in enumerate(zip(self.feature_layers, self.units, strict=True)):
            if i and self.dropout:
                x = nn.Dropout(self.dropout)(x, deterministic=not train)
            directions = ("forward", "backward") if self.bidirectional else ("forward",)
            both = [self._direction(f"{name}_{direction}", n, direction)(x, steps) for direction in directions]
            x = blocks.mask_time(jnp.concatenate([each for each, _ in both], axis=-1), steps)
            last = jnp.concatenate([state for _, state in both], axis=-1)
            layers.expose(self, name, x, steps=steps)
        return x if self.many_to_many else last

    def _direction(self, name, n, direction):
        return _Direction(
            self.cell,
            n,
            reverse=direction == "backward",
            peepholes=self.peepholes,
            two_biases=self.two_biases,
            reset_after=self.reset_after,
            activation=self.activation,
            gate_activation=self.gate_activation,
            kernel_init=self.kernel_init,
            recurrent_init=self.recurrent_init,
            forget_bias=self.forget_bias,
            name=name,
        )

    def _check(self, x):
        if self.cell not in GATES:
            raise ValueError(f"cell={self.cell!r} is not one of {', '.join(GATES)}")
        for option, cell in (("peepholes", "lstm"), ("reset_after", "gru")):
            if getattr(self, option) and self.cell != cell:
                raise ValueError(f"{option}=True needs cell={cell!r}, not {self.cell!r}")
        if not self.units or min(self.units) < 1:
            raise ValueError(f"units={self.units!r} must be at least one layer of at least one unit")
        if self.names and len(self.names) != len(self.units):
            raise ValueError(f"names={self.names!r} must name each of the {len(self.units)} layers, or be empty")
        if x.ndim not in (3, 4):
            raise ValueError(f"a sequence of shape {x.shape}; recurrent layers take [B, T, C] or [B, T, F, C]")
        geometry.require(self.windows, x.shape[1], "these recurrent layers", "steps")
