"""Warnings that point at the line of the user, not at one of ours."""

from __future__ import annotations

import sys
import warnings

# Frames of these packages lie between the user's call and what he should know.
_BETWEEN = ("skstructcore.", "sklearn.", "joblib.", "threadpoolctl.")


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the innermost line that is neither ours nor scikit-learn's or joblib's.

    How many frames lie between depends on whether an estimator is called by itself, in a
    pipeline, or in a search, so that no fixed ``stacklevel`` is right.
    """
    frame, level = sys._getframe(1), 1
    while frame.f_back and f"{frame.f_globals.get('__name__', '')}.".startswith(_BETWEEN):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level + 1)
