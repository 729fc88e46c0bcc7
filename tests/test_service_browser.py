"""The page of the service in a real browser, from a real server on the loopback address."""

import io
import re
import socket
import threading
import urllib.request

import numpy as np
import pytest
from PIL import Image

import skstructcore
from skstructcore import make_structcore

sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
httpx = pytest.importorskip("httpx")
uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")


def pictures(n, seed=0):
    return np.random.default_rng(seed).normal(120, 12, (n, 64, 64, 3)).clip(0, 255).astype(np.uint8)


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of a service that asks for the token "sesame"."""
    from skstructcore.serving.service import make_app

    rate = {"structcore__false_alarm_rate": 1e-4}
    pipe = make_structcore("efficientnet_lite0", features__image_size=64, **rate).fit(pictures(16))
    path = tmp_path_factory.mktemp("service") / "m.structcore"
    skstructcore.save(pipe, path)
    server = uvicorn.Server(uvicorn.Config(make_app(path, token="sesame"), log_level="warning"))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


def post(address, images):
    files = [("images", (name, png(image))) for name, image in images]
    head = {"authorization": "Bearer sesame"}
    answer = httpx.post(f"{address}/score", files=files, headers=head, timeout=60)
    assert answer.status_code == 200
    return answer.json()["images"]


@pytest.fixture
def page(browser, address):
    """The page, with the token as password; afterwards: no fault, and nothing from elsewhere."""
    password = {"username": "line3", "password": "sesame"}
    page = browser.new_page(viewport={"width": 1100, "height": 800}, http_credentials=password)
    complaints, requests = [], []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    sync_api.expect.set_options(timeout=30_000)
    page.goto(address)
    yield page
    page.close()
    assert complaints == []
    assert all(url.startswith((address, "data:")) for url in requests)


def test_page_shows_decisions_places_and_drift_and_renews_itself(page, address):
    rows, drift = page.locator("tbody tr"), page.get_by_label("drift")
    sync_api.expect(page.get_by_text("No image was judged yet.")).to_be_visible()
    sync_api.expect(drift).to_have_text("No drift was noticed.")
    bad = pictures(1, seed=3)[0]
    bad[16:32, 16:32] = 255
    found = post(address, [("good.png", pictures(1, seed=2)[0]), ("<b>bad</b>.png", bad)])
    assert [image["decision"] for image in found] == ["good", "anomalous"]
    sync_api.expect(rows).to_have_count(2)  # nobody has loaded the page again by hand
    sync_api.expect(rows.nth(0)).to_contain_text("<b>bad</b>.png")  # the last one first
    assert (
        rows.nth(0).evaluate("row => getComputedStyle(row).backgroundColor") != "rgba(0, 0, 0, 0)"
    )
    shown = rows.nth(0).locator("img").evaluate("image => [image.naturalWidth, image.src]")
    assert shown[0] == 160
    with urllib.request.urlopen(shown[1]) as data:
        thumbnail = np.asarray(Image.open(io.BytesIO(data.read()))).astype(int)
    region = found[1]["regions"][0]
    at = [round(2.5 * region[k]) for k in ("top", "left", "bottom", "right")]  # 160 of 64 pixels
    red = thumbnail[..., 0] - thumbnail[..., 1:].max(axis=-1) > 60
    middle = (at[1] + at[3]) // 2
    assert red[max(at[0] - 1, 0) : at[0] + 2, middle].any() and not red[80:, 120:].all()
    for _ in range(12):
        post(address, [(f"{i}.png", bad) for i in range(4)])
    sync_api.expect(drift).to_contain_text(re.compile("more rejects"))
    sync_api.expect(rows).to_have_count(50)  # no more are kept


def test_without_the_token_nothing_is_shown(browser, address):
    page = browser.new_page(http_credentials={"username": "line3", "password": "open"})
    page.goto(address)
    assert page.locator("body").inner_text() == '{"detail":"A bearer token is needed."}'
    page.close()
