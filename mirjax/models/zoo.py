"""The zoo: every architecture by name, with its citation, its counts and its place in the thesis' taxonomy.

The table (`entries`) imports no JAX, so that a command line can look names up in no time; `build` imports what it
needs. A variant of an architecture that has a published count of its own is named `NAME/VARIANT`.
To add an architecture: a constructor in a module of `mirjax.models`, and a line in `entries`.
Names: `ARCHITECTURES`, `STUDY`, `names`, `families`, `screened`, `lookup`, `variant`, `num_filters`, `build`,
`scaled`, `match`.
"""

import difflib
import functools
import importlib
import inspect
from numbers import Integral, Real

from mirjax.models import entries
from mirjax.models.entries.entry import Count, Entry

ARCHITECTURES: dict[str, Entry] = {entry.name: entry for entry in entries.ALL}
STUDY = tuple(name for name, entry in ARCHITECTURES.items() if entry.family == "random_cnns")
COLLAPSING = ("frame", "frame_many")  # networks with the option `legacy_collapse`
LARGEST_N = 10_000


def names() -> tuple[str, ...]:
    """All architectures, those of the screening study first."""
    return tuple(ARCHITECTURES)


def families() -> dict[str, tuple[str, ...]]:
    """Names of the networks of each family."""
    return {family: tuple(n for n, e in ARCHITECTURES.items() if e.family == family) for family in entries.FAMILIES}


def screened() -> tuple[str, ...]:
    """Names of all networks that can be screened untrained, one of those with equal features."""
    return tuple(name for name, entry in ARCHITECTURES.items() if not entry.not_screened and not entry.same_features)


def variant(name: str) -> tuple[Entry, Count | None]:
    """Entry of `NAME` or `NAME/VARIANT`, and the variant's count.

    Raises:
      ValueError: unknown name or variant; lists the nearest known ones.
    """
    base, slash, kind = name.partition("/")
    if base not in ARCHITECTURES:
        near = difflib.get_close_matches(base.lower(), ARCHITECTURES, n=3, cutoff=0)
        raise ValueError(f"architectures={name!r} is not known; nearest: {', '.join(near)}")
    entry = ARCHITECTURES[base]
    if not slash:
        return entry, None
    if kind not in entry.variants:
        known = ", ".join(f"{base}/{each}" for each in entry.variants) or f"{base} has none"
        raise ValueError(f"architectures={name!r}: no such variant; known: {known}")
    return entry, entry.variants[kind]


def lookup(name: str) -> Entry:
    """The entry of an architecture, or of one of its variants.

    Raises:
      ValueError: unknown name; lists the nearest known ones.
    """
    return variant(name)[0]


def num_filters(name: str, width: int) -> int:
    """The n of an architecture at a named width (120 or 3500 features, nearly).

    Raises:
      ValueError: a width that the table does not have for it.
    """
    entry, count = variant(name)
    if count is not None:
        raise ValueError(f"width={width}: the table has no widths of variants; give n= for {name}, or see `zoo.match`")
    by_width = entry.n_by_width
    if width not in by_width:
        known = ", ".join(map(str, by_width)) or "none"
        raise ValueError(f"width={width} is not one of {known} for {name}; give n= for a free choice, or `zoo.match`")
    return by_width[width]


def build(name: str, n: int | None = None, **options):
    """Build an architecture as a Linen module.

    Args:
      name: one of `names()`, or `NAME/VARIANT`.
      n: width parameter, at least 1; the publication's when None.
      **options: of the constructor that the entry names (`num_classes`, legacy flags, …).

    Returns:
      A `taggers.Model`.

    Raises:
      ValueError: unknown name or option, or n that is no whole number from 1 on.
    """
    entry, count = variant(name)
    if count is not None:
        options = {**count.options, **options}
        n = count.n if n is None else n
    n = entry.n if n is None else n
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 1:
        raise ValueError(f"n={n!r} for {name} must be a whole number, at least 1")
    module, function = entry.make.split(":")
    make = getattr(importlib.import_module(f"mirjax.models.{module}"), function)
    _check_options(name, make, options)
    return make(int(n), **options)


def _check_options(name, make, options) -> None:
    """Hold options against the constructor's: names, and kind and range of values as its defaults tell them."""
    known = {each.name: each for each in list(inspect.signature(make).parameters.values())[1:]}
    for option, value in options.items():
        if option not in known:
            near = ", ".join(difflib.get_close_matches(option, known, n=3) or known) or "it has none"
            raise ValueError(f"{option} is no option of {name}; known: {near}")
        default, is_whole = known[option].default, isinstance(value, Integral) and not isinstance(value, bool)
        if isinstance(default, bool):
            fits, wanted = isinstance(value, bool), "True or False"
        elif isinstance(default, int) and known[option].annotation is int:
            fits, wanted = is_whole and value >= min(default, 1), f"a whole number, at least {min(default, 1)}"
        elif "dropout" in option:
            fits, wanted = isinstance(value, Real) and 0 <= value < 1, "a rate from 0 to below 1"
        else:
            continue  # the constructor's own check
        if not fits:
            raise ValueError(f"{option}={value!r} for {name} must be {wanted}")


def scaled(size: int, n: int, published: int) -> int:
    """A layer's size when the width parameter is n instead of the published one; halves up, at least 1."""
    return max(1, (2 * size * n + published) // (2 * published))


def match(name: str, *, num_features: int | None = None, num_parameters: int | None = None, **options) -> int:
    """The n whose network comes nearest to a number of features or of trainable parameters; ties to the smaller.

    Args:
      name: as in `build`.
      num_features: length of the feature vector wanted; or
      num_parameters: trainable parameters wanted.
      **options: as in `build`.

    Returns:
      n, from 1 to 10,000.

    Raises:
      ValueError: both or neither target, or one that no n from 1 to 10,000 comes up to.
    """
    from mirjax.models import counts

    targets = {"num_features": num_features, "num_parameters": num_parameters}
    given = [(what, target) for what, target in targets.items() if target is not None]
    if len(given) != 1:
        raise ValueError("match takes one target: num_features=… or num_parameters=…")
    ((what, target),) = given
    if isinstance(target, bool) or not isinstance(target, Integral) or target < 1:
        raise ValueError(f"{what}={target!r} must be a whole number, at least 1")
    size_of = counts.num_features if what == "num_features" else counts.count

    @functools.cache
    def size(n):
        return size_of(build(name, n, **options))

    def first(reaches, low, high):
        """Smallest n with size(n) ≥ reaches, of which low falls short and high does not."""
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if size(middle) >= reaches else (middle, high)
        return high

    low, high = 0, 1
    while size(high) < target and high < LARGEST_N:
        low, high = high, min(2 * high, LARGEST_N)
    if size(1) > 2 * target or size(high) < target:  # nearer to no network at all, or beyond the largest
        limit, n = ("least", 1) if size(1) > target else ("most", LARGEST_N)
        raise ValueError(
            f"{what}={target} cannot be matched by {name}: at n={n} it has {size(n)}, the {limit}; "
            "choose another target or network"
        )
    above = first(target, low, high)
    below = above - 1
    if size(above) == target or below < 1 or target - size(below) > size(above) - target:
        return above
    return first(size(below), 0, below)
