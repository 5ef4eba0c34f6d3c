"""The static turntable in a real browser: the slider changes the picture, with the keyboard too."""

import os
import shutil

import numpy as np
import pytest

from densebook.viz import turntable, widgets

pytestmark = pytest.mark.browser
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--no-sandbox --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader --disable-background-networking "
    "--disable-component-update --disable-sync --no-first-run"
).split()


@pytest.fixture
def page():
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser.new_page()
        browser.close()


def test_slider_turns_the_page(page, tmp_path):
    frames = [np.full((40, 60, 3), 0.1 * i, np.float32) for i in range(9)]
    file = tmp_path / "turntable.html"
    file.write_text(
        "<!doctype html><title>t</title>" + widgets.turntable_html(frames, turntable.angles(9), alt="A grey field"), encoding="utf-8"
    )
    errors = []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.goto(file.as_uri())
    image, slider = page.locator("figure img"), page.get_by_role("slider", name="Turn: A grey field")
    seen = [image.get_attribute("src")]
    slider.focus()
    for _ in range(8):
        page.keyboard.press("ArrowRight")
        seen.append(image.get_attribute("src"))
    assert len(set(seen)) == 9, "every position shows its own frame"
    assert image.get_attribute("alt") == "A grey field, turned by 320 degrees"
    assert page.locator("output").inner_text() == "320 degrees"
    slider.fill("0")
    assert image.get_attribute("src") == seen[0], "and back"
    assert image.evaluate("i => i.naturalWidth") == 60
    assert errors == []


def test_two_turntables_on_one_page_do_not_meet(page, tmp_path):
    one, two = ([np.full((8, 8, 3), base + 0.05 * i, np.float32) for i in range(3)] for base in (0.0, 0.5))
    file = tmp_path / "two.html"
    file.write_text(widgets.turntable_html(one, alt="one") + widgets.turntable_html(two, alt="two"), encoding="utf-8")
    page.goto(file.as_uri())
    before = [page.locator("figure img").nth(i).get_attribute("src") for i in range(2)]
    page.get_by_role("slider", name="Turn: two").fill("2")
    after = [page.locator("figure img").nth(i).get_attribute("src") for i in range(2)]
    assert after[0] == before[0] and after[1] != before[1]
