"""The zoo's table, one module a family: plain data that imports no JAX. Names: `FAMILIES`, `ALL`."""

import dataclasses
import importlib

from mirjax.models.entries.widths import WIDTHS

FAMILIES = (
    "random_cnns",
    "rhythm_filters",
    "timbre_filters",
    "at_scale",
    "companions",
    "few_shot",
    "multi_source",
    "choi",
    "tutorial",
    "trackers",
    "modern",
)

ALL = tuple(
    dataclasses.replace(entry, n_by_width=entry.n_by_width or WIDTHS.get(entry.name, {}))
    for family in FAMILIES
    for entry in importlib.import_module(f"mirjax.models.entries.{family}").ENTRIES
)
