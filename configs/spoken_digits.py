"""Spoken digits: an echo state network with a closed-form read-out against ELM and SVM of MFCC statistics, ten seeds.

The network: 400 units over 13 MFCC (25 ms windows every 10 ms at 8 kHz), states averaged over each quarter of a clip,
ridge read-out. Leak rate, spectral radius, input scale and ridge are chosen for each seed by the squared error on the
validation clips; test clips choose nothing. Front end, four parts, squared error and the candidates below were settled
by resampling the 280 train and validation clips, before the test clips were scored.

Source: M. Lukoševičius (2012) for the network; a published one of 400 units on 13 MFCC gets 293 of 300 (97.7 %) on the
official test clips (recordings 0-4) of the whole Free Spoken Digit Dataset.
Data: a manifest `path,label,split`; by default the 240 clips that the package ships, whose folds are speakers (harder:
the speaker is new).

    python launch.py run spoken_digits data=PATH/manifest.csv

A split without validation clips gets some from its training clips, a random fifth: in the official split the speakers
of the test clips are those of the training clips, so `group="none"`. Time on one core: one minute for 480 clips, an
estimated ten for 3,000, eight for the default.
Expected, 200 test clips of four speakers (accuracy in %, mean ± deviation over ten seeds; fitted to the 200 training
clips, or after all is chosen to training and validation clips):

                                        train         clips right   train+valid   clips right  95 % interval
    esn                                 97.0 ± 1.1    194.1         97.8 ± 0.8    195.7        96.0–99.4
    parts_elm_loo  (52 MFCC means, LOO) 95.3 ± 1.6    190.6         96.5 ± 0.5    192.9        93.9–98.6
    mfcc_svm  (32 settings)             96.0          192           95.0          190          91.9–98.0
    mfcc_elm_loo  (ridge, LOO)          92.7 ± 0.9    185.4         94.7 ± 0.9    189.4        91.8–97.2
    mfcc_elm  (published)               91.8 ± 1.7    183.6         92.7 ± 1.0    185.3        89.6–95.3

The interval is that of train+valid; the lead of the network over the SVM is not significant (p = .14; .94 on train).
`parts_elm_loo`, an ELM on the mean frame of each quarter of a clip, was added
after the others had been scored; it has the network's four quarters without its recurrence (and other weights).
The default with `seeds=8`, speakers left out: esn 82.5 ± 1.1, mfcc_elm 60.3 ± 3.9, mfcc_svm 54.6.
"""

from mirjax.experiments.sequences import SequenceStudy

experiment = SequenceStudy(
    name="spoken_digits",
    data=("digits_small",),
    seeds=10,
    group="none",
    architectures=("mfcc_elm", "mfcc_elm_loo", "mfcc_svm", "parts_elm_loo", "esn"),
    units=400,
    segments=(4,),
    leak_rates=(0.1, 0.2),
    spectral_radii=(0.9, 1.2),
    input_scales=(0.3, 0.6, 1.0),
)
