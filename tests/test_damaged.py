"""Damaged images are found by their content, and intact ones are left alone."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cell_sets import cell
from myelos.datasets.damaged import damage, find_damaged, staircase, stream_end
from myelos.datasets.images import content_hash, find_images


def intact(data: Path, name: str, number: int) -> list[Path]:
    """A fixed sample: the images whose content hashes come first."""
    images = [path for path in find_images(data / name) if "corrupt" not in path.parts]
    step = max(1, len(images) // (4 * number))
    return sorted(images[::step], key=content_hash)[:number]


def test_all_damaged_files_are_found(data: Path) -> None:
    paths = find_images(data / "mll_bone_marrow_cells" / "corrupt")
    assert len(paths) == 6
    found = find_damaged(paths)
    assert [fault.file for fault in found] == paths
    assert all("from line" in fault.detail for fault in found)


@pytest.mark.parametrize(
    ("name", "number"), [("mll_bone_marrow_cells", 130), ("pbc_dib_cells", 120), ("lmu_aml_cells", 50)]
)
def test_intact_files_are_left_alone(data: Path, name: str, number: int) -> None:
    paths = intact(data, name, number)
    assert len(find_damaged(paths)) <= 0.01 * len(paths)


def shifted(rgb: np.ndarray, row: int, column: int, kind: str) -> np.ndarray:
    """The image with everything after a block of 16 by 16 pixels damaged, as a lost bit would."""
    after = np.zeros(rgb.shape[:2], bool)
    after[row : row + 16, column:] = True
    after[row + 16 :] = True
    other = {
        "shifted": np.roll(rgb, 96, axis=1),
        "recoloured": np.clip(rgb + np.array([-40, 10, 30]), 0, 255).astype(np.uint8),
        "repeated": np.roll(rgb, row, axis=0),
        "grey": np.full_like(rgb, 128),
    }[kind]
    return np.where(after[..., None], other, rgb)


@pytest.mark.parametrize("kind", ["shifted", "recoloured", "repeated", "grey"])
def test_made_damage_is_found_in_the_pixels_alone(data: Path, kind: str) -> None:
    """Half of the picture or more of it: also in copies without the damaged bytes."""
    found = []
    for number, path in enumerate(intact(data, "mll_bone_marrow_cells", 20)):
        rgb = np.asarray(Image.open(path).convert("RGB"))
        bad = shifted(rgb, 64 + 16 * (number % 4), 32 * (number % 5), kind)
        found.append(staircase(bad)[0] > 0.6)
    assert np.mean(found) >= {"shifted": 0.7, "repeated": 0.7}.get(kind, 1)


def encoded(rgb: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", **options)
    return file.getvalue()


def test_flipped_bits_are_found(data: Path, tmp_path: Path) -> None:
    """Of single bits that change a twentieth of the picture: 96 % of 237 such faults, here about twenty of them."""
    rng = np.random.default_rng(3)
    found = []
    for path in intact(data, "mll_bone_marrow_cells", 80):
        whole = path.read_bytes()
        place = int(rng.integers(len(whole) // 5, len(whole) - 40))
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng.integers(8))
        (tmp_path / path.name).write_bytes(bytes(flipped))
        reason = damage(tmp_path / path.name)
        if "cannot be read" in reason:
            continue
        before, after = (np.asarray(Image.open(io.BytesIO(x)).convert("RGB"), int) for x in (whole, bytes(flipped)))
        if (np.abs(before - after).max(axis=2) > 12).mean() > 0.05:
            found.append(bool(reason))
    assert len(found) >= 10
    assert np.mean(found) >= 0.8


@pytest.mark.parametrize("options", [{"quality": 90}, {"quality": 95, "subsampling": 0}, {"progressive": True}])
def test_ends_of_intact_files(options: dict[str, object]) -> None:
    for seed in range(6):
        data = encoded(cell(seed, 250 + seed), **options)
        assert stream_end(data, np.asarray(Image.open(io.BytesIO(data)))) == ""


def test_data_lost_and_left_over() -> None:
    data = encoded(cell(1), quality=90)
    end = data.rfind(b"\xff\xd9")
    late = data[:end] + bytes(range(1, 40)) + data[end:]
    early = data[: end - 300] + data[end:]
    assert "go on" in stream_end(late, np.asarray(Image.open(io.BytesIO(late))))
    assert "end before" in stream_end(early, np.asarray(Image.open(io.BytesIO(early))))


def test_unreadable_and_tiny_files(tmp_path: Path) -> None:
    broken = tmp_path / "a.jpg"
    broken.write_bytes(encoded(cell(1))[:2000])
    nothing = tmp_path / "b.png"
    nothing.write_bytes(b"")
    small = tmp_path / "c.png"
    Image.fromarray(cell(1, 20)).save(small)
    assert [fault.file for fault in find_damaged([broken, nothing, small])] == [broken, nothing]
    assert "cannot be read" in damage(nothing)
