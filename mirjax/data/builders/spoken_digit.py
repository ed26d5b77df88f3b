"""Free spoken digit dataset: digits 0-9 spoken in English, 8 kHz, CC BY-SA 4.0.

From a checkout (`recordings/digit_speaker_take.wav`) with the authors' rule: takes 0-4 are test, the others
train. Or from a folder with a manifest.csv, whose split and fold columns then rule (the authors' rule where
it has neither). Speaker and take come from columns of that name, else from the file's name. Stored are the
files' bytes, unchanged.

Source: Zohar Jackson and contributors, https://github.com/Jakobovski/free-spoken-digit-dataset.

Names: `prepare`, `index`, `Row`.
"""

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..catalogue import PREPARED
from ..dataset import MANIFEST, open_source

EXPECTED = f"give a checkout with recordings/digit_speaker_take.wav, or a folder with a {MANIFEST} (path,label,…)"
NAME = re.compile(r"([0-9])_(.+)_([0-9]+)")
TEST_TAKES = range(5)


@dataclass(frozen=True)
class Row:
    """One recording: identifier, file, label (a digit), speaker, take, split and fold ("" without one)."""

    id: str
    path: Path = field(repr=False)
    label: str
    speaker: str
    take: int
    split: str
    fold: str


def index(folder: Path) -> tuple[Row, ...]:
    """List the recordings of a folder, without opening them.

    Args:
        folder: a checkout, or a folder with a manifest.csv.

    Returns:
        Rows, sorted by id.

    Raises:
        ValueError: neither recordings nor a manifest; names that do not read digit_speaker_take.wav; labels
            that are no digits; missing files.
    """
    if (folder / MANIFEST).is_file():
        rows, bad = _manifest_rows(folder)
    else:
        rows, bad = [], []
        for path in sorted((folder / "recordings").glob("*.wav")):
            if match := NAME.fullmatch(path.stem):
                label, speaker, take = match.groups()
                rows.append(Row(path.stem, path, label, speaker, int(take), _authors_split(int(take)), ""))
            else:
                bad.append(path.name)
    if bad:
        raise ValueError(f"{folder}: {len(bad)} names are not digit_speaker_take.wav: {_first(bad)}; rename them")
    if not rows:
        raise ValueError(f"{folder} has neither recordings/*.wav nor a {MANIFEST}; {EXPECTED}")
    if wrong := [f"{row.label!r} of {row.id}" for row in rows if row.label not in PREPARED["spoken_digit"].classes]:
        raise ValueError(f"{folder}: {len(wrong)} labels are no digits: {_first(wrong)}; labels are 0 to 9")
    if missing := [row.id for row in rows if not row.path.is_file()]:
        raise ValueError(f"{folder}: {len(missing)} files are missing: {_first(missing)}; complete the folder")
    return tuple(sorted(rows, key=lambda row: row.id))


def _manifest_rows(folder: Path) -> tuple[list[Row], list[str]]:
    source, rows, bad = open_source(folder), [], []
    columns = {column.lower(): values for column, values in source.metadata.items()}
    for i, id in enumerate(source.ids):
        match = NAME.fullmatch(Path(id).stem)
        speaker, take = (columns.get(column, (None,) * len(source))[i] for column in ("speaker", "take"))
        if not match and (not speaker or not (take or "").isdecimal()):
            bad.append(id)
            continue
        speaker = speaker or match[2]
        take = int(take) if (take or "").isdecimal() else int(match[3])
        ruled = source.splits is not None or source.folds is not None
        split = (source.splits[i] if source.splits else "") if ruled else _authors_split(take)
        fold = source.folds[i] if source.folds else ""
        rows.append(Row(id, folder / id, source.labels[i], speaker, take, split, fold))
    return rows, bad


def _authors_split(take: int) -> str:
    return "test" if take in TEST_TAKES else "train"


def _first(offenders: list[str]) -> str:
    return ", ".join(offenders[:5]) + (", …" if len(offenders) > 5 else "")


def prepare(source: Path, data_dir: Path) -> Path:
    """Build the set in `data_dir/mirjax_spoken_digit/VERSION` and return that folder; errors as `index`."""
    index(source)
    import tensorflow_datasets as tfds

    builder = _builder_class()(data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(
            manual_dir=source, download_mode=tfds.GenerateMode.REUSE_CACHE_IF_EXISTS
        )
    )
    return Path(builder.data_dir)


@functools.cache  # TFDS registers a class by its name, once
def _builder_class() -> type:
    import numpy as np
    import tensorflow_datasets as tfds

    facts = PREPARED["spoken_digit"]

    # Not `SpokenDigit`: TFDS has one of that name, and it needs TensorFlow.
    class MirjaxSpokenDigit(tfds.core.GeneratorBasedBuilder):
        """Free spoken digit dataset from a local folder."""

        VERSION = tfds.core.Version("1.0.0")
        MANUAL_DOWNLOAD_INSTRUCTIONS = EXPECTED

        def _info(self) -> tfds.core.DatasetInfo:
            text = tfds.features.Text
            return self.dataset_info_from_configs(
                description=facts.description,
                homepage=facts.homepage,
                citation=facts.citation,
                license=facts.licence,
                features=tfds.features.FeaturesDict(
                    {
                        "audio": tfds.features.Tensor(shape=(), dtype=np.bytes_),
                        "label": tfds.features.ClassLabel(names=facts.classes),
                        "id": text(),
                        "speaker": text(),
                        "take": np.int32,
                        "split": text(),
                        "fold": text(),
                    }
                ),
            )

        def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
            rows = index(Path(dl_manager.manual_dir))
            parts = sorted({row.split for row in rows})
            # TFDS names every part, and keeps the name `all` for itself; the column `split` is what is read again.
            return {
                part or "clips": self._generate_examples([row for row in rows if row.split == part]) for part in parts
            }

        def _generate_examples(self, rows: Sequence[Row]) -> Iterator[tuple[str, dict]]:
            for row in rows:
                yield (
                    row.id,
                    {
                        "audio": row.path.read_bytes(),
                        "label": row.label,
                        "id": row.id,
                        "speaker": row.speaker,
                        "take": row.take,
                        "split": row.split,
                        "fold": row.fold,
                    },
                )

    return MirjaxSpokenDigit
