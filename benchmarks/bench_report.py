"""Size and time of the HTML report: of a data set in the layout of MVTec AD, and of 2,000 images.

    python benchmarks/bench_report.py <data set> [--memory <folder of cached features>]

Prints a row a report: images, seconds to score and to write, size of the file, and, where
playwright and chromium are there, seconds until the first images stand in the page and the
memory of its scripts.
"""

import argparse
import os
import shutil
import tempfile
import time
import warnings
from pathlib import Path

from skstructcore import make_structcore
from skstructcore.datasets import load_mvtec_ad
from skstructcore.report import report

N_MANY = 2000


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root")
    parser.add_argument("--memory")
    arguments = parser.parse_args()
    images = load_mvtec_ad(arguments.root, check=False)
    pipe = make_structcore(
        "efficientnet_lite0", features__memory=arguments.memory, structcore__false_alarm_rate=0.05
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe.fit(images.train, bank__groups=images.train.groups)
    many = (images.paths * -(-N_MANY // len(images)))[:N_MANY]
    print("  images  score, s  report, s     MB  opened, s  heap, MB")
    for content in (images.test, many):
        start = time.perf_counter()
        pipe[:-1].transform(content)
        scored = time.perf_counter() - start
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            path = report(pipe, content, Path(folder) / "report.html")
            took = time.perf_counter() - start
            opened, heap = open_in_browser(path)
            size = os.path.getsize(path) / 1e6
        print(f"{len(content):8d}{scored:10.1f}{took:11.1f}{size:7.1f}{opened:>11}{heap:>10}")


def open_in_browser(path):
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        return "-", "-"
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=quiet)
        page = browser.new_page()
        start = time.perf_counter()
        page.goto(path.as_uri())
        page.wait_for_selector(".card")
        opened = time.perf_counter() - start
        heap = page.evaluate("performance.memory.usedJSHeapSize") / 1e6
        browser.close()
    return f"{opened:.2f}", f"{heap:.0f}"


if __name__ == "__main__":
    main()
