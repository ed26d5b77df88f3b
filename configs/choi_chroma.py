"""Deep chroma, d2-d2-d2-d1: three dense layers on 1.5 s of spectrum tell which of twelve pitch classes sound.

Sources: F. Korzeniowski & G. Widmer, ISMIR 2016; madmom's smaller network; the structure DNN of K. Choi's tutorial
(arXiv 2017).

    python launch.py run choi_chroma data=chords.csv

The manifest has `path,label,split`: excerpts of one chord, a label being its pitch classes, `C|E|G`. The output of a
clip is the mean over its frames (ten a second), where the paper trains on single frames and then tells 25 chords from
the chroma with a logistic regression; there is no published number for this measure.
As in the paper: Adam at 1e-4, L2 of 1e-4 on the kernels (half the sum of their squares; which, it does not say),
batches of 512 (or all clips), at most 500 epochs, stop after 20 without a lower validation loss, dropout .5.
Time: under a CPU-second an epoch and network, for 38 clips of 12 s.
"""

from mirjax.experiments.training import Training

experiment = Training(
    name="choi_chroma",
    data=("rhythm_small",),
    architectures=("deep_chroma_madmom", "deep_chroma"),
    labels="many",
    loss="binary_cross_entropy",
    normalise="none",
    learning_rate=1e-4,
    l2=1e-4,
    rule="stop_early(valid_loss, 20)",
    epochs=500,
    batch_size=512,
)
