"""In what arithmetic the closed forms are computed: float64, LAPACK on one thread, within the memory.

Names
-----
* `double_precision`: a context in which JAX computes in float64
* `one_blas_thread`: a context in which BLAS and LAPACK use one thread
* `power_of_two`: sizes to divide by without rounding
* `is_whole`: what counts of things must be
* `check_memory`: refuses an array larger than the machine, `check_bytes` so many bytes; `physical_memory`: its size
"""

import contextlib
import functools
import os
import threading
from numbers import Integral

import jax
import numpy as np

_WITH_FLOAT64 = ("cpu", "gpu", "cuda", "rocm")


@contextlib.contextmanager
def double_precision():
    """JAX in float64 for the calling thread, on a device that has it; afterwards all is as it was."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.enable_x64(True))
        if jax.default_backend() not in _WITH_FLOAT64:
            stack.enter_context(jax.default_device(jax.local_devices(backend="cpu")[0]))
        yield


@functools.cache
def _blas():
    import scipy.linalg  # noqa: F401  XLA's LAPACK is scipy's: loaded first, so that the controller finds it
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def one_blas_thread():
    """BLAS on one thread, for the whole process; a second thread that asks waits.

    On matrices of some hundred rows this is faster than two threads, ten times so when another process is busy
    (OpenBLAS's threads wait for each other by spinning), and the rounding does not depend on the number of cores.
    """
    with _ONE_AT_A_TIME, _blas().limit(limits=1, user_api="blas"):
        yield


def power_of_two(sizes):
    """Powers of two about as large as sizes f64[...] ≥ 0; 1 for a size of 0.

    What is divided by its own has squares that neither overflow nor vanish, and keeps every digit.
    """
    return np.ldexp(1.0, np.clip(np.frexp(sizes)[1], -1000, 1000))


def physical_memory():
    """Bytes of memory of this machine, or infinity where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return np.inf


def check_bytes(what, needed, remedy):
    """Raise a ValueError if something needs more bytes than this machine's memory has."""
    present = physical_memory()
    if needed > present:
        raise ValueError(
            f"{what} would take {needed / 2**30:.1f} GiB of memory and this machine has {present / 2**30:.1f} GiB; "
            f"{remedy}"
        )


def check_memory(
    what, shape, dtype=np.float64, remedy="give the rows in batches (partial_fit) or use fewer hidden_units"
):
    """Raise a ValueError if one array of a shape and dtype is larger than this machine's memory."""
    check_bytes(f"{what} {list(shape)}", np.dtype(dtype).itemsize * float(np.prod(shape, dtype=float)), remedy)


def is_whole(value, least=1):
    """Whether a parameter is a whole number (no truth value) of at least so much."""
    return isinstance(value, Integral) and not isinstance(value, bool | np.bool_) and value >= least
