"""Single filter shapes, O-net and P-net on Ballroom; ARCHITECTURES §1.1, §2, §3."""

import functools

from mirjax.models.entries.entry import Count, Entry

_entry = functools.partial(
    Entry,
    family="rhythm_filters",
    signal="spectrogram",
    domain_knowledge="filter shape",
    back_end="fixed",
    sample_rate=44_100,
    input="log-mel 40, 23 ms (preset `ballroom`)",
    length=80,
    output="softmax",
)
_single = functools.partial(
    _entry,
    n=32,
    citation="Pons, Lidy & Serra, Experimenting with musically motivated convolutional neural networks, CBMI 2016",
)
_many = functools.partial(
    _entry,
    n=1,
    filters="many",
    length=250,
    citation="Pons & Serra, Designing efficient architectures for modeling temporal features with convolutional neural "
    "networks, ICASSP 2017",
    note="n is the number of copies of the branches; published on windows of 250 frames, of which the last was never "
    "used. The maximum over all time lets it take any length from its longest filter on.",
)
_BALLROOM = "Ballroom, 10-fold, vote of the windows: accuracy "


def _exact(number, **settings):
    return Count(number, f"{number:,}", "exact", **settings)


ENTRIES = (
    _single(
        name="black_box",
        make="rhythm_filters:black_box",
        domain_knowledge="none",
        filters="single",
        counts=(_exact(3_275_312), _exact(2_363_440, variant="long", options={"long": True})),
        published=f"{_BALLROOM}87.25 % (long 82.80 %)",
        note="variant long: 200 × 12 filters on 250 frames",
    ),
    _single(
        name="time",
        make="rhythm_filters:time",
        filters="single",
        counts=(_exact(7_336), _exact(19_496, variant="long", options={"long": True})),
        published=f"{_BALLROOM}81.79 % (long 81.52 %)",
        note="variant long: 200 × 1 filters on 250 frames",
    ),
    _single(
        name="frequency",
        make="rhythm_filters:frequency",
        filters="single",
        counts=(
            _exact(3_368),
            *(
                _exact(number, variant=f"f{height}", options={"height": height})
                for height, number in ((30, 3_816), (34, 2_920), (36, 2_472), (38, 2_024), (40, 1_576))
            ),
        ),
        published=f"{_BALLROOM}59.59 % (30 bands 59.45, 34 58.17, 36 57.88, 38 57.45, 40 52.43 %)",
        note="the maximum over all time lets it take any length",
    ),
    _single(
        name="time_frequency",
        make="rhythm_filters:time_frequency",
        filters="many",
        counts=(_exact(196_816),),
        published=f"{_BALLROOM}86.54 %; with the filters of trained time and frequency networks 87.68 %",
        note="`rhythm_filters.initialise_from` makes the pre-initialised version",
    ),
    _many(
        name="o_net",
        make="rhythm_filters:o_net",
        counts=(_exact(4_188), _exact(8_368, variant="x2", n=2)),
        published=f"{_BALLROOM}76.66 % (windows every 80 frames 85.24 %); x2 81.53 % (86.54 %)",
    ),
    _many(
        name="p_net",
        make="rhythm_filters:p_net",
        counts=(_exact(7_428), _exact(14_848, variant="x2", n=2)),
        published=f"{_BALLROOM}83.95 % (windows every 80 frames 89.26 %); x2 85.67 % (89.11 %)",
    ),
    _many(
        name="op_net",
        make="rhythm_filters:op_net",
        counts=(
            _exact(11_608),
            _exact(23_208, variant="x2", n=2),
            _exact(46_408, variant="x4", n=4),
            _exact(92_808, variant="x8", n=8),
        ),
        published=f"{_BALLROOM}87.25 % (windows every 80 frames 89.68 %); x2 87.25 % (91.27 %), x4 88.82 % (91.55 %), "
        "x8 88.68 % (92.27 %)",
    ),
)
