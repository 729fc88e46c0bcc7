"""Score images for a long time from several threads, and watch memory, files and scores.

    python benchmarks/soak.py --minutes 30

Every thread scores good and damaged images again and again with one pipeline that it shares
with the others; now and then one saves and loads the model. Prints resident memory, open files and
threads; ends with an error if a score ever differs from the first one.
"""

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

import skstructcore
from skstructcore import make_structcore
from skstructcore.images import ImageReadError


def resident():
    """Resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--minutes", type=float, default=30)
    options.add_argument("--threads", type=int, default=4)
    options = options.parse_args()
    folder = Path(tempfile.mkdtemp())
    rng = np.random.default_rng(0)
    files = []
    for i in range(12):
        shape = (int(rng.integers(60, 300)), int(rng.integers(60, 300)), 3)
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        files.append(str(folder / f"{i}.{('png', 'jpg', 'tif')[i % 3]}"))
        Image.fromarray(pixels).save(files[-1])
    broken = folder / "broken.png"
    broken.write_bytes(Path(files[0]).read_bytes()[:500])
    pipe = make_structcore("efficientnet_lite0", features__image_size=64, bank__ratio=0.1)
    pipe.fit(files)
    expected = pipe.score_samples(files)
    counts, wrong, stop = [0] * options.threads, [], threading.Event()

    def work(number):
        own = np.random.default_rng(number)
        model = pipe
        while not stop.is_set():
            rows = own.permutation(len(files))[: own.integers(1, len(files))]
            scores = model.score_samples([files[i] for i in rows])
            if not np.array_equal(scores, expected[rows]):
                wrong.append((number, rows, scores - expected[rows]))
                return
            try:
                model.score_samples([str(broken)])
            except ImageReadError:
                pass
            counts[number] += len(rows)
            if number == 0 and own.random() < 0.01:
                skstructcore.save(pipe, folder / "model")
                model = skstructcore.load(folder / "model", mmap_mode="r")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(options.threads)]
    for thread in threads:
        thread.start()
    print("| minute | images | resident MB | open files | threads |\n|---|---|---|---|---|")
    begin = time.monotonic()
    while (minute := (time.monotonic() - begin) / 60) < options.minutes and not wrong:
        print(
            f"| {minute:.1f} | {sum(counts)} | {resident():.0f} | "
            f"{len(os.listdir('/proc/self/fd'))} | {threading.active_count()} |",
            flush=True,
        )
        stop.wait(min(60, options.minutes * 6))
    stop.set()
    for thread in threads:
        thread.join()
    if wrong:
        raise SystemExit(f"A score has changed: {wrong[0]}")
    print(f"{sum(counts)} images scored, every score as the first time")


if __name__ == "__main__":
    main()
