"""Warnings that point at the line of the user, not at one of ours."""

from __future__ import annotations

import functools
import sys
import warnings

_BETWEEN = ("skstructcore.", "sklearn.", "joblib.", "threadpoolctl.")  # not the user's lines


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the innermost line that is neither ours nor scikit-learn's or joblib's."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and f"{frame.f_globals.get('__name__', '')}.".startswith(_BETWEEN):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level + 1)


def renamed(before, now, as_now=lambda value: value):
    """Make a function that takes a keyword by its name of before too, with a warning."""

    def take_both(function):
        @functools.wraps(function)
        def wrapper(*args, **keywords):
            value = keywords.pop(before, None)
            if value is not None:
                warn_user(f"{before}= is called {now}= now.", FutureWarning)
                if keywords.get(now) is not None:
                    raise ValueError(f"{before} and {now} say the same: give {now} alone.")
                keywords[now] = as_now(value)
            return function(*args, **keywords)

        return wrapper

    return take_both
