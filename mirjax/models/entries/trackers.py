"""Trackers of onsets, beats, downbeats and the singing voice: one output a frame; ARCHITECTURES §9.3, 9.4, 10, 1.5."""

import functools

from mirjax.models.entries.entry import Count, Entry

_MADMOM = (
    "Böck, Korzeniowski, Schlüter, Krebs & Widmer, madmom: a new Python audio and music signal processing library, "
    "ACM MM 2016"
)
_entry = functools.partial(
    Entry,
    family="trackers",
    signal="spectrogram",
    domain_knowledge="none",
    filters="none",
    back_end="sequence",
    sample_rate=44_100,
    n=25,
)
_WEIGHTS = "layers and count as in madmom's released weights, which are CC BY-NC-SA and not bundled"

ENTRIES = (
    _entry(
        name="tutorial_onset_rnn",
        make="trackers:tutorial_onset_rnn",
        input="filtered spectrograms 1024/2048/4096 and their rises, 314, log10, 100 fps",
        citation="Schindler, Lidy & Böck, Deep learning for music information retrieval, ISMIR 2018 tutorial",
        published="321 files, 8 folds, onsets within 25 ms: F .861 (bagged and fine-tuned .873)",
        counts=(Count(24_651, "24,651", "exact"),),
        note="three bidirectional layers of 25 tanh units a direction; `cell='lstm'` is the slides' variant",
    ),
    _entry(
        name="onset_rnn",
        make="trackers:onset_rnn",
        input="filtered spectrograms 1024/2048/4096 and their rises, 266, log10(5x + 1), 100 fps",
        citation="Eyben, Böck, Schuller & Graves, Universal onset detection with bidirectional long short-term memory "
        f"neural networks, ISMIR 2010; {_MADMOM}",
        counts=(Count(22_251, "22,251", "exact"),),
        note=f"{_WEIGHTS}; tanh units where the paper has LSTM; madmom averages eight such networks",
    ),
    _entry(
        name="onset_rnn_online",
        make="trackers:onset_rnn_online",
        input="filtered spectrograms 512/1024/2048 and their rises, 236, log10(5x + 1), frames that end now, 100 fps",
        citation="Böck, Arzt, Krebs & Schedl, Online real-time onset detection with recurrent neural networks, "
        f"DAFx 2012; {_MADMOM}",
        counts=(Count(9_126, "9,126", "exact"),),
        note=f"{_WEIGHTS}; sees the past only; madmom averages eight such networks",
    ),
    _entry(
        name="onset_cnn",
        make="trackers:onset_cnn",
        n=10,
        filters="single",
        domain_knowledge="filter shape",
        length=15,
        input="mel 80 of frames of 2048, 1024, 4096 as three channels, ln, 100 fps",
        citation="Schlüter & Böck, Improved musical onset detection with convolutional neural networks, ICASSP 2014; "
        f"{_MADMOM}",
        published="the 321 files of Böck et al., 8 folds, onsets within 25 ms: F .903 (with ReLU)",
        counts=(Count(289_693, "289,693", "exact"),),
        note=f"{_WEIGHTS} (madmom's convolutions flip their kernels: turn them over before use); the 480 constants of "
        "the input normalisation are held as running averages and not counted; tanh as in the weights, the paper's "
        "best has ReLU (`activation='relu'`); `padded=False` leaves T − 14 outputs",
    ),
    _entry(
        name="beat_blstm",
        make="trackers:beat_blstm",
        input="filtered spectrograms 1024/2048/4096 and their rises, 266, log10, 100 fps",
        citation="Böck & Schedl, Enhanced beat tracking with context-aware neural networks, DAFx 2011; Böck, Krebs & "
        "Widmer, A multi-model approach to beat tracking considering heterogeneous music styles, ISMIR 2014; "
        f"{_MADMOM}",
        counts=(
            Count(89_301, "89,301", "exact"),
            Count(63_701, "63,701", "exact", variant="2013", options={"bands_per_octave": 3}),
        ),
        note=f"{_WEIGHTS}; three bidirectional LSTM layers with peepholes; madmom averages eight; the networks of 2013 "
        "have three bands an octave: 21 + 23 + 25 bands by the filter-bank rule, doubled to 138 inputs",
    ),
    _entry(
        name="beat_lstm_online",
        make="trackers:beat_lstm_online",
        input="filtered spectrogram 2048, 12 bands an octave, and its rise, 162, log10, frames that end now, 100 fps",
        citation=_MADMOM,
        counts=(Count(29_251, "29,251", "exact"),),
        note=f"{_WEIGHTS}; three LSTM layers with peepholes that see the past only; madmom averages eight",
    ),
    _entry(
        name="downbeat_blstm",
        make="trackers:downbeat_blstm",
        input="filtered spectrograms 1024/2048/4096 and their rises, 314, log10, 100 fps",
        citation="Böck, Krebs & Widmer, Joint beat and downbeat tracking with recurrent neural networks, ISMIR 2016; "
        f"{_MADMOM}",
        output="softmax",
        counts=(Count(99_003, "99,003", "exact"),),
        note=f"{_WEIGHTS}; classes: no beat, beat, downbeat",
    ),
    _entry(
        name="onset_postprocess",
        make="trackers:onset_postprocess",
        n=4,
        input="the activation of an onset tracker, 1 value, 100 fps",
        citation=_MADMOM,
        counts=(Count(161, "161", "exact"),),
        not_screened="its input is the activation of a trained onset tracker, not audio",
        note=f"{_WEIGHTS}; called with audio it is given spectral flux in place of the activation",
    ),
    _entry(
        name="leglaive",
        make="trackers:leglaive",
        n=30,
        sample_rate=16_000,
        length=218,
        input="two-stage HPSS: mel 40 of the harmonic and 40 of the percussive part, dB",
        citation="Leglaive, Hennequin & Badeau, Singing voice detection with deep recurrent neural networks, "
        "ICASSP 2015",
        counts=(Count(65_601, None, "derived"),),
        note="three hidden layers (30, 20, 40) as in the public re-implementation; Choi's tutorial reports four as the "
        "best of two to five and gives no sizes; its separation looks at whole clips, so padding in the audio shows",
    ),
)
