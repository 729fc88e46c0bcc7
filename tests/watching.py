"""A folder of a camera, and a watch on it."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
from PIL import Image

from skstructcore.serving.watch import FolderWatch


def pictures(n, seed=0):
    X = np.random.default_rng(seed).normal(120, 12, (n, 64, 64, 3))
    return np.clip(X, 0, 255).astype(np.uint8)


def put(folder, n, first=0):
    for i, image in enumerate(pictures(n, seed=first + 1), start=first):
        Image.fromarray(image).save(folder / f"{i}.png")


def watch(pipe, folder, **options):
    return FolderWatch(pipe, folder, folder.parent / "out.csv", **{"settle": 0.0, **options})


@contextlib.contextmanager
def receiver(bodies):
    """The address of a server that appends what is posted; the first time it answers 500."""

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if len(bodies) == 1 else 204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
