"""Gradient-boosted trees on descriptors of timbre, rhythm and harmony, the baseline that a network has to beat.

One model for each tag (one for all classes of `labels=one`); the number of trees is chosen on the validation clips.
The published descriptors are private: here they are statistics of MFCC, of the onset envelope and its tempogram, and of
chroma and tonal centroids, 206 numbers a clip (`mirjax.experiments.descriptors_baseline`).

Source: Pons et al., ISMIR 2018, section 4; ARCHITECTURES §6.6.
Data: a manifest `path,label,split` or `path,label,fold`; tags as a|b|c with labels=many, values as tag:0.3|other:0.9
with labels=values.

    python launch.py run boosted_trees
    python launch.py run boosted_trees data=MTT/manifest.csv labels=many
    python launch.py run boosted_trees data=SET/manifest.csv families=timbre

`python launch.py report` of this run folder and of one of `at_scale_front_ends` on the same data makes one table.
Time: 15 ms a clip for the descriptors, on one core, and a few seconds a fold of some hundred clips for the trees.
Expected: accuracy of 66.7 % on the embedded rhythms (chance 12.5 %); on 238 environmental sounds of ten classes (folds
1 to 3 of ESC-10, chance 10 %) 76.1 % [70.4, 81.5], by timbre alone 67.6, by rhythm 47.1, by harmony 49.2.
Published (1.2 million songs): ROC-AUC 91.61 %, PR-AUC 54.27 %, √MSE .1569.
"""

from mirjax.experiments.descriptors_baseline import BoostedTrees

experiment = BoostedTrees(name="boosted_trees", data=("rhythm_small",))
