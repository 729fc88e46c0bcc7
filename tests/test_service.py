"""The service: decisions over HTTP, limits, another model without a pause."""

import base64
import io
import logging
import signal
import subprocess
import sys
import threading
import time
from operator import methodcaller

import numpy as np
import pytest
from PIL import Image

import skstructcore
from skstructcore import make_structcore

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("httpx")
import httpx
from starlette.testclient import TestClient

from skstructcore.serving import service

START = "from skstructcore.cli import main; main()"


def pictures(n, seed=0):
    X = np.random.default_rng(seed).normal(120, 12, (n, 64, 64, 3))
    X[1::4, 16:32, 16:32] += 90 * (seed > 0)
    return np.clip(X, 0, 255).astype(np.uint8)


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def files(images):
    return [("images", (f"<{i}>.png", png(image))) for i, image in enumerate(images)]


@pytest.fixture(scope="module")
def pipe():
    return make_structcore("efficientnet_lite0", features__image_size=64).fit(pictures(16))


@pytest.fixture
def path(pipe, tmp_path):
    skstructcore.save(pipe, tmp_path / "m.structcore")
    return tmp_path / "m.structcore"


@pytest.fixture
def client(path):
    with TestClient(service.make_app(path)) as client:
        yield client


def test_answers_are_the_decisions_of_the_pipeline(client, pipe):
    new = pictures(6, seed=1)
    answer = client.post("/score", files=files(new)).json()
    expected = pipe[-1].describe(pipe[:-1].transform(new))
    assert [image["name"] for image in answer["images"]] == [f"<{i}>.png" for i in range(6)]
    assert [image["score"] for image in answer["images"]] == expected["anomaly_score"].tolist()
    assert [image["p_value"] for image in answer["images"]] == expected["p_value"].tolist()
    decisions = [image["decision"] == "anomalous" for image in answer["images"]]
    assert decisions == expected["is_anomalous"].tolist() and len(set(decisions)) == 2
    assert answer["threshold"] == -pipe[-1].offset_
    table = skstructcore.regions(pipe, new)
    found = [(i["name"][1], r["peak_row"]) for i in answer["images"] for r in i["regions"]]
    assert found == [
        (name[-1], row) for name, row in zip(table["image"], table["peak_row"], strict=True)
    ]


def test_page_and_metrics_show_what_was_decided(client):
    client.post("/score", files=files(pictures(4, seed=1)))
    page = client.get("/").text
    assert "&lt;1&gt;.png" in page and "<1>.png" not in page
    assert page.count("data:image/jpeg") == 4 and "No drift" in page
    metrics = client.get("/metrics").text
    assert 'skstructcore_images_total{decision="anomalous",route="all"} 1.0' in metrics
    assert "skstructcore_request_seconds_count 1.0" in metrics
    assert "skstructcore_drift_alarms 0.0" in metrics


def test_wrong_bodies_are_answers_not_crashes(client):
    broken = [("images", ("broken.png", png(pictures(1)[0])[:200]))]
    answer = client.post("/score", files=broken)
    assert answer.status_code == 422 and "'broken.png'" in answer.json()["detail"]
    no_image = client.post("/score", files=[("images", ("a.txt", b"hello"))])
    assert no_image.status_code == 422 and "'a.txt'" in no_image.json()["detail"]
    assert client.post("/score").status_code == 422
    assert client.post("/score", content=b"xx").status_code == 422  # it is no form
    told = client.get("/openapi.json").json()["paths"]["/score"]["post"]["responses"]
    assert "broken" in told["400"]["description"] and "form" in told["422"]["description"]
    assert (
        client.post("/score", content=b"\0", headers={"content-type": "text/plain"}).status_code
        == 422
    )
    head = {"content-type": "multipart/form-data; boundary=x"}
    assert client.post("/score", content=b"\0\1", headers=head).status_code in (400, 422)
    assert client.post("/score", files=files(pictures(1))).status_code == 200


def test_an_image_that_cannot_be_read_costs_no_other_its_answer(client, pipe):
    new = files(pictures(2, seed=1))
    answer = client.post("/score", files=[new[0], ("images", ("a.txt", b"hello")), new[1]])
    first, broken, last = answer.json()["images"]
    assert [first["decision"], last["decision"]] == ["good", "anomalous"]
    expected = -pipe.score_samples(pictures(2, seed=1))
    assert [first["score"], last["score"]] == expected.tolist()
    assert broken["decision"] == "unreadable" and broken["score"] is None
    assert "'a.txt'" in broken["error"] and broken["regions"] == []
    assert client.app.state.model.loaded.monitor.n_images_ == 2
    page = client.get("/").text
    assert page.count("data:image/jpeg") == 2 and "a.txt" in page


def test_every_page_of_a_file_is_an_image(client, pipe):
    pages, file = [Image.fromarray(image) for image in pictures(2, seed=1)], io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    answer = client.post("/score", files=[("images", ("tray.tif", file.getvalue()))]).json()
    assert [image["name"] for image in answer["images"]] == ["tray.tif[0]", "tray.tif[1]"]
    expected = (-pipe.score_samples(pictures(2, seed=1))).tolist()
    assert [image["score"] for image in answer["images"]] == expected


def test_colours_of_16_bits_are_judged_in_full_depth_as_from_a_file(tmp_path):
    deep = np.random.default_rng(0).integers(1000, 4000, (13, 64, 64, 3), dtype=np.uint16)
    paths = [tmp_path / f"{i}.ppm" for i in range(13)]  # Pillow would keep 8 of the bits
    for path, values in zip(paths, deep, strict=True):
        path.write_bytes(b"P6 64 64 65535\n" + values.astype(">u2").tobytes())
    pipe = make_structcore("efficientnet_lite0", features__image_size=64).fit(paths[:12])
    skstructcore.save(pipe, tmp_path / "m.structcore")
    with TestClient(service.make_app(tmp_path / "m.structcore")) as client:
        answer = client.post("/score", files={"images": paths[12].read_bytes()}).json()
    assert answer["images"][0]["score"] == -pipe.score_samples(paths[12:])[0]


def test_an_image_that_does_not_fit_what_is_ignored_is_named(tmp_path):
    mask = np.zeros((64, 64), dtype=bool)
    mask[:, 48:] = True
    params = {"features__image_size": 64, "features__ignore": mask}
    own = make_structcore("efficientnet_lite0", **params).fit(pictures(12))
    skstructcore.save(own, tmp_path / "m.structcore")
    with TestClient(service.make_app(tmp_path / "m.structcore")) as client:
        answer = client.post("/score", files=files([pictures(1)[0, :40]]))
    assert answer.status_code == 422 and "has 40 x 64 pixels" in answer.text


def test_limits_of_bytes_pixels_and_images(path):
    limits = {"max_bytes": 40_000, "max_pixels": 5000, "max_images": 2}
    with TestClient(service.make_app(path, **limits)) as client:
        post = client.post
        assert post("/score", files=files(pictures(1))).status_code == 200
        assert post("/score", files=files(np.zeros((3, 64, 64, 3), np.uint8))).status_code == 413
        assert post("/score", files=files(np.zeros((1, 99, 99, 3), np.uint8))).status_code == 413
        assert post("/score", files=files(pictures(4))).status_code == 413

        def endless():  # without a length in the header
            yield b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
            for _ in range(100):
                yield b"0" * 1000

        head = {"content-type": "multipart/form-data; boundary=x"}
        assert post("/score", content=endless(), headers=head).status_code == 413


def test_more_requests_than_may_wait_are_refused_and_slow_ones_end(path, monkeypatch):
    go_on, judge = threading.Event(), service.judge

    def slow(*arguments):
        assert go_on.wait(30)
        return judge(*arguments)

    monkeypatch.setattr(service, "judge", slow)
    with TestClient(service.make_app(path, max_queue=1, timeout=20)) as client:
        found = []
        one = threading.Thread(
            target=lambda: found.append(client.post("/score", files=files(pictures(1))))
        )
        one.start()
        while "waiting_requests 1.0" not in client.get("/metrics").text:
            pass
        refused = client.post("/score", files=files(pictures(1)))
        assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
        go_on.set()
        one.join()
        assert found[0].status_code == 200
    go_on.clear()
    with TestClient(service.make_app(path, max_queue=1, timeout=0.05)) as client:
        assert client.post("/score", files=files(pictures(1))).status_code == 504
        # The work that nobody waits for is still done and counted: there is no room for more.
        assert client.post("/score", files=files(pictures(1))).status_code == 429
        go_on.set()
        while "waiting_requests 0.0" not in client.get("/metrics").text:
            pass
        assert 'images_total{decision="good",route="all"} 1.0' in client.get("/metrics").text
        assert "data:image/jpeg" in client.get("/").text


def test_token_is_asked_for(path):
    with TestClient(service.make_app(path, token="sesame")) as client:
        for url in ("/", "/metrics"):
            assert client.get(url).status_code == 401
        assert client.post("/score", files=files(pictures(1))).status_code == 401
        wrong = {"authorization": "Bearer open"}
        assert client.post("/score", files=files(pictures(1)), headers=wrong).status_code == 401
        right = {"authorization": "Bearer sesame"}
        assert client.post("/score", files=files(pictures(1)), headers=right).status_code == 200
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
        for password, status in {"sesame": 200, "open": 401}.items():  # of a browser
            assert client.get("/", auth=("anybody", password)).status_code == status
        for text in ("=", "é", "!!", base64.b64encode(b"sesame").decode()):  # no name and password
            header = {"authorization": f"Basic {text}".encode()}
            refused = client.get("/", headers=header)
            assert refused.status_code == 401 and "realm" in refused.headers["www-authenticate"]
        for kind in ("token", "Digest"):
            header = {"authorization": f"{kind} {base64.b64encode(b':sesame').decode()}"}
            assert client.get("/", headers=header).status_code == 401
        names = client.get("/openapi.json").json()["components"]["securitySchemes"]
        assert {kind["scheme"] for kind in names.values()} == {"bearer", "basic"}


@pytest.mark.parametrize("name", ["", "joe", "Jörg", "李"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_browser_may_give_any_name_with_the_token(path, name, encoding):
    with TestClient(service.make_app(path, token="sesame")) as client:
        for password, status in {"sesame": 200, "open": 401, "": 401, "sésame": 401}.items():
            given = base64.b64encode(f"{name}:{password}".encode(encoding, "replace"))
            header = {"authorization": b"basic " + given}
            assert client.get("/metrics", headers=header).status_code == status


def test_an_empty_token_does_not_open_the_service(path):
    for token in ("", "tökén"):
        with pytest.raises(ValueError, match="token must be of ASCII"):
            service.make_app(path, token=token)


@pytest.mark.parametrize(
    "wrong", [{"max_images": "3"}, {"max_queue": 0}, {"timeout": -1.0}, {"timeout": np.nan}]
)
def test_limits_are_checked_at_the_start(path, wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        service.make_app(path, **wrong)


def test_a_new_model_is_loaded_and_a_damaged_one_is_not(path, pipe, client, caplog):
    before = client.get("/readyz").json()["model"]
    path.write_bytes(path.read_bytes()[:1000])
    with caplog.at_level(logging.ERROR):
        client.app.state.model.refresh()
    assert "The model cannot be loaded" in caplog.text
    assert client.post("/score", files=files(pictures(1))).json()["model"] == before
    assert "no model file" in client.get("/readyz").json()["error"]
    other = make_structcore("efficientnet_lite0", features__image_size=64).fit(pictures(12, 3))
    skstructcore.save(other, path)
    client.app.state.model.refresh()
    answer = client.post("/score", files=files(pictures(1))).json()
    assert answer["model"] != before and answer["threshold"] == -other[-1].offset_


def test_a_new_model_has_no_alarms_of_the_old_one(path, client):
    alarms = client.app.state.model.loaded.monitor.alarms_
    alarms.append("more rejects")
    client.post("/score", files=files(pictures(1)))
    assert "skstructcore_drift_alarms 1.0" in client.get("/metrics").text
    skstructcore.save(
        make_structcore("efficientnet_lite0", features__image_size=64).fit(pictures(12, 3)), path
    )
    client.app.state.model.refresh()
    assert "skstructcore_drift_alarms 0.0" in client.get("/metrics").text


def test_a_model_that_could_not_be_loaded_is_tried_again_after_a_while(path, monkeypatch):
    calls = []

    def load(*arguments, **options):
        calls.append(1)
        if len(calls) == 1:
            raise OSError("the weights are not mounted")
        return skstructcore.load(*arguments, **options)

    monkeypatch.setattr(service, "load", load)
    model = service.LiveModel(path)
    model.refresh()
    model.refresh()  # not at once: a large file that is damaged would be read without end
    assert len(calls) == 1 and "not mounted" in model.error
    monkeypatch.setattr(service, "_RETRY_SECONDS", 0.0)
    model.refresh()
    model.refresh()
    assert len(calls) == 2 and model.loaded is not None and model.error is None


def test_a_file_that_is_replaced_while_it_is_loaded_is_loaded_again(path, tmp_path, monkeypatch):
    other = make_structcore("efficientnet_lite0", features__image_size=64).fit(pictures(12, 3))

    def load(*arguments, **options):
        pipe = skstructcore.load(*arguments, **options)
        if pipe[-1].offset_ != other[-1].offset_:
            skstructcore.save(other, path)
        return pipe

    monkeypatch.setattr(service, "load", load)
    model = service.LiveModel(path)
    model.refresh()
    assert model.loaded is None and "replaced while" in model.error
    model.refresh()  # at once
    assert model.loaded.pipe[-1].offset_ == other[-1].offset_
    assert model.loaded.version.startswith(skstructcore.info(path)["digest"][:12])


def test_a_model_that_was_away_for_a_moment_goes_on_with_its_drift(path, tmp_path):
    model = service.LiveModel(path)
    model.refresh()
    before = model.loaded
    path.rename(tmp_path / "away")
    model.refresh()
    assert model.error and model.loaded is before
    (tmp_path / "away").rename(path)
    model.refresh()  # at once: it is another file than the one that failed
    assert model.error is None and model.loaded.monitor is before.monitor


@pytest.mark.slow
def test_schemathesis_finds_no_answer_that_the_interface_does_not_name(client):
    """Made-up requests of all kinds, to every operation of the service's own OpenAPI."""
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, given, settings
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    random_bytes = [positive_data_acceptance]  # are no image, and 422 is right
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert {operation.path for operation in operations} >= {"/score", "/readyz", "/metrics", "/"}
    for operation in operations:

        @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def answers_as_declared(case):
            case.call_and_validate(session=client, excluded_checks=random_bytes)

        answers_as_declared()


def test_a_new_model_takes_over_while_requests_come(path, pipe, client):
    other = make_structcore("efficientnet_lite0", features__image_size=64).fit(pictures(12, 3))
    thresholds, answers, stop = {-pipe[-1].offset_, -other[-1].offset_}, [], threading.Event()
    new = files(pictures(2, seed=1))
    expected = {
        -one[-1].offset_: (-one.score_samples(pictures(2, seed=1))).tolist()
        for one in (pipe, other)
    }

    def ask():
        while not stop.is_set():
            answers.append(client.post("/score", files=new))

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    for model in (other, pipe, other):
        n_before = len(answers)
        skstructcore.save(model, path)
        client.app.state.model.refresh()
        while len(answers) < n_before + 6:
            pass
    stop.set()
    for asker in askers:
        asker.join()
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["threshold"] for answer in answers} == thresholds
    for answer in map(methodcaller("json"), answers):  # none is of one model and of the other
        scores = [image["score"] for image in answer["images"]]
        assert scores == expected[answer["threshold"]]


@pytest.mark.slow
def test_a_killed_service_leaves_nothing_and_a_stopped_one_finishes(path):
    """Real processes: SIGKILL while clients ask, the same port again, then SIGTERM."""
    content, new = path.read_bytes(), files(pictures(8, seed=1))

    def start(port):
        command = [sys.executable, "-c", START, "serve", str(path), "--port", str(port)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        line = next(line for line in process.stderr if "Listening" in line)
        return process, int(line.split(",")[0].rsplit(":", 1)[1])

    def ask(found):
        try:
            while True:
                found.append(httpx.post(f"{url}/score", files=new, timeout=60))
        except httpx.HTTPError as error:
            found.append(error)

    process, port = start(0)
    url = f"http://127.0.0.1:{port}"
    whole = httpx.post(f"{url}/score", files=new, timeout=60).json()
    for stop in (signal.SIGKILL, signal.SIGTERM):
        found = [[] for _ in range(3)]
        askers = [threading.Thread(target=ask, args=(part,)) for part in found]
        for asker in askers:
            asker.start()
        while not all(found):
            time.sleep(0.01)
        process.send_signal(stop)
        process.wait(60)
        for asker in askers:
            asker.join()
        answers = [answer for part in found for answer in part[:-1]]
        # Whoever was answered was answered in full; after SIGTERM, nobody was cut off.
        assert all(answer.json()["images"] == whole["images"] for answer in answers)
        if stop is signal.SIGTERM:
            assert all(isinstance(part[-1], httpx.ConnectError) for part in found)
            assert process.returncode == -signal.SIGTERM  # raised again after the last answer
        assert [file.name for file in path.parent.iterdir()] == [path.name]
        assert path.read_bytes() == content
        process, _ = start(port)
    again = httpx.post(f"{url}/score", files=new, timeout=60).json()
    process.kill()
    process.wait()
    assert again == whole


def test_without_a_model_it_lives_but_is_not_ready(tmp_path):
    with TestClient(service.make_app(tmp_path / "none.structcore")) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 503
        assert client.post("/score", files=files(pictures(1))).status_code == 503
