"""The representation-learning strategies of Kim et al.; ARCHITECTURES §8 and table 1.4."""

import functools

from mirjax.models.entries.entry import Count, Entry

_entry = functools.partial(
    Entry,
    family="multi_source",
    n=16,
    signal="spectrogram",
    domain_knowledge="none",
    filters="minimal",
    back_end="variable",
    sample_rate=22_050,
    num_channels=2,
    length=216,
    input="log-mel 128, dB, stereo, per-band z-score",
    output="softmax",
    citation="Kim, Urbano, Liem & Hanjalic, One deep music representation to rule them all? A comparative analysis of "
    "different representation learning strategies, Neural Computing and Applications 2020",
)
_EIGHT = "Counted with all eight sources, of which `self` compares two clips and has a head of its own."


def _strategy(name, reproduced, note):
    return _entry(name=name, make=f"multi_source:{name}", counts=(Count(reproduced),), note=f"{note} {_EIGHT}")


ENTRIES = (
    _entry(
        name="kim_ss_r",
        make="multi_source:kim_ss_r",
        counts=(Count(576_482), Count(629_810, variant="self", options={"source": "self"})),
        note="SS-R, one source. The variant `self` has no logits of one clip, but of a pair of them.",
    ),
    _strategy("kim_ms_sr_fc", 719_760, "MS-SR@FC; published as 1.2 times the size of SS-R, here 1.234."),
    _strategy("kim_ms_cr_6", 3_717_776, "MS-CR@6; published as about 6.3 times the size of SS-R, here 6.375."),
    _strategy("kim_ms_cr_4", 4_495_952, "MS-CR@4."),
    _strategy("kim_ms_cr_2", 4_659_248, "MS-CR@2."),
    _strategy("kim_mss_cr", 4_665_184, "MSS-CR, an independent network for each source."),
)
