"""Optimisers and learning-rate schedules: optax's, in the combinations of the papers.

Trees: `params` are nested dicts of arrays, a path joins the names: `front_end/conv1/kernel`. An update is added to the
parameters; a step t counts updates from 0. `make_optimiser` chains, in this order:

    gradient → + L2 → clipping → momentum or Adam's moments → + decoupled L2 → · −learning rate(t) → · factors of parts

The papers' code adds the L2 penalty to the loss, so it is in the gradient that is clipped, and in Adam's moments
(*coupled*, as in torch's Adam; torch's and optax's AdamW are *decoupled*). The pieces that are not optax's are
optax transformations themselves, for a chain of one's own.

*Kernels* are the leaves named `kernel` or `recurrent_kernel`: of convolutions, dense and recurrent layers. Biases,
peepholes, scales of normalisation, places of a transformer, and what learnable front-ends learn (cut-offs, windows,
filter banks, PCEN) are not: their natural value is not 0. *Convolutions* are the kernels of more than two axes,
dense layers that are stored as convolutions of length 1 among them.

Where libraries differ: Adam's eps is 1e-8 in torch, optax and TensorFlow 1, 1e-7 in Keras; TensorFlow and Keras
add it before the correction of the moments' bias, so that it weighs eps / √(1 − β₂ᵗ) here (32 times as much in the
first update, as much after some thousand). Momentum sums gradients, as in torch: in Keras and Lasagne it sums steps,
which keep the learning rate they were made with; the two differ in the updates after a change of the rate.

Names: `make_optimiser`, `make_schedule`, `read_schedule`, `penalty`, `add_l2`, `scale_parts`.
"""

import inspect
import math
import numbers
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from mirjax.config import nearest

OPTIMISERS = ("sgd", "adam", "adamw")
L2_FACTORS = {"half": 0.5, "sum": 1.0}  # of Σw²
L2_ON = ("kernels", "convolutions", "all")
_KERNELS = ("kernel", "recurrent_kernel")


def _check(name: str, value, *, or_zero: bool = False) -> None:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < 0 or (value == 0 and not or_zero):
        raise ValueError(f"{name}={value!r} must be a number {'of at least' if or_zero else 'above'} 0")


def _check_choice(name: str, value, known) -> None:
    if value not in known:
        raise ValueError(f"{name}={value!r} is unknown; nearest: {nearest(str(value), known)}")


def _path(keys) -> str:
    return jax.tree_util.keystr(keys, simple=True, separator="/")


# ── L2 ──


def _penalised(params, on: str):
    """Tree of bools: which leaves the L2 term sums over."""

    def is_penalised(keys, leaf):
        if on == "all":
            return True
        return _path(keys[-1:]) in _KERNELS and (on == "kernels" or leaf.ndim > 2)

    chosen = jax.tree_util.tree_map_with_path(is_penalised, params)
    if not any(jax.tree.leaves(chosen)):
        raise ValueError(f"the parameters have no {on} for L2; take l2=0 or l2_on='all'")
    return chosen


def _check_l2(l2: float, reduction: str, on: str) -> None:
    _check("l2", l2, or_zero=True)
    _check_choice("l2_reduction", reduction, L2_FACTORS)
    _check_choice("l2_on", on, L2_ON)


def penalty(params, l2: float, *, l2_reduction: str = "half", l2_on: str = "kernels") -> jax.Array:
    """The value of the L2 term: ½ · l2 · Σw² or l2 · Σw².

    The optimiser adds its gradient by itself; this is for a reported loss that contains it, as the authors' does.

    Args:
      params: tree of parameters.
      l2: weight of the term, at least 0.
      l2_reduction: "half" (½ Σw², `tf.nn.l2_loss`, torch's weight_decay) or "sum" (Σw², Lasagne and Keras).
      l2_on: "kernels", "convolutions" or "all", see above.

    Returns:
      Scalar of the parameters' type.

    Raises:
      ValueError: a negative l2, an unknown name, or no such parameters.
    """
    _check_l2(l2, l2_reduction, l2_on)
    if l2 == 0:
        return jnp.zeros(())
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(_penalised(params, l2_on)), strict=True)
    return L2_FACTORS[l2_reduction] * float(l2) * sum(jnp.sum(leaf**2) for leaf, chosen in pairs if chosen)


def add_l2(l2: float, *, l2_reduction: str = "half", l2_on: str = "kernels") -> optax.GradientTransformation:
    """Add the gradient of `penalty`: l2 · w, or 2 · l2 · w.

    Args:
      l2, l2_reduction, l2_on: as in `penalty`.

    Raises:
      ValueError: as `penalty`; missing parameters are found at `init`.
    """
    _check_l2(l2, l2_reduction, l2_on)
    weight = 2 * L2_FACTORS[l2_reduction] * float(l2)
    return optax.add_decayed_weights(weight, mask=lambda params: _penalised(params, l2_on))


# ── two learning rates ──


def scale_parts(factors: Mapping[str, float]) -> optax.GradientTransformation:
    """Multiply the updates of parts of the tree, so that they learn at rates of their own.

    Args:
      factors: {path of a part, such as `front_end` or `front_end/conv1`: factor ≥ 0}; 0 freezes it. Of two paths that
        lead to the same leaf the longer counts.

    Raises:
      ValueError: a negative factor; at `init` a path that is not in the tree, with the nearest ones.
    """
    for path, factor in factors.items():
        _check(f"factor of {path!r}", factor, or_zero=True)
    factors = {path.strip("/"): float(factor) for path, factor in factors.items()}

    def prefixes(path):
        parts = path.split("/")
        return ["/".join(parts[: i + 1]) for i in reversed(range(len(parts)))]

    def init(params):
        known = {prefix for keys, _ in jax.tree_util.tree_leaves_with_path(params) for prefix in prefixes(_path(keys))}
        for path in factors:
            if path not in known:
                as_deep = [prefix for prefix in known if prefix.count("/") == path.count("/")]
                as_deep = as_deep or [prefix for prefix in known if "/" not in prefix]
                raise ValueError(f"{path!r} is no part of the parameters; nearest: {nearest(path, as_deep)}")
        return optax.EmptyState()

    def update(updates, state, params=None):
        def scale(keys, leaf):
            factor = next((factors[prefix] for prefix in prefixes(_path(keys)) if prefix in factors), None)
            return leaf if factor is None else leaf * factor

        return jax.tree_util.tree_map_with_path(scale, updates), state

    return optax.GradientTransformation(init, update)


# ── all together ──


def make_optimiser(
    name: str,
    learning_rate: float | Callable,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    betas: tuple[float, float] | None = None,
    eps: float | None = None,
    l2: float = 0.0,
    l2_reduction: str = "half",
    l2_on: str = "kernels",
    l2_coupled: bool | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    slow: Mapping[str, float] | None = None,
) -> optax.GradientTransformation:
    """An optimiser as the papers describe theirs; the module says in which order its parts act.

    Args:
      name: "sgd", "adam" or "adamw" (Adam with decoupled L2; weight_decay is 0.01 in torch, 1e-4 in optax, and here
        `l2`, which is 0 unless given). Others: chain the pieces of this module with optax's.
      learning_rate: above 0, or a schedule step → rate (`make_schedule`, or any of optax's).
      momentum: of SGD, in [0, 1).
      nesterov: whether SGD looks ahead; with momentum 0 it is the same.
      betas: Adam's (β₁, β₂); (0.9, 0.999) when None.
      eps: Adam's; 1e-8 when None.
      l2: weight of the L2 term, at least 0.
      l2_reduction: "half" (gradient l2 · w) or "sum" (gradient 2 · l2 · w).
      l2_on: "kernels", "convolutions" or "all".
      l2_coupled: True adds it to the gradient, False to the update, as learning rate · gradient of L2, past clipping
        and moments. None: False for adamw, True for the others.
      clip_norm: largest norm of the gradient of all parameters together; a longer one is shortened to it.
      clip_value: largest absolute value of each entry of the gradient.
      slow: {path of a part: factor of its updates}, see `scale_parts`; pre-trained weights at 1e-4 of the rate.

    Raises:
      ValueError: an unknown name, a number out of range, settings that are not the optimiser's or exclude each other.

    Reference:
      Kingma & Ba, "Adam", ICLR 2015; Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019;
      Sutskever et al., "On the importance of initialization and momentum", ICML 2013.
    """
    _check_choice("name", name, OPTIMISERS)
    if not callable(learning_rate):
        _check("learning_rate", learning_rate)
        learning_rate = float(learning_rate)
    _check_l2(l2, l2_reduction, l2_on)
    if clip_norm is not None and clip_value is not None:
        raise ValueError(f"clip_norm={clip_norm} and clip_value={clip_value} exclude each other; give one")
    if name == "adamw" and l2_coupled:
        raise ValueError("l2_coupled=True makes name='adamw' adam; name that")
    coupled = name != "adamw" if l2_coupled is None else l2_coupled

    l2_term = [add_l2(l2, l2_reduction=l2_reduction, l2_on=l2_on)] if l2 else []
    parts = list(l2_term) if coupled else []
    if clip_norm is not None:
        _check("clip_norm", clip_norm)
        parts.append(optax.clip_by_global_norm(float(clip_norm)))
    if clip_value is not None:
        _check("clip_value", clip_value)
        parts.append(optax.clip(float(clip_value)))
    parts += _moments(name, momentum, nesterov, betas, eps)
    parts += [] if coupled else l2_term
    parts.append(optax.scale_by_learning_rate(learning_rate))
    if slow:
        parts.append(scale_parts(slow))
    return optax.chain(*parts)


def _moments(name, momentum, nesterov, betas, eps) -> list[optax.GradientTransformation]:
    if name == "sgd":
        if betas is not None or eps is not None:
            raise ValueError(f"betas={betas} and eps={eps} are Adam's; sgd has momentum and nesterov")
        if not isinstance(momentum, numbers.Real) or not 0 <= momentum < 1:
            raise ValueError(f"momentum={momentum!r} must lie in [0, 1)")
        return [optax.trace(float(momentum), nesterov)] if momentum else []
    if momentum or nesterov:
        raise ValueError(f"momentum={momentum} and nesterov={nesterov} are sgd's; {name} has betas and eps")
    b1, b2 = (0.9, 0.999) if betas is None else betas
    if not (0 <= b1 < 1 and 0 <= b2 < 1):
        raise ValueError(f"betas={betas!r} must lie in [0, 1)")
    eps = 1e-8 if eps is None else eps
    _check("eps", eps)
    return [optax.scale_by_adam(float(b1), float(b2), float(eps))]


# ── schedules ──


def _constant(rate: float):
    return optax.constant_schedule(rate)


def _cosine(rate: float, *, num_steps: int | None, warmup_steps: int = 0, end: float = 0.0):
    if num_steps is None or not 0 <= warmup_steps < num_steps:
        raise ValueError(f"warmup_steps={warmup_steps} of num_steps={num_steps}: cosine needs more steps than warm up")
    _check("end", end, or_zero=True)
    # From here the line rises by rate / (warmup_steps + 1) each step, and no step is lost at rate 0.
    first = rate / (warmup_steps + 1)
    return optax.warmup_cosine_decay_schedule(first, rate, warmup_steps, num_steps, end)


def _exponential(rate: float, *, every: int, factor: float, staircase: bool = True):
    _check("every", every)
    _check("factor", factor)
    return optax.exponential_decay(rate, every, factor, staircase=staircase)


def _inverse(rate: float, *, decay: float):
    _check("decay", decay, or_zero=True)
    return lambda step: rate / (1 + decay * jnp.asarray(step))


def _steps(rate: float, *, boundaries: tuple[int, ...], factor: float = 0.1):
    if not boundaries or boundaries[0] < 1 or list(boundaries) != sorted(set(boundaries)):
        raise ValueError(f"boundaries={boundaries!r} must be steps of at least 1, each after the one before")
    _check("factor", factor)
    return optax.piecewise_constant_schedule(rate, dict.fromkeys(boundaries, factor))


_SCHEDULES = {
    "constant": _constant,
    "cosine": _cosine,
    "exponential": _exponential,
    "inverse": _inverse,
    "steps": _steps,
}


def make_schedule(name: str, learning_rate: float, *, num_steps: int | None = None, **options) -> Callable:
    """A schedule: step → learning rate r(t) of the t-th update, t counting from 0.

    | name | options | r(t) |
    |---|---|---|
    | constant | – | r |
    | cosine | warmup_steps=0, end=0 | r · (t + 1) / (W + 1) to t = W; then end + (r − end) · ½(1 + cos π(t−W)/(N−W)) |
    | exponential | every, factor, staircase=True | r · factor^⌊t / every⌋, or without the floor |
    | inverse | decay | r / (1 + decay · t), the `decay` of Keras 1 and 2, whose t counts updates, not epochs |
    | steps | boundaries, factor=0.1 | r · factor^(number of boundaries ≤ t) |

    Args:
      name: of the table.
      learning_rate: r, above 0.
      num_steps: N, updates of the whole training; only cosine needs it.
      **options: of the table, W being `warmup_steps`.

    Returns:
      A function of an int or int32[], for `make_optimiser`; with jax it may be traced.

    Raises:
      ValueError: an unknown name, an option it does not have, one that is missing or out of range.
    """
    _check_choice("name", name, _SCHEDULES)
    _check("learning_rate", learning_rate)
    schedule = _SCHEDULES[name]
    known = list(inspect.signature(schedule).parameters)[1:]
    if "num_steps" in known:
        options["num_steps"] = num_steps
    try:
        inspect.signature(schedule).bind(learning_rate, **options)
    except TypeError as error:
        raise ValueError(f"schedule {name!r}: {error}; its options: {', '.join(known) or 'none'}") from None
    return schedule(learning_rate, **options)


def read_schedule(text: str, learning_rate: float, *, num_steps: int | None = None) -> Callable:
    """The schedule of a text, as configurations have it.

    Args:
      text: `cosine`, `inverse(decay=.01)`, `steps(boundaries=100/200, factor=.1)`.
      learning_rate, num_steps: as in `make_schedule`.

    Raises:
      ValueError: not of that form, or as in `make_schedule`.
    """
    name, _, inside = text.strip().removesuffix(")").partition("(")
    options = {}
    try:
        for part in filter(None, (part.strip() for part in inside.split(","))):
            option, value = part.split("=")
            given = tuple(int(n) if n.isdigit() else float(n) for n in value.strip().split("/"))
            options[option.strip()] = given if option.strip() == "boundaries" else given[0]
    except ValueError:
        raise ValueError(f"schedule={text!r} must be a name, or name(option=number, …) as inverse(decay=.01)") from None
    try:
        return make_schedule(name.strip(), learning_rate, num_steps=num_steps, **options)
    except ValueError as error:
        raise ValueError(f"schedule={text!r}: {error}") from None
