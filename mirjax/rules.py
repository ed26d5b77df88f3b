"""Rules that look at an epoch's metrics and lower the learning rate, or end the training.

A rule is two pure functions: `init() → state` and `update(state, metrics) → state`, called once after every epoch. The
training loop multiplies every update by `state.scale` and ends when `state.stop` is true. A state is a tree of numpy
arrays without axes (float32, int32, bool), so it goes into a checkpoint and a resumed training goes on as if nothing
had happened. Metrics are compared in float32, as they are remembered.

`monitor` names the metric, `mode` what is better of it: "min" or "max"; by default "min" for a name with the word
loss, error, mse or rmse in it (`valid_loss`), else "max" (`valid_accuracy`). A value that is NaN or infinite is worse
than any other. An epoch *improves* when it is better than the best by more than `min_delta`.

As text, for configs and command lines: `plateau(valid_loss, factor=.5, patience=75) + stop_early(valid_loss, 200)`.
Sources: ARCHITECTURES §2, 4, 6, 7.4, 9.3 and §11 rows 4, 5, 26; the authors' training code.
Names: `Rule`, `RuleState`, `constant`, `counter`, `halve_every`, `plateau`, `stop_early`, `divide_on_plateau`,
`combine`, `make_rule`, `direction`.
"""

import inspect
import math
import numbers
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from mirjax import config

_SMALLER_IS_BETTER = {"loss", "error", "mse", "rmse"}


class RuleState(NamedTuple):
    """What a rule knows after an epoch.

    Attributes:
      scale: factor of the learning rate from here on, float32.
      stop: whether the training ends here, bool; once true it stays so.
      memory: what the rule remembers, {name: float32 or int32}; of a combination, the states of its rules.
    """

    scale: np.ndarray
    stop: np.ndarray
    memory: Any


class Rule(NamedTuple):
    """A learning-rate and stop rule.

    Attributes:
      init: () → state before the first epoch.
      update: (state, {metric: number}) → state after an epoch. ValueError for a metric that is missing or no number.
    """

    init: Callable[[], RuleState]
    update: Callable[[RuleState, Mapping[str, Any]], RuleState]


def _state(scale: float, stop: bool, **memory) -> RuleState:
    kinds = {name: np.float32 if isinstance(value, float) else np.int32 for name, value in memory.items()}
    arrays = {name: np.asarray(value, kinds[name]) for name, value in memory.items()}
    return RuleState(np.asarray(scale, np.float32), np.asarray(stop, np.bool_), arrays)


def direction(monitor: str, mode: str | None = None) -> str:
    """What is better of a metric: "min" or "max", by its name when no mode is given."""
    if not isinstance(monitor, str) or not monitor[:1].isalpha():
        raise ValueError(f"monitor={monitor!r} must be the name of a metric, such as 'valid_loss'")
    if mode is None:
        return "min" if _SMALLER_IS_BETTER & set(re.split(r"[^a-z0-9]+", monitor.lower())) else "max"
    if mode not in ("min", "max"):
        raise ValueError(f"mode={mode!r} must be 'min' (smaller is better) or 'max'")
    return mode


def _badness(metrics: Mapping[str, Any], monitor: str, mode: str) -> float:
    """The metric rounded to float32, negated if larger is better; infinite if it is no finite number."""
    if monitor not in metrics:
        known = ", ".join(metrics) or "none"
        raise ValueError(f"monitor={monitor!r} is not among the metrics of the epoch; known: {known}")
    value = np.asarray(metrics[monitor])
    if value.size != 1 or not np.issubdtype(value.dtype, np.number):
        raise ValueError(f"{monitor}={metrics[monitor]!r} must be one number")
    with np.errstate(over="ignore"):
        value = float(value.astype(np.float32).item())
    if not math.isfinite(value):
        return math.inf
    return value if mode == "min" else -value


def _recall(state: RuleState) -> tuple[float, float, int]:
    """(scale, best, count) of a state."""
    return float(state.scale), float(state.memory["best"]), int(state.memory["count"])


def _check_whole(*, least: int = 1, **values) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
            raise ValueError(f"{name}={value!r} must be a whole number of at least {least}")


def _check_factor(factor: float) -> None:
    if isinstance(factor, bool) or not isinstance(factor, numbers.Real) or not 0 < factor < 1:
        raise ValueError(f"factor={factor!r} must lie between 0 and 1; the learning rate is multiplied by it")


def _check_delta(min_delta: float) -> None:
    if not isinstance(min_delta, numbers.Real) or not 0 <= min_delta < math.inf:
        raise ValueError(f"min_delta={min_delta!r} must be a number of at least 0, in units of the metric")


def constant() -> Rule:
    """The learning rate stays, and all epochs are trained."""
    return Rule(lambda: _state(1.0, False), lambda state, metrics: _state(1.0, False))


def counter(
    monitor: str = "train_loss",
    halve_after: int = 20,
    stop_after: int = 40,
    *,
    factor: float = 0.5,
    mode: str | None = None,
) -> Rule:
    """The thesis' rule: count the epochs worse than the best; a late recovery lowers the rate.

    An epoch worse than the best adds 1 to the counter. Any other, a tie included (as in the authors' code), becomes the
    best, and if the counter is above `halve_after`, the rate is multiplied by `factor` and the counter is 0 again;
    else the counter keeps its value. The training stops when the counter is above `stop_after`.

    Args:
      monitor: metric. The authors watch the training loss, with its L2 term (`optimisers.penalty`) where there is one.
      halve_after: worse epochs, whole number of at least 0; below `stop_after`.
      stop_after: worse epochs, whole number.
      factor: of the rate, between 0 and 1.
      mode: "min" or "max".

    Raises:
      ValueError: a setting out of its range.

    Reference:
      Pons, Lidy & Serra, CBMI 2016, code (20, 40; the paper writes "halved every 40 epochs without improvement");
      Pons & Serra, ICASSP 2017, code (the paper divides by ten); Pons et al., EUSIPCO 2017, code (3, 10).
    """
    mode = direction(monitor, mode)
    _check_whole(halve_after=halve_after, stop_after=stop_after, least=0)
    _check_factor(factor)
    if halve_after >= stop_after:
        raise ValueError(
            f"halve_after={halve_after} must be below stop_after={stop_after}, or nothing is ever halved; "
            "to stop only, take stop_early(…, cumulative=True)"
        )

    def update(state, metrics):
        value = _badness(metrics, monitor, mode)
        scale, best, count = _recall(state)
        if value > best or value == math.inf:
            count += 1
        else:
            best = value
            if count > halve_after:
                scale, count = scale * factor, 0
        return _state(scale, bool(state.stop) or count > stop_after, best=best, count=count)

    return Rule(lambda: _state(1.0, False, best=math.inf, count=0), update)


def halve_every(epochs: int = 5, *, factor: float = 0.5) -> Rule:
    """Multiply the rate by a factor after every so many epochs, whatever the metrics.

    Args:
      epochs: between two changes.
      factor: of the rate, between 0 and 1.

    Raises:
      ValueError: a setting out of its range.

    Reference:
      Pons et al., EUSIPCO 2017, instrument recognition (5 epochs, .5); Schlüter, ISMIR 2016, singing voice detection
      (1 epoch, .85).
    """
    _check_whole(epochs=epochs)
    _check_factor(factor)

    def update(state, metrics):
        count = int(state.memory["count"]) + 1
        return _state(factor ** (count // epochs), False, count=count)

    return Rule(lambda: _state(1.0, False, count=0), update)


def plateau(
    monitor: str = "valid_loss",
    factor: float = 0.5,
    patience: int = 75,
    *,
    min_delta: float = 0.0,
    floor: float = 0.0,
    cumulative: bool = False,
    mode: str | None = None,
) -> Rule:
    """Multiply the rate by a factor at the `patience`-th epoch in a row without improvement; the count starts anew.

    Keras counts like this; `patience` of torch's ReduceLROnPlateau is one less for the same epochs.

    Args:
      monitor: metric.
      factor: of the rate, between 0 and 1.
      patience: epochs without improvement.
      min_delta: an epoch improves if it is better than the best by more than this (in units of the metric).
      floor: least scale; a share of the first learning rate in [0, 1], not a rate as in Keras and torch.
      cumulative: an improvement leaves the count as it is, so that the epochs need not follow each other. The released
        code of the companion networks counts so, and changes the rate one epoch later.
      mode: "min" or "max".

    Raises:
      ValueError: a setting out of its range.

    Reference:
      Pons & Serra, "musicnn", ISMIR late-breaking 2019, training code (75 epochs, .5).
    """
    mode = direction(monitor, mode)
    _check_factor(factor)
    _check_whole(patience=patience)
    _check_delta(min_delta)
    if not isinstance(floor, numbers.Real) or not 0 <= floor <= 1:
        raise ValueError(f"floor={floor!r} must lie in [0, 1]; it is a share of the first learning rate")

    def update(state, metrics):
        value = _badness(metrics, monitor, mode)
        scale, best, count = _recall(state)
        if value < best - min_delta:
            best, count = value, count if cumulative else 0
        else:
            count += 1
        if count >= patience:
            scale, count = max(scale * factor, floor), 0
        return _state(scale, False, best=best, count=count)

    return Rule(lambda: _state(1.0, False, best=math.inf, count=0), update)


def stop_early(
    monitor: str, patience: int, *, min_delta: float = 0.0, cumulative: bool = False, mode: str | None = None
) -> Rule:
    """Stop at the `patience`-th epoch without improvement.

    Args:
      monitor: metric.
      patience: epochs without improvement, in a row unless `cumulative`.
      min_delta: an epoch improves if it is better than the best by more than this (in units of the metric).
      cumulative: an improvement leaves the count as it is. The code for few training examples counts so, and stops
        when the count is *above* 200: `stop_early("train_accuracy", 201, cumulative=True)`.
      mode: "min" or "max".

    Raises:
      ValueError: a setting out of its range.

    Reference:
      Prechelt, "Early stopping – but when?", 1998. Pons, Serra & Serra, ICASSP 2019 (200 epochs in a row on paper).
    """
    mode = direction(monitor, mode)
    _check_whole(patience=patience)
    _check_delta(min_delta)

    def update(state, metrics):
        value = _badness(metrics, monitor, mode)
        _, best, count = _recall(state)
        if value < best - min_delta:
            best, count = value, count if cumulative else 0
        else:
            count += 1
        return _state(1.0, bool(state.stop) or count >= patience, best=best, count=count)

    return Rule(lambda: _state(1.0, False, best=math.inf, count=0), update)


def divide_on_plateau(
    monitor: str = "valid_loss",
    rates: tuple[float, ...] = (0.01, 0.002, 0.0004, 0.00008, 0.000016),
    patience: int = 4,
    *,
    mode: str | None = None,
) -> Rule:
    """Go through a list of rates, to the next at the `patience`-th epoch in a row without improvement, then stop.

    The best value starts anew with each rate, for the author trains once for each; that he begins each time with the
    best weights is the loop's part (`train.fit(…, back_to_best=True)`). His `patience=3` is 4 here: Keras 1 ends an
    epoch later.

    Args:
      monitor: metric.
      rates: falling; `scale` is their ratio to the first, which must be the optimiser's learning rate.
      patience: epochs without improvement.
      mode: "min" or "max".

    Raises:
      ValueError: a setting out of its range.

    Reference:
      Lee et al., "Sample-level deep convolutional neural networks for music auto-tagging", SMC 2017, code.
    """
    mode = direction(monitor, mode)
    _check_whole(patience=patience)
    rates = tuple(rates)
    if not rates or not all(isinstance(rate, numbers.Real) and 0 < rate < math.inf for rate in rates):
        raise ValueError(f"rates={rates!r} must be learning rates above 0")
    if list(rates) != sorted(set(rates), reverse=True):
        raise ValueError(f"rates={rates!r} must fall from one to the next")

    def update(state, metrics):
        value = _badness(metrics, monitor, mode)
        _, best, count = _recall(state)
        stage = int(state.memory["stage"])
        if value < best:
            best, count = value, 0
        else:
            count += 1
        stop = bool(state.stop)
        if count >= patience and not stop:
            best, count, stage = math.inf, 0, stage + 1
            stop = stage == len(rates)
        scale = rates[min(stage, len(rates) - 1)] / rates[0]
        return _state(scale, stop, best=best, count=count, stage=stage)

    return Rule(lambda: _state(1.0, False, best=math.inf, count=0, stage=0), update)


def combine(*rules: Rule) -> Rule:
    """Several rules side by side: scales are multiplied, and the first to stop stops.

    Raises:
      ValueError: no rule.
    """
    if not rules:
        raise ValueError("combine needs at least one rule; constant() changes nothing")

    def together(states):
        scale = math.prod(float(state.scale) for state in states)
        stop = any(bool(state.stop) for state in states)
        return RuleState(np.asarray(scale, np.float32), np.asarray(stop, np.bool_), tuple(states))

    def update(state, metrics):
        return together([rule.update(part, metrics) for rule, part in zip(rules, state.memory, strict=True)])

    return Rule(lambda: together([rule.init() for rule in rules]), update)


RULES = {rule.__name__: rule for rule in (constant, counter, halve_every, plateau, stop_early, divide_on_plateau)}


def make_rule(text: str) -> Rule:
    """A rule from text, for configs and command lines.

    Args:
      text: calls of the rules of this module joined by `+`, with values in order or by name, `/` between the numbers
        of a list: `counter(train_loss, 20, 40)`, `halve_every(1, factor=.85)`, `divide_on_plateau(rates=.1/.01)`,
        `plateau(patience=75) + stop_early(valid_loss, 200)`.

    Raises:
      UsageError: text of another form, an unknown rule or argument, a value of the wrong kind or range.
    """
    calls = re.split(r"\+(?![^(]*\))", text)  # no + between parentheses, as in 1e+3
    rules = [_make_one(call.strip()) for call in calls]
    return rules[0] if len(rules) == 1 else combine(*rules)


def _make_one(call: str) -> Rule:
    form = re.fullmatch(r"(\w+)\s*(?:\(([^()]*)\))?", call)
    if form is None:
        raise config.UsageError(f"rule {call!r} is not name(value, name=value); known rules: {', '.join(RULES)}")
    name, inside = form[1], form[2] or ""
    if name not in RULES:
        raise config.UsageError(f"rule {name!r} is unknown; known rules: {', '.join(RULES)}")
    rule = RULES[name]
    signature = inspect.signature(rule)
    kinds = typing.get_type_hints(rule)
    parts = [part.strip() for part in inside.split(",")] if inside.strip() else []
    named = [part for part in parts if "=" in part]
    try:
        if parts[: len(parts) - len(named)] != [part for part in parts if "=" not in part]:
            raise ValueError("values in order come before those by name")
        pairs = [[side.strip() for side in part.split("=", 1)] for part in named]
        if len(dict(pairs)) < len(pairs):
            raise ValueError("an argument is given twice")
        arguments = signature.bind(*parts[: len(parts) - len(named)], **dict(pairs)).arguments
        return rule(**{key: _parse(text, kinds[key], key) for key, text in arguments.items()})
    except (TypeError, ValueError) as error:
        arguments = signature.replace(return_annotation=inspect.Signature.empty)
        raise config.UsageError(f"rule {call!r}: {error}; it is {name}{arguments}") from error


def _parse(text: str, kind, key: str):
    if typing.get_origin(kind) is tuple:
        text = text.replace("/", ",")
    elif not text:
        raise ValueError(f"{key} has no value")
    return config.parse(text, kind, key)
