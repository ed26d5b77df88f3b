"""Does the untrained rank predict the trained one? Sixty networks, screened, trained, and scored by zero-cost proxies.

Source   the question that J. Pons and X. Serra, "Randomly weighted CNNs for (music) audio classification", ICASSP 2019,
         leave open; proxies as in Abdelfattah et al., "Zero-cost proxies for lightweight NAS", ICLR 2021.
Command  python launch.py run rank_correlation                     the embedded sets (72 and 240 clips)
         python launch.py run rank_correlation data=esc10/manifest.csv,rhythm8/manifest.csv seconds=5,6 protocol=split
         python launch.py run rank_quickstart                      twelve networks on one embedded set, in minutes
Time     hours on two cores for a set of 200 clips; it resumes, and more networks, seeds and sets extend it.
Result   report.md, table.csv, rank_scatter.png, rank_correlations.png; docs/rank_correlation.md tells what came out.
"""

from mirjax.experiments.rank_correlation import RankCorrelation

experiment = RankCorrelation(
    data=("rhythm_small", "digits_small"),
    seconds=(6.0, 2.0),
    networks=60,
    seeds=3,
    trained_seeds=2,
)
