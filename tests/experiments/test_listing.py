"""What `list architectures` and `describe` tell. Oracles: ARCHITECTURES, the built networks, hand-worked arithmetic."""

import json

import pytest

from mirjax.experiments import listing
from mirjax.models import counts, zoo


def row(name):
    """The row of a network or variant."""
    entry, count = zoo.variant(name)
    count = count or entry.counts[0]
    return listing.row(name, entry, count, count.n or entry.n)


def test_rows_of_published_networks():
    """Oracle: ARCHITECTURES §1.1 to 1.5 and §9.4: counts by the publication's convention, legacy flags included."""
    found = row("at_scale_spectrogram/front_half_back_64_200")
    assert (found["published"], found["reproduced"], found["kind"]) == ("222k", 222_878, "truncation")
    assert found["parameters"] == 223_130
    found = row("irmas_single")
    assert (found["reproduced"], found["parameters"], found["convention"]) == (62_763, 61_867, "total")
    found = row("music_tagger_cnn")
    assert found["reproduced"] == 865_950 and found["parameters"] != 865_950
    assert row("beat_blstm")["receptive_field"] == "∞"
    assert row("black_box")["receptive_field"] == 80
    assert row("sb_cnn")["features"] == 24 + 48 + 48
    json.dumps(found, allow_nan=False)


def test_arithmetic_of_a_clip_by_hand():
    """Hand-worked: Time has 32 filters of 60 frames at 21 × 40 positions, then 32 · 21 → 8."""
    assert row("time")["gflops"] == pytest.approx(2e-9 * (21 * 40 * 60 * 32 + 32 * 21 * 8), rel=1e-12)
    found = row("beat_lstm_online")  # ten seconds at 100 frames a second, 162 inputs, 3 × 25 units
    steps = round(10 * 44_100 / 441)
    by_hand = steps * (4 * 25 * (162 + 25) + 2 * 4 * 25 * (25 + 25) + 25)
    assert found["seconds"] == 10
    assert found["gflops"] == pytest.approx(2e-9 * by_hand, rel=0.01)


def test_widths_and_unknown_ones():
    """Oracle: table 1.6 for the study's ten; a width that no network has is refused."""
    rows = listing.architectures(3500)
    first = next(rows)
    assert (first["name"], first["n"], first["features"], first["width"]) == ("vgg", 717, 3585, 3500)
    with pytest.raises(ValueError, match="width=121 is not one of 120, 3500"):
        next(listing.architectures(121))


def test_description_names_layers_and_parameters():
    """Oracle: ARCHITECTURES §2 and §1.1 (Black-box: 73 steps, 7 bands after pooling, 3,275,312 parameters)."""
    text = listing.describe("black_box")
    for part in ("73 × 7 × 32", "published 3,275,312, reproduced 3,275,312 (exact; trainable)", "8 × 12 × 1 × 32"):
        assert part in text
    text = listing.describe("black_box/long")
    assert "51 × 7 × 32" in text and "2,363,440" in text
    assert "reproduced" not in listing.describe("black_box", 3)
    with pytest.raises(ValueError, match="nearest: black_box"):
        listing.describe("blackbox")


def test_a_head_for_pairs_is_no_part_of_a_clip():
    """Oracle: ARCHITECTURES §8.2: the self head takes two clips; a clip's last products are 7 outputs of 256 × 50."""
    layers = counts.layers_of(zoo.build("kim_ms_sr_fc"))
    assert "dense1" not in [layer.name for layer in layers]
    assert (layers[-1].name, layers[-1].multiply_adds) == ("logits", 7 * 256 * 50)
