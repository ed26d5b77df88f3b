"""Audio data: from files to clips in memory and to folds. Nothing here imports jax.

`catalogue` (known data sets and their facts) · `dataset` (`open_source`) · `audio` (`decode`, `load_clips`;
`containers` checks headers) · `splits` (`partition`, `inner_folds`) · `loader` (batches) · `builders`
(`prepare`: data sets through TFDS) · `embedded/` (sets shipped with the package).
"""
