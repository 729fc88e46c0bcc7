"""Fixtures that several test modules share."""

import os
import shutil

if "PYTEST_XDIST_WORKER" in os.environ:  # each worker has a core; before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import dino_reference
import pytest


@pytest.fixture(scope="session")
def tiny_dino(tmp_path_factory):
    """Folder with the random weights of a DINOv2 of two blocks, 32 features, two heads.

    Use it as `DinoFeatures(None, layers=(1, 2), weights=tiny_dino, image_size=70)`.
    """
    folder = tmp_path_factory.mktemp("tiny_dino")
    return str(dino_reference.save_folder(dino_reference.random_state(), folder, n_heads=2))


@pytest.fixture(scope="session", autouse=True)
def _network_log_file(tmp_path_factory):
    """Before any test starts processes: they live on, with the environment of that moment."""
    os.environ["BLOCKS_LOG"] = str(tmp_path_factory.mktemp("networks") / "log")


@pytest.fixture
def network_log(_network_log_file):
    """How often a word was logged by `networks.LoggedBlocks`, in this process and in others."""
    path = os.environ["BLOCKS_LOG"]
    open(path, "w").close()

    def count(word):
        with open(path) as file:
            return file.read().split().count(word)

    return count


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window, driven by playwright."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs chromium on the path")
    quiet = "no-sandbox disable-gpu disable-background-networking disable-component-update".split()
    args = [f"--{word}" for word in (*quiet, "no-first-run")]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=args)
        yield browser
        browser.close()
