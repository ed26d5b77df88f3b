"""Rank ten untrained CNNs on spoken digits and dance rhythms, with raw and standardised input.

Source: the method of Pons & Serra (ICASSP 2019) on the data that the package ships (`digits_small`, `rhythm_small`).
Command: python launch.py run screen_quickstart
Time: under three minutes on two cores, seconds when repeated.
Expected (ELM, accuracy in %): rhythm_small: temporal standardised 58, temporal raw 43, timbral_temporal standardised
38, vgg 28, mfcc 17, chance 12.5. digits_small (folds are speakers): mfcc 63, 7x86 43, timbral 36, 7x96 35, chance 10.
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
