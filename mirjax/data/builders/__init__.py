"""Builders: data sets prepared once from a local folder, through TFDS and without TensorFlow.

One module a data set; its `prepare(source, data_dir)` builds it as ArrayRecord in `data_dir/mirjax_NAME`,
where `mirjax.data.dataset.open_source` finds it. A new set is a module here and a line in
`mirjax.data.catalogue`.

Names: `prepare`.
"""

import importlib
import os
from pathlib import Path

from ..catalogue import PREPARED, unknown_name


def prepare(name: str, source: str | os.PathLike, data_dir: str | os.PathLike) -> Path:
    """Build a data set from a local folder; one that is there already is built anew.

    Args:
        name: one of `catalogue.PREPARED`.
        source: the folder with its files, as the builder's module describes it.
        data_dir: where prepared sets lie.

    Returns:
        The folder of the prepared set.

    Raises:
        ValueError: unknown name, or a folder that is missing or not what the builder needs.
    """
    if name not in PREPARED:
        raise unknown_name("data set to prepare", name, PREPARED, "embedded sets, folders and manifests need none")
    module = importlib.import_module(f"{__name__}.{name}")
    source = Path(source).absolute()
    if not source.is_dir():
        raise ValueError(f"source={source} is no folder; {module.EXPECTED}")
    return module.prepare(source, Path(data_dir).absolute())
