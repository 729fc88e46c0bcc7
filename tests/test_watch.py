"""The watched folder: every image once, whatever is killed when."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image
from watching import pictures, put, receiver, watch

import skstructcore
from skstructcore import make_structcore
from skstructcore.cli import main
from skstructcore.datasets import load_images
from skstructcore.inference import score_images
from skstructcore.inference.scores import read_scores
from skstructcore.lifecycle import recalibrate
from skstructcore.lifecycle.drift import DriftMonitor
from skstructcore.serving.watch import FolderWatch


@pytest.fixture(scope="module")
def pipe():
    return make_structcore("efficientnet_lite0", features__image_size=64).fit(pictures(16))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "camera").mkdir()
    return tmp_path / "camera"


def test_images_are_scored_once_also_after_a_restart(pipe, folder):
    put(folder, 3)
    first = watch(pipe, folder)
    assert (first.step(), first.step()) == (3, 0)
    put(folder, 2, first=3)
    again = watch(pipe, folder)
    assert (again.step(), again.step()) == (2, 0)
    rows = read_scores((folder.parent / "out.csv").read_bytes())
    paths = [str(folder / f"{i}.png") for i in range(5)]
    assert rows["file"].tolist() == paths
    assert rows["anomaly_score"].tolist() == (-pipe.score_samples(paths)).tolist()


@pytest.mark.parametrize("names", [["001", "002"], ["NA", "None"]])
def test_products_may_be_named_by_numbers_or_like_missing_values(folder, names):
    rng = np.random.default_rng(0)
    dark, noise = rng.integers(20, 40, (8, 64, 64, 3)), rng.integers(0, 255, (8, 64, 64, 3))
    X = np.r_[dark, noise].astype(np.uint8)
    pipe = make_structcore("efficientnet_lite0", features__image_size=64)
    pipe.fit(X, bank__categories=np.repeat(names, 8))
    for i in (0, 8):
        Image.fromarray(X[i]).save(folder / f"{i}.png")
    first, sent = watch(pipe, folder), []
    assert first.step() == 2
    (folder.parent / "out.csv.sent").write_text("0")
    again = watch(pipe, folder, senders=[sent.append])
    again.step()
    assert sorted(message["route"] for message in sent) == names
    assert (again._monitor.evidence() == first._monitor.evidence()).all(axis=None)


def test_a_changed_image_is_another_image(pipe, folder):
    put(folder, 1)
    watched = watch(pipe, folder)
    assert watched.step() == 1
    Image.fromarray(pictures(1, seed=9)[0]).save(folder / "0.png")
    os.utime(folder / "0.png", ns=(1, 1))
    assert watched.step() == 1


def test_half_a_row_is_taken_away_and_the_image_scored_again(pipe, folder):
    put(folder, 3)
    watch(pipe, folder).step()
    table = folder.parent / "out.csv"
    whole = table.read_bytes()
    table.write_bytes(whole[:-40])  # a kill while the last row was written
    assert watch(pipe, folder).step() == 1
    assert table.read_bytes() == whole


def test_half_written_images_are_waited_for(pipe, folder):
    put(folder, 1)
    content = (folder / "0.png").read_bytes()
    (folder / "0.png").write_bytes(content[: len(content) // 2])
    watched = watch(pipe, folder)
    assert watched.step() == 0  # it cannot be read, and may still grow
    (folder / "0.png").write_bytes(content)
    assert watched.step() == 1
    assert watch(pipe, folder, settle=60.0).step() == 0


def test_what_stays_unreadable_gets_a_row_with_the_reason(pipe, folder):
    (folder / "no.png").write_bytes(b"no image")
    assert watch(pipe, folder, patience=0.0).step() == 1
    row = pd.read_csv(folder.parent / "out.csv").iloc[0]
    assert "no.png" in row["error"] and np.isnan(row["anomaly_score"])
    assert watch(pipe, folder, patience=0.0).step() == 0


def test_an_image_that_does_not_fit_what_is_ignored_costs_no_other_its_row(folder):
    """One of another size gets the error, watched or scored in bulk."""
    mask = np.zeros((64, 64), dtype=bool)
    mask[:, 48:] = True
    params = {"features__image_size": 64, "features__ignore": mask}
    pipe = make_structcore("efficientnet_lite0", **params).fit(pictures(16))
    put(folder, 2)
    Image.fromarray(pictures(1)[0, :40]).save(folder / "small.png")
    assert watch(pipe, folder, patience=0.0).step() == 3
    watched = pd.read_csv(folder.parent / "out.csv").sort_values("file")
    bulk = score_images(pipe, sorted(map(str, folder.iterdir())))
    for rows in (watched, bulk):
        assert rows["error"].isna().tolist() == [True, True, False]
        assert "small.png' (position" in rows["error"].iloc[2]
        assert "has 40 x 64 pixels, but ignore" in rows["error"].iloc[2]
        assert rows["anomaly_score"].isna().tolist() == [False, False, True]


def test_messages_wait_for_their_receiver_and_keep_their_number(pipe, folder):
    received, away = [], True

    def send(message):
        if away:
            raise OSError("nobody is there")
        received.append(message)

    put(folder, 3)
    watched = watch(pipe, folder, senders=[send])
    assert watched.step() == 3 and received == []
    away = False
    again = watch(pipe, folder, senders=[send])  # after a restart
    put(folder, 1, first=3)
    again.step()
    watch(pipe, folder, senders=[send]).step()
    assert [message["number"] for message in received] == [1, 2, 3, 4]
    assert received[3]["file"] == str(folder / "3.png")
    assert {"is_anomalous", "anomaly_score", "p_value", "alarms"} <= set(received[0])


def test_a_receiver_that_is_away_keeps_no_other_from_its_messages(pipe, folder):
    received, away = [], [True]

    def seldom_there(message):
        if away:
            raise OSError("nobody is there")

    def numbers():
        return [message["number"] for message in received]

    put(folder, 2)
    watched = watch(pipe, folder, senders=[seldom_there, received.append])
    assert (watched.step(), watched.step(), numbers()) == (2, 0, [1, 2])
    away.clear()
    watch(pipe, folder, senders=[received.append, seldom_there]).step()  # after a restart
    assert numbers() == [1, 2, 1, 2]  # the place in the list is who it is
    watch(pipe, folder, senders=[received.append]).step()  # one that has all of them
    assert numbers() == [1, 2, 1, 2]
    (folder.parent / "out.csv.sent").write_text("")
    watch(pipe, folder, senders=[received.append]).step()
    assert numbers() == [1, 2, 1, 2, 1, 2]
    (folder.parent / "out.csv.sent").write_text("many")
    with pytest.raises(ValueError, match=r"out\.csv\.sent' holds no counts of messages: write 0"):
        watch(pipe, folder, senders=[received.append])


def test_a_first_receiver_is_not_told_what_is_in_the_table_already(pipe, folder):
    put(folder, 3)
    watch(pipe, folder).step()
    received, away = [], [True]

    def send(message):
        if away:
            raise OSError("nobody is there")
        received.append(message["number"])

    put(folder, 1, first=3)
    watch(pipe, folder, senders=[send]).step()
    away.clear()
    watch(pipe, folder, senders=[send]).step()  # after a restart before anything was sent
    assert received == [4]


@pytest.mark.parametrize("between", [0, 1])
def test_a_new_table_is_told_as_a_whole(pipe, folder, between):
    """Where the old one was put away, and what counts its messages stayed."""
    table, received = folder.parent / "out.csv", []
    put(folder, 3)
    watch(pipe, folder, senders=[received.append]).step()
    table.rename(table.with_name("yesterday.csv"))
    shutil.rmtree(folder)
    folder.mkdir()
    for _ in range(between):  # a start without receivers
        watch(pipe, folder)
    put(folder, 4, first=3)
    watch(pipe, folder, senders=[received.append]).step()
    assert [message["number"] for message in received] == [1, 2, 3, 1, 2, 3, 4]


def test_a_count_beyond_the_table_loses_no_message(pipe, folder):
    received = []
    put(folder, 1)
    watch(pipe, folder, senders=[received.append]).step()
    (folder.parent / "out.csv.sent").write_text("500")
    put(folder, 1, first=1)
    watch(pipe, folder, senders=[received.append]).step()
    assert [message["number"] for message in received] == [1, 2]


def test_a_folder_may_be_spelled_in_another_way(pipe, folder, monkeypatch):
    put(folder, 2)
    monkeypatch.chdir(folder.parent)
    assert watch(pipe, Path("camera")).step() == 2
    table = folder.parent / "out.csv"
    assert pd.read_csv(table)["file"].tolist() == [str(folder / f"{i}.png") for i in range(2)]
    monkeypatch.chdir(folder)
    assert FolderWatch(pipe, "../camera", table, settle=0.0).step() == 0


def test_files_count_as_those_of_a_folder_that_is_scored(pipe, folder, caplog):
    for name in ("camera/.thumbs", "camera/masks", "real"):
        (folder.parent / name).mkdir()
        put(folder.parent / name, 1)
    put(folder, 1)
    np.save(folder / "features.npy", np.zeros((3, 3)))
    (folder / "day1").symlink_to(folder.parent / "real")
    overlays = folder.parent / "real/overlays"  # which a link leads to: they are not scored
    watched = watch(pipe, folder, patience=0.0, overlays=overlays)
    assert [watched.step(), watched.step(), watched.step()] == [2, 0, 0]
    scored = pd.read_csv(folder.parent / "out.csv")["file"]
    assert scored.map(os.path.abspath).sort_values().tolist() == load_images(folder).paths
    assert caplog.text.count("left out") == 2  # once each by the watch and by load_images


def test_images_that_vanish_are_forgotten(pipe, folder):
    put(folder, 2)
    watched = watch(pipe, folder, settle=60.0)
    watched.step()
    (folder / "0.png").unlink()
    watched.step()
    assert [path.name for path in watched._seen] == ["1.png"]


@pytest.mark.parametrize(
    "params",
    [
        {"features__channels": "bgr"},
        {"features__crop": (10, 30, 590, 200)},
        {"features__ignore": np.eye(300, 600) > 0},
        {"features__tile_size": 32},
    ],
    ids=lambda params: next(iter(params)),
)
def test_images_of_any_kind_are_watched_and_warmed_up_for(params, folder):
    """What takes no image of the size that the network sees, in three channels."""
    X = np.random.default_rng(0).integers(0, 200, (8, 300, 600, 3), np.uint8)
    if "features__ignore" in params:
        params["features__ignore"][:, 400:] = True
    pipe = make_structcore("efficientnet_lite0", features__image_size=64, **params).fit(X)
    assert skstructcore.warm_up(pipe) is pipe
    Image.fromarray(X[0]).save(folder / "0.png")
    assert watch(pipe, folder).step() == 1


def test_receivers_that_are_away_are_asked_ever_more_seldom(pipe, folder, monkeypatch):
    asked, clock, stop = [], [0.0], threading.Event()

    def away(message):
        asked.append(clock[0])
        if len(asked) == 9:
            stop.set()
        raise OSError("nobody is there")

    put(folder, 1)
    watched = watch(pipe, folder, senders=[away])
    step = watched.step

    def second(**options):
        step(**options)
        clock[0] += 1.0

    monkeypatch.setattr(watched, "step", second)
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    watched.run(stop, poll=0.0)
    assert np.diff(asked).tolist() == [3, 5, 9, 17, 33, 61, 61, 61]  # the second of a step more


def test_drift_alarms_are_sent_and_are_the_same_after_a_restart(pipe, folder):
    def alarms(n_restarts):
        received = []
        for _ in range(n_restarts):
            watched = watch(pipe, folder, senders=[received.append])
            watched.step()
        return [message["alarms"] for message in received if message["alarms"]]

    for i in range(40):  # of which nearly all are rejected
        Image.fromarray(255 - pictures(1, seed=i)[0] // 3).save(folder / f"{i:02}.png")
    at_once = alarms(1)
    assert at_once and "more rejects" in at_once[0][0]
    (folder.parent / "out.csv.sent").write_text("0")
    assert alarms(2) == at_once


def test_a_table_is_taken_up_as_a_whole(pipe, folder, monkeypatch):
    """Row by row, a restart with the table of a month took minutes."""
    put(folder, 3)
    watch(pipe, folder).step()
    head, *lines = (folder.parent / "out.csv").read_text().splitlines(keepends=True)
    update, sizes = DriftMonitor.update, []

    def counted(self, table, *arguments):
        sizes.append(len(table))
        return update(self, table, *arguments)

    monkeypatch.setattr(DriftMonitor, "update", counted)
    (folder.parent / "out.csv").write_text(head + "".join(lines) * 100)
    assert watch(pipe, folder).n_rows == sum(sizes) == 300
    assert len(sizes) == 1


@pytest.mark.parametrize("name", ["settle", "patience"])
def test_negative_seconds_are_refused(pipe, folder, name):
    with pytest.raises(ValueError, match=f"{name} must be"):
        watch(pipe, folder, **{name: -1.0})


def test_a_table_of_another_model_is_refused_and_a_lost_folder_ends_the_watch(pipe, folder):
    watched = watch(pipe, folder, patience=0.0)
    folder.rmdir()
    with pytest.raises(FileNotFoundError, match="is gone"):
        watched.step()


@pytest.mark.parametrize(
    "text", ["a,b\n1,2\n", "file,label\n0.png,good\n1.png,bad", "camera 3 was cleaned", "a\nb,c\n1"]
)
def test_a_file_that_is_no_table_of_the_model_is_refused_and_keeps_each_byte(pipe, folder, text):
    (folder.parent / "out.csv").write_text(text)
    with pytest.raises(ValueError, match="other columns"):
        watch(pipe, folder)
    assert (folder.parent / "out.csv").read_text() == text


def test_half_a_header_is_begun_anew(pipe, folder):
    watch(pipe, folder)
    header = (folder.parent / "out.csv").read_text()
    (folder.parent / "out.csv").write_text(header[:20])  # a kill while it was written
    watch(pipe, folder)
    assert (folder.parent / "out.csv").read_text() == header


def test_messages_have_the_numbers_of_the_table(pipe, folder, monkeypatch):
    score = skstructcore.serving.watch.score_batch

    def rare(*arguments):
        rows, maps = score(*arguments)
        return rows.assign(p_value=3.2e-17), maps

    monkeypatch.setattr("skstructcore.serving.watch.score_batch", rare)
    put(folder, 1)
    sent = []
    watch(pipe, folder, senders=[sent.append]).step()
    [row] = read_scores((folder.parent / "out.csv").read_bytes()).to_dict("records")
    assert sent[0]["p_value"] == 3.2e-17 and sent[0]["error"] is None
    assert sent[0]["anomaly_score"] == row["anomaly_score"]
    assert json.loads(json.dumps(sent[0])) == sent[0]


def test_a_folder_that_is_taken_away_meanwhile_ends_no_watch(pipe, folder, monkeypatch):
    put(folder, 1)
    (folder / "monday").mkdir()
    list_of = os.scandir

    def scandir(place):
        if Path(os.fspath(place)).name == "monday":
            raise FileNotFoundError(2, "gone", str(place))
        return list_of(place)

    monkeypatch.setattr(os, "scandir", scandir)
    assert watch(pipe, folder).step() == 1


def test_maps_and_overlays_are_there_for_each_row(pipe, folder):
    put(folder, 1)
    Image.fromarray(pictures(1, seed=7)[0]).save(folder / "0.bmp")  # of the same stem
    (folder / "deep").mkdir()
    put(folder / "deep", 1)
    (folder / "no.png").write_bytes(b"no image")
    drawn = {"maps": folder.parent / "maps", "overlays": folder.parent / "over"}
    assert watch(pipe, folder, patience=0.0, **drawn).step() == 4
    names = ["0.bmp.png", "0.png.png", "deep/0.png.png"]
    for place in drawn.values():
        assert sorted(str(p.relative_to(place)) for p in place.rglob("*.png")) == names
    skstructcore.save_maps(pipe, [folder / "0.png"], folder.parent / "expected")
    expected, found = (
        np.asarray(Image.open(folder.parent / name))
        for name in ("expected/0.png", "maps/0.png.png")
    )
    assert (found == expected).all() and found.max() > 0
    # Another image of the same name, older than its map: the map is that of the last row.
    Image.fromarray(pictures(1, seed=9)[0]).save(folder / "0.png")
    os.utime(folder / "0.png", ns=(1, 1))
    assert watch(pipe, folder, **drawn).step() == 1
    assert (np.asarray(Image.open(folder.parent / "maps" / "0.png.png")) != expected).any()
    with pytest.raises(ValueError, match="where each image is scored: choose"):
        watch(pipe, folder, maps=folder / "maps")


def test_a_recalibrated_model_is_another_one(pipe, folder):
    """Or else its drift monitor would take in the decisions of the one before."""
    model, table = folder.parent / "m.structcore", folder.parent / "out.csv"
    command = [str(part) for part in ("watch", model, folder, "--csv", table, "--once")]
    names = []
    for fitted in (pipe, pipe, recalibrate(pipe, false_alarm_rate=0.2)):
        skstructcore.save(fitted, model)
        put(folder, 1, first=len(names))
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
        names.append(pd.read_csv(table, dtype=str)["model"].iloc[-1])
    assert names[0] == names[1] != names[2]


@pytest.mark.slow
def test_kills_lose_no_image_or_message_and_score_none_twice(pipe, folder):
    model, table, maps = (folder.parent / name for name in ("m.structcore", "out.csv", "maps"))
    skstructcore.save(pipe, model)
    rng, bodies = np.random.default_rng(0), []
    with receiver(bodies) as url:
        options = [folder, "--csv", table, "--maps", maps, "--webhook", url, "--settle", 0.2]
        options = [str(part) for part in ("watch", model, *options)]
        start = [sys.executable, "-c", "from skstructcore.cli import main; main()"]
        for round_ in range(4):
            process = subprocess.Popen([*start, *options], stderr=subprocess.DEVNULL)
            put(folder, 12, first=12 * round_)
            until = time.monotonic() + 60
            while time.monotonic() < until and _n_rows(table) < 12 * round_ + rng.integers(2, 9):
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait()
        done = CliRunner().invoke(main, [*options, "--once"])
    assert done.exit_code == 0, done.output
    files = pd.read_csv(table)["file"]
    assert sorted(files) == sorted(str(folder / f"{i}.png") for i in range(48))
    assert len(list(maps.glob("*.png"))) == 48
    # A message may come twice, with its number, and none is missing or about another image.
    assert {body["number"]: body["file"] for body in bodies} == dict(enumerate(files, start=1))


def _n_rows(table):
    return table.read_bytes().count(b"\n") - 1 if table.exists() else 0
