"""The ten randomly weighted CNNs, composed: (n) → `taggers.Network`.

Source: Pons & Serra, "Randomly weighted CNNs for (music) audio classification", ICASSP 2019; ARCHITECTURES §5.2.
Names: `vgg`, `vertical_96`, `vertical_86`, `timbral`, `temporal`, `timbral_temporal`, `timbral_time`, `sample`,
`frame`, `frame_many`.
"""

from mirjax.models import backends, frontends, taggers
from mirjax.signal.representations import LogMel, Waveform


def vgg(n: int) -> taggers.Network:
    """VGG of n filters a layer."""
    return taggers.Network(LogMel(), frontends.VGG(n))


def vertical_96(n: int) -> taggers.Network:
    """n filters as tall as the spectrogram."""
    return taggers.Network(LogMel(), frontends.Vertical(n, height=96))


def vertical_86(n: int) -> taggers.Network:
    """n filters ten bands shorter than the spectrogram."""
    return taggers.Network(LogMel(), frontends.Vertical(n, height=86))


def timbral(n: int) -> taggers.Network:
    """Vertical filters of six shapes; 14 n features."""
    return taggers.Network(LogMel(), frontends.Timbral(n))


def temporal(n: int) -> taggers.Network:
    """Horizontal filters of four lengths; 14 n features."""
    return taggers.Network(LogMel(), frontends.Temporal(n))


def timbral_temporal(n: int) -> taggers.Network:
    """Both; 28 n features."""
    return taggers.Network(LogMel(), frontends.Parallel((frontends.Timbral(n), frontends.Temporal(n))))


def timbral_time(n: int) -> taggers.Network:
    """Vertical filters and short horizontal ones; 28 n features."""
    time = frontends.Temporal(n, lengths=(64, 32, 16, 8))
    return taggers.Network(LogMel(), frontends.Parallel((frontends.Timbral(n), time)))


def sample(n: int) -> taggers.Network:
    """Sample-level network of n filters a layer; 7 n features."""
    return taggers.Network(Waveform(), frontends.SampleLevel(n))


def frame(n: int, *, legacy_collapse: bool = False) -> taggers.Network:
    """Frame-level network; 4 n features. `legacy_collapse` as in `backends.ExtraLayers`."""
    back_end = backends.ExtraLayers(n, legacy_collapse=legacy_collapse)
    return taggers.Network(Waveform(), frontends.FrameLevel(n), back_end)


def frame_many(n: int, *, legacy_collapse: bool = False) -> taggers.Network:
    """Frame-level network of five filter lengths; 8 n features. `legacy_collapse` as in `backends.ExtraLayers`."""
    front_end = frontends.FrameLevel(n, lengths=(512, 256, 128, 64, 32), same=True)
    return taggers.Network(Waveform(), front_end, backends.ExtraLayers(n, legacy_collapse=legacy_collapse))
