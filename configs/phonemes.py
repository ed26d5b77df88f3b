"""Phonemes of jingju singing: filters shaped for timbre against small squares, dense layers and Gaussian mixtures.

Source: Pons, Slizovskaia, Gong, Gómez & Serra (EUSIPCO 2017); thesis of J. Pons (2019), 3.4; ARCHITECTURES §4.1.
Data: jingju a cappella recordings of two role types, each a study of its own (dan 42 recordings, laosheng 23), 29
phonemes, split 60/20/20 at random. A manifest `path,label,split` for each role type, with one clip a labelled segment
at 44.1 kHz, cut from its recording with 0.1 s (ten frames) more on both sides, zeros beyond the recording's ends. Cut
to whole hops of 441 samples, the clips have few lengths, each of which is compiled for.

    python launch.py run phonemes data=dan.csv group=none
    python launch.py run phonemes data=laosheng.csv group=none batch_size=128 \\
        architectures=phonemes,phonemes_small_rectangular,phonemes_mlp_laosheng

Every frame of a segment is an example, heard in the middle of 21 frames (of 5 by the dense networks). Training stops
when ten epochs have not lowered the validation loss, and is done again on training and validation clips for as many
epochs as were best (published: 51 and 54). Beside the networks stand 40 diagonal Gaussians a class on frames of 13
MFCC and their derivatives (architecture `mfcc_frames`, classifier `gmm`), fitted to the same clips.

Published accuracy of frames   phonemes   phonemes_small_rectangular   gmm    phonemes_mlp
    dan                        .484       .374                         .290   .284
    laosheng                   .432       .359                         .322   .282

Here a decision is that on a segment, by the mean over its frames, and easier; clips of a single labelled frame each
between their contexts give the published measure. The density (n: twice 32 n, 16 n and 8 n filters) was found by 50
steps of a tree-structured Parzen estimator over 1 to 4, together with dropout and pooling; 4 was best, and
`n=phonemes:2` is another.
Adam, the number of classes and dropout are the code's (ARCHITECTURES §11, rows 7-9, 43). L2 acts on all kernels.
Time: an estimated 0.06 GFLOP a frame of the first network, three times that to train: dan's 320,000 training frames
take 50 TFLOP an epoch. The data were not at hand.
"""

from mirjax.experiments.training import Training

experiment = Training(
    name="phonemes",
    data=("rhythm_small",),
    architectures=("phonemes", "phonemes_small_rectangular", "phonemes_mlp_dan"),
    seeds=1,
    patches="windows",
    hop=0.01,
    evaluation_hop=0.01,
    context=0.1,
    fit="zero",
    normalise="band",
    optimiser="adam",
    learning_rate=1e-3,
    l2=1e-5,
    l2_reduction="sum",
    rule="stop_early(valid_loss, 10)",
    epochs=500,
    batch_size=64,
    retrain=True,
    mixture=40,
)
