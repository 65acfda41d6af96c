"""The page in a real, headless Chromium, over a real model: scans in, colours out; by mouse and by keyboard; errors, keys
and busy servers; nothing on the console, nothing asked of anybody else."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import laspy
import numpy as np
import pytest
from conftest import small_model
from matplotlib.image import imread
from numpy.typing import NDArray
from service import KEY, serving

from pointseg.core.labels import LabelMap
from pointseg.data.features import FeatureSpec
from pointseg.engine.bundle import TrainedModel, save_bundle
from pointseg.engine.predictor import Predictor
from pointseg.pages.figures import on_dark
from pointseg.serving.smoke import sample_scan

pytestmark = [pytest.mark.browser, pytest.mark.slow]
STATE = "pointsegPage.state()"
SHOWN = "body[data-state=shown]:not([aria-busy])"
BACKGROUND = (17, 20, 23)
WORDS = ["threads=1", "accelerator=cpu"]
FRAMES = (
    1.0  # a second, with all points of a scan, without a GPU and beside other work; with a GPU it is the screen's rate
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that tells a few classes apart, on disk."""
    features = FeatureSpec(use=("x", "y", "z", "remission", "range", "height"))
    settings = {"points_per_pass": 4096, "votes": 1, "remission_mean": 0.25}
    model, label_map = small_model(len(features), seed=21), LabelMap.load("semantickitti")
    return save_bundle(
        tmp_path_factory.mktemp("served") / "street", TrainedModel(model, features, label_map, settings, {})
    )


@pytest.fixture(scope="module")
def predictor(bundle: Path) -> Predictor:
    return Predictor.load(bundle)


@pytest.fixture(scope="module")
def url(bundle: Path) -> Iterator[str]:
    with serving(bundle.parent, [f"checkpoint={bundle}", *WORDS]) as service:
        yield f"{service.url}/"


@pytest.fixture(scope="module")
def locked(bundle: Path) -> Iterator[str]:
    with serving(bundle.parent, [f"checkpoint={bundle}", *WORDS], POINTSEG_API_KEY=KEY) as service:
        yield f"{service.url}/"


Open = Callable[..., Any]


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Opens a page; at the end of a test nothing may have gone wrong in it."""
    pages, said = [], []

    def opened(address: str, prepare: Callable[[Any], None] = lambda page: None, **settings: Any) -> Any:
        page = browser.new_page(**{"viewport": {"width": 1200, "height": 800}, "accept_downloads": True, **settings})
        pages.append(page)
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append("a dialog"), dialog.dismiss()))
        page.on("request", lambda r: None if r.url.startswith((address, "data:", "blob:")) else said.append(r.url))
        prepare(page)
        page.goto(address)
        return page

    yield opened
    for page in pages:
        page.close()
    refusals = "error: Failed to load resource: the server responded with a status of 4"  # the browser's own words
    assert [text for text in said if not text.startswith((refusals, refusals[:-1] + "503"))] == []


@pytest.fixture
def page(open_page: Open, url: str) -> Any:
    return open_page(url)


@pytest.fixture(scope="module")
def scan() -> NDArray[np.float32]:
    """(6000, 4): points of a street, in the order of the sensor."""
    return np.frombuffer(sample_scan(), "<f4").reshape(-1, 4)[::18][:6000].copy()


def send(page: Any, name: str, content: bytes) -> None:
    page.set_input_files("#file", files=[{"name": name, "mimeType": "application/octet-stream", "buffer": content}])


def csv_of(scan: NDArray[np.float32]) -> bytes:
    rows = [",".join(map(str, row)) for row in scan.tolist()]  # digits enough for the very same numbers
    return "\n".join(["x,y,z,intensity", *rows]).encode()


def laz_of(scan: NDArray[np.float32]) -> bytes:
    """Coordinates in tenths of millimetres, intensity in 16 bits."""
    header = laspy.LasHeader(point_format=6, version="1.4")
    header.scales = np.full(3, 1e-4)
    las = laspy.LasData(header)
    las.x, las.y, las.z = scan[:, :3].astype(np.float64).T
    las.intensity = np.round(scan[:, 3] * 65535).astype(np.uint16)
    file = io.BytesIO()
    las.write(file, do_compress=True)
    return file.getvalue()


def send_scan(page: Any, scan: NDArray[np.float32], name: str = "street.bin") -> None:
    show(page, name, scan.tobytes())


def show(page: Any, name: str, content: bytes) -> None:
    send(page, name, content)
    page.wait_for_selector(SHOWN)
    page.wait_for_selector(f"#name:text-is('{name}')")


def drawn(page: Any) -> NDArray[np.int64]:
    """(height, width, 3), 0 to 255: what is seen on the stage, without its rounded edge."""
    picture = imread(io.BytesIO(page.locator("#stage canvas").screenshot()), format="png")
    return np.rint(255 * np.asarray(picture)[14:-14, 14:-14, :3]).astype(np.int64)


def lit(picture: NDArray[np.int64]) -> int:
    """Pixels that are not background."""
    return int((np.abs(picture - BACKGROUND).max(axis=-1) > 4).sum())


def legend(page: Any) -> dict[str, int]:
    """Points by class, as the page lists them."""
    rows = page.locator("#legend li").all()
    return {
        row.locator(".class").inner_text(): int(row.locator(".count").inner_text().replace(",", "")) for row in rows
    }


def expected(predictor: Predictor, points: NDArray[np.float32]) -> dict[str, int]:
    names = {
        group[0]: name for group, name in zip(predictor.label_map.classes, predictor.label_map.class_names, strict=True)
    }
    ids, counts = np.unique(predictor(points), return_counts=True)
    return {names[int(raw)]: int(count) for raw, count in zip(ids, counts, strict=True)}


# ---- scans -------------------------------------------------------------------------------------------------------------


def test_a_bin_file_is_coloured_and_counted(page: Any, scan: NDArray[np.float32], predictor: Predictor) -> None:
    send_scan(page, scan)
    counts = legend(page)
    assert counts == expected(predictor, scan) and len(counts) > 2
    assert list(counts.values()) == sorted(counts.values(), reverse=True)
    shares = [float(text.rstrip(" %").lstrip("< ")) for text in page.locator("#legend .share").all_inner_texts()]
    assert sum(shares) == pytest.approx(100, abs=1)
    assert lit(drawn(page)) > 3000
    assert "6,000 points" in page.inner_text("#status") and page.inner_text("#announce") == page.inner_text("#status")


@pytest.mark.parametrize(("name", "content"), [("street.csv", csv_of), ("street.laz", laz_of)])
def test_other_kinds_look_the_same(
    page: Any, scan: NDArray[np.float32], name: str, content: Callable[[NDArray[np.float32]], bytes]
) -> None:
    send_scan(page, scan)
    picture, counts = drawn(page), legend(page)
    show(page, name, content(scan))
    assert (drawn(page) == picture).all(axis=-1).mean() > 0.99  # a tenth of a millimetre moves a few pixels
    found = legend(page)
    assert sum(abs(found.get(kind, 0) - count) for kind, count in counts.items()) < 0.02 * len(scan)


def test_a_dropped_file_is_scored(page: Any, scan: NDArray[np.float32]) -> None:
    page.evaluate(
        """(values) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Float32Array(values)], "dropped.bin"));
          for (const kind of ["dragover", "drop"]) {
            document.querySelector("#stage").dispatchEvent(
              new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
          }
        }""",
        scan[:500].ravel().tolist(),
    )
    page.wait_for_selector(SHOWN)
    assert page.inner_text("#name") == "dropped.bin" and page.evaluate(STATE)["points"] == 500


def test_the_synthetic_street(page: Any) -> None:
    page.click("#sample")
    page.wait_for_selector(SHOWN, timeout=60000)
    assert page.evaluate(STATE)["points"] == len(sample_scan()) // 16
    rate = page.evaluate("pointsegPage.measure(5)")
    print(f"{rate:.1f} frames a second with all {page.evaluate(STATE)['points']:,} points")
    assert rate > FRAMES


def test_a_model_that_was_swapped_brings_its_classes(
    open_page: Open, url: str, scan: NDArray[np.float32], predictor: Predictor
) -> None:
    old = {"model": {"name": "other", "version": "6"}, "classes": [{"id": 10, "name": "old", "colour": "#123456"}]}
    page = open_page(url, lambda page: page.route("**/metadata", lambda route: route.fulfill(json=old), times=1))
    page.wait_for_selector("#model:has-text('other/6, 1 class')")
    send_scan(page, scan)
    assert legend(page) == expected(predictor, scan) and "PointNetSeg" in page.inner_text("#model")


def test_points_without_numbers_have_no_class_and_no_place(page: Any, scan: NDArray[np.float32]) -> None:
    some = scan[:1000].copy()
    some[::10, 0] = np.nan
    file = io.BytesIO()
    np.save(file, some)
    for name, content in (("holes.npy", file.getvalue()), ("holes.bin", some.tobytes())):
        show(page, name, content)
        assert legend(page)["no class"] == 100
        assert "100 of 1000" in page.inner_text("#notes").replace(",", "")
        assert lit(drawn(page)) > 500


def test_notes_are_shown(page: Any, scan: NDArray[np.float32]) -> None:
    file = io.BytesIO()
    np.save(file, scan[:, :3])
    show(page, "bare.npy", file.getvalue())
    assert "no remission" in page.inner_text("#notes")


def test_times_and_model(page: Any, scan: NDArray[np.float32]) -> None:
    send_scan(page, scan)
    listed = dict(
        zip(page.locator("#times dt").all_inner_texts(), page.locator("#times dd").all_inner_texts(), strict=True)
    )
    assert {"Upload", "Read", "Wait", "Predict", "Network", "Total, drawn"} <= set(listed)
    assert all(value.endswith((" ms", " s")) for name, value in listed.items() if name not in ("Model", "Request"))
    assert f"Model {listed['Model']}, 19 classes" == page.inner_text("#model")


# ---- classes, view, downloads ------------------------------------------------------------------------------------------


def test_a_class_is_hidden_by_keyboard(page: Any, scan: NDArray[np.float32]) -> None:
    send_scan(page, scan)
    before = lit(drawn(page))
    box = page.locator("#legend input").first
    box.focus()
    page.keyboard.press("Space")
    assert not box.is_checked() and len(page.evaluate(STATE)["hidden"]) == 1
    assert lit(drawn(page)) < before - 100
    page.keyboard.press("Space")
    assert lit(drawn(page)) == before
    page.focus("[data-all=off]")
    page.keyboard.press("Enter")
    assert lit(drawn(page)) == 0 and not page.locator("#legend input:checked").count()


def test_arrow_keys_turn_the_view(page: Any, scan: NDArray[np.float32]) -> None:
    send_scan(page, scan)
    page.focus("#stage canvas")
    camera, picture = page.evaluate(STATE)["camera"], drawn(page)
    page.keyboard.press("ArrowLeft")
    turned = page.evaluate(STATE)["camera"]
    assert np.linalg.norm(turned) == pytest.approx(np.linalg.norm(camera)) and abs(turned[1]) > 0.5
    page.wait_for_timeout(400)
    assert not np.array_equal(drawn(page), picture)


def test_all_can_be_reached_in_the_order_of_the_page(page: Any, scan: NDArray[np.float32]) -> None:
    send_scan(page, scan)
    page.evaluate("document.activeElement.blur()")
    order = []
    for _ in range(40):
        page.keyboard.press("Tab")
        order.append(
            page.evaluate(
                "(({ id, tagName, dataset }) => id || Object.values(dataset)[0] || tagName)(document.activeElement)"
            )
        )
        if order[-1] == "off":
            break
    wanted = ["file", "sample", "behind", "above", "size", "CANVAS", "save-labels", "save-picture", "on", "off"]
    assert [name for name in order if name in wanted] == wanted
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_the_picture_from_above_is_a_png(page: Any, scan: NDArray[np.float32], tmp_path: Path) -> None:
    send_scan(page, scan)
    with page.expect_download() as download:
        page.click("#save-picture")
    assert download.value.suggested_filename == "street.png"
    download.value.save_as(tmp_path / "street.png")
    picture = np.rint(255 * imread(tmp_path / "street.png")[..., :3]).astype(int)
    assert picture.shape == (1024, 1024, 3)
    near = scan[(np.abs(scan[:, :2]) < 49).all(axis=1)]
    rows, columns = (np.floor(512 - 10.24 * near[:, axis]).astype(int) for axis in (0, 1))
    seen = np.abs(picture[rows, columns] - BACKGROUND).max(axis=-1) > 4
    assert len(near) > 4000 and seen.all()  # each point is where it should be: ahead is up, left is left
    assert lit(picture) < 4 * len(near) + 3000  # and nothing is where no point is


def test_labels_are_those_of_the_model(
    page: Any, scan: NDArray[np.float32], predictor: Predictor, tmp_path: Path
) -> None:
    show(page, "street.csv", csv_of(scan))
    with page.expect_download() as download:
        page.click("#save-labels")
    assert download.value.suggested_filename == "street.label"
    download.value.save_as(tmp_path / "street.label")
    np.testing.assert_array_equal(np.fromfile(tmp_path / "street.label", "<u4"), predictor(scan))


def test_colours_are_those_of_reports(page: Any, predictor: Predictor) -> None:
    colors = ["#{:02x}{:02x}{:02x}".format(*color) for color in predictor.label_map.colors[1:].tolist()]
    found = page.evaluate("(colors) => colors.map(pointsegPage.onDark)", colors)
    np.testing.assert_allclose(found, 255 * on_dark(predictor.label_map)[1:], atol=0.51)


def test_a_click_tells_the_class_of_a_point(page: Any, scan: NDArray[np.float32], predictor: Predictor) -> None:
    send_scan(page, scan)
    box = page.locator("#stage canvas").bounding_box()
    for x in range(100, int(box["width"]) - 100, 20):
        page.mouse.click(box["x"] + x, box["y"] + box["height"] / 2)
        if page.inner_text("#picked").startswith("Point at"):
            break
    assert page.inner_text("#picked").rpartition(": ")[2] in legend(page)


# ---- what may go wrong ---------------------------------------------------------------------------------------------------


def test_a_bad_file_is_told_with_its_remedy(page: Any, scan: NDArray[np.float32]) -> None:
    send(page, "short.bin", scan.tobytes()[:-5])
    page.wait_for_selector("#failed:not([hidden])")
    assert page.get_attribute("#failed", "role") == "alert"
    assert "bytes" in page.inner_text("#what") and page.inner_text("#remedy")
    assert page.inner_text("#where") == "short.bin"
    send(page, "holes.laz", b"no tile")
    page.wait_for_selector("#where:text-is('holes.laz')")
    send(page, "holes.txt", b"1 2 3")
    page.wait_for_selector("#what:has-text('.txt')")
    assert "Kinds" in page.inner_text("#remedy")
    page.click("#dismiss")
    assert page.locator("#failed").is_hidden()
    send_scan(page, scan)  # goes on


def test_an_error_leaves_the_last_scan(page: Any, scan: NDArray[np.float32]) -> None:
    send_scan(page, scan)
    send(page, "short.bin", b"123")
    page.wait_for_selector("#failed:not([hidden])")
    assert page.inner_text("#name") == "street.bin" and page.evaluate(STATE)["points"] == len(scan)


def test_the_key_is_asked_for_used_and_not_kept(
    open_page: Open, locked: str, scan: NDArray[np.float32], predictor: Predictor
) -> None:
    page = open_page(locked)
    assert page.locator("#keys").is_hidden()
    send(page, "street.bin", scan.tobytes())
    page.wait_for_selector("#keys:not([hidden])")
    assert page.evaluate("document.activeElement.id") == "key"
    for typed in ("wrong", "naïve", KEY):
        page.wait_for_selector("#keys:not([hidden])")
        page.fill("#key", typed)
        page.keyboard.press("Enter")
    page.wait_for_selector(SHOWN)
    assert page.locator("#keys").is_hidden() and page.input_value("#key") == ""
    assert set(legend(page)) <= set(predictor.label_map.class_names) and "19 classes" in page.inner_text("#model")
    send_scan(page, scan[:100], "second.bin")  # without asking again
    assert KEY not in page.url + page.content()
    kept = page.evaluate("JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie])")
    assert kept == '[{},{},""]'
    page.reload()
    send(page, "street.bin", scan.tobytes())
    page.wait_for_selector("#keys:not([hidden])")


def test_a_busy_server_is_asked_again(page: Any, scan: NDArray[np.float32]) -> None:
    asked = []

    def busy_twice(route: Any) -> None:
        asked.append(route.request.url)
        if len(asked) < 3:
            route.fulfill(status=503, headers={"Retry-After": "1"}, body="{}")
        else:
            route.continue_()

    page.route("**/score", busy_twice)
    send(page, "street.bin", scan.tobytes())
    page.wait_for_selector("#doing:has-text('trying again in 1 s')")
    page.wait_for_selector(SHOWN)
    assert len(asked) == 3


@pytest.mark.parametrize("how", ["Escape", "button"])
def test_a_scan_under_way_is_cancelled(page: Any, scan: NDArray[np.float32], how: str) -> None:
    page.route("**/score", lambda route: route.fulfill(status=503, headers={"Retry-After": "60"}, body="{}"))
    send(page, "street.bin", scan.tobytes())
    page.wait_for_selector("#doing:has-text('busy')")
    page.keyboard.press("Escape") if how == "Escape" else page.click("#cancel")
    assert page.locator("#progress").is_hidden() and not page.evaluate(STATE)["busy"]
    assert page.inner_text("#announce") == "Cancelled" and page.locator("#failed").is_hidden()
    page.unroute("**/score")
    send_scan(page, scan)


def test_a_server_that_is_gone_is_told(browser: Any, bundle: Path, scan: NDArray[np.float32]) -> None:
    with serving(bundle.parent, [f"checkpoint={bundle}", *WORDS]) as service:
        page = browser.new_page()
        page.goto(f"{service.url}/")
    send(page, "street.bin", scan.tobytes())
    page.wait_for_selector("#what:has-text('connection')")
    page.close()


def test_an_answer_that_is_cut_off_is_not_shown(page: Any, scan: NDArray[np.float32]) -> None:
    page.route("**/score", lambda route: route.fulfill(status=200, headers={"X-Points": "6000"}, body=b"123"))
    send(page, "street.bin", scan.tobytes())
    page.wait_for_selector("#what:has-text('not complete')")
    assert page.evaluate(STATE)["points"] == 0


def test_without_webgl_there_are_counts_and_the_picture(
    open_page: Open, url: str, browser: Any, scan: NDArray[np.float32], predictor: Predictor
) -> None:
    page = browser.new_page()
    page.add_init_script(
        """const real = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
          return kind === "webgl" ? null : real.call(this, kind, ...more);
        };"""
    )
    page.goto(url)
    send_scan(page, scan)
    assert "no WebGL" in page.inner_text("#stage") and legend(page) == expected(predictor, scan)
    page.close()


# ---- screens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_needs_no_scrolling_sideways(
    open_page: Open, url: str, scan: NDArray[np.float32], scheme: str
) -> None:
    page = open_page(url, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    send_scan(page, scan, f"a-very-long-name-{'of-a-scan-' * 8}.bin")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("#stage canvas").bounding_box()["width"] > 300
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, back[4:-1].split(","))) < 150) == (scheme == "dark")
