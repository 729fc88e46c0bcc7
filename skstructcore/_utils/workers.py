"""Processes that work for another one."""

from __future__ import annotations

import functools
import multiprocessing
import os
import threading
import time

_SECONDS = 2.0


@functools.cache
def end_with_parent() -> None:
    """Let a process of joblib's end soon after the one that it works for, however that ended.

    A process that is killed tells its workers nothing, and may have sent half a message. They would
    wait for the rest for ever, with the model in memory. Does nothing in other processes.
    """
    kind = type(multiprocessing.current_process())
    if kind.__module__.startswith("joblib.externals.loky"):
        threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent):
    while os.getppid() == parent:
        time.sleep(_SECONDS)
    os._exit(1)
