"""The page in a real browser: offline, quiet, and correct while cells are corrected."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import missing
from myelos.metrics.intervals import clopper_pearson, probability_above
from myelos.report import RESEARCH_USE, ModelNote, ReportInput, load, recount, write
from report_sample import HOSTILE, finished, sample

pytestmark = pytest.mark.browser


class Opened:
    """A page, what it asked for, and what it complained about."""

    def __init__(self, browser: Any, path: Path) -> None:
        self.page = browser.new_page(viewport={"width": 1280, "height": 900}, accept_downloads=True)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: dialog.accept())
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).first.inner_text())

    def number(self, kind: str, what: str = "number") -> str:
        return str(self.page.locator(f'tr[data-type="{kind}"] [data-{what}]').text_content())


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    finished(folder, sample())
    return folder


@pytest.fixture
def opened(browser: Any, out: Path) -> Iterator[Opened]:
    view = Opened(browser, out / "report.html")
    yield view
    external = [url for url in view.requests if not url.startswith(("file:", "data:", "blob:"))]
    assert view.complaints == []
    assert external == []
    view.page.close()


def test_opens_quietly_and_shows_everything(opened: Opened) -> None:
    assert RESEARCH_USE in opened.text(".research")
    assert opened.page.locator(".cell").count() == 54
    assert opened.page.locator(".box").count() == 54
    broken = "imgs => imgs.filter(img => !img.complete || !img.naturalWidth).length"
    assert opened.page.locator(".cell img").evaluate_all(broken) == 0
    assert opened.text("#counted") == "45"
    assert opened.number("blast") == "9"
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert opened.page.evaluate(overflow) == 0


def test_live_numbers_are_those_of_python(opened: Opened) -> None:
    """The script's own intervals against scipy's, on counts from one cell to thousands."""
    for k, n in [(0, 10), (1, 1), (1, 500), (25, 500), (100, 500), (499, 500), (40, 20_000), (10_000, 20_000)]:
        low, high = opened.page.evaluate(f"statistics.interval({k}, {n}, 0.95)")
        assert (low, high) == pytest.approx(clopper_pearson(k, n), abs=1e-7)
        above = opened.page.evaluate(f"statistics.beta({n} - {k} + 0.5, {k} + 0.5, 1 - 0.05)")
        assert above == pytest.approx(probability_above(k, n, 0.05), abs=1e-7)


def test_reclassify_by_keyboard_and_undo(opened: Opened) -> None:
    page = opened.page
    page.locator('.cell[data-cell="000000000000-1"]').click()
    assert page.locator("#keys").is_visible()
    page.keyboard.press("m")
    assert (opened.number("blast"), opened.number("myelocyte")) == ("8", "10")
    assert opened.number("blast", "percent") == f"{100 * 8 / 45:.1f}"
    low, high = clopper_pearson(8, 45)
    assert opened.number("blast", "interval") == f"{100 * low:.1f} – {100 * high:.1f}"
    assert opened.text("#blasts") == f"{100 * 8 / 45:.1f}"
    chance = page.locator('tr[data-threshold="blast"][data-at="20.0"] [data-chance]').text_content()
    assert chance == f"{100 * probability_above(8, 45, 0.2):.1f} %"
    box = page.locator('.box[data-cell="000000000000-1"]')
    assert "c-myelocyte" in str(box.get_attribute("class"))
    page.keyboard.press("Control+z")
    assert (opened.number("blast"), opened.number("myelocyte")) == ("9", "9")
    assert opened.text("#state") == "No corrections"
    assert page.locator("#undo").is_disabled()


def test_arrows_move_and_capital_letters_work(opened: Opened) -> None:
    page = opened.page
    page.locator(".gallery.c-blast .cell").first.click()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+L")
    second = page.locator(".gallery.c-blast .cell").nth(1)
    assert "LYM" in second.inner_text()
    page.keyboard.press("ArrowDown")
    assert page.locator(".cell.selected").count() == 1
    assert page.locator(".gallery.c-blast .cell.selected").count() == 0


def test_unidentified_cells_enter_the_hundred(opened: Opened) -> None:
    opened.page.locator(".gallery.c-not_identifiable .cell").first.click()
    opened.page.keyboard.press("c")
    assert opened.text("#counted") == "46"
    assert opened.number("plasma_cell") == "1"
    beside = opened.page.locator('tr[data-beside="not_identifiable"] [data-number]').text_content()
    assert beside == "8"


def test_a_type_beside_the_count_takes_cells_out_of_it(opened: Opened) -> None:
    opened.page.locator(".gallery.c-blast .cell").first.click()
    opened.page.locator('.key[data-to="megakaryocyte"]').click()
    assert opened.text("#counted") == "44"
    assert opened.page.locator('tr[data-beside="megakaryocyte"] [data-number]').text_content() == "1"


def test_strike_out_from_a_field(opened: Opened) -> None:
    page = opened.page
    box = page.locator('.box[data-cell="000000000000-1"]')
    box.scroll_into_view_if_needed()
    box.click()
    page.keyboard.press("Delete")
    assert opened.text("#counted") == "44"
    assert "struck" in str(page.locator('.cell[data-cell="000000000000-1"]').get_attribute("class"))
    page.keyboard.press("l")
    assert opened.text("#counted") == "44", "a cell that was struck out has no type"


def add(opened: Opened, slide: str, start: tuple[float, float], end: tuple[float, float] | None = None) -> None:
    """Points are in pixels of the image."""
    svg = opened.page.locator(f'svg[data-slide="{slide}"]')
    svg.scroll_into_view_if_needed()
    area = svg.bounding_box()
    assert area is not None
    factor = area["width"] / 400
    opened.page.mouse.move(area["x"] + start[0] * factor, area["y"] + start[1] * factor)
    opened.page.mouse.down()
    if end:
        opened.page.mouse.move(area["x"] + end[0] * factor, area["y"] + end[1] * factor, steps=4)
    opened.page.mouse.up()


def test_add_by_mouse_and_undo(opened: Opened) -> None:
    page = opened.page
    add(opened, "000000000001", (300, 100), (340, 150))
    assert page.locator(".box").count() == 54, "nothing is added by accident"
    page.locator("#add").click()
    add(opened, "000000000001", (300, 100), (340, 150))
    page.keyboard.press("b")
    assert opened.number("blast") == "10"
    box = page.locator(".box.added")
    assert [float(str(box.get_attribute(name))) for name in ("x", "y", "width", "height")] == pytest.approx(
        [300, 100, 40, 50], abs=1.5
    )
    add(opened, "000000000001", (370, 380))
    assert page.locator(".box.added").count() == 2
    second = page.locator(".box.added").nth(1)
    assert float(str(second.get_attribute("y"))) + float(str(second.get_attribute("height"))) == 400, "cut at the edge"
    for _ in range(3):
        page.keyboard.press("z")
    assert page.locator(".box").count() == 54
    assert page.locator(".tag").count() == 54
    assert opened.text("#state") == "No corrections"


def test_saved_corrections_are_counted_again(opened: Opened, out: Path, tmp_path: Path) -> None:
    page = opened.page
    page.locator('.cell[data-cell="000000000000-1"]').click()
    page.locator("#why").fill("granules")
    page.locator("h1").click()
    page.keyboard.press("m")
    page.locator('.cell[data-cell="000000000001-6"]').click()
    page.keyboard.press("Delete")
    page.locator("#add").click()
    add(opened, "000000000002", (300, 300), (350, 360))
    page.keyboard.press("e")
    page.locator("#save").click()
    assert "missing" in str(page.locator("#who").get_attribute("class")), "nothing is saved without a name"
    page.locator("#who").fill("Dr <b>Reader</b>")
    with page.expect_download() as download:
        page.locator("#save").click()
    assert download.value.suggested_filename == "corrections.json"
    path = tmp_path / "corrections.json"
    download.value.save_as(path)
    rows = json.loads(path.read_text(encoding="utf-8"))["corrections"]
    assert [row["action"] for row in rows] == ["reclassify", "strike", "add"]
    assert rows[0]["why"] == "granules"
    assert {row["who"] for row in rows} == {"Dr <b>Reader</b>"}
    assert "saved" in opened.text("#state")
    folder = recount(out, path)
    again = load(folder).count
    assert str(again.counted) == opened.text("#counted")
    for share in again.types:
        assert opened.number(share.name) == str(share.number), share.name
        assert opened.number(share.name, "percent") == f"{share.percent:.1f}"
        assert opened.number(share.name, "interval") == f"{share.low:.1f} – {share.high:.1f}"
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert "Dr &lt;b&gt;Reader" in html


def test_every_printed_sheet_carries_the_sentence(browser: Any, out: Path, tmp_path: Path) -> None:
    view = Opened(browser, out / "report.html")
    view.page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True, print_background=True)
    view.page.emulate_media(media="print")
    assert not view.page.locator("#bench").is_visible()
    assert view.page.locator(".running.head").is_visible()
    view.page.close()
    if shutil.which("pdftotext") is None:
        missing("pdftotext is missing: the layout was checked, the sheets were not")
    import subprocess

    text = subprocess.run(
        ["pdftotext", "-layout", str(tmp_path / "report.pdf"), "-"], capture_output=True, text=True, check=True
    ).stdout
    sheets = text.rstrip("\f").split("\f")
    assert len(sheets) >= 2
    assert all(sheet.count(RESEARCH_USE) >= 2 for sheet in sheets)


def test_hostile_texts_are_harmless(browser: Any, tmp_path: Path) -> None:
    model = ModelNote(HOSTILE, description=HOSTILE, tested_on=(HOSTILE,))
    given = sample(fields=1, title=HOSTILE, models=(model,), warnings=(HOSTILE,), run={HOSTILE: HOSTILE})
    view = Opened(browser, write(tmp_path, given))
    assert view.page.evaluate("window.hacked") is None
    assert view.complaints == []
    assert view.text("h1") == HOSTILE
    view.page.close()


def test_the_policy_stops_what_gets_in(browser: Any, tmp_path: Path) -> None:
    """Were escaping ever to fail, the policy would still keep foreign code and foreign addresses out."""
    page = write(tmp_path, sample(fields=1))
    html = page.read_text(encoding="utf-8")
    attack = '<script>window.hacked=1</script><img src="http://127.0.0.1:9/x.png" onerror="window.hacked=2">'
    page.write_text(html.replace("</main>", attack + "</main>"), encoding="utf-8")
    view = Opened(browser, page)
    assert view.page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in complaint for complaint in view.complaints)
    view.page.close()


def test_a_report_without_cells_has_no_bench(browser: Any, tmp_path: Path) -> None:
    from myelos.counting import count

    cells: list[tuple[str, str | None]] = [("neutrophil", None)] * 60 + [("lymphocyte", None)] * 40
    given = ReportInput(title="By hand", count=count(cells, specimen="blood", unit="none"))
    view = Opened(browser, write(tmp_path, given))
    assert view.complaints == []
    assert not view.page.locator("#bench").is_visible()
    assert view.number("neutrophil", "percent") == "60.0"
    view.page.close()
