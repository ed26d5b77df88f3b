"""Front-ends at scale (thesis chapter 5) and the networks beside them; ARCHITECTURES §1.2, §6, §7.3b.

All published counts of the study hold with the back-end's normalisation of one scale and one shift
(`legacy_batchnorm`); without that flag a network has 4 · (F − 1) parameters more.
"""

import functools

from mirjax.models.entries.entry import Count, Entry

_PONS = (
    "Pons, Nieto, Prockup, Schmidt, Ehmann & Serra, End-to-end learning for music audio tagging at scale, ISMIR 2018"
)
_DIELEMAN = "Dieleman & Schrauwen, End-to-end learning for music audio, ICASSP 2014"
_LEE = (
    "Lee, Park, Kim & Nam, Sample-level deep convolutional neural networks for music auto-tagging using raw waveforms, "
    "SMC 2017"
)
_CHOI = "Choi, Fazekas & Sandler, Automatic tagging using deep convolutional neural networks, ISMIR 2016"
_RAVANELLI = "Ravanelli & Bengio, Speaker recognition from raw waveform with SincNet, SLT 2018"
_ZEGHIDOUR = (
    "Zeghidour, Teboul, de Chaumont Quitry & Tagliasacchi, LEAF: a learnable frontend for audio classification, "
    "ICLR 2021"
)
_TIMBRE = (
    "Pons, Slizovskaia, Gong, Gómez & Serra, Timbre analysis of music audio signals with convolutional neural "
    "networks, EUSIPCO 2017; on 96 bands: Pons' thesis (2019), chapter 5"
)

_LAST_KERNEL_1 = {"variant": "last_kernel_1", "options": {"last_kernel": 1}}
_MEL = "log-mel 96, log10(10,000 x + 1)"

_waveform = functools.partial(
    Entry, family="at_scale", signal="waveform", sample_rate=16_000, length=48_000, input="waveform"
)
_spectrogram = functools.partial(
    Entry, family="at_scale", signal="spectrogram", sample_rate=16_000, length=187, input=_MEL
)


def _count(variant, published, reproduced, filters=512, **options):
    if filters != 512:
        options["filters"] = filters
    return Count(
        reproduced,
        published,
        "truncation",
        variant=variant,
        options=options,
        legacy={"legacy_batchnorm": True},
        trainable=reproduced + 4 * (filters - 1),
    )


def _back_ends(front, name, rows):
    """Rows (F, U, published, reproduced) of the back-end study."""
    return tuple(
        _count(
            f"front_{name}_back_{filters}_{units}",
            published,
            reproduced,
            filters,
            front=front,
            **({} if units == 500 else {"units": units}),
        )
        for filters, units, published, reproduced in rows
    )


ENTRIES = (
    _waveform(
        name="at_scale_waveform",
        make="at_scale:at_scale_waveform",
        n=64,
        domain_knowledge="none",
        filters="minimal",
        back_end="variable",
        citation=_PONS,
        published="MagnaTagATune, original split, 50 tags: ROC-AUC 88.9 %, PR-AUC 34.18 %",
        counts=(
            _count("", "5.3M", 5_377_082),
            _count("front_4", "11.8M", 11_824_058, front=4),
            _count("front_2", "7M", 7_034_554, front=2),
            _count("front_half", "4.7M", 4_732_666, front=0.5),
            _count("front_quarter", "4.4M", 4_456_538, front=0.25),
            *_back_ends(
                2,
                "2",
                (
                    (64, 500, "1.3M", 1_366_010),
                    (64, 200, "1.3M", 1_311_710),
                    (128, 500, "1.8M", 1_831_738),
                    (128, 200, "1.7M", 1_739_038),
                    (256, 500, "3.1M", 3_107_258),
                    (256, 200, "2.9M", 2_937_758),
                    (512, 500, "7M", 7_034_554),
                    (512, 200, "6.7M", 6_711_454),
                ),
            ),
            _count("songs_1m", "5.5M", 5_520_743, stacks=9, num_classes=139),
        ),
        note="`songs_1m` is the network of the 1.2 million songs: nine stacks, 139 tags, 240,000 samples; the Million "
        "Song Dataset's takes 15 s too. Released code normalises the back-end's second and third layer with one scale "
        "and one shift: legacy_batchnorm. squeeze_excitation and padding are options the thesis does not have.",
    ),
    _spectrogram(
        name="at_scale_spectrogram",
        make="at_scale:at_scale_spectrogram",
        n=16,
        domain_knowledge="filter shape",
        filters="many",
        back_end="variable",
        citation=_PONS,
        published="MagnaTagATune, original split, 50 tags: ROC-AUC 90.31 %, PR-AUC 37.79 %",
        counts=(
            _count("", "5.9M", 5_924_154),
            _count("front_eighth", "4.4M", 4_425_258, front=0.125),
            _count("front_quarter", "4.6M", 4_639_386, front=0.25),
            _count("front_half", "5M", 5_067_642, front=0.5),
            _count("front_2", "7.6M", 7_637_178, front=2),
            *_back_ends(
                0.5,
                "half",
                (
                    (64, 500, "277k", 277_178),
                    (64, 200, "222k", 222_878),
                    (128, 500, "617k", 617_466),
                    (128, 200, "524k", 524_766),
                    (256, 500, "1.6M", 1_642_106),
                    (256, 200, "1.4M", 1_472_606),
                    (512, 500, "5M", 5_067_642),
                    (512, 200, "4.7M", 4_744_542),
                ),
            ),
            _count("songs_1m", "5.9M", 5_968_743, num_classes=139),
        ),
        note="`songs_1m` is the network of the 1.2 million songs, 139 tags, which hears 15 s; the row is of 3 s. The "
        "input is to be standardised; window, hop and compression are the companion repository's. Released code "
        "normalises the back-end's second and third layer with one scale and one shift: legacy_batchnorm.",
    ),
    _waveform(
        name="sample_cnn",
        make="waveform_nets:sample_cnn",
        n=128,
        sample_rate=22_050,
        length=59_049,
        domain_knowledge="none",
        filters="minimal",
        back_end="variable",
        citation=_LEE,
        published="MagnaTagATune, clean split, 50 tags: ROC-AUC 90.55 %",
        counts=(
            Count(2_394_162, "2.4M", "rounding"),
            Count(2_388_274, "2.4M", "rounding", "no batch norm", trainable=2_394_162),
            Count(2_400_050, "2.4M", "truncation", "total", trainable=2_394_162),
            Count(1_869_874, **_LAST_KERNEL_1),
            Count(1_863_986, convention="no batch norm", trainable=1_869_874, **_LAST_KERNEL_1),
            Count(1_875_762, convention="total", trainable=1_869_874, **_LAST_KERNEL_1),
        ),
        note="the author's Keras file has a last convolution of one step (`last_kernel_1`), which does not give 2.4M; "
        "published for one length, of longer clips the last steps are averaged",
    ),
    _waveform(
        name="dieleman_waveform",
        make="waveform_nets:dieleman_waveform",
        n=32,
        domain_knowledge="filter length",
        filters="single",
        back_end="fixed",
        status="reconstructed",
        citation=_DIELEMAN,
        counts=(Count(107_870, kind="reconstructed"),),
        note="128 filters in the strided layer and frames of 256 samples are taken by us",
    ),
    _spectrogram(
        name="dieleman_spectrogram",
        make="waveform_nets:dieleman_spectrogram",
        n=32,
        domain_knowledge="filter shape",
        filters="single",
        back_end="fixed",
        status="reconstructed",
        input="log-mel 128, log10(10,000 x + 1)",
        citation=_DIELEMAN,
        counts=(Count(74_974, kind="reconstructed"),),
        note="mel bands of frames of 512 samples every 256; the integer is that of the thesis' re-implementation "
        "(3.4), which has the same layers",
    ),
    _waveform(
        name="dieleman_waveform_194k",
        make="waveform_nets:dieleman_waveform_194k",
        n=64,
        domain_knowledge="filter length",
        filters="single",
        back_end="fixed",
        status="reconstructed",
        citation=f"{_DIELEMAN}; re-implemented in {_PONS}",
        published="MagnaTagATune, original split, 50 tags: ROC-AUC 85.58 %, PR-AUC 29.59 %",
        counts=(
            Count(194_046, "194k", "open"),
            Count(194_078, "194k", "open", variant="frames_256", options={"length": 256, "filters": 128}),
        ),
        note="no code was released; several layouts give 194,0xx, of which two are here",
    ),
    _spectrogram(
        name="vgg_450k",
        make="waveform_nets:vgg_450k",
        n=64,
        length=1366,
        domain_knowledge="none",
        filters="minimal",
        back_end="variable",
        status="reconstructed",
        citation=f"{_CHOI}; reproduced in {_PONS}",
        published="MagnaTagATune, original split, 50 tags: ROC-AUC 89.99 %, PR-AUC 37.56 %",
        counts=(
            Count(447_922, "450k", "near"),
            Count(446_706, "450k", "near", "no batch norm", trainable=447_922),
            Count(449_138, "450k", "near", "total", trainable=447_922),
        ),
        note="the published layers fit 450k by rounding; input length and pooling for 3 s are unknown, these are for "
        "1366 frames",
    ),
    _spectrogram(
        name="timbre_220k",
        make="waveform_nets:timbre_220k",
        n=20,
        domain_knowledge="filter shape",
        filters="many",
        back_end="fixed",
        status="reconstructed",
        citation=_TIMBRE,
        published="MagnaTagATune, original split, 50 tags: ROC-AUC 89.07 %, PR-AUC 34.92 %",
        counts=(
            Count(222_528, "220k", "near"),
            Count(222_158, "220k", "near", "no batch norm", trainable=222_528),
            Count(222_898, "220k", "near", "total", trainable=222_528),
        ),
        note="the companion repository's layers with twice the filters, one per cent above the printed number",
    ),
    _waveform(
        name="sincnet",
        make="waveform_nets:sincnet",
        n=80,
        domain_knowledge="filter length",
        filters="single",
        back_end="variable",
        status="reconstructed",
        citation=f"{_RAVANELLI}; back-end: {_PONS}",
        counts=(Count(163_730, kind="reconstructed"),),
        note="front-end of the paper, back-end of the at-scale study with F = 64, U = 200: the composition is ours; "
        "the front-end normalises over the clip, so padded clips are not masked",
    ),
    _waveform(
        name="leaf",
        make="waveform_nets:leaf",
        n=40,
        domain_knowledge="filter length",
        filters="single",
        back_end="variable",
        status="reconstructed",
        citation=f"{_ZEGHIDOUR}; back-end: {_PONS}",
        counts=(Count(112_370, kind="reconstructed"),),
        note="front-end of the paper, back-end of the at-scale study with F = 64, U = 200: the composition is ours; "
        "padded clips are not masked",
    ),
)
