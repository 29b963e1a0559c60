"""The page in a real browser: one browser and one server for all tests."""

import io
import re
import shutil
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lanpaint.masks import edited
from lanpaint.serve.app import PAGE, make_app
from lanpaint.serve.jobs import Limits
from lanpaint.serve.settings import table
from lanpaint.serve.shelf import Model, make_shelf
from lanpaint.serve.work import Worker
from tests.serve.conftest import StubPainter

EXAMPLE = PAGE / "examples" / "digits-3.png"


class Slow(StubPainter):
    """The model ``slow`` waits for a gate; all others are painted by their models."""

    def __init__(self, worker):
        super().__init__()
        self.worker = worker

    def __call__(self, job, number, output, report):
        slow = job.settings["model"] == "slow"
        (super().__call__ if slow else self.worker)(job, number, output, report)


@pytest.fixture(scope="session")
def site():
    """The address of a server, its painter, and its jobs."""
    uvicorn = pytest.importorskip("uvicorn", reason="the page needs: pip install 'lanpaint[serve]'")
    from lanpaint.painting import open_painter

    shelf = make_shelf(["digits"]) | {"slow": Model("slow", "slow", False, 8, True)}
    defaults = {name: setting.default for name, setting in table(list(shelf)).items()}
    painter = Slow(Worker(shelf, defaults, {"digits": open_painter("digits")}.get))  # loaded before anybody waits
    app = make_app(shelf, [painter], limits=Limits(patience=1.5))
    bound = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    site = type("Site", (), {})()
    site.address, site.painter, site.jobs = f"http://127.0.0.1:{bound.getsockname()[1]}/", painter, app.server.jobs
    yield site
    painter.gate.set()
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="session")
def browser():
    """Chromium, from the system or as playwright has installed it."""
    api = pytest.importorskip("playwright.sync_api", reason="tests of the page need: pip install playwright")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except api.Error:
            pytest.skip("tests of the page need a browser: apt install chromium, or playwright install chromium")
        yield browser
        browser.close()


@pytest.fixture
def context(browser, site):
    """A window of 1000 × 700 pixels, in which no script may fail and nothing may come from elsewhere."""
    made, wrong = browser.new_context(viewport={"width": 1000, "height": 700}), []
    made.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    made.on("weberror", lambda error: wrong.append(str(error.error)))
    made.on("request", lambda asked: asked.url.startswith((site.address, "blob:")) or wrong.append(asked.url))
    site.painter.gate.set()
    yield made
    site.painter.gate.set()
    made.close()
    assert not wrong


@pytest.fixture
def page(context, site):
    return opened(context, site)


def opened(context, site, picture=EXAMPLE):
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(site.address)
    page.wait_for_selector("body[data-ready]")
    if picture:
        page.set_input_files("#file", picture)
        page.wait_for_selector("body.has-picture")
    return page


def spot(page, x, y):
    """Where pixel (x, y) of the picture is in the window."""
    return page.evaluate(
        "([x, y]) => { const v = lanpaint.view, b = v.canvas.getBoundingClientRect();"
        "return [b.left + v.x + x * v.scale, b.top + v.y + y * v.scale]; }",
        [x, y],
    )


def until(page, condition, *argument):
    """Wait until a JavaScript expression is true. Playwright's own waiting needs eval, which the page forbids."""
    end = time.monotonic() + 60
    while not page.evaluate(condition, *argument):
        assert time.monotonic() < end, f"{condition} has not become true; the page says {page.inner_text('#status')!r}"
        page.wait_for_timeout(30)


def says(page, text):
    """Wait until the status line has this text in it."""
    until(page, "text => document.getElementById('status').textContent.includes(text)", text)


def drag(page, *points):
    page.mouse.move(*spot(page, *points[0]))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*spot(page, *point), steps=3)
    page.mouse.up()


def mask_of(page):
    side = page.evaluate("[lanpaint.view.mask.height, lanpaint.view.mask.width]")
    return torch.tensor(page.evaluate("Array.from(lanpaint.view.mask.data)")).reshape(side)


def painted(page):
    """Press Paint, and the result as a picture."""
    with page.expect_response(lambda answer: answer.url.endswith("/results/0")) as answer:
        page.click("#paint")
    page.wait_for_selector("#compare:not([hidden])")
    return Image.open(io.BytesIO(page.request.get(answer.value.url).body()))


def pixels(picture):
    return torch.from_numpy(np.array(picture.convert("L"))).long()


def test_a_stroke_is_painted_anew_and_all_else_is_kept(page):
    drag(page, (1.5, 3.5), (5.5, 3.5))
    hole = mask_of(page) == 255
    assert 5 <= hole.sum() <= 16
    page.fill("#set-steps", "5")
    page.fill("#set-seed", "3")
    result, truth = painted(page), Image.open(EXAMPLE)
    assert result.mode == truth.mode == "L"
    assert torch.equal(pixels(result)[~hole], pixels(truth)[~hole])
    assert (pixels(result) != pixels(truth))[hole].any()
    assert '"seed": 3' in result.text["lanpaint"]
    assert page.inner_text("#status") == "Done."


def test_several_results_are_compared_saved_and_painted_on(page):
    drag(page, (2.5, 2.5), (5.5, 5.5))
    page.fill("#set-steps", "2")
    page.fill("#set-count", "3")
    painted(page)
    until(page, "lanpaint.results.items.length === 3")
    page.locator("#split").fill("400")
    assert page.evaluate("lanpaint.view.split") == 0.4
    assert page.get_by_label("shown as it was before").get_attribute("aria-valuetext") == "40 % before, 60 % after"
    with page.expect_download() as download:
        page.click("#list li:nth-child(2) a")
    assert download.value.suggested_filename == "digits-3-1.png"
    saved = Image.open(download.value.path())
    page.click("#list li:nth-child(2) .actions button")
    page.fill("#set-count", "1")
    again = painted(page)
    hole = mask_of(page) == 255
    assert hole.any()
    assert torch.equal(pixels(again)[~hole], pixels(saved)[~hole])


def test_undo_and_redo_take_back_strokes_one_by_one(page):
    states = [mask_of(page)]
    for row in (1, 4, 6):
        drag(page, (1.5, row + 0.5), (4.5, row + 0.5))
        states.append(mask_of(page))
    page.keyboard.press("i")
    states.append(mask_of(page))
    for state in states[-2::-1]:
        page.keyboard.press("Control+z")
        assert torch.equal(mask_of(page), state)
    for state in states[1:]:
        page.keyboard.press("Control+Shift+z")
        assert torch.equal(mask_of(page), state)


def test_rectangle_lasso_eraser_and_strength(page):
    page.keyboard.press("r")
    drag(page, (1, 1), (5, 4))
    expected = torch.zeros(8, 8, dtype=torch.long)
    expected[1:4, 1:5] = 255
    assert torch.equal(mask_of(page), expected)
    page.keyboard.press("e")
    page.evaluate("lanpaint.view.size = 1")
    drag(page, (1.5, 1.5), (1.5, 1.6))
    expected[1, 1] = 0
    assert torch.equal(mask_of(page), expected)
    page.keyboard.press("l")
    page.locator("#strength").fill("40")
    drag(page, (4.1, 4.1), (8, 4.1), (8, 8), (4.1, 8))
    expected[4:, 4:] = 102
    assert torch.equal(mask_of(page), expected)


def test_grow_and_shrink_are_those_of_the_library_and_feather_is_soft(page):
    page.keyboard.press("r")
    drag(page, (2, 2), (5, 4))
    start = mask_of(page)
    for button, pixels_ in (("grow", 2), ("shrink", -1)):
        page.click("#mask-menu summary")
        page.fill("#by", str(abs(pixels_)))
        page.click(f"#{button}")
        grown = edited(start[None].float() / 255, grow=pixels_)[0] * 255
        assert torch.equal(mask_of(page), grown.long())
        page.keyboard.press("Escape")
        page.click("#undo")
    page.click("#mask-menu summary")
    page.click("#feather")
    assert page.evaluate("lanpaint.view.mask.isSoft")


def test_a_saved_mask_is_loaded_as_it_was(page):
    page.keyboard.press("r")
    page.locator("#strength").fill("60")
    drag(page, (2, 1), (7, 4))
    before = mask_of(page)
    page.click("#mask-menu summary")
    with page.expect_download() as download:
        page.click("#save-mask")
    page.click("#clear")
    assert not mask_of(page).any()
    page.set_input_files("#mask-file", download.value.path())
    until(page, "lanpaint.view.mask.past.length === 3")
    assert torch.equal(mask_of(page), before)


def test_the_brush_is_sized_by_key_and_wheel_and_the_wheel_zooms(page):
    size, scale = page.evaluate("[lanpaint.view.size, lanpaint.view.scale]")
    page.keyboard.press("]")
    assert page.evaluate("lanpaint.view.size") > size
    page.keyboard.press("[")
    assert page.evaluate("lanpaint.view.size") == size
    page.mouse.move(*spot(page, 2, 2))
    place = spot(page, 2, 2)
    page.mouse.wheel(0, -200)
    until(page, f"lanpaint.view.scale > {scale}")
    assert spot(page, 2, 2) == pytest.approx(place, abs=1)  # what is under the pointer stays there
    page.keyboard.down("Shift")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Shift")
    until(page, f"lanpaint.view.size > {size}")


def test_dragging_the_frame_paints_beyond_the_picture(page):
    page.keyboard.press("f")
    drag(page, (8, 4), (12, 4))
    assert page.evaluate("lanpaint.view.pad") == [0, 0, 4, 0]
    assert page.input_value("#pad-2") == "4"
    page.fill("#set-steps", "2")
    result = painted(page)
    assert result.size == (12, 8)
    assert torch.equal(pixels(result)[:, :8], pixels(Image.open(EXAMPLE)))


def test_cancel_and_paint_again(page, site):
    drag(page, (2.5, 2.5), (5.5, 5.5))
    page.select_option("#set-model", "slow")
    site.painter.gate.clear()
    page.click("#paint")
    assert page.evaluate("document.activeElement.id") == "cancel"
    page.click("#cancel")
    says(page, "Cancelled.")
    assert mask_of(page).any()
    site.painter.gate.set()
    painted(page)


def test_cancel_counts_while_the_picture_is_being_sent(page, site):
    drag(page, (2.5, 2.5), (5.5, 5.5))
    page.select_option("#set-model", "slow")
    site.painter.gate.clear()
    before, held = site.painter.evaluations, []
    page.route("**/api/inpaint", lambda route: held.append(route))
    page.click("#paint")
    while not held:
        page.wait_for_timeout(30)
    page.click("#cancel")
    held[0].continue_()
    says(page, "Cancelled.")
    assert site.painter.evaluations == before


def test_a_reload_in_mid_run_loses_nothing(page, site):
    drag(page, (2.5, 2.5), (5.5, 5.5))
    before = mask_of(page)
    page.select_option("#set-model", "slow")
    page.fill("#set-seed", "77")
    site.painter.gate.clear()
    page.click("#paint")
    says(page, "evaluations")
    page.wait_for_timeout(500)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.wait_for_selector("#cancel:not([hidden])")
    assert torch.equal(mask_of(page), before)
    assert page.input_value("#set-seed") == "77"
    site.painter.gate.set()
    says(page, "Done.")
    assert page.locator("#list li").count() == 1


def test_two_tabs_paint_their_own_pictures_one_after_the_other(page, context, site):
    other = opened(context, site, PAGE / "examples" / "digits-5.png")
    site.painter.gate.clear()
    for tab, told in ((page, "evaluations"), (other, "Waiting")):  # the first is painted before the other asks
        drag(tab, (1.5, 1.5), (2.5, 1.5))
        tab.select_option("#set-model", "slow")
        tab.click("#paint")
        says(tab, told)
    site.painter.gate.set()
    for tab in (page, other):
        says(tab, "Done.")
    corner = (
        "() => { const c = new OffscreenCanvas(8, 8), p = c.getContext('2d');"
        "p.drawImage(lanpaint.results.items[0].picture, 0, 0); return p.getImageData(3, 3, 1, 1).data[0]; }"
    )
    truths = [Image.open(PAGE / "examples" / f"digits-{n}.png").getpixel((3, 3)) for n in (3, 5)]
    assert [page.evaluate(corner), other.evaluate(corner)] == truths
    other.close()


def test_leaving_the_page_cancels_its_job(page, site):
    drag(page, (1.5, 1.5), (2.5, 1.5))
    page.select_option("#set-model", "slow")
    site.painter.gate.clear()
    page.click("#paint")
    says(page, "evaluations")
    job = list(site.jobs.jobs.values())[-1]
    page.close()
    end = time.monotonic() + 20
    while job.state != "cancelled" and time.monotonic() < end:
        time.sleep(0.05)
    assert job.state == "cancelled"


def test_errors_are_told_in_one_line_and_the_page_goes_on(page):
    page.click("#paint")
    assert page.inner_text("#status") == "Paint over what should change first."
    page.fill("#set-steps", "0")
    drag(page, (2.5, 2.5), (5.5, 5.5))
    page.click("#paint")
    assert "from 1 to 200" in page.inner_text("#status")
    page.set_input_files("#file", Path(__file__))
    says(page, "no picture")
    page.fill("#set-steps", "1")
    painted(page)


def test_a_dropped_picture_is_opened_and_its_clear_pixels_are_the_mask(context, site):
    page = opened(context, site, None)
    page.evaluate(
        """async () => {
          const canvas = new OffscreenCanvas(8, 8), pen = canvas.getContext("2d");
          pen.fillRect(0, 0, 8, 4);
          const data = new DataTransfer();
          data.items.add(new File([await canvas.convertToBlob()], "dropped.png", { type: "image/png" }));
          document.getElementById("stage").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
        }"""
    )
    page.wait_for_selector("body.has-picture")
    assert (mask_of(page)[4:] == 255).all()
    assert not mask_of(page)[:4].any()


def test_keyboard_alone(context, site):
    page = opened(context, site, None)

    def tab_to(selector):
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"Tab does not reach {selector}")

    tab_to("#examples button")
    page.keyboard.press("Enter")
    page.wait_for_selector("body.has-picture")
    tab_to("#view")
    page.keyboard.press("Space")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    page.keyboard.press("Space")
    assert (mask_of(page) == 255).sum() >= 3
    tab_to("#set-steps")
    page.keyboard.type("2")
    with page.expect_response(lambda answer: answer.url.endswith("/results/0")):
        page.keyboard.press("Control+Enter")
    page.wait_for_selector("#compare:not([hidden])")


def test_a_phone_has_room_for_all_and_fingers_paint_pan_and_zoom(browser, site):
    phone = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = opened(phone, site)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.touchscreen.tap(*spot(page, 3.5, 3.5))
    assert mask_of(page)[3, 3] == 255
    before, scale = mask_of(page), page.evaluate("lanpaint.view.scale")
    devtools = phone.new_cdp_session(page)
    (ax, ay), (bx, by) = spot(page, 2, 2), spot(page, 6, 6)
    for kind, gap in (("touchStart", 0), ("touchMove", 20), ("touchMove", 40), ("touchEnd", None)):
        fingers = [] if gap is None else [
            {"x": ax - gap, "y": ay - gap, "id": 0}, {"x": bx + gap, "y": by + gap, "id": 1},
        ]  # fmt: skip
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
    until(page, f"lanpaint.view.scale > {scale}")
    assert torch.equal(mask_of(page), before)
    for selector in ("#tools button", "#paint", "#open", "#undo"):
        box = page.locator(selector).first.bounding_box()
        assert min(box["width"], box["height"]) >= 32
    assert axe_lines(page) == []
    phone.close()


def axe_lines(page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")
    found = axe.Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['help']} {[node['html'][:80] for node in one['nodes']]}" for one in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser, site, scheme):
    site.painter.gate.set()
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=scheme, bypass_csp=True)
    page = opened(context, site, None)
    assert axe_lines(page) == []
    page.set_input_files("#file", EXAMPLE)
    page.wait_for_selector("body.has-picture")
    drag(page, (1.5, 1.5), (2.5, 1.5))
    page.fill("#set-steps", "1")
    painted(page)
    for selector in ("#more", "#recipe", "#mask-menu"):
        page.click(f"{selector} > summary")
    until(page, "document.getElementById('command').textContent !== ''")
    assert axe_lines(page) == []
    page.keyboard.press("Escape")
    page.click("#help")
    assert axe_lines(page) == []
    page.goto(site.address + "api")
    assert axe_lines(page) == []
    context.close()


def test_no_style_or_script_names_another_site():
    for path in PAGE.glob("*.*"):
        if path.suffix in (".html", ".css", ".js"):
            text = path.read_text(encoding="utf-8")
            assert not re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", re.sub(r"http://www\.w3\.org/\S+", "", text))
