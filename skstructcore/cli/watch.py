"""``skstructcore watch``"""

from __future__ import annotations

import click

from . import _options as option
from ._output import answer, say


@click.command()
@option.structcore_model
@click.argument("folder", type=option.FOLDER_THAT_IS_THERE)
@click.option(
    "--csv",
    required=True,
    type=option.Output(),
    help="Add a row an image there.",
)
@option.maps
@option.overlays
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
@option.json
def watch(model, folder, csv, maps, overlays, webhook, mqtt, topic, settle, once, as_json):
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
    from ..serving.senders import mqtt_sender, webhook_sender
    from ..serving.watch import FolderWatch

    senders = [webhook_sender(webhook)] if webhook else []
    known = {k: os.environ.get(f"SKSTRUCTCORE_MQTT_{k.upper()}") for k in ("user", "password")}
    senders += [mqtt_sender(mqtt, topic, **known)] if mqtt else []
    pipe = model.load()
    digest = info(model.path)["digest"][:12]
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
    document = {"images": watched.n_rows, "table": csv}
    answer(as_json, document, f"{watched.n_rows} images in {csv}")
