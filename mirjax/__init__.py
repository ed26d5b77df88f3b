"""mirjax: music information retrieval research in JAX.

Packages, from the ground up (imports point down, never up):
`signal`, `classifiers`, `metrics`, `results`, `config` · `data`, `models` · `features` · `experiments`, `plots`.
"""

__version__ = "0.1.0"
