"""How many images a service judges, and how long a client waits, at 1, 4 and 16 clients.

    python benchmarks/bench_service.py MODEL FOLDER_OF_IMAGES [--requests 160]

`skstructcore serve` runs in a process of its own on the loopback address. Each client sends an
image, waits for the answer and sends the next; connections are kept. Beside it: `predict` of one
image.
"""

import argparse
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
from _measure import table

import skstructcore
from skstructcore.images import list_images
from skstructcore.serving.latency import stage_times

START = "from skstructcore.cli import main; main()"


def row(url, bodies, n_clients, n_requests):
    times, todo = [], iter(range(n_requests))  # an iterator of range is safe among threads

    def client():
        with httpx.Client(timeout=120) as session:
            for i in todo:
                began = time.perf_counter()
                answer = session.post(url, files={"images": bodies[i % len(bodies)]})
                times.append(time.perf_counter() - began)
                answer.raise_for_status()

    clients = [threading.Thread(target=client) for _ in range(n_clients)]
    began = time.perf_counter()
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    rate = n_requests / (time.perf_counter() - began)
    assert len(times) == n_requests
    p50, p99 = 1000 * np.quantile(times, [0.5, 0.99])
    return n_clients, n_requests, f"{rate:.1f}", f"{p50:.0f}", f"{p99:.0f}"


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("model")
    options.add_argument("folder")
    options.add_argument("--requests", type=int, default=160)
    args = options.parse_args()
    images = list_images(args.folder)[:20]
    bodies = [(Path(path).name, Path(path).read_bytes()) for path in images]
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    times = stage_times(skstructcore.load(args.model), images).loc["all"]
    print(f"predict of one image: p50 {times['p50']:.0f} ms, p99 {times['p99']:.0f} ms\n")
    command = [sys.executable, "-c", START, "serve", args.model, "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        line = next(line for line in server.stderr if "Listening" in line)
        url = line.split()[2].rstrip(",") + "/score"
        row(url, bodies, 1, 5)
        header = ("clients", "requests", "images/s", "p50, ms", "p99, ms")
        rows = (row(url, bodies, n, args.requests) for n in (1, 4, 16))
        table("The service on loopback", header, rows)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
