"""Run the command line in processes that are killed, or find the disk full, at a given point.

    python tests/faulty.py

reads one JSON object a line and answers each with one. It has everything imported, compiled and
loaded, and forks for each command, so that a fault costs tenths of a second. `Commands` is its
other end.
"""

import contextlib
import ctypes
import errno
import gc
import io
import json
import os
import resource
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import NamedTuple

CHANGES = {"os.rename", "os.remove", "os.truncate", "os.mkdir", "os.link", "os.symlink"}
IMPOSSIBLE = 77
CLONE_NEWNS, CLONE_NEWUSER, MS_REC, MS_PRIVATE = 0x20000, 0x10000000, 0x4000, 0x40000
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Ran(NamedTuple):
    """What became of a command: exit status (minus the signal that ended it) and its output.

    `changes` lists what it did to files below the folder, in order: the kind of change and
    the name of the file.
    """

    status: int
    out: str
    err: str
    changes: list


class Commands:
    """The other end; a context manager.

    Calling it runs ``skstructcore <arguments>`` in a process of its own. Faults:

    kill_at : int
        SIGKILL before change number so many to what is below `folder`: a file opened for writing,
        renamed, removed or cut, a folder made.
    kill_at_size : int
        Killed by the system in the middle of writing a file that would be larger.
    kill_after : float
        Killed by the system after so many seconds.
    full_at_size : int
        No file can be larger; who tries gets an error.
    full_at : int
        From this change on, counted as above, nothing can be opened for writing.
    disk : int
        `folder` is a disk of so many bytes of its own, empty at first, and what is on it in the
        end is copied back.
    unprivileged : bool
        Permissions hold, also for root.

    Raises
    ------
    NotImplementedError
        Where the system does not allow a fault to be made.
    """

    def __enter__(self):
        self.server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *exception):
        self.server.kill()
        self.server.wait()
        self.server.stdin.close()
        self.server.stdout.close()

    def __call__(self, *arguments, **options):
        [ran] = self.together(order(*arguments, **options))
        return ran

    def together(self, *orders):
        """Run several at the same time, each made by `order`."""
        self.server.stdin.write(json.dumps(orders) + "\n")
        self.server.stdin.flush()
        found = [Ran(*ran) for ran in json.loads(self.server.stdout.readline())]
        for ran in found:
            if ran.status == IMPOSSIBLE:
                raise NotImplementedError(ran.err.splitlines()[-1])
        return found


def order(*arguments, folder=None, stdout=None, **fault):
    arguments = [str(argument) for argument in arguments]
    folder = None if folder is None else os.path.realpath(folder)
    return {"arguments": arguments, "folder": folder, "stdout": stdout, "fault": fault}


@contextlib.contextmanager
def files_up_to(size):
    """No file of this process can be larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def serve():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warm_up()
    for line in sys.stdin:
        with tempfile.TemporaryDirectory() as place:
            started = []
            for number, one in enumerate(json.loads(line)):
                pipes = [os.pipe() for _ in range(3)]  # which no limit of files concerns
                child = os.fork()
                if not child:
                    run(one, Path(place, str(number)), *(writing for _, writing in pipes))
                for _, writing in pipes:
                    os.close(writing)
                started.append((child, [reading for reading, _ in pipes]))
            texts = read_all([reading for _, pipes in started for reading in pipes])
            found = [_result(child, *(texts[pipe] for pipe in pipes)) for child, pipes in started]
        print(json.dumps(found), file=answers, flush=True)


def read_all(pipes):
    """Text of each pipe, once all have come to their end."""
    parts = {pipe: [] for pipe in pipes}
    with selectors.DefaultSelector() as waiting:
        for pipe in pipes:
            waiting.register(pipe, selectors.EVENT_READ)
        while waiting.get_map():
            for key, _ in waiting.select():
                parts[key.fd].append(os.read(key.fd, 2**16))
                if not parts[key.fd][-1]:
                    waiting.unregister(key.fd)
                    os.close(key.fd)
    return {pipe: b"".join(some).decode(errors="replace") for pipe, some in parts.items()}


def _result(child, out, err, changes):
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, out, err, [line.split(" ", 1) for line in changes.splitlines()]


def warm_up():
    """Load what commands need, so that each process that is forked has it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np
    import pandas  # noqa: F401
    import torch

    import skstructcore
    import skstructcore.cli
    import skstructcore.display
    from skstructcore.lifecycle import forget, update

    torch.set_num_threads(1)
    plt.subplots()[0].savefig(io.BytesIO())
    plt.close()
    photos = np.random.default_rng(0).integers(0, 256, (9, 32, 32), dtype=np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = skstructcore.make_structcore(
            "efficientnet_lite0", features__image_size=32, bank__ratio=0.3
        )
        skstructcore.estimate_memory(pipe, photos)
        pipe.fit(photos[:6])
        forget(update(pipe, photos[6:], force=True), photos[6:7]).score_samples(photos)
    gc.collect()
    gc.freeze()  # else each process that is forked copies what it only looks at


def run(one, place, out, err, log):
    """In the forked process: meet the fault, or do the work."""
    signal.alarm(120)
    os.fsync = lambda descriptor: None  # no machine is stopped here, so no disk is waited for
    os.dup2(os.open(one["stdout"], os.O_WRONLY) if one["stdout"] else out, 1)
    os.dup2(err, 2)
    folder, fault = one["folder"], one["fault"]
    status = 1
    try:
        inject(folder, log, **fault)
        from skstructcore.cli import main

        main(one["arguments"])
    except SystemExit as end:
        status = end.code or 0
    except NotImplementedError as error:
        print(error, file=sys.stderr)
        status = IMPOSSIBLE
    except BaseException:
        traceback.print_exc()
    try:
        sys.stdout.flush()
    except OSError:
        status = 120  # as the interpreter does it
    if "disk" in fault and status != IMPOSSIBLE:
        shutil.copytree(folder, place, symlinks=True)
        os.chdir("/")
        system("umount2", folder.encode(), 0)
        shutil.copytree(place, folder, dirs_exist_ok=True)
    sys.stderr.flush()
    os._exit(status)


def system(name, *arguments):
    """Call a function of the C library; NotImplementedError if it is not allowed."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        reason = os.strerror(ctypes.get_errno())
        raise NotImplementedError(f"this system allows no {name}: {reason}")


def write_to_system(name, text):
    try:
        Path("/proc/self", name).write_text(text)
    except OSError as error:
        raise NotImplementedError(f"this system allows no {name}: {error}") from error


def inject(
    folder,
    log,
    *,
    kill_at=None,
    kill_at_size=None,
    kill_after=None,
    full_at_size=None,
    full_at=None,
    disk=None,
    unprivileged=False,
):
    if disk is not None:
        ids = os.getuid(), os.getgid()
        try:
            system("unshare", CLONE_NEWNS)
        except NotImplementedError:  # not by a user, but perhaps by root of a world of its own
            system("unshare", CLONE_NEWNS | CLONE_NEWUSER)
            write_to_system("setgroups", "deny")
            for name, number in zip(("uid_map", "gid_map"), ids, strict=True):
                write_to_system(name, f"0 {number} 1")
        system("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        system("mount", b"tmpfs", folder.encode(), b"tmpfs", 0, b"size=%d" % disk)
    if unprivileged:
        # All capabilities off, of the version that has two words of each kind.
        system("capset", (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
    for size, action in ((kill_at_size, signal.SIG_DFL), (full_at_size, signal.SIG_IGN)):
        if size is not None:
            signal.signal(signal.SIGXFSZ, action)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    if kill_after is not None:
        signal.setitimer(signal.ITIMER_REAL, kill_after)  # nobody catches this signal
    if folder is None:
        return
    n_changes = 0

    def watch(event, details):
        nonlocal n_changes
        if event == "open":
            path, _, flags = details
            if not flags & WRITING or not isinstance(path, (str, bytes)):
                return
        elif event in CHANGES:
            path = details[-3] if event in ("os.rename", "os.link") else details[0]
        else:
            return
        path = os.path.abspath(os.fsdecode(path))
        if not path.startswith(folder + os.sep):
            return
        n_changes += 1
        if kill_at is not None and n_changes >= kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(log, f"{event} {os.path.basename(path)}\n".encode(errors="replace"))
        if full_at is not None and n_changes >= full_at and event == "open":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    sys.addaudithook(watch)


if __name__ == "__main__":
    serve()
