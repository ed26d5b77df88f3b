"""Choi's taggers, the networks of his tutorial, deep chroma and singing voice; ARCHITECTURES §10 and table 1.5."""

import functools

from mirjax.models.entries.entry import Count, Entry

_entry = functools.partial(Entry, family="choi", signal="spectrogram", domain_knowledge="none")
_tagger = functools.partial(
    _entry, sample_rate=12_000, input="log-mel 96, dB", length=1366, filters="minimal", back_end="variable"
)
_COMPARISON = (
    "Choi, Fazekas, Sandler & Cho, Convolutional recurrent neural networks for music classification, ICASSP 2017"
)
_TUTORIAL = "Choi, Fazekas, Cho & Sandler, A tutorial on deep learning for music information retrieval, arXiv 2017"
_CHROMA = "Korzeniowski & Widmer, Feature learning for chord recognition: the deep chroma extractor, ISMIR 2016"
_INPUT_NORM = (
    "The release normalises its input for each frame, which legacy_input_norm=True repeats and the published count "
    "contains; the default has one scale and shift for each band."
)


def _k2c2(variant, reproduced, trainable, *widths):
    return Count(
        reproduced,
        kind="reconstructed",
        convention="no batch norm",
        variant=variant,
        n=widths[0],
        options={"widths": widths},
        trainable=trainable,
    )


_chroma = functools.partial(
    _entry, sample_rate=44_100, filters="none", back_end="sequence", citation=_CHROMA, output="sigmoid"
)
_singing = functools.partial(
    _entry,
    n=64,
    filters="minimal",
    back_end="fixed",
    sample_rate=22_050,
    input="mel 80, magnitudes, logarithm, per-band z-score",
    length=115,
)

ENTRIES = (
    _tagger(
        name="music_tagger_cnn",
        make="choi:music_tagger_cnn",
        n=32,
        citation="Choi, Fazekas & Sandler, Automatic tagging using deep convolutional neural networks, ISMIR 2016",
        published="Million Song Dataset, 50 tags: AUC .8654 (released weights)",
        counts=(Count(865_950, "865,950", "exact", legacy={"legacy_input_norm": True}, trainable=863_410),),
        note=_INPUT_NORM + " The weights were trained on decibels of the squared power mel (preset "
        "choi_tagger_legacy). The repository's later code builds 64-128-128-128-64, which does not match its weights.",
    ),
    _tagger(
        name="music_tagger_crnn",
        make="choi:music_tagger_crnn",
        n=64,
        citation=_COMPARISON,
        published="Million Song Dataset, 50 tags: AUC .8662 (released weights)",
        counts=(Count(396_786, "396,786", "exact", legacy={"legacy_input_norm": True}, trainable=394_098),),
        note=_INPUT_NORM + " The gates of its GRUs were piecewise linear (Keras 1); here they are logistic.",
    ),
    _tagger(
        name="compact_cnn",
        make="choi:compact_cnn",
        n=32,
        citation="Choi, Fazekas, Sandler & Cho, Transfer learning for music classification and regression tasks, "
        "ISMIR 2017",
        published="Million Song Dataset, 50 tags: AUC about .849",
        counts=(Count(38_962, convention="no batch norm", trainable=39_282),),
        note="Its features, the averages of the five pooled maps, are the transfer-learning features of 160 values.",
    ),
    _tagger(
        name="k2c2",
        make="choi:k2c2",
        n=20,
        citation=_COMPARISON,
        status="reconstructed",
        counts=(
            Count(96_328, "0.1M", "rounding", "no batch norm", trainable=96_822),
            _k2c2("m0_1", 96_328, 96_822, 20, 41, 41, 62, 83),
            _k2c2("m0_25", 245_301, 246_097, 33, 66, 66, 100, 133),
            _k2c2("m0_5", 496_182, 497_320, 47, 95, 95, 142, 190),
            _k2c2("m1", 1_002_206, 1_003_828, 67, 135, 135, 203, 271),
            _k2c2("m3", 3_043_331, 3_046_167, 118, 236, 236, 355, 473),
        ),
        note="Published at 0.1M, 0.25M, 0.5M, 1M and 3M parameters (the variants) without widths; those of 0.1M, the "
        "default, have independent support, the others are inferred from the sizes.",
    ),
    _tagger(
        name="crnn",
        same_features="music_tagger_crnn",
        make="choi:music_tagger_crnn",
        n=64,
        citation=_COMPARISON,
        status="reconstructed",
        counts=(Count(394_098, "3M", "open"),),
        note="The widths of the comparison (0.1M to 3M parameters) are not documented: this is the structure and the "
        "width of music_tagger_crnn; `match` finds the n of any of those sizes.",
    ),
    _entry(
        name="conv1d",
        make="choi:conv1d",
        n=64,
        domain_knowledge="filter shape",
        filters="single",
        back_end="fixed",
        sample_rate=12_000,
        input="log-mel 96, dB",
        length=1366,
        citation=_COMPARISON,
        status="reconstructed",
        counts=(Count(760_754, kind="reconstructed"),),
        note="k1c2, in the tutorial c1-p1-c1-p1-d1-d1-d1: the first kernel spans all bands, pooling is over time only. "
        "Lengths of 4 and all widths are ours.",
    ),
    _chroma(
        name="deep_chroma",
        make="choi:deep_chroma",
        n=512,
        input="filtered spectrogram, 178 bins, logarithm, 10 frames a second",
        counts=(Count(1_899_020),),
        note="Applied to whole recordings as a convolution; each output sees 15 frames.",
    ),
    _chroma(
        name="deep_chroma_madmom",
        make="choi:deep_chroma_madmom",
        n=256,
        input="filtered spectrogram, 105 bins, logarithm, 10 frames a second",
        counts=(Count(538_124, "538,124", "exact"),),
        note="The count is that of madmom's weights, whose licence is non-commercial: none are shipped or converted.",
    ),
    _singing(
        name="singing_voice_2016",
        make="singing:singing_voice_2016",
        citation="Schlüter, Learning to pinpoint singing voice from weakly labeled examples, ISMIR 2016",
        counts=(Count(1_604_961),),
        note="The layers of the author's code; the string in Choi's tutorial has one more pooling before the fifth "
        "convolution.",
    ),
    _singing(
        name="singing_voice_2015",
        make="singing:singing_voice_2015",
        citation="Schlüter & Grill, Exploring data augmentation for improved singing voice detection with neural "
        "networks, ISMIR 2015",
        counts=(Count(1_408_225),),
    ),
    _entry(
        name="autoencoder",
        make="choi:autoencoder",
        n=32,
        filters="minimal",
        back_end="fixed",
        sample_rate=12_000,
        input="log-mel 96, dB",
        length=1366,
        citation=_TUTORIAL,
        status="ours",
        output="none",
        counts=(Count(79_361, kind="reconstructed"),),
        note="The tutorial names it without sizes: here the compact CNN and its mirror image around 64 values, trained "
        "by the squared error of the log-mel spectrogram.",
    ),
    _entry(
        name="seq2seq_autoencoder",
        make="choi:seq2seq_autoencoder",
        n=128,
        filters="none",
        back_end="variable",
        sample_rate=12_000,
        input="log-mel 96, dB",
        length=1366,
        citation=_TUTORIAL,
        status="ours",
        output="none",
        counts=(Count(197_472, kind="reconstructed"),),
        note="The tutorial names it without sizes: here one GRU reads the frames and another writes them in reverse.",
    ),
)
