"""Twelve networks of the rank correlation on one embedded set: a first look, in minutes.

Source   see `rank_correlation`, whose reduced version this is: the study's ten and two drawn networks.
Command  python launch.py run rank_quickstart
Time     9 min 23 s on two cores; it resumes, and `networks=60 trained_seeds=2` extend it.
Result   report.md, table.csv, rank_scatter.png, rank_correlations.png. With twelve networks and 72 clips the intervals
         are as wide as they say: docs/rank_correlation.md has the study itself.
"""

from mirjax.experiments.rank_correlation import RankCorrelation

experiment = RankCorrelation(
    name="rank_quickstart",
    data=("rhythm_small",),
    seconds=(6.0,),
    networks=12,
    seeds=2,
    trained_seeds=1,
)
