"""How librosa's functions are replaced by ours, and how every call is accounted for.

An adapter is registered under librosa's path ("core.spectrum.stft") with the names of ours that it needs
("stft.stft", below `mirjax.signal`). `install` puts a wrapper wherever one of librosa's modules holds the function.
Each call of a wrapper ends in one of two ways, and both are counted: ours answers (or refuses: ValueError becomes
librosa.ParameterError), or the adapter raises `Unsupported` and librosa answers ("delegated"). Only what librosa itself
would return as it came (`NothingToDo`: resampling to the same rate, as `librosa.load` does) is not counted at all.
Names: `adapter`, `unsupported`, `ours`, `install`, `Ledger`.
"""

import collections
import contextlib
import functools
import importlib
import inspect
import pkgutil
import sys

import numpy as np

NOISE = 1e-12


class Unsupported(Exception):
    """The call asks for something that ours does not offer; the text says what."""


class NothingToDo(Exception):
    """The call is the identity in librosa: it goes there, and nobody gets the credit."""


class Ledger:
    """Counts of calls since the start, per librosa path, and the largest errors seen."""

    def __init__(self):
        self.ours = collections.Counter()
        self.refused = collections.Counter()
        self.delegated = collections.Counter()
        self.reasons = collections.Counter()
        self.compared = collections.Counter()
        self.shapes_differ = collections.Counter()
        self.errors = {}
        self.silent = False  # librosa's own answer is being computed for comparison: nothing is ours, nothing counts

    def counts(self):
        """Snapshot (ours, delegated)."""
        return self.ours.copy(), self.delegated.copy()

    def note_error(self, path, mine, theirs):
        """Record max|mine − theirs| / max|theirs| of each array in the answers, by precision."""
        mine, theirs = (x if isinstance(x, tuple) else (x,) for x in (mine, theirs))
        for a, b in zip(mine, theirs, strict=True):
            a, b = np.asarray(a), np.asarray(b)
            if a.shape != b.shape:
                self.shapes_differ[path] += 1
                continue
            if not np.issubdtype(b.dtype, np.inexact):
                a, b = a.astype(float), b.astype(float)
            finite = np.isfinite(a) & np.isfinite(b)
            if not finite.any():
                continue
            a, b = a[finite], b[finite]
            scale = np.abs(b).max()
            if scale < NOISE:  # 0 but for rounding: there is nothing to be relative to
                continue
            key = (path, f"float{np.finfo(b.dtype).bits}")
            self.errors[key] = max(self.errors.get(key, 0.0), float(np.abs(a - b).max() / scale))
            self.compared[path] += 1


LEDGER = Ledger()
ADAPTERS = {}


def adapter(path, *needs, compare=True):
    """Register an adapter for librosa's function at `path`, made of ours named in `needs` ("module.function")."""

    def register(function):
        ADAPTERS[path] = (function, needs, compare)
        return function

    return register


@functools.cache
def ours(name):
    """Our function "module.function" of `mirjax.signal`, or None when it does not exist."""
    module, _, function = name.rpartition(".")
    try:
        return getattr(importlib.import_module(f"mirjax.signal.{module}"), function, None)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("mirjax"):
            return None
        raise


@contextlib.contextmanager
def _librosa_alone():
    """Within, every wrapper passes its call on to librosa unseen."""
    state = np.random.get_state()  # noqa: NPY002  the state that librosa draws from
    LEDGER.silent = True
    try:
        yield
    finally:
        LEDGER.silent = False
        np.random.set_state(state)  # noqa: NPY002


def _wrapper(path, original, function, compare):
    from librosa import ParameterError

    signature = inspect.signature(original)
    catch_all = [p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD]

    @functools.wraps(original)
    def call(*args, **kwargs):
        if LEDGER.silent:
            return original(*args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        for name in catch_all:  # **kwargs of librosa's signature arrive as one dict
            arguments["kwargs"] = arguments.pop(name)
        try:
            answer = function(**arguments)
        except NothingToDo:
            return original(*args, **kwargs)
        except Unsupported as reason:
            LEDGER.delegated[path] += 1
            LEDGER.reasons[f"{path}: {reason}"] += 1
            return original(*args, **kwargs)
        except ValueError as error:
            LEDGER.ours[path] += 1
            LEDGER.refused[path] += 1
            raise ParameterError(str(error)) from error
        LEDGER.ours[path] += 1
        if compare and call.comparing:
            _compare(path, original, args, kwargs, answer)
        return answer

    call.comparing = False
    return call


def _compare(path, original, args, kwargs, answer):
    kwargs = {name: value for name, value in kwargs.items() if name != "out"}
    with _librosa_alone():
        try:
            theirs = original(*args, **kwargs)
        except Exception:  # librosa refuses or warns where ours answers: the suite's own business
            return
    LEDGER.note_error(path, answer, theirs)


def import_all_of_librosa():
    """Import every module of librosa, whose own imports are lazy."""
    import librosa

    for module in pkgutil.walk_packages(librosa.__path__, "librosa."):
        with contextlib.suppress(ImportError):
            importlib.import_module(module.name)


def install(*, compare):
    """Replace the functions; returns (substituted paths, absent paths)."""
    import_all_of_librosa()
    replaced, absent = {}, []
    for path, (function, needs, comparable) in sorted(ADAPTERS.items()):
        if any(ours(name) is None for name in needs):
            absent.append(path)
            continue
        module, _, name = path.rpartition(".")
        original = getattr(importlib.import_module(f"librosa.{module}"), name)
        wrapper = _wrapper(path, original, function, comparable)
        wrapper.comparing = compare
        replaced[path] = (original, wrapper)
    by_identity = {id(original): wrapper for original, wrapper in replaced.values()}
    for module_name, module in list(sys.modules.items()):
        if module_name == "librosa" or module_name.startswith("librosa."):
            for name, value in list(vars(module).items()):
                if id(value) in by_identity:
                    setattr(module, name, by_identity[id(value)])
    return sorted(replaced), absent
