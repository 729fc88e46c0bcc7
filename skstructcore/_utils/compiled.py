"""Compiling kernels, with what was compiled kept in the user's cache folder."""

from numba import njit
from numba.core import config
from numba.misc.appdirs import user_cache_dir


def compiled(**options):
    """Compile a function with numba, without the interpreter lock, and keep the result.

    What numba keeps beside the source by itself is left behind when the package is uninstalled,
    and the folder that is left hides an editable install. NUMBA_CACHE_DIR, where it is set, is
    where the user wants it.

    Examples
    --------
    >>> @compiled()
    ... def double(x):
    ...     return 2 * x
    >>> double(3)
    6
    """

    def decorate(function):
        before = config.CACHE_DIR
        config.CACHE_DIR = before or user_cache_dir("skstructcore", appauthor=False)
        try:
            return njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:  # no locator: nowhere to keep it
            return njit(nogil=True, **options)(function)
        finally:
            config.CACHE_DIR = before

    return decorate
