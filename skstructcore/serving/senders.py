"""Messages to receivers, which may be away: in order, and none is lost.

What was sent to each receiver is counted in a file. A message is sent again, with the same number,
if nobody knows that it came.
"""

from __future__ import annotations

import http.client
import json
import logging
import ssl
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .._utils.files import write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Send = Callable[[dict[str, Any]], None]

__all__ = ["Outbox", "mqtt_sender", "webhook_sender"]

_logger = logging.getLogger(__name__)


class Outbox:
    """Messages with numbers from 1, of which each receiver has got some.

    Receivers of which nothing is known have got the `n_before` messages before.
    """

    def __init__(self, senders: Sequence[Send], path: Path, *, n_before: int) -> None:
        self.senders, self.path, self._messages = senders, path, []
        if senders and not path.exists():
            self._keep([n_before] * len(senders))
        counts = []
        if senders:
            try:
                counts = [int(line) for line in path.read_text().split()]
            except ValueError:
                raise ValueError(
                    f"{str(path)!r} holds no counts of messages: write 0 into it, and all are sent "
                    "again; delete it, and none that is there is."
                ) from None
            if len(counts) != len(senders):  # other receivers than before
                counts = [min(counts, default=0)] * len(senders)
        self.counts = counts

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def n_sent(self) -> float:
        """How many messages all receivers have got."""
        return min(self.counts, default=float("inf"))

    def put(self, message: dict[str, Any]) -> None:
        self._messages.append(message)

    def send(self) -> None:
        """Send what waits; a receiver that is away keeps no other from its messages."""
        for receiver, send in enumerate(self.senders):
            waiting = [m for m in self._messages if m["number"] > self.counts[receiver]]
            try:
                for message in waiting:
                    send(message)
                    self.counts[receiver] = message["number"]
                    self._keep(self.counts)
            except OSError as error:
                _logger.warning("%d messages wait at least: %s", len(waiting), error)
        self._messages = [m for m in self._messages if m["number"] > self.n_sent]

    def _keep(self, counts):
        write_text(self.path, "\n".join(map(str, counts)))


def webhook_sender(url: str, timeout: float = 5.0) -> Send:
    """A sender that POSTs messages as JSON; any status but 2xx is an OSError."""
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"A webhook begins with http:// or https://, got {url!r}.")

    def send(message):
        body = json.dumps(message).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=timeout):
                pass
        except http.client.HTTPException as error:
            raise OSError(f"{url} gives no answer that can be read: {error!r}") from error

    return send


def mqtt_sender(
    broker: str,
    topic: str = "skstructcore",
    *,
    user: str | None = None,
    password: str | None = None,
    timeout: float = 5.0,
) -> Send:
    """A sender that publishes messages as JSON, at least once (quality of service 1).

    `broker` is a host, ``host:port``, or ``mqtts://host``, with TLS: its certificate is checked by
    the authorities of the system, or by those in the file that the variable SSL_CERT_FILE names.
    """
    try:
        from paho.mqtt import client as mqtt
    except ImportError as error:
        raise ImportError('MQTT needs paho-mqtt: pip install "skstructcore[watch]"') from error
    address = urlsplit(broker if "://" in broker else f"mqtt://{broker}")
    if address.scheme not in ("mqtt", "mqtts") or not address.hostname or address.username:
        raise ValueError(
            f"A broker is host, host:port or mqtts://host, without user or password: {broker!r}."
        )
    secure = address.scheme == "mqtts"
    port = address.port or (8883 if secure else 1883)
    client, answers = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2), []
    client.on_connect = lambda _client, _data, _flags, reason, _properties: answers.append(reason)
    if user:
        client.username_pw_set(user, password)
    if secure:
        client.tls_set_context(ssl.create_default_context())

    def send(message):
        if not client.is_connected():
            client.loop_stop()
            answers.clear()
            client.connect(address.hostname, port)
            client.loop_start()
        told = client.publish(topic, json.dumps(message), qos=1)
        try:
            told.wait_for_publish(timeout)
        except (RuntimeError, ValueError) as error:
            raise OSError(f"the broker {broker} does not take messages: {error}") from error
        if not told.is_published():
            refused = [f"refuses: {answer}" for answer in answers if answer.is_failure]
            raise OSError(f"the broker {broker} {refused[-1] if refused else 'does not answer'}")

    return send
