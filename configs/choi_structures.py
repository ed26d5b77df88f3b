"""Choi's taggers of 29 s: convolution over time, over time and frequency, and a recurrent net on top.

Sources: K. Choi et al., ISMIR 2016 (music_tagger_cnn), ICASSP 2017 (k1c2, k2c2 and CRNN at five sizes), ISMIR 2017
(compact_cnn); structures of his tutorial (arXiv 2017): c1-p1-c1-p1-d1-d1-d1 is conv1d, (c2-p2)×3-d2 stands for k2c2
and music_tagger_cnn, which have five such layers and one dense, c2-p2-c2-p2-r1-r2-d1 for music_tagger_crnn, which has
four. `choi_singing` and `choi_chroma` have the others.

    python launch.py run choi_structures data=songs.csv
    python launch.py run choi_structures data=songs.csv \\
        architectures=k2c2/m0_1,k2c2/m0_25,k2c2/m0_5,k2c2/m1,k2c2/m3   (the sizes of the comparison)

The manifest has `path,label,split`, a label being tags `rock|guitar`; the Million Song Dataset's 50 tags in the papers,
where the mean ROC-AUC is .8654 (music_tagger_cnn), .8662 (music_tagger_crnn) and about .849 (compact_cnn).
Twelve kilohertz, 96 mel bands in decibels, 1,366 frames; shorter clips are repeated. The rate, the batch and the stop
are ours: the papers say Adam and early stopping.
Differences by default: the released taggers normalise their input for each frame and heard decibels of the squared
power; from Python `zoo.build(…, legacy_input_norm=True, legacy_power=True)` is a network that does. Widths of conv1d
are ours, those of k2c2 inferred from its sizes.
Time: on two cores a second a clip and epoch for music_tagger_crnn, a tenth of it for conv1d and compact_cnn: a GPU
for the real data.
"""

from mirjax.experiments.training import Training

experiment = Training(
    name="choi_structures",
    data=("rhythm_small",),
    architectures=("conv1d", "k2c2", "music_tagger_cnn", "music_tagger_crnn", "compact_cnn"),
    labels="many",
    loss="binary_cross_entropy",
    seconds=29.12,
    learning_rate=1e-3,
    rule="stop_early(valid_loss, 10)",
    epochs=100,
    batch_size=16,
)
