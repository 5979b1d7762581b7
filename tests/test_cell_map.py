"""The map of cells: its picture, and its page in a real browser, offline and quiet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from myelos import taxonomy
from myelos.report import RESEARCH_USE
from myelos.report.cell_map import PER_SHEET, CellMap, _data, draw, sheets, write_map
from test_browser import Opened

TYPES = ("blast", "lymphocyte", "eosinophil", "erythroblast")
HOSTILE = "<script>alert(1)</script>&amp;"


def cells(count: int = 300, *, title: str = "Map") -> CellMap:
    """A cloud for each type; the thumbnail of cell i is of one colour, known from i."""
    rng = np.random.default_rng(0)
    kinds = [TYPES[i % 4] for i in range(count)]
    centres = np.array([[0, 0], [9, 0], [0, 9], [9, 9]])
    places = np.array([centres[i % 4] for i in range(count)]) + rng.normal(0, 1, (count, 2))
    predicted = ["lymphocyte" if i % 20 == 0 else kind for i, kind in enumerate(kinds)]
    alike = (np.arange(count)[:, None] + np.arange(4, 24, 4)) % count
    ids = [f"{i:012x}-1" for i in range(count)]
    return CellMap(places, kinds, predicted, ids, [swatch(i) for i in range(count)], alike, title)


def tone(index: int) -> tuple[int, int, int]:
    return 40 * (index % 6) + 20, 40 * (index // 6 % 6) + 20, 40 * (index // 36 % 6) + 20


def swatch(index: int) -> bytes:
    image = np.full((48, 48, 3), tone(index)[::-1], np.uint8)
    return bytes(cv2.imencode(".png", image)[1])


def test_picture_has_the_colours_of_the_taxonomy() -> None:
    picture = cv2.imdecode(np.frombuffer(draw(cells()), np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    assert picture.shape[0] > 800
    for name in TYPES:
        colour = taxonomy.cell_type(name).colour
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        near = (np.abs(picture - wanted).max(axis=2) < 45).sum()
        assert near > 500, name


def test_sheets_hold_every_thumbnail_in_its_place() -> None:
    count = PER_SHEET + 40
    side, found = sheets([swatch(i) for i in range(count)])
    assert (side, len(found)) == (48, 2)
    for index in (0, 31, 32, PER_SHEET - 1, PER_SHEET, count - 1):
        sheet = cv2.imdecode(np.frombuffer(found[index // PER_SHEET], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        row, column = divmod(index % PER_SHEET, 32)
        middle = sheet[row * 48 + 24, column * 48 + 24]
        np.testing.assert_allclose(middle.astype(int), tone(index), atol=12)


def test_a_finer_word_for_the_label_is_no_difference() -> None:
    kinds, said = ["neutrophil", "lymphocyte"], ["segmented_neutrophil", "eosinophil"]
    ids = ["a-1", "b-1"]
    found = _data(CellMap(np.zeros((2, 2)), kinds, said, ids, [swatch(0), swatch(1)], np.zeros((2, 1), int)), 48)
    akin = [point[3] in found["types"][point[2]][3] for point in found["points"]]
    assert akin == [True, False]


def test_page_is_one_file_and_takes_no_name_at_its_word(tmp_path: Path) -> None:
    _, page = write_map(tmp_path, cells(30, title=HOSTILE))
    text = page.read_text(encoding="utf-8")
    assert HOSTILE not in text
    assert "&lt;script&gt;" in text
    assert RESEARCH_USE in text
    assert re.findall(r"(?:src|href)=\"(?!data:)", text) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cell_map.html", "cell_map.png"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("map")
    write_map(folder, cells())
    return folder


@pytest.fixture
def opened(browser: Any, out: Path) -> Iterator[Opened]:
    view = Opened(browser, out / "cell_map.html")
    view.page.wait_for_function("window.cellMap && cellMap.visible() > 0")
    yield view
    assert view.complaints == []
    assert [url for url in view.requests if not url.startswith(("file:", "data:"))] == []
    view.page.close()


def at(view: Opened, index: int) -> tuple[float, float]:
    """Where a cell lies in the window."""
    box = view.page.locator("#map").bounding_box()
    x, y = view.page.evaluate(f"cellMap.screen({index})")
    border = view.page.evaluate("document.getElementById('map').clientLeft")
    return box["x"] + border + x, box["y"] + border + y


def shown_colour(view: Opened) -> list[int]:
    """The middle of the large picture, as people see it."""
    content = np.frombuffer(view.page.locator("#crop").screenshot(), np.uint8)
    picture = cv2.imdecode(content, cv2.IMREAD_COLOR)
    return [int(value) for value in picture[picture.shape[0] // 2, picture.shape[1] // 2, ::-1]]


@pytest.mark.browser
def test_a_point_shows_its_cell(opened: Opened) -> None:
    for index in (0, 1, 150, 299):
        opened.page.mouse.move(*at(opened, index))
        shown = opened.page.evaluate("cellMap.current()")
        assert opened.text("#said .mono") == f"{shown:012x}-1"
        assert opened.text("#said .name") == taxonomy.cell_type(TYPES[shown % 4]).label
        np.testing.assert_allclose(shown_colour(opened), tone(shown), atol=14)
        near, wanted = at(opened, shown), at(opened, index)
        assert np.hypot(near[0] - wanted[0], near[1] - wanted[1]) < 1.5  # itself, or one just there


@pytest.mark.browser
def test_keys_walk_keep_and_zoom(opened: Opened) -> None:
    page = opened.page
    page.locator("#map").focus()
    page.keyboard.press("ArrowRight")
    first = page.evaluate("cellMap.current()")
    before = page.evaluate(f"cellMap.screen({first})")
    page.keyboard.press("ArrowRight")
    second = page.evaluate("cellMap.current()")
    assert second != first
    assert page.evaluate(f"cellMap.screen({second})")[0] > before[0]
    far = [page.evaluate(f"cellMap.screen({i})")[0] for i in (0, 1)]
    page.keyboard.press("+")
    zoomed = [page.evaluate(f"cellMap.screen({i})")[0] for i in (0, 1)]
    assert abs(zoomed[1] - zoomed[0]) == pytest.approx(1.4 * abs(far[1] - far[0]))
    page.keyboard.press("0")
    assert [page.evaluate(f"cellMap.screen({i})")[0] for i in (0, 1)] == pytest.approx(far)
    page.keyboard.press("Escape")
    assert page.evaluate("cellMap.current()") == -1
    assert "Point at a cell" in opened.text("#said")


@pytest.mark.browser
def test_wheel_keeps_the_place_under_the_pointer_and_dragging_moves(opened: Opened) -> None:
    page = opened.page
    start = at(opened, 7)
    page.mouse.move(*start)
    page.mouse.wheel(0, -600)
    assert at(opened, 7) == pytest.approx(start, abs=1.5)  # the wheel's place is in whole pixels
    page.mouse.down()
    page.mouse.move(start[0] + 60, start[1] + 40, steps=4)
    page.mouse.up()
    assert at(opened, 7) == pytest.approx((start[0] + 60, start[1] + 40), abs=2)
    assert page.evaluate("cellMap.current()") == 7  # dragging keeps nothing, but the pointer is still over it


@pytest.mark.browser
def test_types_are_hidden_and_seen_alone(opened: Opened) -> None:
    page = opened.page
    page.locator('#legend button[data-type="blast"]').click()
    assert page.evaluate("cellMap.visible()") == 225
    page.locator("#all").click()
    assert page.evaluate("cellMap.visible()") == 300
    page.locator('#legend button[data-type="eosinophil"]').dblclick()
    assert page.evaluate("cellMap.visible()") == 75
    assert page.locator('#legend button[aria-pressed="true"]').count() == 1


@pytest.mark.browser
def test_only_where_label_and_answer_differ(opened: Opened) -> None:
    page = opened.page
    assert opened.text("#number") == "15"
    page.locator("#differing").check()
    assert page.evaluate("cellMap.visible()") == 15
    page.locator("#by").select_option("3")  # all of them are called lymphocytes
    assert page.evaluate("cellMap.visible()") == 15
    page.locator('#legend button[data-type="lymphocyte"]').click()
    assert page.evaluate("cellMap.visible()") == 0


@pytest.mark.browser
def test_similar_cells_are_one_click_away(opened: Opened) -> None:
    opened.page.mouse.click(*at(opened, 10))
    kept = opened.page.evaluate("cellMap.current()")
    assert opened.page.locator("#row button").count() == 5
    opened.page.locator("#row button").first.click()
    assert opened.page.evaluate("cellMap.current()") == (kept + 4) % 300


@pytest.mark.browser
def test_five_thousand_cells(browser: Any, tmp_path: Path) -> None:
    _, path = write_map(tmp_path, cells(5000))
    view = Opened(browser, path)
    view.page.wait_for_function("window.cellMap && cellMap.visible() === 5000")
    for index in (0, 2500, 4999):
        view.page.mouse.move(*at(view, index))
        shown = view.page.evaluate("cellMap.current()")
        np.testing.assert_allclose(shown_colour(view), tone(shown), atol=14)
    assert view.complaints == []
    view.page.close()
