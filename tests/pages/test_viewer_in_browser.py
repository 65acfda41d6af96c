"""The viewer in a real, headless Chromium: classes, modes, scans, mouse, touch, keyboard; nothing on the console, nothing
fetched."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import make_assessment
from matplotlib.image import imread
from numpy.typing import NDArray

from pointseg.pages.score_page import Subject, write_report

pytestmark = pytest.mark.browser
STATE = "pointsegViewer.state()"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("viewer") / "report.html"
    return write_report(path, Subject("made up", make_assessment(points=4000)), draws=100)


@pytest.fixture
def page(browser: Any, file: Path) -> Iterator[Any]:
    """The open page; at the end of a test nothing may have gone wrong in it."""
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    said: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append("a dialog"), dialog.dismiss()))
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else said.append(r.url))
    page.goto(file.as_uri())
    yield page
    page.close()
    assert said == []


def drawn(page: Any) -> NDArray[np.int64]:
    """(height, width, 3), 0 to 255: what is seen of the scan."""
    picture = imread(io.BytesIO(page.locator("#viewer canvas").screenshot()), format="png")
    return np.rint(255 * np.asarray(picture)[2:-2, 2:-2, :3]).astype(
        np.int64
    )  # its edge may share pixels with the page


def pixels(picture: NDArray[np.int64], color: tuple[int, int, int]) -> int:
    return int((np.abs(picture - color).max(axis=-1) <= 2).sum())


@pytest.mark.slow
def test_a_click_on_a_class_hides_its_points_in_every_mode(page: Any) -> None:
    shown = make_assessment(points=4000).shown[0]
    magenta = (255, 0, 255)  # class 1
    assert page.evaluate(STATE)["drawn"] == 4000
    assert pixels(drawn(page), magenta) > 200
    button = page.locator("#viewer button[data-class='1']")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert page.evaluate(STATE)["hidden"] == [1]
    assert page.evaluate(STATE)["drawn"] == np.count_nonzero(shown.truth != 1)
    assert pixels(drawn(page), magenta) == 0
    page.click("button[data-mode=prediction]")
    assert page.evaluate(STATE)["drawn"] == np.count_nonzero(shown.prediction != 1)
    assert pixels(drawn(page), magenta) == 0
    button.click()
    assert page.evaluate(STATE)["drawn"] == 4000
    assert pixels(drawn(page), magenta) > 200


@pytest.mark.slow
def test_modes_show_other_things_from_the_same_place(page: Any) -> None:
    pictures, cameras = [], []
    page.locator("#viewer").scroll_into_view_if_needed()
    box = page.locator("#viewer canvas").bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 380, box["y"] + 230, steps=4)
    page.mouse.up()
    for mode in ("truth", "prediction", "errors"):
        page.click(f"button[data-mode={mode}]")
        assert page.locator(f"button[data-mode={mode}]").get_attribute("aria-pressed") == "true"
        assert page.evaluate(STATE)["mode"] == mode
        pictures.append(drawn(page))
        cameras.append(page.evaluate(STATE)["camera"])
    assert all(picture[..., 0].size - pixels(picture, (17, 20, 23)) > 1000 for picture in pictures)  # not blank
    assert not np.array_equal(pictures[0], pictures[1]) and not np.array_equal(pictures[1], pictures[2])
    assert cameras[0] == cameras[1] == cameras[2] and abs(cameras[0][1]) > 0.5
    assert pixels(pictures[2], (255, 72, 56)) > 50  # errors are red


@pytest.mark.slow
def test_all_none_and_the_other_scan(page: Any) -> None:
    page.click("button[data-all=off]")
    assert page.evaluate(STATE)["drawn"] == 0
    blank = drawn(page)
    assert blank.std(axis=(0, 1)).max() < 1
    page.click("button[data-scan='1']")
    assert (page.evaluate(STATE)["scan"], page.evaluate(STATE)["drawn"]) == (1, 0)
    page.click("button[data-all=on]")
    assert page.evaluate(STATE)["drawn"] == 4000


@pytest.mark.slow
def test_buttons_work_by_keyboard(page: Any) -> None:
    page.focus("button[data-mode=errors]")
    page.keyboard.press("Enter")
    assert page.evaluate(STATE)["mode"] == "errors"
    page.focus("#viewer button[data-class='2']")
    page.keyboard.press("Space")
    assert page.evaluate(STATE)["hidden"] == [2]


@pytest.mark.slow
def test_a_click_on_a_point_tells_what_it_is(page: Any) -> None:
    page.click("button[data-view=above]")
    page.locator("#viewer").scroll_into_view_if_needed()
    box = page.locator("#viewer canvas").bounding_box()
    for x in range(100, int(box["width"]) - 100, 40):
        page.mouse.click(box["x"] + x, box["y"] + box["height"] / 2)
        text = page.locator("[data-part=note]").inner_text()
        if text.startswith("Point at"):
            break
    assert "truth" in text and "prediction" in text


# ---- the camera --------------------------------------------------------------------------------------------------------


def camera(page: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where it looks, and where it stands from there."""
    state = page.evaluate(STATE)
    return np.array(state["target"]), np.array(state["camera"]) - state["target"]


def angles(offset: NDArray[np.float64]) -> tuple[float, float]:
    """Azimuth and angle from z, in turns."""
    return float(np.arctan2(offset[1], offset[0]) / 2 / np.pi), float(
        np.arccos(offset[2] / np.linalg.norm(offset)) / 2 / np.pi
    )


def middle(page: Any) -> tuple[float, float, float]:
    """x and y of the canvas' middle in the window, and its height."""
    page.locator("#viewer canvas").scroll_into_view_if_needed()
    box = page.locator("#viewer canvas").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box["height"]


def drag(page: Any, dx: float, dy: float, button: str = "left") -> None:
    x, y, _ = middle(page)
    page.mouse.move(x, y)
    page.mouse.down(button=button)
    page.mouse.move(x + dx, y + dy, steps=4)
    page.mouse.up(button=button)


@pytest.mark.slow
def test_a_drag_turns_about_the_target_at_the_same_distance(page: Any) -> None:
    height = middle(page)[2]
    (_, before), picture = camera(page), drawn(page)
    drag(page, 60, 30)
    target, after = camera(page)
    assert np.linalg.norm(after) == pytest.approx(np.linalg.norm(before)) and not target.any()
    azimuth, polar = np.subtract(angles(after), angles(before))
    assert azimuth % 1 == pytest.approx(-60 / height % 1) and polar == pytest.approx(-30 / height)
    assert not np.array_equal(drawn(page), picture)
    drag(page, -60, -30)
    np.testing.assert_allclose(camera(page)[1], before, atol=1e-9)


@pytest.mark.slow
def test_a_drag_stops_at_the_poles(page: Any) -> None:
    height = middle(page)[2]
    distance = float(np.linalg.norm(camera(page)[1]))
    for down, z in ((1, distance), (-1, -distance)):
        for _ in range(3):
            drag(page, 0, down * 0.4 * height)
        np.testing.assert_allclose(camera(page)[1], [0, 0, z], atol=1e-9)
        assert pixels(drawn(page), (255, 0, 255)) > 200
    drag(page, 0, 0.25 * height)  # and comes back on the side that it left
    np.testing.assert_allclose(camera(page)[1], [-distance, 0, 0], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["right", "shift"])
def test_a_drag_with_the_right_button_or_shift_moves_with_the_pointer(page: Any, how: str) -> None:
    height, before = middle(page)[2], camera(page)[1]
    if how == "shift":
        page.keyboard.down("Shift")
    drag(page, 60, 30, "right" if how == "right" else "left")
    target, after = camera(page)
    np.testing.assert_allclose(after, before, atol=1e-9)
    metres = 2 * np.linalg.norm(before) * np.tan(np.radians(25)) / height  # of a pixel at the target
    right, up = np.array([0, -1, 0]), np.array([20, 0, 28]) / np.hypot(20, 28)  # seen from behind and above
    np.testing.assert_allclose(target, metres * (30 * up - 60 * right), atol=1e-6)


@pytest.mark.slow
def test_the_wheel_zooms_and_the_page_stays(page: Any) -> None:
    x, y, _ = middle(page)
    page.mouse.move(x, y)
    scrolled = page.evaluate("scrollY")
    distances = [np.linalg.norm(camera(page)[1])]
    direction = camera(page)[1] / distances[0]
    for pixels_down in (-100, -100, 200, 1e5, -1e6):
        page.mouse.wheel(0, pixels_down)
        page.evaluate("() => new Promise(requestAnimationFrame)")
        distances.append(np.linalg.norm(camera(page)[1]))
        np.testing.assert_allclose(camera(page)[1] / distances[-1], direction, atol=1e-9)
    start = distances[0]
    assert distances[1:4] == pytest.approx([start / 1.1, start / 1.21, start])
    assert distances[4:] == pytest.approx([1000, 0.5])  # no farther and no nearer
    assert page.evaluate("scrollY") == scrolled


@pytest.mark.slow
def test_two_fingers_zoom_and_move(page: Any) -> None:
    x, y, _ = middle(page)
    _, before = camera(page)
    fingers = page.context.new_cdp_session(page)

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": x + dx, "y": y + dy, "id": i} for i, (dx, dy) in enumerate(places)]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (-50, 0), (50, 0))
    touch("touchMove", (-100, 0), (100, 0))  # apart
    page.evaluate("() => new Promise(requestAnimationFrame)")
    target, after = camera(page)
    np.testing.assert_allclose(after, before / 2, atol=1e-9)
    touch("touchMove", (-100, 40), (100, 40))  # both down
    page.evaluate("() => new Promise(requestAnimationFrame)")
    np.testing.assert_allclose(camera(page)[1], after, rtol=0.05)
    assert camera(page)[0][2] > target[2] + 0.5
    touch("touchEnd")
    turned = camera(page)
    touch("touchStart", (0, 0))
    touch("touchMove", (60, 0))  # one alone turns
    page.evaluate("() => new Promise(requestAnimationFrame)")
    touch("touchEnd")
    np.testing.assert_allclose(camera(page)[0], turned[0])
    assert abs(angles(camera(page)[1])[0] - angles(turned[1])[0]) > 0.05


@pytest.mark.slow
def test_the_keyboard_moves_turns_and_zooms(page: Any) -> None:
    page.focus("#viewer canvas")
    target, before = camera(page)
    page.keyboard.press("ArrowRight")
    moved, after = camera(page)
    assert moved[1] < target[1] - 0.1  # to the right, looking along x
    np.testing.assert_allclose(after, before, atol=1e-9)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    assert camera(page)[0][2] > 0.1
    page.keyboard.press("ArrowDown")
    np.testing.assert_allclose(camera(page)[0], target, atol=1e-9)
    for key, axis in (("ArrowLeft", 0), ("ArrowUp", 1)):
        was = angles(camera(page)[1])
        page.keyboard.press(f"Shift+{key}")
        turn = (was[axis] - angles(camera(page)[1])[axis]) % 1
        assert 0.01 < turn < 0.03
    np.testing.assert_allclose(camera(page)[0], target, atol=1e-9)
    assert np.linalg.norm(camera(page)[1]) == pytest.approx(np.linalg.norm(before))
    page.keyboard.press("+")
    assert np.linalg.norm(camera(page)[1]) == pytest.approx(np.linalg.norm(before) / 1.1)
    page.keyboard.press("-")
    page.keyboard.press("Control+ArrowLeft")  # the browser's
    assert np.linalg.norm(camera(page)[1]) == pytest.approx(np.linalg.norm(before))


@pytest.mark.slow
def test_presets(page: Any) -> None:
    drag(page, 60, 30, "right")
    drag(page, 60, 30)
    page.click("button[data-view=above]")
    target, offset = camera(page)
    np.testing.assert_allclose([*target, *offset], [0, 0, 0, -0.01, 0, 75], atol=1e-6)
    page.click("button[data-view=behind]")
    target, offset = camera(page)
    np.testing.assert_allclose([*target, *offset], [0, 0, 0, -28, 0, 20], atol=1e-6)


@pytest.mark.slow
def test_points_are_drawn_and_clicked_where_perspective_puts_them(page: Any) -> None:
    drag(page, 90, -20)
    box, picture = page.locator("#viewer canvas").bounding_box(), drawn(page)
    target, offset = camera(page)
    back = offset / np.linalg.norm(offset)
    right = np.cross([0, 0, 1], back) / np.linalg.norm(np.cross([0, 0, 1], back))
    seen = (make_assessment(points=4000).shown[0].points[:, :3] - target - offset) @ np.stack(
        [right, np.cross(back, right), back]
    ).T
    seen = seen[seen[:, 2] < -10]
    places = seen[:, :2] / -seen[:, 2:] / np.tan(np.radians(25)) * [1, -1] * box["height"] / 2
    places += [box["width"] / 2, box["height"] / 2]
    inside = places[((places > 4) & (places < [box["width"] - 4, box["height"] - 4])).all(axis=1)]
    columns, rows = (inside - 2).astype(int).T  # the picture has no edge
    assert len(inside) > 500
    drawn_there = np.abs(picture[rows, columns] - [17, 20, 23]).max(axis=-1) > 2
    assert drawn_there.mean() > 0.99
    for x, y in inside[:5]:
        page.mouse.click(box["x"] + x, box["y"] + y)
        assert page.locator("[data-part=note]").inner_text().startswith("Point at")
        page.click("button[data-mode=truth]")  # other words again


@pytest.mark.slow
def test_the_slider_makes_points_larger(page: Any) -> None:
    before = pixels(drawn(page), (255, 0, 255))
    page.locator("#viewer input").fill("6")
    assert pixels(drawn(page), (255, 0, 255)) > 3 * before


# ---- drawing -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_lost_context_comes_back_with_the_picture(page: Any) -> None:
    page.click("#viewer button[data-class='2']")
    picture = drawn(page)
    page.evaluate(
        """async () => {
          const canvas = document.querySelector("#viewer canvas");
          const loss = canvas.getContext("webgl").getExtension("WEBGL_lose_context");
          const told = (name) => new Promise((done) => canvas.addEventListener(name, done, { once: true }));
          const lost = told("webglcontextlost");
          loss.loseContext();
          await lost;
          document.querySelector("#viewer button[data-class='1']").click();
          document.querySelector("#viewer button[data-class='1']").click();
          await new Promise((done) => setTimeout(done));
          const restored = told("webglcontextrestored");
          loss.restoreContext();
          await restored;
        }"""
    )
    assert pixels(picture, (255, 0, 255)) > 200
    np.testing.assert_array_equal(drawn(page), picture)


@pytest.mark.slow
def test_the_picture_is_kept_for_printing(page: Any) -> None:
    drag(page, 60, 30)  # in sight, where frames reach the screen
    page.wait_for_timeout(700)  # well after the last was drawn
    kept = page.evaluate(
        """() => {
          const gl = document.querySelector("#viewer canvas").getContext("webgl");
          const out = new Uint8Array(4 * gl.drawingBufferWidth * gl.drawingBufferHeight);
          gl.readPixels(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight, gl.RGBA, gl.UNSIGNED_BYTE, out);
          return out.filter((value, i) => i % 4 === 0 && value > 200).length;
        }"""
    )
    assert kept > 200


@pytest.mark.slow
def test_a_slow_machine_draws_fewer_points_while_it_moves_and_all_at_rest(browser: Any, tmp_path: Path) -> None:
    file = write_report(tmp_path / "slow.html", Subject("slow", make_assessment(2, 20000, show=1, worst=0)), draws=100)
    page = browser.new_page()
    page.add_init_script(
        """window.counts = [];
        const draw = WebGLRenderingContext.prototype.drawArrays;
        WebGLRenderingContext.prototype.drawArrays = function (kind, first, count) {
          counts.push(count);
          const until = performance.now() + 80;
          while (performance.now() < until);
          draw.call(this, kind, first, count);
        };"""
    )
    page.goto(file.as_uri())
    drag(page, 80, 0)
    drag(page, 80, 0)
    page.wait_for_timeout(600)
    counts = page.evaluate("counts")
    page.close()
    assert min(counts) == 10000 and counts[-1] == 20000


@pytest.mark.slow
@pytest.mark.parametrize(("ratio", "drawn_with"), [(1, 1), (1.5, 1.5), (3, 2)])
def test_as_many_pixels_as_the_screen_has_to_a_limit(browser: Any, file: Path, ratio: float, drawn_with: float) -> None:
    page = browser.new_page(viewport={"width": 1100, "height": 900}, device_scale_factor=ratio)
    page.goto(file.as_uri())
    for width in (1100, 900):  # also after the window has changed
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        canvas = page.evaluate(
            "(({ width, clientWidth }) => [width, clientWidth])(document.querySelector('#viewer canvas'))"
        )
        assert canvas[0] == pytest.approx(drawn_with * canvas[1], abs=1)
    page.close()


@pytest.mark.slow
def test_without_webgl_the_page_says_so(browser: Any, file: Path) -> None:
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    page.goto(file.as_uri())
    assert "no WebGL" in page.locator("[data-part=stage]").inner_text()
    assert not errors
    page.close()


@pytest.mark.slow
def test_a_narrow_screen_needs_no_scrolling_sideways(browser: Any, file: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("#viewer canvas").bounding_box()["width"] > 250
    page.close()
