"""The zoo: every architecture by name, with its citation and its place in the thesis' taxonomy.

The table imports no JAX, so that a command line can look names up in no time; `build` imports what it needs.
To add an architecture: a class in `frontends` (or `taggers`), a line in `ARCHITECTURES`, a branch in `build`.
Names: `ARCHITECTURES`, `Entry`, `names`, `lookup`, `num_filters`, `build`.
"""

import dataclasses
import difflib

_PONS = "Pons & Serra, Randomly weighted CNNs for (music) audio classification, ICASSP 2019"


@dataclasses.dataclass(frozen=True)
class Entry:
    """What is true of an architecture before it is built.

    Attributes:
      name: as configs and records spell it.
      signal: `spectrogram` or `waveform`.
      domain_knowledge: `none`, `filter shape` or `filter length`: what its filters assume about music.
      filters: `single`, `many` or `minimal` shapes in the first layer.
      n_by_width: width parameter n that gives about 120 and about 3500 features (ARCHITECTURES table 1.6).
      citation: where it was published.
    """

    name: str
    signal: str
    domain_knowledge: str
    filters: str
    n_by_width: dict[int, int]
    citation: str = _PONS


ARCHITECTURES = {
    entry.name: entry
    for entry in (
        Entry("vgg", "spectrogram", "none", "minimal", {120: 32, 3500: 717}),
        Entry("7x96", "spectrogram", "filter shape", "single", {120: 160, 3500: 3585}),
        Entry("7x86", "spectrogram", "filter shape", "single", {120: 160, 3500: 3585}),
        Entry("timbral", "spectrogram", "filter shape", "many", {120: 8, 3500: 256}),
        Entry("temporal", "spectrogram", "filter shape", "many", {120: 8, 3500: 256}),
        Entry("timbral_temporal", "spectrogram", "filter shape", "many", {120: 4, 3500: 128}),
        Entry("timbral_time", "spectrogram", "filter shape", "many", {120: 4, 3500: 128}),
        Entry("sample", "waveform", "none", "minimal", {120: 23, 3500: 512}),
        Entry("frame", "waveform", "filter length", "single", {120: 40, 3500: 896}),
        Entry("frame_many", "waveform", "filter length", "many", {120: 20, 3500: 448}),
    )
}


def names() -> tuple[str, ...]:
    """All architectures, in the order of the study."""
    return tuple(ARCHITECTURES)


def lookup(name: str) -> Entry:
    """The entry of an architecture.

    Raises:
      ValueError: unknown name; lists the nearest known ones.
    """
    if name not in ARCHITECTURES:
        near = difflib.get_close_matches(name, ARCHITECTURES, n=3) or list(ARCHITECTURES)
        raise ValueError(f"architectures={name!r} is not known; nearest: {', '.join(near)}")
    return ARCHITECTURES[name]


def num_filters(name: str, width: int) -> int:
    """The n of an architecture at a named width (120 or 3500 features, nearly).

    Raises:
      ValueError: a width that the study does not have.
    """
    by_width = lookup(name).n_by_width
    if width not in by_width:
        known = ", ".join(map(str, by_width))
        raise ValueError(f"width={width} is not one of {known}; give n= for a free choice")
    return by_width[width]


def build(name: str, n: int, *, legacy_collapse: bool = False):
    """Build an architecture as a Linen module.

    Args:
      name: one of `names()`.
      n: width parameter, at least 1.
      legacy_collapse: average the frame-level networks' extra layers as the released code does.

    Returns:
      A `taggers.Network`.

    Raises:
      ValueError: unknown name, or n below 1.
    """
    lookup(name)
    if n < 1:
        raise ValueError(f"n={n} for {name} must be at least 1")
    from mirjax.models import backends, frontends, taggers
    from mirjax.signal import representations

    log_mel, waveform = representations.LogMel(), representations.Waveform()
    timbral = frontends.Timbral(n)
    extra = backends.ExtraLayers(n, legacy_collapse=legacy_collapse)
    match name:
        case "vgg":
            return taggers.Network(log_mel, frontends.VGG(n))
        case "7x96" | "7x86":
            return taggers.Network(log_mel, frontends.Vertical(n, height=int(name[2:])))
        case "timbral":
            return taggers.Network(log_mel, timbral)
        case "temporal":
            return taggers.Network(log_mel, frontends.Temporal(n))
        case "timbral_temporal":
            return taggers.Network(log_mel, frontends.Parallel((timbral, frontends.Temporal(n))))
        case "timbral_time":
            time = frontends.Temporal(n, lengths=(64, 32, 16, 8))
            return taggers.Network(log_mel, frontends.Parallel((timbral, time)))
        case "sample":
            return taggers.Network(waveform, frontends.SampleLevel(n))
        case "frame":
            return taggers.Network(waveform, frontends.FrameLevel(n), extra)
        case "frame_many":
            front_end = frontends.FrameLevel(n, lengths=(512, 256, 128, 64, 32), same=True)
            return taggers.Network(waveform, front_end, extra)
