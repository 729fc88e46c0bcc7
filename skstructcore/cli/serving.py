"""Commands that put a model to work: ``export``, ``verify``, ``latency``, ``serve``, ``watch``."""

import os
import socket
import threading

import click

from . import _options as option
from ._output import Refused, answer, say


@click.command(epilog=option.WHAT_IMAGES_ARE)
@option.model
@option.new_model("Write the ONNX file there.", kind="an ONNX file")
@click.option(
    "--check",
    multiple=True,
    required=True,
    type=option.IMAGES,
    callback=option.to_sources,
    metavar="IMAGES",
    help="Images that the file and MODEL must judge alike. Repeatable.",
)
@option.reading
@click.option(
    "--resize-from", nargs=2, type=int, metavar="HEIGHT WIDTH", help="Scale this size in the graph."
)
@click.option("--opset", default=18, help="Version of ONNX's operators, 18 to 20.")
@option.json
def export(model, output, check, as_json, **options):
    """Write MODEL as an ONNX file for other programs. It holds all from pixels to decision.

    The file is written only if it judges the images of --check as the model does: the same
    decisions, and scores within 1e-4.

    \b
    skstructcore export line3.structcore -o line3.onnx --check line3/good --check line3/bad
    skstructcore export line3.structcore -o line3.onnx --check line3 --resize-from 1024 1280
    """
    from ..serving.export import export_onnx

    comparison = export_onnx(model.load(), output, check.as_they_are("test"), **options)
    answer(as_json, vars(comparison), f"{comparison}: {output}")


@click.command()
@click.argument("file", type=option.FILE)
@click.option("--runtime", default="onnxruntime", type=click.Choice(["onnxruntime", "openvino"]))
@option.json
def verify(file, runtime, as_json):
    """Check an exported FILE on this machine. It judges the images that are sealed in it.

    \b
    skstructcore verify line3.onnx
    """
    from ..serving.exported import verify_export

    comparison = verify_export(file, runtime=runtime)
    answer(as_json, vars(comparison), f"agrees, {comparison}: {file}")


@click.command(epilog=option.WHAT_IMAGES_ARE)
@option.model
@option.images
@click.option("--repeats", default=50, type=click.IntRange(1), help="How many are measured.")
@option.json
def latency(model, images, repeats, as_json):
    """Measure how long MODEL takes for one of IMAGES, step by step.

    \b
    skstructcore latency line3.structcore line3/new
    """
    from ..serving.latency import stage_times

    times = stage_times(model.load(), images.as_they_are("test"), n_repeats=repeats)
    document = {stage: row.to_dict() for stage, row in times.iterrows()}
    answer(as_json, document, times.round(1).rename_axis("milliseconds").to_string())


@click.command()
@option.structcore_model
@click.option(
    "--host", default="127.0.0.1", help="Where to listen, by default for this machine alone."
)
@click.option("--port", default=8000, type=click.IntRange(0, 65535), help="0: any that is free.")
@click.option(
    "--token", envvar="SKSTRUCTCORE_TOKEN", show_envvar=True, help="Bearer token of requests."
)
@click.option("--max-megabytes", default=64, type=click.IntRange(1), help="Refuse larger requests.")
@click.option("--max-queue", default=16, type=click.IntRange(1), help="Requests that may wait.")
@click.option(
    "--timeout",
    default=30.0,
    type=click.FloatRange(0, min_open=True),
    help="Seconds a request gets.",
)
def serve(model, host, port, token, max_megabytes, **limits):
    """Answer with the decisions of MODEL over HTTP. POST images to /score.

    A page at / shows the last decisions, /docs the interface. A new file at the place of MODEL is
    loaded without a pause.

    \b
    skstructcore serve line3.structcore
    skstructcore serve line3.structcore --host 0.0.0.0 --port 9000
    """
    from .._utils.versions import import_extra
    from ..serving.service import make_app

    uvicorn = import_extra("uvicorn", "serve", "The service")
    limits["max_bytes"] = max_megabytes * 2**20
    app = make_app(model.path, token=token, weights=model.weights or None, **limits)
    app.state.model.refresh()
    if app.state.model.loaded is None:
        raise Refused(app.state.model.error)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = f"{error.strerror or error}. Choose another --host or --port."
        raise Refused(f"Cannot listen at {host}:{port}: {reason}") from None
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    say(f"Listening at http://{shown}:{port}, the interface is at /docs.")
    if token is None and host not in ("127.0.0.1", "::1"):
        say("Warning: anybody who reaches this address may ask. Set SKSTRUCTCORE_TOKEN.")
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=30)
    uvicorn.Server(config).run(sockets=[listening])


@click.command()
@option.structcore_model
@click.argument("folder", type=option.FOLDER_THAT_IS_THERE)
@click.option("--csv", required=True, type=option.Output(), help="Add a row an image there.")
@option.maps
@option.overlays
@click.option("--webhook", metavar="URL", help="POST each decision there, as JSON.")
@click.option("--mqtt", metavar="BROKER", help="Publish there: HOST[:PORT], with TLS mqtts://HOST.")
@click.option("--topic", default="skstructcore", help="Topic of the messages to --mqtt.")
@click.option(
    "--settle",
    default=1.0,
    type=click.FloatRange(0),
    help="Read files unchanged for so many seconds.",
)
@click.option("--once", is_flag=True, help="Score what is there, and end.")
@option.json
def watch(model, folder, csv, webhook, mqtt, topic, settle, once, as_json, **options):
    """Score images as they appear in FOLDER, each once.

    After a restart, or a kill, the same command goes on where it was. Messages that could not be
    sent wait and are sent again; each has its number. A broker that asks who is there gets
    SKSTRUCTCORE_MQTT_USER and SKSTRUCTCORE_MQTT_PASSWORD of the environment.

    \b
    skstructcore watch line3.structcore line3/camera --csv line3.csv
    skstructcore watch line3.structcore line3/camera --csv line3.csv --mqtt mqtts://broker
    """
    from ..model_files import info
    from ..serving.senders import mqtt_sender, webhook_sender
    from ..serving.watch import FolderWatch

    senders = [webhook_sender(webhook)] if webhook else []
    login = {k: os.environ.get(f"SKSTRUCTCORE_MQTT_{k.upper()}") for k in ("user", "password")}
    senders += [mqtt_sender(mqtt, topic, **login)] if mqtt else []
    options |= {"settle": 0.0, "patience": 0.0} if once else {"settle": settle}
    digest = info(model.path)["digest"][:12]
    watched = FolderWatch(model.load(), folder, csv, model=digest, senders=senders, **options)
    if once:
        watched.step()
    else:
        say(f"Watching {folder}; end with Ctrl-C.")
        try:
            watched.run(threading.Event(), poll=min(max(settle, 0.1), 1.0))
        except KeyboardInterrupt:
            say("Ended.")
    document = {"images": watched.n_rows, "table": csv}
    answer(as_json, document, f"{watched.n_rows} images in {csv}")
