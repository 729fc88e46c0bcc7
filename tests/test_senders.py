"""Receivers of what a watch decides: webhooks and brokers."""

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner
from watching import pictures, put, receiver, watch

import skstructcore
from skstructcore import make_structcore
from skstructcore.cli import main
from skstructcore.serving.senders import mqtt_sender, webhook_sender


@pytest.fixture(scope="module")
def pipe():
    return make_structcore("efficientnet_lite0", features__image_size=64).fit(pictures(16))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "camera").mkdir()
    return tmp_path / "camera"


def test_webhooks_are_posted(pipe, folder):
    bodies = []
    put(folder, 2)
    with receiver(bodies) as url:
        watched = watch(pipe, folder, senders=[webhook_sender(url)])
        watched.step()
        watched.step()
    assert [body["number"] for body in bodies] == [1, 1, 2]  # the first was refused once


@pytest.mark.parametrize("status", [301, 302, 303, 307])
def test_a_webhook_that_is_redirected_loses_no_message(pipe, folder, status):
    posted, asked = [], []

    class Redirecting(BaseHTTPRequestHandler):
        def do_POST(self):
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    put(folder, 1)
    with HTTPServer(("127.0.0.1", 0), Redirecting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        watch(pipe, folder, senders=[webhook_sender(url)]).step()
        server.shutdown()
    assert len(posted) == 1 and not asked
    assert (folder.parent / "out.csv.sent").read_text() == "0"


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "http://", "http://[::1", "http://h:x", "http://h/ä", "http://a b"],
)
def test_an_address_that_can_never_be_asked_is_refused_at_the_start(url):
    with pytest.raises(ValueError, match="A webhook begins with http"):
        webhook_sender(url)


def test_a_broker_that_is_away_loses_no_message(pipe, folder):
    pytest.importorskip("paho.mqtt.client")
    put(folder, 1)
    watched = watch(pipe, folder, senders=[mqtt_sender("127.0.0.1:9")])
    assert watched.step() == 1
    assert (folder.parent / "out.csv.sent").read_text() == "0"


class LocalBroker:
    """A real broker in a thread of its own, which can be stopped and started again."""

    def __init__(self, passwords=None, **listener):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.plugins = {"AnonymousAuthPlugin": {"allow_anonymous": True}}
        if passwords is not None:
            self.plugins = {"FileAuthPlugin": {"password_file": str(passwords)}}
        self.listener = {"type": "tcp", "bind": f"127.0.0.1:{self.port}", **listener}

    async def _serve(self):
        from amqtt.broker import Broker

        plugins = {f"amqtt.plugins.authentication.{k}": v for k, v in self.plugins.items()}
        listeners = {"default": self.listener}
        broker, self._stop = Broker({"listeners": listeners, "plugins": plugins}), asyncio.Event()
        await broker.start()
        self._started.set()
        await self._stop.wait()
        await broker.shutdown()

    def __enter__(self):
        self._started, self._loop = threading.Event(), asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._serve()])
        self._thread.start()
        assert self._started.wait(30)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


@contextlib.contextmanager
def subscribed(port, received, user=None, password=None, context=None):
    """Append what is published under skstructcore/# to `received`."""
    mqtt = pytest.importorskip("paho.mqtt.client")
    there, client = threading.Event(), mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.username_pw_set(user, password)
    if context is not None:
        client.tls_set_context(context)
    client.on_connect = lambda *_: client.subscribe("skstructcore/#", qos=1)
    client.on_subscribe = lambda *_: there.set()
    client.on_message = lambda _, __, message: received.append(json.loads(message.payload))
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert there.wait(30)
    yield
    until = time.monotonic() + 30
    while not received and time.monotonic() < until:
        time.sleep(0.01)
    client.disconnect()
    client.loop_stop()


def test_a_broker_gets_each_message_also_those_of_while_it_was_away(pipe, folder):
    pytest.importorskip("amqtt", reason="needs amqtt, a broker")
    broker, first, later = LocalBroker(), [], []
    send = mqtt_sender(f"127.0.0.1:{broker.port}", "skstructcore/line3")
    put(folder, 2)
    watched = watch(pipe, folder, senders=[send])
    with broker, subscribed(broker.port, first):
        assert watched.step() == 2
    put(folder, 2, first=2)
    assert watched.step() == 2  # scored, though nobody hears of it
    with broker, subscribed(broker.port, later):
        watched.step()
    assert [message["number"] for message in first] == [1, 2]
    assert sorted({message["number"] for message in later}) == [3, 4]
    assert later[-1]["file"] == str(folder / "3.png") and "is_anomalous" in later[-1]


@pytest.fixture
def authority(tmp_path):
    """A certificate of 127.0.0.1, which is its own authority, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    files = tmp_path / "server.crt", tmp_path / "server.key"
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=broker"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", files[0], "-keyout", files[1]]
    subprocess.run(["openssl", *made], check=True, capture_output=True)
    return files


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_broker_may_ask_for_a_password_and_tls(pipe, folder, authority, monkeypatch, caplog):
    pytest.importorskip("amqtt", reason="needs amqtt, a broker")
    hasher = pytest.importorskip("pwdlib").PasswordHash.recommended()
    passwords, received = folder.parent / "passwords", []
    passwords.write_text(f"line3:{hasher.hash('open: sesame')}\n")
    certificate, key = authority
    broker = LocalBroker(passwords, ssl=True, certfile=str(certificate), keyfile=str(key))
    model, table = folder.parent / "m.structcore", folder.parent / "out.csv"
    skstructcore.save(pipe, model)
    put(folder, 1)
    address = f"mqtts://127.0.0.1:{broker.port}"
    command = ["watch", str(model), str(folder), "--csv", str(table), "--mqtt", address, "--once"]
    sent = Path(f"{table}.sent")

    def watch_once(**environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        done = CliRunner().invoke(main, [*command, "--topic", "skstructcore/line3"])
        assert done.exit_code == 0, done.output

    with broker:
        watch_once()
        assert sent.read_text() == "0"  # nobody vouches for its certificate
        trusted = {"SSL_CERT_FILE": str(certificate)}
        known = {"SKSTRUCTCORE_MQTT_USER": "line3", "SKSTRUCTCORE_MQTT_PASSWORD": "wrong"}
        watch_once(**trusted, **known)
        assert "refuses: Not authorized" in caplog.text and sent.read_text() == "0"
        context = ssl.create_default_context(cafile=certificate)
        with subscribed(broker.port, received, "line3", "open: sesame", context):
            watch_once(SKSTRUCTCORE_MQTT_PASSWORD="open: sesame")
    assert [message["number"] for message in received] == [1]
    assert sent.read_text() == "1" and "sesame" not in caplog.text


@pytest.mark.parametrize("broker", ["http://broker", "mqtt://me:secret@broker", "mqtts://", "h:x"])
def test_a_broker_is_a_host(broker):
    pytest.importorskip("paho.mqtt.client")
    with pytest.raises(ValueError, match="A broker is host, host:port or mqtts://host"):
        mqtt_sender(broker)
    with pytest.raises(ValueError, match=r"without \+ and #, got 'line3/#'"):
        mqtt_sender("broker", "line3/#")
