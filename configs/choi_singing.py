"""Is someone singing? The convolutional nets of Schlüter and the bidirectional LSTM of Leglaive, as Choi lists them.

Sources: J. Schlüter & T. Grill, ISMIR 2015 (four convolutions); J. Schlüter, ISMIR 2016 (five); S. Leglaive et al.,
ICASSP 2015 (three hidden layers). In K. Choi's tutorial (arXiv 2017): c2-c2-p1-c2-c2-p1-c2-p1-d1-d1-d1 and r1-r1-d1.
The network of 2016 is that of the author's code, which has one pooling fewer than Choi's string.

    python launch.py run choi_singing data=voice.csv
    python launch.py run choi_singing data=jamendo.csv patches=windows hop=.23   (an epoch of about 64,000 excerpts)

The manifest has `path,label,split` of recordings that are wholly `voice` or `none`: cut songs at their annotations. No
per-frame error is measured here, so there is no published number to hold against (Choi gives none; the papers report
the error of single frames after a median filter of 56 frames).
As in the papers: 115 frames (1.6 s; 218 for the LSTM), each band standardised, orthogonal initial kernels, dropout .5,
targets .02 and .98, Nesterov momentum .95, rate .01 · .85 for each epoch, 20 epochs, batches of 32. By default an epoch
is one random excerpt of each recording; the second command comes near the published 2,000 batches on the 61 songs of
Jamendo. The authors augment by pitch, tempo (±30 %) and random filters; `augment=pitch_shift,time_stretch` is the
nearest (in semitones and rates of its own). The LSTM's own procedure is not documented: it has that of the others.
Weights are those of the epoch with the lowest validation loss, on a fifth of the training recordings where there is no
`valid`; Choi's tutorial does not say how theirs were chosen.
Time: 40 CPU-seconds for an epoch of all three networks on 38 clips of 12 s and their evaluation.
"""

from mirjax.experiments.training import Training

experiment = Training(
    name="choi_singing",
    data=("rhythm_small",),
    architectures=("singing_voice_2016", "singing_voice_2015", "leglaive"),
    loss="binary_cross_entropy",
    targets=(0.02, 0.98),
    optimiser="sgd",
    learning_rate=0.01,
    momentum=0.95,
    nesterov=True,
    rule="halve_every(1, factor=.85)",
    epochs=20,
    batch_size=32,
)
