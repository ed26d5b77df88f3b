"""musicnn and the companion networks of its training repository (2019); ARCHITECTURES §6.6 and the end of 1.2."""

import functools

from mirjax.models.entries.entry import Count, Entry

_MUSICNN = "Pons & Serra, musicnn: pre-trained convolutional neural networks for music audio tagging, 2019"
_REPOSITORY = "Pons, musicnn-training, 2019"
_RESIDUAL = "the training repository adds the un-normalised convolutions in its residual sums: legacy_residual=True"

_entry = functools.partial(
    Entry,
    family="companions",
    signal="spectrogram",
    sample_rate=16_000,
    input="log-mel 96, log10(10000 x + 1)",
    length=187,
    citation=_MUSICNN,
)
_musical = functools.partial(
    _entry, n=64, domain_knowledge="filter shape", filters="many", back_end="variable", note=_RESIDUAL
)
_baseline = functools.partial(_entry, back_end="fixed")


def _short(published, reproduced):
    return (Count(reproduced, published, "truncation"),)


def _mtt(roc, pr):
    return f"MagnaTagATune, 50 tags: ROC-AUC {roc} %, PR-AUC {pr} %"


ENTRIES = (
    _musical(
        name="musicnn",
        make="companions:musicnn",
        counts=_short("787k", 787_159),
        published=_mtt(90.69, 38.44) + " (released weights: 90.67, 38.31); MSD 88.02, 28.91",
    ),
    _musical(
        name="musicnn_big",
        make="companions:musicnn_big",
        n=512,
        counts=(Count(7_980_235),),
        published="Million Song Dataset, 50 tags: ROC-AUC 88.41 %, PR-AUC 30.03 % (released weights)",
    ),
    _musical(
        name="musicnn_residual",
        same_features="musicnn",
        make="companions:musicnn_residual",
        citation=_REPOSITORY,
        counts=_short("508k", 508_803),
        published=_mtt(90.61, 38.33),
    ),
    _musical(
        name="musicnn_attention",
        make="companions:musicnn_attention",
        filters="single",
        citation=_REPOSITORY,
        counts=_short("2.4M", 2_406_940),
        published=_mtt(90.77, 38.61),
        note=f"{_RESIDUAL}; its positions have another frequency for each channel: legacy_positions=True",
    ),
    _musical(
        name="musicnn_autopool",
        same_features="musicnn_attention",
        make="companions:musicnn_autopool",
        filters="single",
        citation=f"{_REPOSITORY}; McFee, Salamon & Bello, Adaptive pooling operators for weakly labeled sound event "
        "detection, IEEE/ACM TASLP 26, 2018",
        counts=_short("636k", 636_701),
        published=_mtt(90.67, 38.53),
    ),
    _musical(
        name="musicnn_rnn",
        make="companions:musicnn_rnn",
        citation=_REPOSITORY,
        counts=_short("3.8M", 3_871_363),
        published=_mtt(90.21, 37.17),
        note=f"each LSTM gate has two bias vectors, as cuDNN has; {_RESIDUAL}",
    ),
    _baseline(
        name="dieleman_66k",
        make="companions:dieleman_66k",
        n=32,
        domain_knowledge="filter shape",
        filters="single",
        citation=f"Dieleman & Schrauwen, End-to-end learning for music audio, ICASSP 2014; as in {_REPOSITORY}",
        counts=_short("66k", 66_784),
        published=_mtt(88.61, 34.13),
    ),
    _baseline(
        name="vgg_32",
        same_features="vgg_128",
        make="companions:vgg_32",
        n=32,
        domain_knowledge="none",
        filters="minimal",
        citation=_REPOSITORY,
        counts=_short("40k", 40_884),
        published=_mtt(88.85, 34.85),
        note="the first pooling is 4×1 in steps of 2×2: windows overlap in time, and every other band is left out",
    ),
    _baseline(
        name="vgg_128",
        make="companions:vgg_128",
        n=128,
        domain_knowledge="none",
        filters="minimal",
        counts=_short("605k", 605_748),
        published=_mtt(90.26, 38.19) + " (released weights: 90.30, 38.23); MSD 87.68, 28.19",
        note="pooling as in vgg_32",
    ),
    _baseline(
        name="timbre_185k",
        make="companions:timbre_185k",
        n=32,
        domain_knowledge="filter shape",
        filters="many",
        citation="Pons, Slizovskaia, Gong, Gómez & Serra, Timbre analysis of music audio signals with convolutional "
        f"neural networks, EUSIPCO 2017; as in {_REPOSITORY}",
        counts=_short("185k", 185_856),
        published=_mtt(89.28, 35.38),
    ),
)
