"""Timbre filter shapes and their baselines on jingju phonemes, IRMAS and MagnaTagATune; ARCHITECTURES §1.1, §4."""

import functools

from mirjax.models.entries.entry import Count, Entry

_PROPOSED = (
    "Pons, Slizovskaia, Gong, Gómez & Serra, Timbre analysis of music audio signals with convolutional neural "
    "networks, EUSIPCO 2017"
)
_entry = functools.partial(
    Entry,
    family="timbre_filters",
    signal="spectrogram",
    domain_knowledge="none",
    filters="minimal",
    back_end="fixed",
    citation=_PROPOSED,
)
_phonemes = functools.partial(
    _entry, sample_rate=44_100, input="log-mel 80, 10 ms (preset `phonemes`)", length=21, output="softmax"
)
_irmas = functools.partial(
    _entry,
    sample_rate=12_000,
    input="log-mel 96, dB (preset `irmas`)",
    length=128,
    output="softmax",
    domain_knowledge="filter shape",
    filters="many",
)
_mtt = functools.partial(_entry, sample_rate=16_000, input="log-mel 128 (preset `mtt_timbre`)", length=187)


def _short(number, published, kind="truncation", **settings):
    return Count(number, published, kind, **settings)


ENTRIES = (
    _phonemes(
        name="phonemes",
        make="timbre_filters:phonemes",
        n=4,
        domain_knowledge="filter shape",
        filters="many",
        counts=(_short(222_557, "222k"), Count(236_000, variant="32_classes", options={"num_classes": 32})),
        published="jingju a cappella, frame accuracy: dan 0.484, laosheng 0.432",
        note="29 classes in code and weights, 32 in the paper. The maximum over all time lets it take any length.",
    ),
    _phonemes(
        name="phonemes_small_rectangular",
        make="timbre_filters:phonemes_small_rectangular",
        n=60,
        counts=(_short(221_897, "222k", "rounding", convention="total", trainable=221_153),),
        published="jingju a cappella, frame accuracy: dan 0.374, laosheng 0.359",
        note="ReLU as in the released weights; the paper and the script have ELU. That batch norm comes before it is "
        "inferred.",
    ),
    _phonemes(
        name="phonemes_mlp_dan",
        make="timbre_filters:phonemes_mlp",
        n=511,
        filters="none",
        length=5,
        counts=(_short(481_391, "481k"),),
        published="jingju a cappella, frame accuracy: dan 0.284",
        note="400 inputs, five frames, as in the weights; the paper has 21 frames. ELU is the paper's common "
        "statement, not confirmed for this network.",
    ),
    _phonemes(
        name="phonemes_mlp_laosheng",
        same_features="phonemes_mlp_dan",
        make="timbre_filters:phonemes_mlp_laosheng",
        n=475,
        filters="none",
        length=5,
        counts=(_short(430_379, "430k"),),
        published="jingju a cappella, frame accuracy: laosheng 0.282",
        note="as phonemes_mlp_dan",
    ),
    _irmas(
        name="irmas_single",
        make="timbre_filters:irmas_single",
        n=32,
        counts=(_short(62_763, "62k", convention="total", trainable=61_867),),
        published="IRMAS test set: F1 0.559 micro, 0.484 macro",
        note="poolings as in the released weights, 32 frames; those of the paper, 16, do not give its count. "
        "`legacy_power` is the released input.",
    ),
    _irmas(
        name="irmas_multi",
        make="timbre_filters:irmas_multi",
        n=32,
        counts=(_short(743_723, "743k", convention="total", trainable=742_315),),
        published="IRMAS test set: F1 0.589 micro, 0.516 macro",
        note="as irmas_single",
    ),
    _entry(
        name="han",
        make="timbre_filters:han",
        n=32,
        back_end="variable",
        sample_rate=22_050,
        input="log-mel 128, magnitudes, 43 frames a second",
        length=43,
        citation="Han, Kim & Lee, Deep convolutional neural networks for predominant instrument recognition in "
        "polyphonic music, IEEE/ACM TASLP 2017",
        counts=(_short(1_446_123, "1446k"),),
        published="IRMAS test set: F1 0.602 micro, 0.503 macro",
        note="its clips are divided by their peak before; that it sees magnitudes, and the floor of the logarithm, are "
        "ours",
    ),
    _mtt(
        name="mtt_timbre",
        make="timbre_filters:mtt_timbre",
        n=1,
        domain_knowledge="filter shape",
        filters="many",
        counts=(
            _short(74_526, "75k", "rounding"),
            _short(191_006, "191k", "rounding", variant="x2", n=2),
            _short(565_278, "565k", "rounding", variant="x4", n=4),
        ),
        published="MagnaTagATune: ROC-AUC 88.95 % (x2 89.33, x4 88.71), probably with `legacy_reshape` and without the "
        "last tag",
        note="the counts need the second convolution to scale with n, which the paper denies. `legacy_reshape`: the "
        "released code scrambles the axes before it.",
    ),
    _mtt(
        name="mtt_dieleman",
        make="timbre_filters:mtt_dieleman",
        n=32,
        domain_knowledge="filter shape",
        filters="single",
        citation=f"Dieleman & Schrauwen, End-to-end learning for music audio, ICASSP 2014, as rebuilt in {_PROPOSED}",
        counts=(_short(74_974, "75k", "rounding"),),
        published="MagnaTagATune: ROC-AUC 88.15 %",
        note="ReLU as in the original; the activation of the rebuilt network is not confirmed",
    ),
    _mtt(
        name="mtt_small_rectangular",
        make="timbre_filters:mtt_small_rectangular",
        n=32,
        counts=(_short(74_130, "75k", "near", convention="total", trainable=73_778),),
        published="MagnaTagATune: ROC-AUC 86.52 %",
        note="1.2 % below the printed number (1.6 % without running averages), to which the paper says it was adapted; "
        "no documented change of the layers gives it",
    ),
    _mtt(
        name="mtt_choi",
        make="timbre_filters:mtt_choi",
        n=128,
        input="log-mel 96, else as preset `mtt_timbre`",
        citation=f"Choi, Fazekas & Sandler, Automatic tagging using deep convolutional neural networks, ISMIR 2016, as "
        f"baseline of {_PROPOSED}",
        status="reconstructed",
        counts=(
            _short(25_175_090, "22M", "open", convention="no batch norm", trainable=25_183_026),
            _short(
                17_359_282,
                "22M",
                "open",
                convention="no batch norm",
                variant="fcn4",
                options={"num_layers": 4},
                trainable=17_365_938,
            ),
        ),
        note="widths of FCN-5 (variant fcn4: FCN-4) of the citation, the nearest documented ones; five layers are the "
        "paper's, the poolings for 187 frames are ours. Its published ROC-AUC is 89.40 %.",
    ),
)
