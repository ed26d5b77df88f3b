"""Networks for few training examples (Pons' thesis, chapter 6) and VGGish; ARCHITECTURES §7 and table 1.3."""

import functools

from mirjax.models.entries.entry import Count, Entry

_PONS = "Pons, Serrà & Serra, Training neural audio classifiers with few data, ICASSP 2019"
_entry = functools.partial(
    Entry,
    family="few_shot",
    signal="spectrogram",
    domain_knowledge="none",
    filters="minimal",
    back_end="fixed",
    sample_rate=44_100,
    input="log-mel 128, log10(x + 2.2e-16)",
    length=128,
    output="softmax",
    citation=_PONS,
)
_LOG_LEARN = "with log_learn=True the logarithm is learnt and the input is the power mel spectrogram"
_FIFTEEN = {"num_classes": 15}


def _near(published, ten, fifteen, learnt):
    return (
        Count(ten, published, "near"),
        Count(fifteen, published, "near", variant="15", options=_FIFTEEN),
        Count(learnt, variant="log_learn", options={"log_learn": True}),
    )


ENTRIES = (
    _entry(
        name="sb_cnn",
        make="few_shot:sb_cnn",
        n=24,
        filters="single",
        citation="Salamon & Bello, Deep convolutional neural networks and data augmentation for environmental sound "
        f"classification, IEEE Signal Processing Letters 24, 2017; {_PONS}",
        counts=(
            *_near("≈250k", 241_434, 241_759, 241_438),
            Count(241_436, variant="input_norm", options={"input_norm": True}),
        ),
        published="UrbanSound8K, 100 clips a class: accuracy 60.43 % (73 % with all clips, 79 % augmented)",
        note=f"the published number is of prose, 3 % above; {_LOG_LEARN}, normalised; classes: 10 or 15",
    ),
    _entry(
        name="few_shot_vgg",
        make="few_shot:few_shot_vgg",
        n=32,
        counts=_near("≈50k", 42_764, 45_329, 42_766),
        published="UrbanSound8K, 100 clips a class: accuracy 67.41 %",
        note=f"the published number is of prose, rounded up; {_LOG_LEARN}",
    ),
    _entry(
        name="few_shot_timbre",
        make="few_shot:few_shot_timbre",
        n=1,
        domain_knowledge="filter shape",
        filters="single",
        back_end="variable",
        counts=_near("10k", 7_572, 11_357, 7_574),
        published="UrbanSound8K, 100 clips a class: accuracy 49.57 %",
        note="the published number is of prose, between those for 10 and 15 classes; n counts filters of each class, "
        f"one in the paper; {_LOG_LEARN}",
    ),
    _entry(
        name="prototypical",
        same_features="few_shot_vgg",
        make="few_shot:prototypical",
        n=128,
        output="linear",
        citation=f"Snell, Swersky & Zemel, Prototypical networks for few-shot learning, NeurIPS 2017; {_PONS}",
        counts=(
            Count(613_642, legacy={"legacy_input_norm": True}, trainable=613_388),
            Count(
                613_644,
                variant="log_learn",
                options={"log_learn": True},
                legacy={"legacy_input_norm": True},
                trainable=613_390,
            ),
        ),
        published="UrbanSound8K, 100 clips a class: accuracy 63.08 %",
        note="an embedding of 10 values, no logits; the released code normalises its input for each frame position; "
        f"{_LOG_LEARN}",
    ),
    _entry(
        name="vggish",
        make="few_shot:vggish",
        n=64,
        sample_rate=16_000,
        input="log-mel 64, HTK, 125–7500 Hz, ln(x + 0.01)",
        length=96,
        output="none",
        citation="Hershey et al., CNN architectures for large-scale audio classification, ICASSP 2017",
        counts=(
            Count(72_141_184),
            Count(72_142_474, variant="head10", options={"num_classes": 10}),
            Count(72_143_119, variant="head15", options=_FIFTEEN),
            Count(72_142_474, variant="embedding10", options={"embedding_size": 10}),
        ),
        note="an embedding of 128 values, no logits; relu_embedding=True as in the code of Pons et al. 2019; untrained "
        "its maps get smaller from layer to layer, as its kernels begin at a deviation of 0.01",
    ),
)
