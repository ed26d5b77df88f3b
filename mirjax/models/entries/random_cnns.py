"""The ten randomly weighted CNNs of Pons & Serra (ICASSP 2019); ARCHITECTURES §5 and table 1.6.

n_by_width is that table's; the counts are those of the network at 120 features (no count was published).
"""

import functools

from mirjax.models.entries.entry import Count, Entry

_entry = functools.partial(
    Entry,
    family="random_cnns",
    sample_rate=12_000,
    citation="Pons & Serra, Randomly weighted CNNs for (music) audio classification, ICASSP 2019",
    output="none",
)
_mel = functools.partial(
    _entry, signal="spectrogram", domain_knowledge="filter shape", input="log-mel 96, dB", length=1376, back_end="none"
)
_wave = functools.partial(_entry, signal="waveform", input="waveform", length=350_000)


def _widths(small, large):
    return {"n": small, "n_by_width": {120: small, 3500: large}}


ENTRIES = (
    _entry(
        name="vgg",
        make="random_cnns:vgg",
        signal="spectrogram",
        domain_knowledge="none",
        filters="minimal",
        input="log-mel 96, dB",
        length=1376,
        back_end="none",
        counts=(Count(37_312),),
        published="GTZAN, SVM on 3585 features: accuracy 59.65 %",
        **_widths(32, 717),
    ),
    _mel(name="7x96", make="random_cnns:vertical_96", filters="single", counts=(Count(107_680),), **_widths(160, 3585)),
    _mel(name="7x86", make="random_cnns:vertical_86", filters="single", counts=(Count(96_480),), **_widths(160, 3585)),
    _mel(name="timbral", make="random_cnns:timbral", filters="many", counts=(Count(16_976),), **_widths(8, 256)),
    _mel(
        name="temporal",
        make="random_cnns:temporal",
        filters="many",
        counts=(Count(6_798),),
        published="Extended Ballroom, SVM on 3584 features: accuracy 89.82 %",
        **_widths(8, 256),
    ),
    _mel(
        name="timbral_temporal",
        make="random_cnns:timbral_temporal",
        filters="many",
        counts=(Count(11_887),),
        published="GTZAN, SVM on 3584 features: accuracy 56.89 %",
        **_widths(4, 128),
    ),
    _mel(
        name="timbral_time", make="random_cnns:timbral_time", filters="many", counts=(Count(9_448),), **_widths(4, 128)
    ),
    _wave(
        name="sample",
        make="random_cnns:sample",
        domain_knowledge="none",
        filters="minimal",
        back_end="none",
        counts=(Count(9_752),),
        **_widths(23, 512),
    ),
    _wave(
        name="frame",
        make="random_cnns:frame",
        domain_knowledge="filter length",
        filters="single",
        back_end="variable",
        counts=(Count(54_240),),
        **_widths(40, 896),
    ),
    _wave(
        name="frame_many",
        make="random_cnns:frame_many",
        domain_knowledge="filter length",
        filters="many",
        back_end="variable",
        counts=(Count(39_600),),
        **_widths(20, 448),
    ),
)
