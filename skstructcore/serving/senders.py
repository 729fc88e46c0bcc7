"""Messages to a webhook or a broker, which may be away: each is sent until it has arrived."""

import contextlib
import http.client
import json
import logging
import re
import ssl
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .._utils.files import write_text
from .._utils.versions import import_extra

__all__ = ["mqtt_sender", "webhook_sender"]

Send = Callable[[dict[str, Any]], None]

_logger = logging.getLogger(__name__)


class Outbox:
    """Messages to receivers, which may be away: in order, with numbers from 1, and none is lost.

    What each has got is counted in a file; a new receiver is taken to have got the first
    `n_before`. A message is sent again, with the same number, if its arrival was not confirmed.
    """

    def __init__(self, senders: Sequence[Send], path: Path, *, n_before: int) -> None:
        self.senders, self.path, self.messages, self.counts = senders, path, [], []
        if not senders:
            return
        text = path.read_text() if path.exists() else str(n_before)
        if not all(map(str.isdecimal, text.split())):
            raise ValueError(
                f"{str(path)!r} holds no counts of messages: write 0 into it to send all again, or "
                "delete it to send none of those that are there."
            )
        counts = [min(int(count), n_before) for count in text.split()]  # more: of another table
        if len(counts) != len(senders):  # other receivers than before
            counts = [min(counts, default=0)] * len(senders)
        self.counts = counts
        self._keep()

    @property
    def n_sent(self) -> float:
        """How many messages all receivers have got."""
        return min(self.counts, default=float("inf"))

    def send(self) -> None:
        """Send what waits; a receiver that is away keeps no other from its messages."""
        for receiver, send in enumerate(self.senders):
            waiting = [m for m in self.messages if m["number"] > self.counts[receiver]]
            try:
                for message in waiting:
                    send(message)
                    self.counts[receiver] = message["number"]
                    self._keep()
            except OSError as error:
                _logger.warning("At least %d messages wait: %s", len(waiting), error)
        self.messages = [m for m in self.messages if m["number"] > self.n_sent]

    def _keep(self):
        write_text(self.path, "\n".join(map(str, self.counts)))


def webhook_sender(url: str, timeout: float = 5.0) -> Send:
    """A sender that POSTs messages as JSON; any status but 2xx is an OSError, a redirection too."""
    wanted = "A webhook begins with http:// or https:// and a host, without user or password"
    _address(url, ("http", "https"), wanted)
    opener = urllib.request.build_opener(_NoRedirection)

    def send(message):
        body = json.dumps(message).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            opener.open(request, timeout=timeout).close()
        except http.client.HTTPException as error:
            raise OSError(f"{url} gives no answer that can be read: {error!r}") from error

    return send


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    """Of a POST it would make a GET, without the message."""

    def redirect_request(self, *_):
        return None


def _address(url, schemes, wanted):
    """The parts of an address, or a ValueError that says what is `wanted`."""
    with contextlib.suppress(ValueError):  # of a port that is no number, or half an IPv6 address
        address = urlsplit(url)
        is_host = address.hostname and not address.username and address.port != 0
        if is_host and address.scheme in schemes and re.fullmatch("[!-~]+", url):
            return address
    raise ValueError(f"{wanted}, got {url!r}.")


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
    mqtt = import_extra("paho.mqtt.client", "watch", "MQTT")
    wanted = "A broker is host, host:port or mqtts://host, without user or password"
    url = broker if "://" in broker else f"mqtt://{broker}"
    address = _address(url, ("mqtt", "mqtts"), wanted)
    if not topic or set(topic) & set("+#"):
        raise ValueError(f"A topic to publish to has a name without + and #, got {topic!r}.")
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
