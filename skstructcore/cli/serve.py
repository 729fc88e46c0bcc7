"""``skstructcore serve``"""

from __future__ import annotations

import socket

import click

from . import _options as option
from ._errors import Refused
from ._output import say


@click.command()
@option.structcore_model
@click.option(
    "--host", default="127.0.0.1", help="Address to listen at; only this machine by default."
)
@click.option("--port", default=8000, type=click.IntRange(0, 65535), help="0: any that is free.")
@click.option(
    "--token",
    envvar="SKSTRUCTCORE_TOKEN",
    help="Bearer token that requests must bring; better by the variable SKSTRUCTCORE_TOKEN.",
)
@click.option("--max-megabytes", default=64, type=click.IntRange(1), help="Of a request.")
@click.option("--max-queue", default=16, type=click.IntRange(1), help="Requests that may wait.")
@click.option(
    "--timeout",
    default=30.0,
    type=click.FloatRange(0, min_open=True),
    help="Seconds for a request.",
)
def serve(model, host, port, token, max_megabytes, max_queue, timeout):
    """Answer with the decisions of MODEL over HTTP. POST images to /score.

    A page at / shows the last decisions, /docs the interface. A new file at the place of MODEL is
    loaded without a pause.

    \b
    skstructcore serve line3.structcore
    skstructcore serve line3.structcore --host 0.0.0.0 --port 9000
    """
    import uvicorn

    from ..serving.service import make_app

    limits = {"max_bytes": max_megabytes * 2**20, "max_queue": max_queue, "timeout": timeout}
    app = make_app(model.path, token=token, weights=model.weights or None, **limits)
    app.state.model.refresh()
    if app.state.model.loaded is None:
        raise Refused(app.state.model.error)
    try:
        listening = socket.create_server((host, port))
    except OSError as error:
        reason = error.strerror or error
        raise Refused(f"Cannot listen at {host}:{port}: {reason}. Choose another --port.") from None
    host, port = listening.getsockname()[:2]
    say(f"Listening at http://{host}:{port}, the interface is at /docs.")
    if token is None and host not in ("127.0.0.1", "::1"):
        say("Warning: anybody who reaches this address may ask. Set SKSTRUCTCORE_TOKEN.")
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=30)
    uvicorn.Server(config).run(sockets=[listening])
