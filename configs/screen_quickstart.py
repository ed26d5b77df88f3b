"""Rank ten untrained CNNs on spoken digits and dance rhythms, with raw and standardised input.

Source: the method of Pons & Serra (ICASSP 2019) on the data that the package ships (`digits_small`, `rhythm_small`).
Command: python launch.py run screen_quickstart
"""

from mirjax.experiments.screening import Screening

experiment = Screening(
    name="screen_quickstart",
    data=("digits_small", "rhythm_small"),
    architectures=("all",),
    width=(120,),
    seeds=3,
    classifiers=("elm", "svm"),
    input=("raw", "standardised"),
    scaling=("standard",),
    seconds=6.0,
)
