"""``skstructcore watch``"""

from __future__ import annotations

from pathlib import Path

import click

from ._common import (
    FOLDER,
    FOLDER_THAT_IS_THERE,
    Output,
    json_option,
    load_model,
    model_argument,
    print_json,
    say,
)


@click.command()
@model_argument
@click.argument("folder", type=FOLDER_THAT_IS_THERE)
@click.option(
    "--csv",
    required=True,
    type=Output(),
    help="Add a row an image there.",
)
@click.option("--maps", type=FOLDER, help="Folder for a map an image, as 16-bit PNG.")
@click.option("--overlays", type=FOLDER, help="Folder for the images with their maps over them.")
@click.option("--webhook", metavar="URL", help="POST each decision there, as JSON.")
@click.option(
    "--mqtt",
    metavar="BROKER",
    help="Publish each decision there: HOST, HOST:PORT, or with TLS mqtts://HOST.",
)
@click.option("--topic", default="skstructcore", help="Of MQTT.")
@click.option(
    "--settle",
    default=1.0,
    type=click.FloatRange(0),
    help="Seconds that a file must stay the same before it is read.",
)
@click.option("--once", is_flag=True, help="Score what is there, and end.")
@json_option
def watch(
    model: Path,
    folder: Path,
    csv: Path,
    maps: Path | None,
    overlays: Path | None,
    webhook: str | None,
    mqtt: str | None,
    topic: str,
    settle: float,
    once: bool,
    as_json: bool,
) -> None:
    """Score images as they appear in FOLDER, each once.

    After a restart, or a kill, the same command goes on where it was. Messages that could not be
    sent wait and are sent again; each has its number. A broker that asks who is there gets
    SKSTRUCTCORE_MQTT_USER and SKSTRUCTCORE_MQTT_PASSWORD of the environment.

    \b
    skstructcore watch line3.structcore line3/camera --csv line3.csv
    skstructcore watch line3.structcore line3/camera --csv line3.csv --mqtt mqtts://broker
    """
    import os
    import threading

    from ..model_files import info
    from ..serving.watch import FolderWatch, mqtt_sender, webhook_sender

    senders = [webhook_sender(webhook)] if webhook else []
    known = {k: os.environ.get(f"SKSTRUCTCORE_MQTT_{k.upper()}") for k in ("user", "password")}
    senders += [mqtt_sender(mqtt, topic, **known)] if mqtt else []
    pipe = load_model(model)
    digest = info(model)["training"]["digest"][:12]
    settle = 0.0 if once else settle
    options = {"settle": settle, "senders": senders, "maps": maps, "overlays": overlays}
    watched = FolderWatch(pipe, folder, csv, model=digest, **options)
    if once:
        watched.patience = 0.0
        watched.step()
    else:
        say(f"Watching {folder}; end with Ctrl-C.")
        try:
            watched.run(threading.Event(), poll=min(max(settle, 0.1), 1.0))
        except KeyboardInterrupt:
            say("Ended.")
    if as_json:
        print_json({"images": watched.n_rows, "table": str(csv)})
    else:
        click.echo(f"{watched.n_rows} images in {csv}")
