"""Figures. Functions take what reports, `mirjax.inspection` or `mirjax.signal` made, and write a PNG.

Equal input gives equal figures. Nothing here touches pyplot's global state, so figures can be made in threads and
notebooks alike.

Of a report's tables (`tables`)
  `plot_accuracy` (with intervals, architectures sorted), `plot_pareto` (accuracy against GFLOPs a clip),
  `plot_machines` (every classifier against the reference).
Of studies (`studies`)
  `plot_curves` (loss and metric by epoch), `plot_batchnorm` (accuracy against batch size), `plot_rank_scatter` and
  `plot_rank_correlations` (untrained against trained ranks).
Of networks (`networks`)
  `plot_filters`, `plot_feature_maps`, `plot_receptive_field`, `plot_taggram`.
Of the audio core (`representations`)
  `plot_representations`.
"""

from mirjax.plots.networks import plot_feature_maps, plot_filters, plot_receptive_field, plot_taggram
from mirjax.plots.representations import plot_representations
from mirjax.plots.studies import plot_batchnorm, plot_curves, plot_rank_correlations, plot_rank_scatter
from mirjax.plots.tables import plot_accuracy, plot_machines, plot_pareto

__all__ = [
    "plot_accuracy",
    "plot_batchnorm",
    "plot_curves",
    "plot_feature_maps",
    "plot_filters",
    "plot_machines",
    "plot_pareto",
    "plot_rank_correlations",
    "plot_rank_scatter",
    "plot_receptive_field",
    "plot_representations",
    "plot_taggram",
]
