"""Networks of the ISMIR 2018 tutorial; ARCHITECTURES §9.1, §9.2 and table 1.5."""

import functools

from mirjax.models.entries.entry import Count, Entry

_entry = functools.partial(
    Entry,
    family="tutorial",
    signal="spectrogram",
    domain_knowledge="none",
    filters="minimal",
    back_end="fixed",
    sample_rate=16_000,
    input="log-mel 80, dB, z-score of every value of the patch",
    length=80,
)
_CITATION = "Schindler, Lidy & Böck, Deep learning for music information retrieval, ISMIR 2018 tutorial"

ENTRIES = (
    _entry(
        name="tutorial_vocal",
        make="tutorial:tutorial_vocal",
        n=16,
        citation=_CITATION,
        published="MagnaTagATune subset, instrumental or vocal: accuracy .812 (two convolutions .776)",
        counts=(
            Count(6_230_689, "6,230,689", "exact"),
            Count(1_330_097, "1,330,097", "exact", variant="two_conv", options={"num_convs": 2}),
        ),
        note="All its layers are linear.",
    ),
    _entry(
        name="tutorial_genre",
        make="tutorial:tutorial_genre",
        n=32,
        citation=_CITATION,
        output="softmax",
        published="MagnaTagATune subset, 8 genres: accuracy .788; 4 moods: exact match .5",
        counts=(
            Count(107_016, "107,016", "exact", "total", trainable=106_536),
            Count(106_500, "106,500", "exact", "total", "moods", options={"num_classes": 4}, trainable=106_020),
        ),
        note="Called CompactCNN there. The outputs of the variant for moods are sigmoids.",
    ),
    _entry(
        name="tutorial_siamese",
        make="tutorial:tutorial_siamese",
        n=16,
        domain_knowledge="filter shape",
        filters="many",
        citation=_CITATION,
        output="none",
        counts=(Count(663_172, "663,172", "exact", "total", trainable=663_106),),
        note="One branch; the dissimilarity is the distance of two embeddings. The trainer keeps the units of its "
        "dense layer at unit norm by `tutorial.constrain`, and its convolutions have an L2 penalty of 1e-4.",
    ),
)
