"""Rank every network of the zoo untrained, at matched feature length: which architecture hears most without training?

Source: the method of Pons & Serra (ICASSP 2019) on all networks of `python launch.py list architectures` that can be
screened, each at its own sample rate and representation, at the width that gives about 120 features.
Command: python launch.py run screen_zoo
         python launch.py run screen_zoo data=esc10/manifest.csv
Time: six minutes for the second on two cores (238 clips, 78 networks, 474 cells).
Expected on esc10 (ELM with a ridge, ten environmental sounds, accuracy in %; figure: docs/zoo_pareto.png): vgg_450k
82, k2c2 80, 7x86 and phonemes 78, compact_cnn 78, vgg and timbral_time 77, musicnn 76, …, mfcc 66, sample 65,
beat_blstm 65, temporal 57, frame_many 50, frame 40; chance 10. With three seeds and 238 clips only the last fifth is
told apart from the best.
Fixed-length networks see consecutive windows, trackers are averaged over time, Kim's take both channels alike; clips
too short for a network are repeated up to the length it was published for. Input is standardised (one mean and
deviation over the set), features are scaled: else networks made for standardised inputs would be judged by the offset
of their decibels.
"""

from mirjax.experiments.screening import Screening

experiment = Screening(
    name="screen_zoo",
    data=("rhythm_small",),
    architectures=("zoo",),
    width=(120,),
    seeds=3,
    classifiers=("elm_ridge", "svm"),
    input=("standardised",),
    scaling=("standard",),
    protocol="cv",
    seconds=5,
)
