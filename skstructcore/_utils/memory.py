"""How much memory there is, and a clear word where it is not enough."""

from pathlib import Path


def available_memory() -> int:
    """Bytes that this process can still take: of the machine, or of the container it is in."""
    import psutil

    return min([psutil.virtual_memory().available, *_left_of_control_groups()])


def _left_of_control_groups(root=Path("/")):
    """What the limits of Linux containers leave; page cache that can be dropped is free."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    left = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        # In a container the path may be that of the host: the top is the container's own folder.
        folder = top / path.strip("/")
        for place in [folder, *folder.parents]:
            left += _left_of(place, *names)
            if place == top:
                break
    return left


def _left_of(folder, limit, used, cache):
    try:
        most = (folder / limit).read_text().strip()
        if most == "max":
            return []
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return [max(int(most) - int((folder / used).read_text()) + int(stat.get(cache, 0)), 0)]
    except (OSError, ValueError):
        return []


def megabytes(n_bytes: float) -> str:
    """Bytes as people read them.

    Examples
    --------
    >>> megabytes(3.2e6), megabytes(12_345_678_901)
    ('3.2 MB', '12,346 MB')
    """
    n = n_bytes / 1e6
    return f"{n:,.0f} MB" if n >= 10 else f"{n:.1f} MB"
