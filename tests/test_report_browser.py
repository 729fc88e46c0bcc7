"""The report in a real browser: Chromium without a window, driven by playwright."""

import csv
import io

import numpy as np
import pytest
from PIL import Image
from report_pages import KINDS, fit_pipe, write_images

from skstructcore import describe_parts
from skstructcore.datasets import load_verdicts
from skstructcore.report import report

sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def pipe():
    return fit_pipe()


@pytest.fixture(scope="module")
def images(folder):
    return write_images(folder)


@pytest.fixture(scope="module")
def written(pipe, images, folder):
    return report(pipe, images, folder / "report.html")


@pytest.fixture
def page(browser, written):
    """The open report; afterwards: no error, and nothing was asked of any other address."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(written.as_uri())
    page.wait_for_selector(".card")
    yield page
    page.close()
    assert complaints == []
    outside = [url for url in requests if not url.startswith(("data:", "blob:", written.as_uri()))]
    assert outside == []


def names(page):
    return page.locator(".card .name").all_text_contents()


def kinds(page):
    return [name.split("_")[0] for name in names(page)]


def test_all_images_are_shown_with_the_smallest_p_values_first(page, pipe, images):
    parts = pipe[-1].describe(pipe[:-1].transform(images))
    order = parts.sort_values(["p_value", "anomaly_score"], ascending=[True, False]).index
    assert names(page) == [images.paths[i].rsplit("/")[-1] for i in order]
    assert page.locator("#count").inner_text() == "13 of 13 images."
    decoded = "async all => (await Promise.all(all.map((image) => image.decode()))).length"
    assert page.locator(".card img").evaluate_all(decoded) == 26  # and maps


@pytest.mark.parametrize(
    ("by", "key"),
    [("file", lambda name: name), ("type", lambda name: name.split("_")[0])],
)
def test_sorting(page, by, key):
    page.select_option("#sort", by)
    found = [key(name) for name in names(page)]
    assert found == sorted(found) and len(found) == 13


def test_sorting_by_score_and_by_largest_p_value(page, pipe, images):
    parts = pipe[-1].describe(pipe[:-1].transform(images))
    page.select_option("#sort", "score")
    best = images.paths[parts["anomaly_score"].idxmax()].rsplit("/")[-1]
    assert names(page)[0] == best
    page.select_option("#sort", "p-desc")
    calmest = images.paths[parts["anomaly_score"].idxmin()].rsplit("/")[-1]
    assert names(page)[0] == calmest


def test_filters_by_kind_decision_p_value_and_name(page, pipe, images):
    parts = pipe[-1].describe(pipe[:-1].transform(images))
    rejected = parts["is_anomalous"].to_numpy()
    page.select_option("#type", "stain")
    assert kinds(page) == ["stain"] * 2
    page.select_option("#type", "")
    page.select_option("#decision", "rejected")
    assert len(names(page)) == rejected.sum()
    page.select_option("#decision", "accepted")
    assert len(names(page)) == (~rejected).sum()
    page.select_option("#decision", "missed")
    assert len(names(page)) == (~rejected & (images.y != "good")).sum()
    page.select_option("#decision", "false-alarm")
    assert len(names(page)) == (rejected & (images.y == "good")).sum()
    page.select_option("#decision", "")
    page.fill("#p-max", "0.2")
    assert len(names(page)) == (parts["p_value"] <= 0.2).sum()
    page.fill("#p-max", "")
    page.fill("#search", "DENT_09")
    assert names(page) == ["dent_09.png"]
    assert page.locator("#count").inner_text() == "1 of 13 images."


def test_the_slider_counts_rejects_from_the_p_values_and_as_fitted_goes_back(page, pipe, images):
    parts = pipe[-1].describe(pipe[:-1].transform(images))
    fitted = page.locator("#now").inner_text()
    assert fitted.startswith(f"{parts['is_anomalous'].sum()} of 13 images are rejected")
    page.locator("#level").fill(page.locator("#level").get_attribute("max"))  # 30 %
    assert "30 %" in page.locator("#level-text").inner_text()
    expected = int((parts["p_value"] <= 0.3).sum())
    assert page.locator("#now").inner_text().startswith(f"{expected} of 13 images are rejected")
    assert page.locator(".badge.rejected").count() == expected
    page.locator("#level").fill("0")  # 0.1 %
    least = int((parts["p_value"] <= 0.001).sum())
    assert page.locator("#now").inner_text().startswith(f"{least} of 13 images are rejected")
    page.click("#as-fitted")
    assert page.locator("#now").inner_text() == fitted


def test_a_card_opens_to_image_map_region_and_reasons(page, pipe):
    page.locator(".card", has_text="dent_09").click()
    assert page.locator("#detail").is_visible()
    why = page.locator("#why").inner_text()
    assert why.startswith("Rejected: it scores higher than") and "Decided by" in why
    for drawn in (".map", ".region", ".truth", ".peak"):
        assert page.locator(f"#stage {drawn}").count() == 1, drawn
    assert page.locator("#numbers tr").count() == 2 + 1 + len(pipe[-1].descriptors_)
    page.uncheck("#show-map")
    page.uncheck("#show-mask")
    page.uncheck("#show-region")
    assert page.locator("#stage .map, #stage path").count() == 0
    page.click("#close")
    assert not page.locator("#detail").is_visible()


def test_the_region_lies_over_the_defect(page):
    page.locator(".card", has_text="dent_09").click()
    image = page.locator("#stage .photo").bounding_box()
    region = page.locator("#stage .region").bounding_box()
    # The defect is in rows 8 to 24 of 48 and columns 8 to 33 of 64.
    centre = (
        (region["x"] + region["width"] / 2 - image["x"]) / image["width"],
        (region["y"] + region["height"] / 2 - image["y"]) / image["height"],
    )
    assert 0.1 < centre[0] < 0.6 and 0.1 < centre[1] < 0.6


def test_parts_are_decided_as_a_whole(browser, images, tmp_path):
    pipe = fit_pipe(parts=[i // 2 for i in range(19)])
    views = [images.paths[i] for i in (0, 8, 1, 2, 9, 10)]  # one dent; none; two
    parts = ["a", "a", "b", "b", "c", "c"]
    written = report(pipe, views, tmp_path / "parts.html", parts=parts)
    table = describe_parts(pipe, views, parts)
    page = browser.new_page()
    page.goto(written.as_uri())
    n_rejected = table["is_anomalous"].sum()
    assert page.locator("#now").inner_text().startswith(f"{n_rejected} of 3 parts; ")
    said = page.locator(".card .part").all_inner_texts()
    for name, rejected in zip(table["part"], table["is_anomalous"], strict=True):
        words = f"part {name}: {'rejected' if rejected else 'accepted'} by 2 views"
        assert said.count(words) == 2
    page.select_option("#sort", "part")
    order = [words[5] for words in page.locator(".card .part").all_inner_texts()]
    assert order == list(np.repeat(table.sort_values("p_value")["part"], 2))
    page.select_option("#decision", "part")
    assert page.locator(".card").count() == 2 * n_rejected
    page.close()


def test_the_plot_has_a_mark_an_image_that_opens_it(page):
    marks = page.locator("#shift .mark")
    assert marks.count() == 13
    page.select_option("#type", "stain")
    marks.first.dispatch_event("click")  # of a good image: the filter makes way
    assert "good" in page.locator("#detail-title").inner_text()
    page.click("#close")
    marks.first.focus()
    titles = []
    for _ in range(13):
        titles.append(page.evaluate("document.activeElement.getAttribute('aria-label')"))
        page.keyboard.press("ArrowRight")
    assert len(set(titles)) == 13
    page.keyboard.press("Enter")
    assert page.locator("#detail").is_visible()


def test_the_plot_says_in_words_whether_the_structure_of_the_map_helps(page, pipe, images):
    parts = pipe[-1].describe(pipe[:-1].transform(images))
    whole = parts["is_anomalous"].to_numpy()
    base = parts["base"].to_numpy() > pipe[-1].calibration_.base_decision.threshold
    good = images.y == "good"
    words = page.locator("#shift-words").inner_text()
    if (whole == base).all():
        assert "changes no decision" in words
        return
    found, missed = (whole & ~base & ~good).sum(), (base & ~whole & ~good).sum()
    assert f"finds {found} more defects and loses {missed}" in words


def verdict_of(page, name):
    mark = page.locator(".card", has_text=name).locator(".verdict-mark")
    return mark.inner_text() if mark.count() else None


def test_everything_can_be_done_by_keyboard(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.locator(".card").first.focus()
    page.keyboard.press("Enter")
    first = page.locator("#detail-title").inner_text()
    page.keyboard.press("g")  # and on to the next
    second = page.locator("#detail-title").inner_text()
    assert second != first
    page.keyboard.press("ArrowLeft")
    assert page.locator("#detail-title").inner_text() == first
    assert page.locator('#detail [data-verdict="good"]').get_attribute("aria-pressed") == "true"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("d")
    page.keyboard.press("o")
    assert not page.locator("#show-map").is_checked()
    for _ in range(20):  # the focus stays in the dialog
        page.keyboard.press("Tab")
        inside = "document.activeElement === document.body || "
        inside += "document.getElementById('detail').contains(document.activeElement)"
        assert page.evaluate(inside)
    page.keyboard.press("Escape")
    assert not page.locator("#detail").is_visible()
    assert page.evaluate("document.activeElement.dataset.i") is not None
    assert page.locator("#export").inner_text() == "Save 2 verdicts (CSV)"


def test_verdicts_by_key_in_the_gallery_move_on_and_arrows_move_in_the_grid(page):
    shown = names(page)
    focused = "document.activeElement.querySelector('.name').textContent"
    page.locator(".card").first.focus()
    page.keyboard.press("d")
    assert verdict_of(page, shown[0]) == "defect" and page.evaluate(focused) == shown[1]
    page.keyboard.press("g")
    assert verdict_of(page, shown[1]) == "good after all" and page.evaluate(focused) == shown[2]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("g")  # the same again takes it back, and stays
    assert verdict_of(page, shown[1]) is None and page.evaluate(focused) == shown[1]
    tops = page.locator(".card").evaluate_all("all => all.map((c) => c.parentElement.offsetTop)")
    columns = tops.count(tops[0])
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == shown[1 + columns]
    page.keyboard.press("ArrowUp")
    assert page.evaluate(focused) == shown[1]


def test_a_verdict_on_all_that_are_selected(page):
    shown = names(page)
    cards = page.locator(".card")
    cards.nth(1).click(modifiers=["Control"])
    cards.nth(3).click(modifiers=["Shift"])
    cards.nth(6).focus()
    page.keyboard.press("x")
    assert page.locator("#selected-text").inner_text() == "4 selected"
    cards.nth(2).click(modifiers=["Control"])  # not this one
    page.locator('#selected [data-verdict="unsure"]').click()
    found = [name for name in shown if verdict_of(page, name) == "unsure"]
    assert found == [shown[1], shown[3], shown[6]] and page.locator("#selected").is_hidden()
    cards.nth(0).click(modifiers=["Control"])
    page.keyboard.press("Escape")
    assert page.locator("#selected").is_hidden()


def test_rates_are_chosen_in_the_table_and_filters_are_reset(page, pipe, images):
    parts = pipe[-1].describe(pipe[:-1].transform(images))
    page.locator('tr[data-level="0.3"] button').click()
    expected = int((parts["p_value"] <= 0.3).sum())
    assert page.locator("#now").inner_text().startswith(f"{expected} of 13 images are rejected")
    assert page.locator("#level-text").inner_text() == "30 %"
    page.select_option("#type", "stain")
    page.fill("#search", "stain_12")  # the folder of the test may hold a 12, too
    sync_api.expect(page.locator(".card")).to_have_count(1)
    page.click("#clear")
    sync_api.expect(page.locator(".card")).to_have_count(13)


def test_an_opened_image_can_be_zoomed_and_moved_and_leads_to_its_file(page, images):
    page.locator(".card", has_text="dent_09").click()
    box = page.locator("#stage .photo").bounding_box()
    page.keyboard.press("+")
    assert page.locator("#stage .photo").bounding_box()["width"] == pytest.approx(2 * box["width"])
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    before = page.locator("#stage .photo").bounding_box()
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 30, middle[1] + 10)
    page.mouse.up()
    after = page.locator("#stage .photo").bounding_box()
    assert after["x"] - before["x"] == pytest.approx(30, abs=1)
    page.keyboard.press("0")
    assert page.locator("#stage .photo").bounding_box() == box
    assert page.locator("#original").get_attribute("href") == "dent_09.png"


def test_an_enlarged_image_is_the_file_itself_where_it_lies(browser, pipe, images, tmp_path):
    for place in (tmp_path / "near.html", tmp_path / "far" / "moved.html"):
        place.parent.mkdir(exist_ok=True)
        written = report(pipe, images.paths[:1], tmp_path / "near.html", thumbnail=16)
        page = browser.new_page()
        page.goto(written.rename(place).as_uri())
        page.locator(".card").click()
        pixels = page.locator("#pixels")
        sync_api.expect(pixels).to_have_text("16 × 12 of 64 × 48 pixels.")
        page.keyboard.press("+")
        if place.parent == tmp_path:
            sync_api.expect(pixels).to_have_text("All 64 × 48 pixels.")
        else:
            sync_api.expect(pixels).to_contain_text("the file is not where it was")
        page.keyboard.press("1")  # a pixel of the file is a pixel of the screen
        assert page.locator("#stage .photo").bounding_box()["width"] == pytest.approx(64, abs=0.1)
        page.close()


def test_all_rejected_images_are_printed_and_the_rest_is_counted(browser, pipe, tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(90, 110, (200, 48, 64, 3), dtype=np.uint8)
    pixels[60:130, 8:30, 8:40] = 250  # more than the 60 that are shown at once
    (tmp_path / "images").mkdir()
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"images/{i:03d}.png")
    (tmp_path / "images/broken.jpg").write_bytes(b"no image")
    written = report(pipe, tmp_path / "images", tmp_path / "many.html")
    page = browser.new_page()
    page.goto(written.as_uri())
    n_rejected = int(page.locator("#now").inner_text().split()[0])
    assert n_rejected >= 70 and page.locator(".badge.rejected").count() == 60
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator(".badge.rejected").count() == n_rejected
    n_left = 201 - page.locator(".card").count()  # what cannot be read stands at the end
    assert n_left > 0 and page.locator("#printed").inner_text().startswith(f"The {n_left} images")
    page.close()


def test_the_first_screen_shows_images_with_a_sentence_each(page):
    first = page.locator(".card").first
    assert first.bounding_box()["y"] + first.bounding_box()["height"] < 1000
    sentence = first.locator(".short").inner_text()
    assert "farther from normal than" in sentence and " left" in sentence


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_in_both_schemes(browser, written, scheme):
    page = browser.new_page(color_scheme=scheme)
    page.goto(written.as_uri())
    light = """(name) => {
        const [r, g, b] = getComputedStyle(document.body)[name].match(/[0-9]+/g).map(Number);
        return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255; }"""
    text, ground = (page.evaluate(light, name) for name in ("color", "backgroundColor"))
    assert (text < 0.2 and ground > 0.9) if scheme == "light" else (text > 0.8 and ground < 0.2)
    page.close()


def test_nothing_is_wider_than_a_phone(browser, written):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(written.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator(".card").first.bounding_box()["y"] < 600
    page.close()


def test_controls_have_names_for_those_who_cannot_see(page):
    nameless = page.evaluate(
        """[...document.querySelectorAll('button, input, select')].filter((e) =>
        !(e.labels?.length || e.getAttribute('aria-label') || e.textContent.trim())).length"""
    )
    assert nameless == 0
    label = page.locator(".card").first.get_attribute("aria-label")
    assert "rejected" in label and "p-value" in label


def test_verdicts_are_exported_as_the_file_that_load_verdicts_reads(page, images, tmp_path):
    for name, verdict in (("good_00", "good"), ("dent_08", "defect"), ("stain_11", "unsure")):
        page.locator(".card", has_text=name).click()
        page.click(f'#detail [data-verdict="{verdict}"]')
        page.click("#close")
    assert "good after all" in page.locator(".card", has_text="good_00").inner_text()
    with page.expect_download() as download:
        page.click("#export")
    assert download.value.suggested_filename == "verdicts.csv"
    path = tmp_path / "verdicts.csv"
    download.value.save_as(path)
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [row["verdict"] for row in rows] == ["good", "defect", "unsure"]
    assert list(rows[0]) == "file digest verdict decision p_value route time".split()
    assert rows[1]["decision"] == "rejected" and rows[1]["time"].endswith("Z")
    found = load_verdicts(path)  # the digests are those of the files
    assert found.paths == [images.paths[0], images.paths[8]]
    assert found.y.tolist() == ["good", "defect"]


def test_a_second_click_takes_a_verdict_back_and_the_filter_follows(page):
    page.locator(".card", has_text="dent_10").click()
    page.keyboard.press("u")
    page.click("#close")
    page.select_option("#verdict", "unsure")
    assert names(page) == ["dent_10.png"]
    page.locator(".card").click()
    page.keyboard.press("u")
    page.click("#close")
    sync_api.expect(page.locator(".card")).to_have_count(0)
    page.select_option("#verdict", "none")
    assert len(names(page)) == len(KINDS)


def test_verdicts_outlive_the_page(browser, written):
    context = browser.new_context()
    page = context.new_page()
    page.goto(written.as_uri())
    page.locator(".card").first.click()
    page.keyboard.press("d")
    page.reload()
    sync_api.expect(page.locator("#export")).to_have_text("Save 1 verdicts (CSV)")
    context.close()


def test_verdicts_are_kept_by_file_whatever_pages_are_open(browser, pipe, images, tmp_path):
    context = browser.new_context()
    lists = [images.paths[:12], images.paths[::-1]]  # one more image, in another order
    pages = []
    for k, paths in enumerate(lists):
        pages.append(context.new_page())
        pages[k].goto(report(pipe, paths, tmp_path / f"{k}.html").as_uri())
    first, second = pages
    first.locator(".card", has_text="dent_08").focus()
    first.keyboard.press("d")
    sync_api.expect(second.locator("#export")).to_have_text("Save 1 verdicts (CSV)")
    second.locator(".card", has_text="stain_12").focus()
    second.keyboard.press("u")
    second.locator(".card", has_text="good_03").focus()
    second.keyboard.press("g")
    first.reload()
    sync_api.expect(first.locator("#export")).to_have_text("Save 2 verdicts (CSV)")
    found = [verdict_of(first, name) for name in ("dent_08", "good_03", "good_04")]
    assert found == ["defect", "good after all", None]
    first.locator(".card", has_text="dent_08").focus()
    first.keyboard.press("d")  # taken back, in all pages
    second.reload()
    sync_api.expect(second.locator("#export")).to_have_text("Save 2 verdicts (CSV)")
    context.close()


def test_the_page_stays_where_one_is(browser, pipe, tmp_path):
    pixels = np.random.default_rng(0).integers(90, 110, (200, 16, 16), dtype=np.uint8)
    written = report(pipe, pixels, tmp_path / "many.html", y=[*["good"] * 199, "big  scratch"])
    page = browser.new_page(viewport={"width": 800, "height": 600})
    page.goto(written.as_uri())
    focused = "document.activeElement.querySelector('.name').textContent"
    page.locator(".card").nth(40).click(modifiers=["Control"])
    page.locator(".card").nth(43).click(modifiers=["Shift"])
    page.locator('#selected [data-verdict="good"]').click()
    assert page.evaluate(focused) == names(page)[44]
    page.locator(".card").first.click()
    for _ in range(150):
        page.keyboard.press("ArrowRight")
    page.click("#close")
    page.wait_for_function(f"{focused} === document.querySelectorAll('.name')[150].textContent")
    page.select_option("#type", "big  scratch")  # a browser would make one blank of two
    assert names(page) == ["image 199"]
    page.close()


def test_a_browser_that_keeps_no_verdicts_says_so(browser, written, page):
    assert page.locator("#not-kept").is_hidden()
    forgetful = browser.new_page()
    forgetful.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new Error('none'); }})"
    )
    forgetful.goto(written.as_uri())
    assert "save them before you close" in forgetful.locator("#not-kept").inner_text()
    forgetful.locator(".card").first.focus()
    forgetful.keyboard.press("d")
    assert forgetful.locator("#export").inner_text() == "Save 1 verdicts (CSV)"
    forgetful.close()


def test_many_images_are_made_into_cards_as_one_scrolls(browser, pipe, images, tmp_path):
    pixels = np.random.default_rng(0).integers(90, 110, (150, 16, 16), dtype=np.uint8)
    written = report(pipe, pixels, tmp_path / "many.html")
    page = browser.new_page(viewport={"width": 800, "height": 600})
    page.goto(written.as_uri())
    assert page.locator(".card").count() == 60
    page.locator("#more").scroll_into_view_if_needed()
    sync_api.expect(page.locator(".card")).to_have_count(120)
    page.locator("#more").focus()
    page.keyboard.press("Enter")  # for those who do not scroll
    sync_api.expect(page.locator(".card")).to_have_count(150)
    assert page.locator("#more").is_hidden()
    assert page.locator("#type").count() == 0  # nothing is known of what they show
    page.close()


def test_names_and_errors_that_look_like_markup_stay_text(browser, pipe, images, tmp_path):
    name = "<img src=x onerror=document.title='owned'>.png"
    (tmp_path / name).write_text("no image")
    written = report(pipe, [images.paths[0], str(tmp_path / name)], tmp_path / "odd.html")
    page = browser.new_page()
    page.goto(written.as_uri())
    page.select_option("#decision", "unreadable")
    page.locator(".card").click()
    assert "It cannot be read" in page.locator("#why").inner_text()
    assert page.locator("#why img, #detail-title img").count() == 0
    assert page.title() == "Inspection report"
    page.close()
