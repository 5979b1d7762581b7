"""Overlaps and copies are found across sets, strangers are not linked, and a set is held against its publication."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import myelos.cli
from cell_sets import cell, pbc, save, tcia_aml, tcia_mll
from myelos.datasets.cell_checks import check_cells, check_set, distinct
from myelos.datasets.cell_sets import read_cell_sets
from myelos.datasets.images import content_hash, find_images
from myelos.datasets.keypoints import cell_groups, overlaps
from myelos.datasets.published import PUBLISHED


def real(data: Path, place: str, number: int) -> list[Path]:
    """A fixed sample of real single cells: the images whose content hashes come first."""
    images = find_images(data / place)
    return sorted(images[:: max(1, len(images) // (2 * number))], key=content_hash)[:number]


def changed(field: np.ndarray, x: int, y: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Two crops of one field that share two thirds of their area, the second turned or recoloured."""
    first, shift = field[y : y + 250, x : x + 250], (75, 20)
    if kind == "turned":
        centre = (x + 125.0 + shift[0], y + 125.0 + shift[1])
        field = cv2.warpAffine(field, cv2.getRotationMatrix2D(centre, 33, 1), field.shape[1::-1])
    second = field[y + shift[1] : y + shift[1] + 250, x + shift[0] : x + shift[0] + 250]
    if kind == "recoloured":
        second = np.clip(second * np.array([0.8, 1.1, 0.9]) + 10, 0, 255).astype(np.uint8)
    return first, np.rot90(second) if kind == "quarter" else second


@pytest.mark.parametrize("kind", ["shifted", "turned", "quarter", "recoloured"])
def test_overlaps_are_found_among_strangers(data: Path, tmp_path: Path, kind: str) -> None:
    fields = find_images(data / "chula_wbc_fields")[::40][:5]
    strangers = real(data, "mll_bone_marrow_cells/images/LYT", 12) + real(data, "pbc_dib_cells/images/platelet", 12)
    paths, true = [*strangers], set()
    for number, path in enumerate(fields):
        field = cv2.imread(str(path))[..., ::-1]
        pair = changed(field, 200 + 60 * number, 150 + 30 * number, kind)
        true.add((len(paths), len(paths) + 1))
        paths += [save(tmp_path / f"{number}{side}.jpg", image) for side, image in zip("ab", pair, strict=True)]
    found = overlaps(paths)
    assert {(one.first, one.second) for one in found} == true
    assert {one.kind for one in found} == {"part"}
    assert all(0.4 < one.share < 0.85 for one in found)


def test_copies_of_whole_images(data: Path, tmp_path: Path) -> None:
    """Coded anew, smaller, stretched, mirrored, brighter."""
    paths = real(data, "mll_bone_marrow_cells/images/EOS", 6)
    for number, path in enumerate(paths[:5]):
        rgb = cv2.imread(str(path))[..., ::-1]
        copy = [
            rgb,
            cv2.resize(rgb, (150, 150), interpolation=cv2.INTER_AREA),
            cv2.resize(rgb, (280, 240), interpolation=cv2.INTER_AREA),
            rgb[:, ::-1],
            np.clip(rgb * 1.1 + 5, 0, 255).astype(np.uint8),
        ][number]
        paths.append(save(tmp_path / f"{number}.jpg", copy))
    found = overlaps(paths)
    assert {(one.first, one.second) for one in found} == {(number, 6 + number) for number in range(5)}
    assert {one.kind for one in found} == {"whole"}
    assert cell_groups(paths) == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4]


def test_the_same_image_under_two_labels(tmp_path: Path) -> None:
    """Across sets; a coarse label beside a finer one of it is no contradiction."""
    first, second = pbc(tmp_path / "one", manifest=False), tmp_path / "two"
    segmented = next((first / "images" / "neutrophil").glob("SNE*"))
    for name in ("eosinophil", "neutrophil"):
        save(second / name / "a.png", cv2.imread(str(segmented))[..., ::-1])
    result = check_cells([first, second])
    assert len(result.overlaps) == 3  # each of the three copies with each other
    assert [fault.detail.split(" as ")[0] for fault in result.contradictions] == [
        "eosinophil here, segmented_neutrophil",
        "neutrophil here, eosinophil",
    ]
    assert {fault.kind for fault in result.contradictions} == {"two labels"}
    left = distinct(result.cells, result.overlaps)
    assert [cell.path for cell in result.cells if cell not in left] == sorted((tmp_path / "two").rglob("*.png"))


def test_sets_are_held_against_their_publication(tmp_path: Path) -> None:
    assert sum(PUBLISHED["mll_bone_marrow"].classes.values()) == 171_374
    assert sum(PUBLISHED["lmu_aml"].classes.values()) == PUBLISHED["lmu_aml"].images == 18_365
    details = [fault.detail for fault in check_set(tcia_mll(tmp_path / "a"))]
    assert "171375 images published, 8 here" in details
    assert "BLA: 11973 published, 3 here" in details
    assert not any(detail.startswith("ABE: 8 published, 8") for detail in details)
    folder = tcia_aml(tmp_path / "b")
    save(folder / "data" / "control" / "AAA" / "image_9.tif", cell(3, 100))
    details = [fault.detail for fault in check_set(folder)]
    assert "189 people published, 3 here" in details
    assert "1 images of 100 × 100 pixels, published are 144 × 144" in details
    assert "AAA: 2 stated, 3 there" in details


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pbc(tmp_path / "set", manifest=True)
    broken = folder / "images" / "ig" / "MMY_102.jpg"
    broken.write_bytes(broken.read_bytes()[:3000])
    monkeypatch.setattr(sys, "argv", ["myelos", "datasets", "check", str(folder), "--json"])
    assert myelos.cli.main() == 3
    content = json.loads(capsys.readouterr().out)
    assert content["sets"][0]["layout"] == "class-folders"
    assert content["sets"][0]["scheme"] == "pbc13"
    assert content["sets"][0]["classes"] == {"MMY": 1, "NEUTROPHIL": 1, "SNE": 1}
    assert [Path(fault["file"]).name for fault in content["damaged"]] == ["MMY_102.jpg"]
    assert content["overlaps"] == content["contradictions"] == []
    monkeypatch.setattr(sys, "argv", ["myelos", "datasets", "check", str(folder)])
    assert myelos.cli.main() == 3
    text = capsys.readouterr().out
    assert "3 images, layout class-folders, scheme pbc13" in text
    assert "damaged: 1" in text


def test_images_are_looked_at_before_anything_is_learned(data: Path, tmp_path: Path) -> None:
    """The damaged files of the marrow set among intact ones, and one intact image under a second label."""
    source = data / "mll_bone_marrow_cells"
    for code in ("BLA", "LYT", "MON"):
        (tmp_path / code).mkdir()
        for path in sorted((source / "images" / code).iterdir())[:4]:
            shutil.copy(path, tmp_path / code)
    damaged = sorted((source / "corrupt").iterdir())
    for path in damaged:
        shutil.copy(path, tmp_path / "BLA")
    twice = shutil.copy(sorted((source / "images" / "LYT").iterdir())[0], tmp_path / "MON" / "MON_99999.jpg")
    every, faults = read_cell_sets([tmp_path], scheme="mll21")
    assert (len(every), faults) == (19, [])
    seen: list[str] = []
    kept, faults = read_cell_sets([tmp_path], scheme="mll21", check=True, progress=lambda stage, *_: seen.append(stage))
    assert {record.path.name for record in every} - {record.path.name for record in kept} == {p.name for p in damaged}
    found = {(fault.kind, fault.file.name) for fault in faults}
    assert found == {("damaged image", path.name) for path in damaged} | {("two labels", Path(twice).name)}
    assert len(seen) == len(every)


def test_looking_moves_no_cell_to_another_part(data: Path) -> None:
    """Nothing of the real samples is set aside, so that held-out cells stay held out."""
    every, _ = read_cell_sets([data / "lmu_aml_cells"])
    kept, faults = read_cell_sets([data / "lmu_aml_cells"], check=True)
    assert kept == every
    assert faults == []
