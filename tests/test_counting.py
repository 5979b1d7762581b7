"""Counting: clinical check values, independent oracles, and hand-made counts with their faults."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from myelos import taxonomy
from myelos.counting import CountSettings, Evidence, count, from_geojson, from_tally, in_order
from myelos.errors import InputError, LabelError, UsageError
from myelos.metrics.bootstrap import percentile_interval, resampled_totals
from myelos.metrics.shares import ShareSettings
from myelos.tables import table

WANG = taxonomy.SCHEMES["wang19"].types


def cells_of(numbers: dict[str, int], fields: int = 0) -> list[tuple[str, str | None]]:
    names = [name for name, number in numbers.items() for _ in range(number)]
    order = np.random.default_rng(0).permutation(len(names))
    return [(names[i], f"field {k % fields}" if fields else None) for k, i in enumerate(order)]


MARROW = {
    "blast": 25,
    "promyelocyte": 15,
    "myelocyte": 60,
    "segmented_neutrophil": 150,
    "eosinophil": 10,
    "monocyte": 20,
    "polychromatic_erythroblast": 120,
    "lymphocyte": 90,
    "plasma_cell": 10,
    "megakaryocyte": 4,
    "smudge_cell": 30,
    "mitosis": 2,
    "not_identifiable": 6,
    "leukocyte": 3,
}


@pytest.mark.parametrize(
    ("n", "percent", "low", "high"),
    [
        *[(200, 5, 2.4, 9.0), (200, 10, 6.2, 15.0), (200, 20, 14.7, 26.2)],
        *[(500, 5, 3.3, 7.3), (500, 10, 7.5, 13.0), (500, 20, 16.6, 23.8)],
        *[(1000, 5, 3.7, 6.5), (1000, 10, 8.2, 12.0), (1000, 20, 17.6, 22.6)],
    ],
)
def test_intervals_are_ruemkes(n: int, percent: int, low: float, high: float) -> None:
    blasts = n * percent // 100
    share = count(cells_of({"blast": blasts, "lymphocyte": n - blasts}), specimen="marrow", unit="none").types[0]
    assert share.percent == percent
    assert share.low == pytest.approx(low, abs=0.06)
    assert share.high == pytest.approx(high, abs=0.06)


def test_what_is_in_the_hundred() -> None:
    result = count(cells_of(MARROW), specimen="marrow", known=WANG)
    assert result.cells == sum(MARROW.values())
    assert result.counted == 500
    assert sum(share.number for share in result.types) == sum(share.number for share in result.lineages) == 500
    assert {row.name: row.number for row in result.beside} == {"megakaryocyte": 4, "smudge_cell": 30, "mitosis": 2}
    assert {row.name: row.number for row in result.unstated} == {"not_identifiable": 6, "leukocyte": 3}
    assert next(row for row in result.beside if row.name == "smudge_cell").per_hundred == 6.0
    assert "basophilic_erythroblast" in {share.name for share in result.types}, "a zero of a known type is a finding"
    json.dumps(result.as_dict(), allow_nan=False)


def test_order_is_that_of_maturation() -> None:
    names = [share.name for share in count(cells_of(MARROW), specimen="marrow", known=WANG).types]
    assert names == in_order(names)
    stages = ["promyelocyte", "myelocyte", "metamyelocyte", "band_neutrophil", "segmented_neutrophil"]
    assert [name for name in names if name in stages] == stages


def test_erythroblasts_of_blood_are_per_hundred_white_cells() -> None:
    result = count(cells_of({"neutrophil": 60, "lymphocyte": 40, "erythroblast": 7, "platelet": 30}), specimen="blood")
    assert result.counted == 100
    beside = {row.name: row.per_hundred for row in result.beside}
    assert beside == {"erythroblast": 7.0, "platelet": 30.0}
    assert result.ratio is None


def test_ratio_with_and_without_monocytes_and_blasts() -> None:
    cells = cells_of(MARROW)
    plain = count(cells, specimen="marrow").ratio
    assert plain is not None
    assert (plain.myeloid, plain.erythroid) == (235, 120)
    assert plain.value == pytest.approx(235 / 120)
    low, high = stats.binomtest(235, 355).proportion_ci(0.95, method="exact")
    assert (plain.low, plain.high) == pytest.approx((low / (1 - low), high / (1 - high)), rel=1e-6)
    every = count(cells, specimen="marrow", settings=CountSettings(monocytes_in_ratio=True, blasts_in_ratio=True)).ratio
    assert every is not None
    assert every.myeloid == 235 + 20 + 25
    few = count(cells_of({"myelocyte": 50, "erythroblast": 9}), specimen="marrow").ratio
    assert few is not None
    assert few.value is None
    assert "9 erythroid" in few.why


def test_red_cells_are_no_part_of_the_ratio() -> None:
    ratio = count(cells_of({"myelocyte": 50, "erythroblast": 20, "erythrocyte": 500}), specimen="marrow").ratio
    assert ratio is not None
    assert ratio.erythroid == 20


def test_thresholds_from_the_posterior_and_from_the_bootstrap() -> None:
    by_hand = count(cells_of(MARROW), specimen="marrow", unit="none").thresholds
    five = next(row for row in by_hand if row.name == "blast" and row.percent == 5)
    assert five.method == "Jeffreys posterior"
    assert five.probability == pytest.approx(stats.beta(25.5, 475.5).sf(0.05), abs=1e-9)
    by_field = count(cells_of(MARROW, fields=40), specimen="marrow").thresholds
    again = next(row for row in by_field if row.name == "blast" and row.percent == 5)
    assert again.method == "bootstrap"
    assert abs((again.probability or 0) - (five.probability or 0)) < 0.15
    assert [(row.name, row.percent) for row in by_hand] == [
        *(("blast", p) for p in (5, 10, 20)),
        *(("plasma_cell", p) for p in (10, 60)),
    ]


def test_a_source_that_cannot_name_blasts_says_so() -> None:
    result = count(
        cells_of({"neutrophil": 150, "lymphocyte": 60}), specimen="blood", known=("neutrophil", "lymphocyte")
    )
    assert all(row.probability is None and row.number is None for row in result.thresholds)
    assert {"blast", "monocyte", "eosinophil"} <= set(result.blind.cannot_name)
    assert result.blind.not_told_apart["neutrophil"] == ("band_neutrophil", "segmented_neutrophil")
    assert "not in the blast percentage" in result.blind.blast_equivalents


def test_finer_types_count_as_blasts() -> None:
    result = count(cells_of({"myeloblast": 15, "lymphoblast": 10, "lymphocyte": 75}), specimen="marrow", unit="none")
    assert result.thresholds[0].number == 25
    assert result.lineages[0].number == 25


def test_bootstrap_needs_fields_and_cells() -> None:
    few = count(cells_of(MARROW, fields=4), specimen="marrow")
    assert all(share.bootstrap_low is None for share in few.types)
    many = {share.name: share for share in count(cells_of(MARROW, fields=30), specimen="marrow", known=WANG).types}
    assert many["blast"].bootstrap_low is not None
    assert many["metamyelocyte"].bootstrap_low is None, "no cell of it: resampling says nothing"


def test_bootstrap_covers_when_cells_cluster() -> None:
    """Fields differ in their share of blasts: the exact interval is too narrow, the one over fields is not."""
    generator = np.random.default_rng(5)
    settings = ShareSettings(draws=400)
    hits = np.zeros(2)
    for _ in range(150):
        shares = generator.beta(0.1 * 8, 0.9 * 8, size=25)
        blasts = generator.binomial(20, shares)
        numbers = np.stack([blasts, 20 - blasts], axis=1).astype(float)
        drawn = resampled_totals(numbers, draws=settings.draws, seed=1)
        low, high = percentile_interval(drawn[:, 0] / drawn.sum(axis=1)) or (1, 0)
        exact = stats.binomtest(int(blasts.sum()), 500).proportion_ci(0.95, method="exact")
        hits += (low <= 0.1 <= high, exact.low <= 0.1 <= exact.high)
    assert hits[0] / 150 > 0.88
    assert hits[1] / 150 < hits[0] / 150 - 0.1


def test_bootstrap_variance_is_unbiased_for_few_units() -> None:
    values = np.array([1.0, 4.0, 2.0, 8.0, 5.0])
    drawn = resampled_totals(np.stack([values, np.ones(5)], axis=1), draws=60_000, seed=0)
    means = drawn[:, 0] / drawn[:, 1]
    assert means.var() == pytest.approx(values.var(ddof=1) / 5, rel=0.03)


def test_same_cells_in_another_order_give_the_same_count() -> None:
    cells = cells_of(MARROW, fields=12)
    assert count(cells, specimen="marrow") == count(cells[::-1], specimen="marrow")


def test_tables_and_units() -> None:
    rows = [
        {"slide_id": "a", "cell_id": f"a-{k}", "cell_type": "lymphocyte" if k % 3 else None, "tile": k % 7}
        for k in range(60)
    ]
    cells = table("cells", rows)
    assert count(cells, specimen="blood", unit="field").units == 1
    by_tile = count(cells, specimen="blood", unit="tile")
    assert (by_tile.units, by_tile.counted) == (7, 40)
    assert by_tile.unstated[0].number == 20


@pytest.mark.parametrize(
    ("numbers", "evidence", "verdict", "word"),
    [
        ({"lymphocyte": 500}, Evidence(read=20), "adequate as far as judged", "500"),
        ({"lymphocyte": 499}, Evidence(read=20), "short count", "499"),
        ({"lymphocyte": 199}, Evidence(read=20), "not evaluable", "199"),
        ({"lymphocyte": 600}, Evidence(read=4, set_aside={"blurred": 6}), "not evaluable", "60%"),
        ({"lymphocyte": 600, "leukocyte": 700}, Evidence(read=20), "not evaluable", "700 of 1300"),
        ({}, Evidence(), "not evaluable", "no cells"),
    ],
)
def test_adequacy_rules(numbers: dict[str, int], evidence: Evidence, verdict: str, word: str) -> None:
    judged = count(cells_of(numbers), specimen="marrow", evidence=evidence).adequacy
    assert judged.verdict == verdict
    assert word in judged.sentence


def test_signs_of_dilution_are_said() -> None:
    cells = cells_of({"segmented_neutrophil": 300, "lymphocyte": 150, "myelocyte": 60})
    judged = count(cells, specimen="marrow", evidence=Evidence(read=30, area_mm2=5.0)).adequacy
    assert any("3.9 nucleated cells per oil-immersion field" in reason for reason in judged.reasons)
    assert any("mature" in reason for reason in judged.reasons)
    assert "density of nucleated cells" not in " ".join(judged.not_judged)
    assert "particles" in judged.not_judged


def test_nothing_counted_has_no_numbers() -> None:
    result = count([("leukocyte", "a")], specimen="blood", known=("leukocyte",))
    assert result.counted == 0
    assert all(row.probability is None for row in result.thresholds)
    assert result.unstated[0].per_hundred is None


def test_wrong_words_are_refused() -> None:
    with pytest.raises(UsageError, match="marrow or blood"):
        count([], specimen="urine")
    with pytest.raises(UsageError, match="unit"):
        count([], specimen="blood", unit="week")
    with pytest.raises(LabelError):
        count([("neutrophill", None)], specimen="blood")


@pytest.mark.parametrize(
    "content",
    [
        b"cell_type,count\nNeutrophil,60\nlymphocytes,30\nblast,10\n",
        b"\xef\xbb\xbfcell_type;count\r\nNeutrophil;60\r\nLymphocyte;30\r\n\r\nBlast;10\r\n",
        b"Count\tCell Type\tremark\n60\tneutrophil\tx\n30\tLymphocyte\n10\tblast cell\n",
    ],
)
def test_tally_in_the_spellings_of_laboratories(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tally.csv"
    path.write_bytes(content)
    result = from_tally(path, specimen="blood")
    assert {share.name: share.number for share in result.types} == {"neutrophil": 60, "lymphocyte": 30, "blast": 10}
    assert result.unit == "none"
    assert result.thresholds[1].method == "Jeffreys posterior"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("blast,-3", ["line 3", "below 0"]),
        ("blast,2.5", ["line 3", "no whole number"]),
        ("blast,", ["line 3", "missing"]),
        ("blast,many", ["line 3", "'many'"]),
        ("Neutrophils,3", ["line 3", "line 2"]),
        ("neutrophill,3", ["line 3", "neutrophill"]),
        ("blast,99999999", ["line 3", "above"]),
    ],
)
def test_faults_of_a_tally_name_their_line(tmp_path: Path, line: str, words: list[str]) -> None:
    path = tmp_path / "tally.csv"
    path.write_text(f"cell_type,count\nneutrophil,60\n{line}\n")
    with pytest.raises(LabelError) as caught:
        from_tally(path, specimen="blood")
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("content", "words"),
    [("", "empty"), ("cell_type,number\nblast,3\n", "count"), ("cell_type,count\nblast,0\n", "no cell")],
)
def test_unusable_tallies(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "tally.csv"
    path.write_text(content)
    with pytest.raises((InputError, LabelError), match=words):
        from_tally(path, specimen="blood")
    with pytest.raises(InputError, match="missing"):
        from_tally(tmp_path / "none.csv", specimen="blood")


def feature(name: object, x: float = 10) -> dict[str, object]:
    ring = [[x, 5], [x + 40, 5], [x + 40, 35], [x, 35], [x, 5]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", "classification": name},
    }


def test_qupath_annotations(tmp_path: Path) -> None:
    path = tmp_path / "cells.geojson"
    classes = [{"name": "Blast"}, {"names": ["Lymphocyte"]}, "Lymphocyte", None]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature(name) for name in classes]}))
    result = from_geojson(path, specimen="marrow")
    assert {share.name: share.number for share in result.types} == {"blast": 1, "lymphocyte": 2}
    assert result.unstated[0].number == 1
    path.write_text(json.dumps([feature("Blast"), feature("Tumor"), {"type": "Feature", "properties": {}}]))
    with pytest.raises(LabelError) as caught:
        from_geojson(path, specimen="marrow")
    assert "feature 2" in str(caught.value)
    assert "feature 3" in str(caught.value)
    for content in ("{}", "not json", "[1]", '{"features": 3}'):
        path.write_text(content)
        with pytest.raises(InputError, match="no GeoJSON"):
            from_geojson(path, specimen="marrow")
