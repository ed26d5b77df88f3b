"""In what arithmetic the closed forms are computed: JAX in float64, LAPACK on one thread.

Names
-----
* `double_precision`: a context in which JAX computes in float64
* `one_blas_thread`: a context in which BLAS and LAPACK use one thread
"""

import contextlib
import functools
import threading

import jax

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
