"""Compiling kernels, with what was compiled kept in the user's cache folder."""

import contextlib
import logging

from numba import njit
from numba.core import config
from numba.misc.appdirs import user_cache_dir

logger = logging.getLogger(__name__)


def compiled(**options):
    """Compile a function with numba, without the interpreter lock, and keep the result.

    What numba keeps beside the source by itself is left behind when the package is uninstalled,
    and the folder that is left hides an editable install. NUMBA_CACHE_DIR, where it is set, is
    where the user wants it. What cannot be kept, on a full disk for instance, and what is found
    damaged there, costs the time to compile and nothing else.

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
            dispatcher = njit(cache=True, nogil=True, **options)(function)
            if dispatcher is not function:  # as it is under NUMBA_DISABLE_JIT
                _never_in_the_way(dispatcher._cache)
            return dispatcher
        except RuntimeError:  # no locator: nowhere to keep it
            return njit(nogil=True, **options)(function)
        finally:
            config.CACHE_DIR = before

    return decorate


def _never_in_the_way(cache):
    """Let no error of a cache of numba's reach whoever calls the function."""
    load, save = cache.load_overload, cache.save_overload

    def load_overload(signature, target):
        try:
            return load(signature, target)
        except Exception as error:  # a damaged pickle raises nearly anything
            reason = f"{type(error).__name__}: {error}"
            logger.warning("Code in %s is damaged (%s): compiled again", cache.cache_path, reason)
            with contextlib.suppress(OSError):
                cache.flush()
            return None

    def save_overload(signature, data):
        try:
            save(signature, data)
        except OSError as error:
            logger.warning("Compiled code is not kept in %s: %s", cache.cache_path, error)

    cache.load_overload, cache.save_overload = load_overload, save_overload
