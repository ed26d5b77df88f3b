"""Networks of one filter shape on Ballroom: is rhythm heard along time, or timbre along frequency?

Source: Pons, Lidy & Serra, "Experimenting with musically motivated convolutional neural networks" (CBMI 2016; thesis of
J. Pons, 2019, section 3.2). Ballroom: 698 excerpts of 30 s, 8 dances; windows of 80 frames (1.86 s; long networks 250,
5.8 s), all of them examples, majority vote of a song's windows, ten folds of songs. `time_frequency` is trained twice:
from drawn weights, and beginning with the convolutions of the trained `time` and `frequency` of the same fold and seed.

    python launch.py run ballroom_cnns data=ballroom.csv
    python launch.py run ballroom_cnns data=ballroom.csv normalise_on=everything   (statistics as published)

The manifest has `path,label`, and `fold` or `split` where you have them; without, ten stratified folds are made.

Published accuracy in % (mean ± deviation over folds); the majority class 15.9, 1-NN on the annotated tempo 82.3:

    black_box         87.25 ± 3.39    frequency/f30   59.45 ± 5.02    time_frequency             86.54 ± 4.29
    black_box/long    82.80 ± 5.12    frequency (32)  59.59 ± 5.82    time_frequency begin_with  87.68 ± 4.44
    time              81.79 ± 4.72    frequency/f34   58.17 ± 3.58    frequency/f38              57.45 ± 5.93
    time/long         81.52 ± 3.87    frequency/f36   57.88 ± 5.38    frequency/f40              52.43 ± 5.63

Differences by default: the input's mean and deviation are those of the training songs (`normalise_on=everything` for
those of all, test songs too); validation songs are a fold of their own, 80–10–10 (the code took windows of training
songs); accuracy on validation songs, not windows, chooses the weights. The learning rate follows the code's counter,
not the paper's rule.
Time: a step of 10 windows takes 1 ms (frequency), 2 to 3 (time, time_frequency), 12 (black_box) on one core, an epoch
of Ballroom 1 to 11 s; all networks, folds and up to 2000 epochs are for a GPU. In small, 8 minutes on two busy cores:

    python launch.py run ballroom_cnns data=rhythm8/manifest.csv architectures=time,frequency,time_frequency \\
        folds=0,1,2,3,4 epochs=30

Result of that (240 rendered clips of 12 s, 8 rhythms alike in timbre; 120 decisions): time 85.0 %, frequency 12.5,
time_frequency 85.8, begin_with 83.3; MFCC with SVM 33.3, chance 12.5. Filters given in advance get there sooner (median
of the folds' best epochs 10, without 25), not higher; the first three are not told apart.
"""

from mirjax.experiments.training import Training

experiment = Training(
    name="ballroom_cnns",
    data=("rhythm_small",),
    architectures=(
        "black_box",
        "black_box/long",
        "time",
        "time/long",
        "frequency/f30",
        "frequency",
        "frequency/f34",
        "frequency/f36",
        "frequency/f38",
        "frequency/f40",
        "time_frequency",
    ),
    begin_with=("time", "frequency"),
    made_folds=10,
    patches="windows",
    aggregate="vote",
    normalise="all",
    optimiser="sgd",
    learning_rate=0.01,
    batch_size=10,
    rule="counter(train_loss, 20, 40)",
    epochs=2000,
    monitor="valid_accuracy",
    validation=1 / 9,
)
