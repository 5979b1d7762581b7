"""One is one: numbers agree with their nouns wherever a person reads them."""

from __future__ import annotations

import re

from myelos.counting import Evidence
from myelos.metrics.adequacy import AdequacySettings, judge
from myelos.report.page import render
from myelos.wording import number_of
from report_sample import sample

NOUNS = "cells|fields|images|slides|smears|tiles|boxes|faults|corrections|models|opinions"


def test_one_and_more() -> None:
    assert [number_of(n, "cell") for n in (0, 1, 2)] == ["0 cells", "1 cell", "2 cells"]
    assert [number_of(n, "box", "boxes") for n in (1, 5)] == ["1 box", "5 boxes"]
    assert number_of(1, "cell is", "cells are") == "1 cell is"


def test_a_count_of_one_cell_speaks_of_one_cell() -> None:
    evidence = Evidence()
    for counted, unnamed in ((1, 0), (0, 1), (1, 1)):
        said = judge(
            specimen="blood", counted=counted, unnamed=unnamed, mature=0, evidence=evidence, settings=AdequacySettings()
        )
        assert not re.search(rf"\b1 ({NOUNS})\b", " ".join((said.sentence, *said.reasons)))


def test_the_page_of_one_cell_speaks_of_one_cell() -> None:
    html = render(sample(fields=1, per_field=1))
    assert "1 cell<" in html or "1 cell " in html
    assert not re.search(rf"\b1 ({NOUNS})\b", re.sub(r"<(style|script).*?</\1>", "", html, flags=re.DOTALL))
