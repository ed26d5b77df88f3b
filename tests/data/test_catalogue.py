import subprocess
import sys

import pytest

from mirjax.config import UsageError
from mirjax.data import catalogue


def test_every_entry_states_its_facts():
    """Contract: what DESIGN §4 asks of Facts."""
    assert set(catalogue.names()) == {"digits_small", "rhythm_small", "spoken_digit"}
    for name in catalogue.names():
        facts = catalogue.describe(name)
        assert facts.name == name
        assert facts.description and facts.licence and facts.citation and facts.protocol
        assert len(facts.classes) == {"digits_small": 10, "rhythm_small": 8, "spoken_digit": 10}[name]


def test_unknown_name_lists_the_nearest():
    """Hand-worked: one letter is missing."""
    with pytest.raises(UsageError, match=r"'digit_small'.*nearest: .*digits_small"):
        catalogue.describe("digit_small")
    with pytest.raises(ValueError, match=r"known: digits_small, rhythm_small, spoken_digit"):
        catalogue.describe("xyzzy")


def test_catalogue_imports_nothing_heavy():
    """Oracle: the interpreter's own list of modules, in a fresh process."""
    code = (
        "import sys; before = set(sys.modules); import mirjax.data.catalogue, mirjax.data.dataset; "
        "heavy = {'numpy', 'jax', 'soundfile', 'sklearn', 'librosa', 'tensorflow_datasets', 'tqdm'}; "
        "sys.exit(', '.join(heavy & (set(sys.modules) - before)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
