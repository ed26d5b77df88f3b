"""Networks of later years, for contrast with the others; no parameter counts were published.

The integers are those of the layers as built here.
"""

from mirjax.models.entries.entry import Count, Entry

ENTRIES = (
    Entry(
        name="harmonic_cnn",
        family="modern",
        make="modern:harmonic_cnn",
        n=128,
        signal="spectrogram",
        domain_knowledge="filter shape",
        filters="minimal",
        back_end="variable",
        sample_rate=16_000,
        length=313,
        input="power spectrogram, 257 bins",
        citation="Won, Chun, Nieto & Serra, Data-driven harmonic filters for audio representation learning, ICASSP "
        "2020",
        status="reconstructed",
        counts=(
            Count(3_631_551, kind="reconstructed"),
            Count(3_631_550, kind="reconstructed", variant="fixed_q", options={"learn_q": False}),
        ),
        note="Harmonic filters as in the paper, the seven layers (plain, three residual, plain, two residual) after "
        "the authors' public code. There the Fourier transform has 513 points with its bins labelled as if it had 512, "
        "and clips are padded by reflection; here 512 points and zeros, so that padding can be masked",
    ),
    Entry(
        name="patch_transformer",
        family="modern",
        make="modern:patch_transformer",
        n=128,
        signal="spectrogram",
        domain_knowledge="none",
        filters="single",
        back_end="variable",
        sample_rate=16_000,
        length=313,
        input="log-mel 96, log10(10000x+1)",
        citation="ours, after Gong, Chung & Glass, AST: audio spectrogram transformer, Interspeech 2021",
        status="ours",
        counts=(Count(833_460, kind="reconstructed"),),
        note="Patches of 16 frames × 16 bands without overlap, four pre-norm blocks, mean over the patches; not "
        "pre-trained on images, unlike its model",
    ),
)
