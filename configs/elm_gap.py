"""What closes the gap between the published extreme learning machine and the support vector machine?

In the study's screening (Pons & Serra, ICASSP 2019; thesis of J. Pons, chapter 4) the ELM stays behind the SVM. Here
the published ELM (`elm`) and the study's SVM grid meet the same random features as machines that differ in one thing
after another: a ridge (`elm_ridge`), orthogonal, sparse or whitened hidden weights (`elm_orthogonal`, `elm_sparse`,
`elm_whitened`), the choice by closed-form leave-one-out or generalised cross-validation in place of inner folds
(`elm_loo`, `elm_orthogonal_loo`, `elm_gcv`), infinitely many units (`elm_kernel`); each with and without scaled
features. No setting is chosen on test clips.

    python launch.py run elm_gap
    python launch.py run elm_gap data=esc10/manifest.csv,rhythm8/manifest.csv,solo_phrases/manifest.csv,...

The report's last table holds every machine against the SVM, pair by pair. Time: about 2 s a network, seed and fold of
200 clips on one core. Result on five sets of 150 to 480 clips: docs/classifiers.md.
"""

from mirjax.experiments.screening import Screening

experiment = Screening(
    name="elm_gap",
    data=("digits_small", "rhythm_small"),
    architectures=("all",),
    width=(120,),
    seeds=3,
    classifiers=(
        "svm",
        "elm",
        "elm_ridge",
        "elm_orthogonal",
        "elm_loo",
        "elm_orthogonal_loo",
        "elm_gcv",
        "elm_kernel",
        "elm_sparse",
        "elm_whitened",
    ),
    scaling=("none", "standard"),
    protocol="cv",
    seconds=5,
)
