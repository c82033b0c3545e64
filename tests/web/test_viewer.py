"""The viewer in a browser without WebGL: what it shows is what the archive keeps."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from node.web.server import WebServer
from tests.web.browser import Window, chromium
from tests.web.conftest import House
from tests.web.content import SLICES, layers, pixels

SLOPES = {"zero_filled": 1.0, "super_resolved": 1.0, "reference": 0.5, "expected_error": 0.125}
SEEDS = {"zero_filled": 0, "super_resolved": 1, "reference": 2, "expected_error": 3}
SIDE_BY_SIDE = ("zero_filled", "super_resolved", "reference")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium("--disable-3d-apis") as browser:
        yield browser


@pytest.fixture(scope="module")
def window(browser: Browser, served: House) -> Iterator[Window]:
    window = Window(browser, WebServer(served.site).address, "otto")
    yield window
    window.close()


@pytest.fixture
def page(window: Window, served: House) -> Iterator[Page]:
    window.page.goto("about:blank")
    yield window.viewer(served.shown.infer)
    assert window.complaints == []


def expected(layer: str, index: int) -> Any:
    """The intensities that the archive keeps, in float64."""
    return pixels(SEEDS[layer])[index] * SLOPES[layer]


def readings(page: Page) -> dict[str, float]:
    """What the table shows of the pixel under the cursor."""
    texts = page.eval_on_selector_all("[data-value]", "cells => cells.map(c => [c.dataset.value, c.textContent])")
    return {name: float(text.replace("−", "-")) for name, text in texts}


def canvas_colour(page: Page, x: float, y: float) -> list[int]:
    return page.evaluate(
        "([x, y]) => { const e = document.getElementById('viewer').engine, d = e.density;"
        " return [...e.context.getImageData(x * d, y * d, 1, 1).data].slice(0, 3) }",
        [x, y],
    )  # type: ignore[no-any-return]


def after_drawing(page: Page) -> None:
    page.evaluate("() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")


def test_every_pixel_of_a_slice_is_what_the_archive_keeps(page: Page) -> None:
    assert page.evaluate("() => document.createElement('canvas').getContext('webgl')") is None
    shown = int(page.get_attribute("#viewer", "data-shown") or 0) - 1
    rows, columns = pixels(0).shape[1:]
    got = page.evaluate(
        """([rows, columns]) => { const e = document.getElementById('viewer').engine, all = [];
           for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) all.push(e.valuesOf(r, c).values);
           return all }""",
        [rows, columns],
    )
    for layer in SLOPES:
        values = np.array([pixel[layer] for pixel in got]).reshape(rows, columns)
        assert np.array_equal(values, expected(layer, shown)), layer
    difference = np.array([pixel["difference"] for pixel in got]).reshape(rows, columns)
    assert np.array_equal(difference, expected("super_resolved", shown) - expected("zero_filled", shown))


def test_the_value_under_the_mouse_is_that_of_the_pixel_drawn_there(page: Page) -> None:
    """In each pane, with pixels magnified and not interpolated: colour and reading are of the same pixel."""
    page.locator("#interpolate").uncheck()
    page.evaluate("() => document.getElementById('viewer').engine.window('t1', 16384, 32768)")
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    for pane, layer in enumerate(SIDE_BY_SIDE):
        for share in (0.31, 0.5, 0.66):
            x, y = box["width"] / 3 * (pane + share), box["height"] * (0.3 + share / 3)
            page.mouse.move(box["x"] + x, box["y"] + y)
            after_drawing(page)
            place = page.locator("#place").inner_text()
            row, column = (int(part.split()[-1]) for part in place.strip(", ").split(","))
            shown = int(page.get_attribute("#viewer", "data-shown") or 0) - 1
            values = readings(page)
            assert values[layer] == expected(layer, shown)[row, column]
            assert values["difference"] == values["super_resolved"] - values["zero_filled"]
            low, width = (0, 60000) if layer != "reference" else (0, 32768)
            grey = round(float(np.clip((values[layer] - low) / width * 255, 0, 255)))
            assert np.abs(np.array(canvas_colour(page, x, y)) - grey).max() <= 1


def test_slices_zoom_pan_and_window_go_together(page: Page) -> None:
    state = "() => { const e = document.getElementById('viewer').engine; return {slice: e.slice, windows: e.windows, ...e.state} }"
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.wheel(0, 100)
    page.wait_for_selector(f"#viewer[data-shown='{SLICES // 2 + 2}']", state="attached")
    assert page.locator("#slice-text").inner_text() == f"{SLICES // 2 + 2} / {SLICES}"
    before = page.evaluate(state)
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1] - 40)
    page.mouse.up()
    after = page.evaluate(state)
    assert after["windows"]["t2"]["width"] > before["windows"]["t2"]["width"]
    assert after["windows"]["t2"]["center"] < before["windows"]["t2"]["center"]
    assert after["windows"]["t1"] == before["windows"]["t1"]
    page.mouse.move(*middle)
    page.mouse.down(button="right")
    page.mouse.move(middle[0] + 30, middle[1])
    page.mouse.up(button="right")
    assert page.evaluate(state)["view"]["x"] > 0
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    assert page.evaluate(state)["view"]["zoom"] > 1
    page.locator('[data-window="t1.width"]').fill("12345")
    page.locator('[data-window="t1.width"]').press("Enter")
    assert page.evaluate(state)["windows"]["t1"]["width"] == 12345
    page.get_by_role("button", name="Reset").click()
    assert page.evaluate(state)["windows"] == before["windows"]
    assert page.evaluate(state)["view"] == {"zoom": 1, "x": 0, "y": 0}


def test_the_slider_shows_one_layer_on_each_side_and_the_difference_is_signed(page: Page) -> None:
    page.locator("#interpolate").uncheck()
    page.keyboard.press("2")
    assert page.get_by_role("button", name="Slider").get_attribute("aria-pressed") == "true"
    page.locator("#right").select_option("reference")
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 100)
    page.mouse.up()
    assert page.evaluate("() => document.getElementById('viewer').engine.state.divider") == pytest.approx(0.6, abs=0.01)
    found = [
        page.evaluate(f"() => document.getElementById('viewer').engine.locate({box['width'] * s}, 200).layer")
        for s in (0.5, 0.7)
    ]
    assert found == ["zero_filled", "reference"]
    page.locator("#canvas").focus()
    page.keyboard.press("3")
    after_drawing(page)
    labels = json.loads(page.get_attribute("#viewer", "data-labels") or "")
    assert labels["difference"] == "SR - zero-filled", "nobody knows whether it is an error"
    for sign in (1, -1):  # a pixel where SR is brighter is orange, one where it is darker is blue
        red, _, blue = page.evaluate(
            """sign => { const e = document.getElementById('viewer').engine, g = e.geometry;
               const values = [...Array(g.rows * g.columns).keys()].map(i => e.valuesOf(Math.floor(i / g.columns), i % g.columns));
               const found = values.find(v => v.row > 15 && v.row < 25 && v.column > 20 && v.column < 36 && v.values.difference * sign > 20000);
               const pane = e.panes()[1], at = e.locate(pane.x, pane.y, pane), s = at.scale;
               const x = pane.x + (found.column + 0.5 - at.column) * s, y = pane.y + (found.row + 0.5 - at.row) * s;
               return [...e.context.getImageData(x * e.density, y * e.density, 1, 1).data] }""",
            sign,
        )[:3]
        assert (red > blue) == (sign > 0)


def test_the_trust_map_is_shown_beside_the_result_with_a_window_of_its_own(page: Page, served: House) -> None:
    page.locator("#interpolate").uncheck()
    page.locator("#canvas").focus()
    page.keyboard.press("4")
    assert page.get_by_role("button", name="Expected error").get_attribute("aria-pressed") == "true"
    page.locator("[data-window='trust.width']").fill("6000")
    page.keyboard.press("Enter")
    after_drawing(page)
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    x, y = box["width"] * 0.75, box["height"] * 0.45
    page.mouse.move(box["x"] + x, box["y"] + y)
    after_drawing(page)
    row, column = (int(part.split()[-1]) for part in page.locator("#place").inner_text().strip(", ").split(","))
    shown = int(page.get_attribute("#viewer", "data-shown") or 0) - 1
    value = readings(page)["expected_error"]
    assert value == expected("expected_error", shown)[row, column]
    heat = [round(255 * float(np.clip(3 * min(1, value / 6000) - start, 0, 1))) for start in range(3)]
    assert np.abs(np.array(canvas_colour(page, x, y)) - heat).max() <= 1
    assert page.evaluate("() => document.getElementById('viewer').engine.windows.trust") == {
        "center": 3000,
        "width": 6000,
    }

    name = served.shown.name
    assert name is not None
    served.site.archive.put_layers(name, layers(trust=False))
    try:
        page.reload()
        page.wait_for_selector("#viewer[data-shown]", state="attached")
        assert page.get_by_role("button", name="Expected error").count() == 0
        assert page.locator("[data-value='expected_error']").count() == 0
        page.locator("#canvas").focus()
        page.keyboard.press("4")
        assert "no trust map" in page.locator("#status").inner_text()
        assert page.evaluate("() => document.getElementById('viewer').engine.state.layout") != "trust"
    finally:
        served.site.archive.put_layers(name, layers())


def test_a_region_is_measured_on_all_layers_at_once(page: Page) -> None:
    page.keyboard.press("m")
    for _ in range(6):
        page.keyboard.press("Shift+ArrowDown")
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("ArrowLeft")
    region = page.evaluate("() => document.getElementById('viewer').engine.state.region")
    found = page.evaluate("() => document.getElementById('viewer').engine.measure()")
    shown = int(page.get_attribute("#viewer", "data-shown") or 0) - 1
    rows, columns = np.mgrid[0:40, 0:56] + 0.5
    inside = ((rows - region["row"]) / region["rows"]) ** 2 + (
        (columns - region["column"]) / region["columns"]
    ) ** 2 <= 1
    assert found["pixels"] == inside.sum() > 100
    layers = {name: expected(name, shown) for name in SLOPES}
    layers["difference"] = layers["super_resolved"] - layers["zero_filled"]
    for name, values in layers.items():
        assert found["layers"][name]["mean"] == pytest.approx(values[inside].mean(), rel=1e-9)
        assert found["layers"][name]["sd"] == pytest.approx(values[inside].std(ddof=1), rel=1e-9)
    assert "±" in page.locator("[data-region=reference]").inner_text()
    page.keyboard.press("Delete")
    assert page.evaluate("() => document.getElementById('viewer').engine.measure()") is None


def test_everything_goes_by_keyboard(page: Page) -> None:
    get = "name => { const e = document.getElementById('viewer').engine; return name in e.state ? e.state[name] : e[name] }"
    keys = page.keyboard
    keys.press("Home")
    page.wait_for_selector("#viewer[data-shown='1']", state="attached")
    keys.press("ArrowDown")
    page.wait_for_selector("#viewer[data-shown='2']", state="attached")
    keys.press("End")
    page.wait_for_selector(f"#viewer[data-shown='{SLICES}']", state="attached")
    keys.press("+")
    assert page.evaluate(get, "view")["zoom"] == 1.25
    keys.press("Shift+ArrowRight")
    assert page.evaluate(get, "view")["x"] == 10
    before = page.evaluate(get, "windows")
    keys.press("t")
    keys.press("w")
    keys.press(".")
    after = page.evaluate(get, "windows")
    assert after["t2"] == before["t2"]
    assert after["t1"]["width"] > before["t1"]["width"]
    assert after["t1"]["center"] < before["t1"]["center"]
    keys.press("i")
    assert page.evaluate(get, "interpolate") is False
    keys.press("c")
    keys.press("Shift+ArrowUp")
    keys.press("ArrowLeft")
    assert page.evaluate(get, "cursor") == {"row": 10, "column": 27}
    assert readings(page)["reference"] == expected("reference", SLICES - 1)[10, 27]
    assert "Row 10, column 27" in page.locator("#status").inner_text()
    keys.press("Escape")
    keys.press("2")
    keys.press("ArrowRight")
    assert page.evaluate(get, "divider") == pytest.approx(0.52)
    keys.press("d")
    assert page.evaluate("() => document.documentElement.dataset.theme") == "dark"
    keys.press("?")
    assert page.get_by_role("dialog", name="Keys").is_visible()
    keys.press("Escape")
    keys.press("r")
    assert page.evaluate(get, "view") == {"zoom": 1, "x": 0, "y": 0}
    with page.expect_download() as download:
        keys.press("s")
    assert download.value.suggested_filename.endswith(f"-slice-{SLICES}.png")


def test_a_slice_comes_once_and_is_asked_for_again_by_its_tag(page: Page, served: House) -> None:
    url = f"/jobs/{served.shown.infer}/layers/slices/0"
    answer = page.request.get(url)
    assert answer.body() == b"".join(pixels(seed)[0].astype("<u2").tobytes() for seed in SEEDS.values())
    again = page.request.get(url, headers={"If-None-Match": answer.headers["etag"]})
    assert again.status == 304
    assert page.request.get(f"/jobs/{served.shown.infer}/layers/slices/{SLICES}").status == 404
    assert page.request.get(f"/jobs/{served.failed.infer}/layers").status == 404
