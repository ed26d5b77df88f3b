"""The catalogue: which data sets mirjax knows by name, and what is true of them.

Embedded sets are shipped inside the package (`mirjax/data/embedded`); prepared sets are built once from a
local folder with `launch.py prepare` (`mirjax.data.builders`). Folders and manifests need no entry here. This
module imports nothing heavy, so that `launch.py list datasets` answers at once.

Names: `Facts`, `EMBEDDED`, `PREPARED`, `names`, `describe`, `unknown_name`.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from ..config import UsageError


@dataclass(frozen=True)
class Facts:
    """What is true of a data set, whoever reads it.

    Args:
        name: name in records and tables.
        description: one sentence.
        classes: class names, or None where the files decide.
        group: metadata column whose values must not straddle a fold (a speaker, an artist), or None.
        licence: licence of the audio.
        citation: who is to be cited or attributed.
        protocol: how the set is meant to be evaluated.
        homepage: where it comes from.
    """

    name: str
    description: str = ""
    classes: tuple[str, ...] | None = None
    group: str | None = None
    licence: str = ""
    citation: str = ""
    protocol: str = ""
    homepage: str = ""


_DIGITS = tuple("0123456789")
_FSDD = "Zohar Jackson and contributors, Free Spoken Digit Dataset"
_FSDD_HOME = "https://github.com/Jakobovski/free-spoken-digit-dataset"

EMBEDDED = {
    facts.name: facts
    for facts in (
        Facts(
            "digits_small",
            "240 recordings of spoken digits: 4 speakers, takes 0-5 (8 kHz, 0.14-0.87 s); real recordings",
            classes=_DIGITS,
            group="speaker",
            licence="CC BY-SA 4.0",
            citation=_FSDD,
            protocol="4 folds, one speaker each; a random split would leak the speaker",
            homepage=_FSDD_HOME,
        ),
        Facts(
            "rhythm_small",
            "72 clips of 12 s, 8 dance rhythms; rendered from scores composed by rule, not real music",
            classes=("chacha", "jive", "quickstep", "rumba", "samba", "tango", "vwaltz", "waltz"),
            licence="own renderings; soundfont FluidR3_GM: MIT (Frank Wen)",
            citation="mirjax",
            protocol="3 folds of 24 clips, 3 of each class",
        ),
    )
}

PREPARED = {
    facts.name: facts
    for facts in (
        Facts(
            "spoken_digit",
            "free spoken digit dataset: digits 0-9 spoken in English (8 kHz); real recordings",
            classes=_DIGITS,
            group="speaker",
            licence="CC BY-SA 4.0",
            citation=_FSDD,
            protocol="the manifest's folds or split; without a manifest the authors' rule (takes 0-4 test)",
            homepage=_FSDD_HOME,
        ),
    )
}


def names() -> tuple[str, ...]:
    """Names of all known data sets, embedded ones first."""
    return (*EMBEDDED, *PREPARED)


def describe(name: str) -> Facts:
    """Facts of a known data set.

    Args:
        name: one of `names()`.

    Returns:
        Its `Facts`.

    Raises:
        UsageError: the name is unknown; the nearest known ones are listed.
    """
    known = EMBEDDED | PREPARED
    if name not in known:
        raise unknown_name("data set", name, known)
    return known[name]


def unknown_name(what: str, name: str, known: Iterable[str], remedy: str = "") -> UsageError:
    """The error for an unknown name, with the nearest known ones (all of them when none is near).

    Args:
        what: what is named ("data set").
        name: the unknown name.
        known: the known names.
        remedy: what else would do, appended.

    Returns:
        A UsageError (a ValueError), to be raised by the caller.
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(known) or 'none'}"
    return UsageError(f"unknown {what} {name!r}; {hint}" + (f"; {remedy}" if remedy else ""))
