"""Rank every network of the zoo untrained, at matched feature length: which architecture hears most without training?

Source: the method of Pons & Serra (ICASSP 2019) on all networks of `python launch.py list architectures` that can be
screened, each at its own sample rate and representation, at the width that gives about 120 features.
Command: python launch.py run screen_zoo
         python launch.py run screen_zoo data=esc10/manifest.csv
Fixed-length networks see consecutive windows, trackers are averaged over time, Kim's take both channels alike.
Input is standardised (one mean and deviation over the set), features are scaled: networks made for standardised inputs
would be judged by the offset of their decibels else.
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
