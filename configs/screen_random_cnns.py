"""The study of Pons & Serra (ICASSP 2019): random CNNs of about 120 and 3500 features, SVM and ELM.

Source: thesis of J. Pons (2019), chapter 4. Data, where you have it: GTZAN (fault-filtered split 443/197/290), Extended
Ballroom (4,180 clips, 10 folds), UrbanSound8K (8,732 clips, its own 10 folds; `timbral_time` in place of `temporal`).
Give each as a manifest (`path,label,split` or `path,label,fold`) or a folder of classes:

    python launch.py run screen_random_cnns data=gtzan.csv
    python launch.py run screen_random_cnns data=ballroom.csv selection=legacy
    python launch.py run screen_random_cnns data=urbansound8k.csv selection=legacy \\
        architectures=vgg,7x96,7x86,timbral,timbral_time,sample,frame,frame_many

Published accuracy in %, about 3500 features, SVM / ELM (bar charts, ±0.5; the frame-level networks with
`legacy_collapse=true`):

                 vgg      7x96   7x86     timbral  temporal   t+t / t+time  sample   frame    frame_many  mfcc (SVM)
    GTZAN        59.6/44  45/43  53/42    52.5/47  44/36.5    57/50         50.5/48  40/38    44.5/39     53.4
    Ballroom     71.5/69  60/56  65.5/57  64.5/57  90/90      81.5/78.5     71/65.5  38.5/38  41.5/41     63.3
    UrbanSound   70.7/67  57/58  63/60    62.5/61  –          64.5/63       58.5/57  38.5/42  45/46.5     65.5

Differences from the released code by default: hyper-parameters are chosen inside the training clips (`selection=legacy`
restores the study's choice on the test folds), folds are shuffled, frame-level features are averaged per channel, short
waveforms are repeated before the transform. Time of all ten networks, for a clip of 29 s and one seed on one core:
about 0.1 s at 120 features, 12 s at 3500 (benchmarks/random_features.py).
"""

from mirjax.experiments.screening import Screening

experiment = Screening(
    name="screen_random_cnns",
    data=("digits_small", "rhythm_small"),
    architectures=("all",),
    width=(120, 3500),
    seeds=3,
    classifiers=("elm", "svm"),
)
