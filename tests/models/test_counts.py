"""Parameter counts of the whole zoo, by shapes alone.

Oracle: ARCHITECTURES §1 (published counts, and integers recomputed there with independent arithmetic), typed in below.
"""

import re

import pytest

from mirjax.models import counts, geometry, zoo

ROWS = [
    pytest.param(name, count, id=f"{name}-{count.variant or 'default'}")
    for name, entry in zoo.ARCHITECTURES.items()
    for count in entry.counts
]

# Every integer of ARCHITECTURES §1 with the short form it was published as (None: derived, or an open layout).
SECTION_1 = {
    "1.1": {
        3_275_312: "3,275,312", 2_363_440: "2,363,440", 7_336: "7,336", 19_496: "19,496", 3_816: "3,816",
        3_368: "3,368", 2_920: "2,920", 2_472: "2,472", 2_024: "2,024", 1_576: "1,576", 196_816: "196,816",
        4_188: "4,188", 7_428: "7,428", 8_368: "8,368", 14_848: "14,848", 11_608: "11,608", 23_208: "23,208",
        46_408: "46,408", 92_808: "92,808", 222_557: "222k", 236_000: None, 221_897: "222k", 481_391: "481k",
        430_379: "430k", 62_763: "62k", 743_723: "743k", 1_446_123: "1446k", 74_526: "75k", 191_006: "191k",
        565_278: "565k", 74_974: "75k", 17_359_282: None, 25_175_090: None,
    },
    "1.2": {
        11_824_058: "11.8M", 7_034_554: "7M", 5_377_082: "5.3M", 4_732_666: "4.7M", 4_456_538: "4.4M",
        1_366_010: "1.3M", 1_311_710: "1.3M", 1_831_738: "1.8M", 1_739_038: "1.7M", 3_107_258: "3.1M",
        2_937_758: "2.9M", 6_711_454: "6.7M", 5_520_743: "5.5M", 4_425_258: "4.4M", 4_639_386: "4.6M",
        5_067_642: "5M", 5_924_154: "5.9M", 7_637_178: "7.6M", 277_178: "277k", 222_878: "222k", 617_466: "617k",
        524_766: "524k", 1_642_106: "1.6M", 1_472_606: "1.4M", 4_744_542: "4.7M", 5_968_743: "5.9M",
        2_394_162: "2.4M", 194_046: None, 194_078: None,
        66_784: "66k", 40_884: "40k", 605_748: "605k", 185_856: "185k", 508_803: "508k", 787_159: "787k",
        2_406_940: "2.4M", 636_701: "636k", 3_871_363: "3.8M", 7_980_235: None,
    },
    "1.3": {613_642: None, 72_141_184: None, 241_434: None, 241_759: None, 42_764: None, 45_329: None, 7_572: None,
            11_357: None},
    "1.4": {576_482: None, 719_760: None, 3_717_776: None, 4_495_952: None, 4_659_248: None, 4_665_184: None},
    "1.5": {
        865_950: "865,950", 396_786: "396,786", 6_230_689: "6,230,689", 1_330_097: "1,330,097", 107_016: "107,016",
        106_500: "106,500", 663_172: "663,172", 24_651: "24,651", 22_251: "22,251", 9_126: "9,126",
        289_693: "289,693", 89_301: "89,301", 63_701: "63,701", 29_251: "29,251", 99_003: "99,003", 161: "161",
        538_124: "538,124", 1_899_020: None, 1_604_961: None, 1_408_225: None, 65_601: None, 38_962: None,
        96_328: "0.1M", 245_301: None, 496_182: None, 1_002_206: None, 3_043_331: None,
    },
}  # fmt: skip


@pytest.mark.parametrize(("name", "count"), ROWS)
def test_counts_of_built_networks(name, count):
    """Oracle: ARCHITECTURES §1, by the publication's convention and flags; and the default's integer, pinned."""
    full = f"{name}/{count.variant}" if count.variant else name
    assert counts.count(zoo.build(full, count.n, **count.legacy), count.convention) == count.reproduced
    default = count.reproduced if count.trainable is None else count.trainable
    assert counts.count(zoo.build(full, count.n)) == default
    assert count.kind in ("exact", "truncation", "rounding", "near", "derived", "reconstructed", "open")
    if count.convention == "trainable" and not count.legacy:
        assert count.trainable is None


def short_forms(integer, published):
    """A printed form's integer by truncation and by rounding, to as many digits as it prints."""
    digits, unit = re.fullmatch(r"≈?([\d.,]+)([kM]?)", published).groups()
    scale = {"": 1, "k": 10**3, "M": 10**6}[unit]
    places = len(digits.partition(".")[2])
    step = scale / 10**places
    value = float(digits.replace(",", "")) * scale
    return value, integer // step * step, round(integer / step) * step


@pytest.mark.parametrize(("name", "count"), [row for row in ROWS if row.values[1].published])
def test_published_short_forms(name, count):
    """Oracle: the printed numbers: equal, truncated, rounded, or near (4 %, prose 30 %: why, the entry's note says)."""
    printed, truncated, rounded = short_forms(count.reproduced, count.published)
    match count.kind:
        case "exact":
            assert count.reproduced == printed
        case "truncation":
            assert truncated == pytest.approx(printed)
        case "rounding":
            assert rounded == pytest.approx(printed)
        case "near":
            in_prose = zoo.lookup(name).family == "few_shot"  # "about 250k", "10k"
            assert count.reproduced == pytest.approx(printed, rel=0.3 if in_prose else 0.04)
            assert zoo.lookup(name).note
        case "open":
            assert zoo.lookup(name).note
        case _:
            raise AssertionError(f"{name}: a published count cannot be {count.kind}")


@pytest.mark.parametrize("section", SECTION_1)
def test_every_published_integer_is_in_the_table(section):
    """Oracle: ARCHITECTURES §1, integer by integer, typed in independently of the table."""
    found = {}
    for row in ROWS:
        found.setdefault(row.values[1].reproduced, set()).add(row.values[1].published)
    for integer, published in SECTION_1[section].items():
        assert integer in found, integer
        if published is not None:
            assert published in found[integer], (integer, found[integer])


def test_the_short_forms_by_hand():
    """Hand-worked: 222,878 truncates to 222k and rounds to 223k; 11,824,058 is 11.8M both ways."""
    assert short_forms(222_878, "222k") == (222_000, 222_000, 223_000)
    value, truncated, rounded = short_forms(11_824_058, "11.8M")
    assert value == truncated == rounded == pytest.approx(11_800_000)


@pytest.mark.parametrize("name", zoo.names())
def test_what_the_table_says(name):
    """Oracle: the built network: sample rate, channels, kind of input, length; and the issue's list of fields."""
    entry, model = zoo.lookup(name), zoo.build(name)
    representation = model.representation
    assert (representation.sample_rate, representation.num_channels) == (entry.sample_rate, entry.num_channels)
    assert (type(representation).__name__ == "Waveform") == (entry.signal == "waveform")
    assert entry.length == model.num_steps or not model.num_steps
    assert entry.domain_knowledge in ("none", "filter shape", "filter length")
    assert entry.filters in ("single", "many", "minimal", "none")
    assert entry.back_end in ("fixed", "variable", "sequence", "none")
    assert entry.status in ("published", "reconstructed", "ours")
    assert (entry.back_end == "fixed") == model.fixed or entry.back_end != "variable"
    assert entry.citation
    assert entry.counts or entry.status == "ours"
    if entry.status == "ours":
        assert not any(count.published for count in entry.counts)
    exposed = [layer.name for layer in counts.layers_of(model, entry.length or model.num_steps)]
    assert set(model.feature_layers) <= set(exposed)
    assert len(set(exposed)) == len(exposed)
    assert geometry.shortest(model.windows) >= 1


MATCHED = [name for name, entry in zoo.ARCHITECTURES.items() if entry.n_by_width and entry.family != "random_cnns"]


@pytest.mark.parametrize("width", [120, pytest.param(3500, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name", [name if i % 8 == 0 else pytest.param(name, marks=pytest.mark.slow) for i, name in enumerate(MATCHED)]
)
def test_matched_widths(name, width):
    """Oracle: the neighbours: no n next to the table's comes nearer to so many features (the study's ten: test_zoo)."""

    def distance(n):
        return abs(counts.num_features(zoo.build(name, n)) - width)

    n = zoo.num_filters(name, width)
    assert n == 1 or distance(n - 1) > distance(n)
    assert distance(n + 1) >= distance(n)
