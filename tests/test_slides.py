"""The contract of `Slide` over every reader, and what faulty files must lead to."""

from __future__ import annotations

import contextlib
import resource
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pictures
from PIL import ImageOps

from myelos.errors import InputError, MyelosError, ResolutionError, UsageError
from myelos.geometry import Box
from myelos.slides import OUTSIDE, READERS, Slide, open_slide
from myelos.slides.base import resample
from myelos.slides.fingerprint import fingerprint, full_hash, slide_id
from myelos.slides.info import describe
from myelos.slides.openslide import scanner_name
from myelos.slides.write import Rows, write_tiff

MPP = 0.25
NAME = "DOE^JANE"


def smear(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Round cells on a pale ground, as soft as optics make them."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), (235, 225, 228), np.uint8)
    for _ in range(max(6, width * height // 9000)):
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        tint = np.clip(rng.integers(90, 200) + np.array([20, -25, 25]) + rng.integers(-10, 10, 3), 0, 255)
        cv2.circle(image, centre, int(rng.integers(10, 36)), tuple(tint.tolist()), -1, cv2.LINE_AA)
    noisy = cv2.GaussianBlur(image, (0, 0), 3) + rng.normal(0, 0.7, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One picture in every way of storing it: the pixels of the PNG are those that the JPEG tiles decode to."""
    folder = tmp_path_factory.mktemp("slides")
    write_tiff(folder / "pyramid.tif", smear(1408, 1152), mpp=MPP, levels=3, quality=95)
    with tifffile.TiffFile(folder / "pyramid.tif") as file:
        pixels = file.pages.first.asarray()
    Pictures.fromarray(pixels).save(folder / "field.png")
    Pictures.fromarray(pixels).save(folder / "field.bmp")
    per_cm = (1e4 / MPP, 1e4 / MPP)
    tags = {"resolution": per_cm, "resolutionunit": "CENTIMETER", "metadata": None, "photometric": "rgb"}
    tifffile.imwrite(folder / "strips.tif", pixels, compression="lzw", rowsperstrip=7, **tags)
    tifffile.imwrite(folder / "flat.tif", pixels, compression="zlib", tile=(128, 208), **tags)
    big = {**tags, "tile": (64, 64), "bigtiff": True, "planarconfig": "separate", "compression": "deflate"}
    tifffile.imwrite(folder / "big.tif", np.moveaxis(pixels, 2, 0), **big)
    with tifffile.TiffWriter(folder / "sub.tif") as writer:
        writer.write(pixels, tile=(256, 256), compression="lzw", subifds=1, **tags)
        half = cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        writer.write(half, tile=(256, 256), compression="lzw", subfiletype=1, photometric="rgb", metadata=None)
    return folder


@pytest.fixture(scope="module")
def dicom(folder: Path) -> Path:
    from wsidicomizer import WsiDicomizer

    WsiDicomizer.convert(str(folder / "pyramid.tif"), str(folder / "dicom"), tile_size=256, include_thumbnail=False)
    return folder / "dicom"


CASES = {  # file → reader that must be able to read it, levels, whether the file itself states its resolution
    "pyramid.tif": ("tiff", 3, True),
    "pyramid.tif by openslide": ("openslide", 3, True),
    "dicom": ("openslide", 3, True),
    "flat.tif": ("tiff", 1, True),
    "big.tif": ("tiff", 1, True),
    "sub.tif": ("tiff", 2, True),
    "strips.tif by tiff": ("tiff", 1, True),
    "strips.tif": ("field", 1, True),
    "field.png": ("field", 1, False),
    "field.bmp": ("field", 1, False),
}


def opened(name: str, folder: Path, request: pytest.FixtureRequest) -> Slide:
    file, _, reader = name.partition(" by ")
    path = request.getfixturevalue("dicom") if file == "dicom" else folder / file
    return open_slide(path, mpp=None if CASES[name][2] else MPP, reader=reader or None)


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, folder: Path):
    with opened(request.param, folder, request) as slide:
        yield request.param, slide


@pytest.fixture(scope="module")
def truth(folder: Path) -> np.ndarray:
    return np.asarray(Pictures.open(folder / "field.png"))


class TestContract:
    """Runs over every reader."""

    def test_size_resolution_and_reader(self, case):
        name, slide = case
        reader, levels, stated = CASES[name]
        assert (slide.width, slide.height) == (1408, 1152)
        assert slide.reader == reader
        assert len(slide.levels) == levels
        assert [level.downsample for level in slide.levels] == [1.0, 2.0, 4.0][:levels]
        assert slide.mpp == pytest.approx(MPP, rel=1e-3)
        assert slide.resolution.source == ("file" if stated else "argument")

    def test_full_resolution_is_the_picture(self, case, truth):
        name, slide = case
        pixels = slide.read(slide.bounds)
        assert pixels.shape == truth.shape
        assert pixels.dtype == np.uint8
        difference = np.abs(pixels.astype(int) - truth)
        assert difference.mean() <= (1 if name == "dicom" else 0)

    @pytest.mark.parametrize(
        ("box", "mpp"),
        [
            (Box(0, 0, 1408, 1152), 2.0),
            (Box(64, 128, 512, 640), 0.5),
            (Box(64, 128, 512, 640), 1.0),
            (Box(301, 207, 333, 277), 0.5),
            (Box(300.4, 200.7, 611.3, 417.9), 0.43),
            (Box(1001, 901, 407, 251), 0.25),
            (Box(33.3, 44.4, 100, 90), 0.11),
            (Box(1100.5, 900.5, 280, 240), 0.79),
        ],
    )
    def test_same_region_at_same_resolution(self, case, truth, box, mpp):
        name, slide = case
        pixels = slide.read(box, mpp)
        expected = reference(truth, box, mpp / slide.mpp)
        assert pixels.shape == expected.shape
        assert np.abs(pixels.astype(int) - expected).mean() <= tolerance(name)

    def test_outside_is_white(self, case, truth):
        _, slide = case
        assert (slide.read(Box(-600, -500, 300, 200)) == OUTSIDE).all()
        assert (slide.read(Box(5000, 5000, 64, 64), 0.5) == OUTSIDE).all()
        pixels = slide.read(Box(-20, -30, 100, 100))
        assert (pixels[:30] == OUTSIDE).all()
        assert (pixels[:, :20] == OUTSIDE).all()
        assert np.abs(pixels[30:, 20:].astype(int) - truth[:70, :80]).mean() <= 1
        pixels = slide.read(Box(1400, 1140, 100, 100))
        assert (pixels[12:] == OUTSIDE).all()
        assert (pixels[:, 8:] == OUTSIDE).all()
        assert np.abs(pixels[:12, :8].astype(int) - truth[1140:, 1400:]).mean() <= 1.5

    @settings(
        max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(
        x=st.floats(-100, 1400), y=st.floats(-100, 1150), width=st.floats(40, 600), height=st.floats(40, 600),
        downsample=st.floats(0.3, 9),
    )  # fmt: skip
    def test_any_box(self, case, truth, x, y, width, height, downsample):
        name, slide = case
        box = Box(x, y, width, height)
        pixels = slide.read_scaled(box, downsample)
        expected = reference(truth, box, downsample)
        assert pixels.shape == expected.shape
        inner = slice(2, -2)  # at the border levels mix image and outside differently
        difference = np.abs(pixels.astype(int) - expected)[inner, inner]
        whole = x >= 0 and y >= 0 and box.right <= 1408 and box.bottom <= 1152
        if difference.size:
            assert difference.mean() <= (1 if whole else 2) * tolerance(name)

    def test_blocks_are_seamless(self, case, monkeypatch):
        _, slide = case
        box = Box(3, 5, 1300, 1100)
        at_once = slide.read_scaled(box, 3.7)
        monkeypatch.setattr("myelos.slides.base.READ_LIMIT", 20_000)
        assert np.abs(slide.read_scaled(box, 3.7).astype(int) - at_once).max() <= 1

    def test_overview(self, case, truth):
        _, slide = case
        overview = slide.overview(256)
        assert max(overview.shape) == 256
        assert np.abs(overview.mean((0, 1)) - truth.mean((0, 1))).max() < 1

    def test_nothing_is_missing(self, case):
        assert case[1].missing(Box(-5, -5, 800, 800)) == 0.0

    def test_impossible_regions_are_refused(self, case):
        for box in (Box(0, 0, 0, 5), Box(0, 0, float("nan"), 5), Box(float("inf"), 0, 5, 5)):
            with pytest.raises(UsageError):
                case[1].read(box)

    def test_threads_agree(self, case):
        _, slide = case
        boxes = [Box(100 * i, 70 * i, 300, 300) for i in range(10)]
        expected = [slide.read(box) for box in boxes]
        found: list[np.ndarray | None] = [None] * len(boxes)

        def work(start: int) -> None:
            for i in range(start, len(boxes), 3):
                found[i] = slide.read(boxes[i])

        threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def tolerance(name: str) -> float:
    """Mean difference in grey levels. JPEG by itself loses one or two in the lower levels of a pyramid."""
    return 2.0 if name.startswith("pyramid.tif") or name == "dicom" else 1.0


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    x=st.floats(-50, 900), y=st.floats(-50, 700), side=st.floats(40, 500), downsample=st.floats(0.5, 9)
)  # fmt: skip
@pytest.mark.parametrize("path", ["pyramid.tif", "dicom"])
def test_readers_of_one_pyramid_agree(path, folder, dicom, x, y, side, downsample):
    """The same levels, tile by tile or through OpenSlide: at most one grey level in the mean.

    The converter encodes the tiles of a plain TIFF anew, which a region of ten pixels may show by more.
    """
    box = Box(x, y, side, side)
    with open_slide(folder / "pyramid.tif") as direct, open_slide(folder / path, reader="openslide") as other:
        a, b = direct.read_scaled(box, downsample), other.read_scaled(box, downsample)
        assert np.abs(a.astype(int) - b).mean() <= (tolerance(path) if path == "dicom" and a.size < 3 * 32**2 else 1.0)
    assert dicom.is_dir()


def reference(image: np.ndarray, box: Box, downsample: float) -> np.ndarray:
    """Written another way: white all around, then each output pixel the mean of 8 × 8 bilinear samples of its area."""
    width, height = max(1, round(box.width / downsample)), max(1, round(box.height / downsample))
    fine = 8
    xs = (box.x + (np.arange(width * fine) + 0.5) * downsample / fine - 0.5).astype(np.float32)
    ys = (box.y + (np.arange(height * fine) + 0.5) * downsample / fine - 0.5).astype(np.float32)
    method = cv2.INTER_NEAREST if downsample >= 1 else cv2.INTER_LINEAR
    result = np.empty((height, width, 3), np.float64)
    for row in range(height):  # one row at a time: remap takes no more than 32767 columns, and memory stays small
        part = ys[row * fine : (row + 1) * fine]
        grid_x, grid_y = np.meshgrid(xs, part)
        samples = cv2.remap(
            image, grid_x, grid_y, method, borderMode=cv2.BORDER_CONSTANT, borderValue=(OUTSIDE, OUTSIDE, OUTSIDE)
        )
        result[row] = samples.reshape(fine, width, fine, 3).mean((0, 2))
    return np.round(result).astype(int)


class TestResampling:
    def test_shrinking_on_the_grid_is_the_mean(self):
        image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
        expected = image.reshape(20, 3, 30, 3, 3).mean((1, 3))
        assert np.abs(resample(image, 0, 0, 3, 30, 20) - expected).max() <= 0.5 + 1e-3

    def test_means_are_kept_at_any_offset(self):
        image = smear(300, 300)
        pixels = resample(image, 10.37, 20.81, 1.7, 150, 140)
        area = reference(image, Box(10.37, 20.81, 255, 238), 1.7)
        assert np.abs(pixels.mean((0, 1)) - area.mean((0, 1))).max() < 0.2

    def test_nothing_moves(self):
        """A bright square must stay where it is, at every step and offset."""
        image = np.zeros((200, 200, 3), np.uint8)
        image[80:120, 60:100] = 255
        for step in (0.37, 0.9, 1.0, 1.3, 2.0, 3.3, 7.7):
            for offset in (0.0, 0.21, 0.5, 0.83):
                size = int(180 / step)
                pixels = resample(image, 5 + offset, 5 + offset, step, size, size)[..., 0].astype(float)
                x = (pixels.sum(0) * (np.arange(size) + 0.5)).sum() / pixels.sum() * step + 5 + offset
                y = (pixels.sum(1) * (np.arange(size) + 0.5)).sum() / pixels.sum() * step + 5 + offset
                assert (x, y) == (pytest.approx(80, abs=0.1), pytest.approx(100, abs=0.1))


class TestRealSlides:
    def test_direct_reader_equals_openslide(self, data):
        """Abbreviated RGB-coded JPEG tiles, 240 px, padded at the right and lower edge."""
        path = data / "wsi_samples" / "CMU-1-Small-Region.svs"
        with open_slide(path) as direct, open_slide(path, reader="openslide") as judge:
            assert (direct.reader, judge.reader) == ("tiff", "openslide")
            assert (direct.levels, direct.mpp, direct.kind) == (judge.levels, judge.mpp, "slide")
            assert direct.mpp == pytest.approx(0.499)
            assert np.array_equal(direct.read(direct.bounds), judge.read(judge.bounds))
            edge = Box(2100, 2900, 200, 150)
            assert np.array_equal(direct.read(edge), judge.read(edge))
            assert direct.properties["scanner"] == "Aperio"
            assert np.abs(direct.overview(100).astype(int) - judge.overview(100)).mean() <= 1

    def test_reduced_decoding_is_the_mean(self, data):
        """The overview of a file without pyramid decodes at an eighth: on the grid that is the mean of 8 × 8."""
        with open_slide(data / "wsi_samples" / "CMU-1-Small-Region.svs") as slide:
            pixels = slide.read_scaled(Box(0, 0, 1600, 1600), 16)
            slow = cv2.resize(slide.read(Box(0, 0, 1600, 1600)), (100, 100), interpolation=cv2.INTER_AREA)
            assert np.abs(pixels.astype(int) - slow).mean() < 0.5

    def test_dicom(self, data):
        with open_slide(data / "wsi_samples" / "sm_image.dcm") as slide:
            assert (slide.width, slide.height, slide.reader) == (50, 50, "openslide")
            assert slide.mpp == pytest.approx(0.499)
            assert slide.read(slide.bounds).shape == (50, 50, 3)

    def test_dicom_by_any_of_its_files(self, dicom):
        files = sorted(dicom.glob("*.dcm"))
        marks = {fingerprint(path) for path in (dicom, *files)}
        sizes = set()
        for path in (dicom, *files):
            with open_slide(path) as slide:
                sizes.add((slide.width, slide.height))
        assert len(files) == 3
        assert len(marks) == 1
        assert sizes == {(1408, 1152)}

    def test_every_real_field_opens(self, data):
        for path in sorted((data / "bccd_fields" / "JPEGImages").glob("*.jpg"))[::25]:
            with open_slide(path) as slide:
                assert slide.kind == "field"
                assert slide.mpp is None
                with pytest.raises(ResolutionError, match="--mpp"):
                    slide.read(slide.bounds, 0.25)


class TestColours:
    """Every way of storing a picture gives the same RGB."""

    picture = smear(97, 61, seed=3)

    def read(self, path: Path) -> np.ndarray:
        with open_slide(path) as slide:
            return slide.read(slide.bounds)

    @pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
    def test_grey(self, tmp_path, suffix):
        grey = self.picture[..., 0]
        Pictures.fromarray(grey).save(tmp_path / f"a.{suffix}")
        assert np.array_equal(self.read(tmp_path / f"a.{suffix}"), np.repeat(grey[..., None], 3, 2))

    @pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
    def test_palette(self, tmp_path, suffix):
        palette = Pictures.fromarray(self.picture).quantize(64)
        palette.save(tmp_path / f"a.{suffix}")
        assert np.array_equal(self.read(tmp_path / f"a.{suffix}"), np.asarray(palette.convert("RGB")))

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_alpha_lies_over_white(self, tmp_path, suffix):
        alpha = np.linspace(0, 255, 97 * 61).reshape(61, 97).astype(np.uint8)
        Pictures.fromarray(np.dstack([self.picture, alpha])).save(tmp_path / f"a.{suffix}")
        share = alpha[..., None] / 255.0
        expected = self.picture * share + 255 * (1 - share)
        assert np.abs(self.read(tmp_path / f"a.{suffix}") - expected).max() <= 1

    @pytest.mark.parametrize("suffix", ["jpg", "tif"])
    def test_cmyk(self, tmp_path, suffix):
        picture = Pictures.fromarray(self.picture).convert("CMYK")
        picture.save(tmp_path / f"a.{suffix}", quality=97)
        assert np.abs(self.read(tmp_path / f"a.{suffix}").astype(int) - self.picture).mean() < 3

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_rotation(self, tmp_path, orientation):
        exif = Pictures.Exif()
        exif[0x0112] = orientation
        Pictures.fromarray(self.picture).save(tmp_path / "a.jpg", exif=exif, quality=95)
        tifffile.imwrite(tmp_path / "a.tif", self.picture, extratags=[(274, 3, 1, orientation, True)], metadata=None)
        turned = ImageOps.exif_transpose(Pictures.open(tmp_path / "a.jpg"))
        assert np.array_equal(self.read(tmp_path / "a.jpg"), np.asarray(turned))
        exact = Pictures.fromarray(self.picture)
        exact.getexif()[0x0112] = orientation
        assert np.array_equal(self.read(tmp_path / "a.tif"), np.asarray(ImageOps.exif_transpose(exact)))

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    @pytest.mark.parametrize("bands", [1, 3])
    def test_sixteen_bits(self, tmp_path, suffix, bands):
        wide = self.picture[..., :bands].astype(np.uint16) * 257
        path = tmp_path / f"a.{suffix}"
        if suffix == "png":
            cv2.imwrite(str(path), wide[..., ::-1])
        else:
            tifffile.imwrite(path, wide.squeeze(), photometric="rgb" if bands == 3 else "minisblack")
        expected = self.picture if bands == 3 else np.repeat(self.picture[..., :1], 3, 2)
        assert np.array_equal(self.read(path), expected)

    def test_twelve_bits_in_sixteen(self, tmp_path):
        wide = np.round(self.picture / 255.0 * 4095).astype(np.uint16)
        tifffile.imwrite(tmp_path / "said.tif", wide, photometric="rgb", extratags=[(281, 3, 3, (4095,) * 3, True)])
        tifffile.imwrite(tmp_path / "unsaid.tif", wide, photometric="rgb")
        tifffile.imwrite(tmp_path / "tiled.tif", wide, photometric="rgb", tile=(16, 16))
        cv2.imwrite(str(tmp_path / "unsaid.png"), wide)
        assert np.abs(self.read(tmp_path / "said.tif").astype(int) - self.picture).max() <= 1
        for name in ("unsaid.tif", "tiled.tif", "unsaid.png"):
            with pytest.raises(InputError, match=rf"{name}.*16-bit.*MaxSampleValue"):
                self.read(tmp_path / name)

    def test_profile_is_noted(self, tmp_path):
        from PIL import ImageCms

        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        Pictures.fromarray(self.picture).save(tmp_path / "a.png", icc_profile=profile)
        assert len(describe(tmp_path / "a.png")["icc_sha256"]) == 64


class TestResolution:
    picture = smear(64, 64)

    @pytest.mark.parametrize("dpi", [72, 96, 300, 1200])
    def test_screen_densities_are_no_resolution(self, tmp_path, dpi):
        for suffix in ("jpg", "png", "bmp", "tif"):
            Pictures.fromarray(self.picture).save(tmp_path / f"a.{suffix}", dpi=(dpi, dpi))
            with open_slide(tmp_path / f"a.{suffix}") as slide:
                assert slide.mpp is None
                assert slide.resolution.source == "unknown"
                assert "claims" in slide.warnings[0]

    def test_a_microscope_density_is_one(self, tmp_path):
        for suffix in ("png", "tif", "bmp"):
            Pictures.fromarray(self.picture).save(tmp_path / f"a.{suffix}", dpi=(101600, 101600))
            with open_slide(tmp_path / f"a.{suffix}") as slide:
                assert slide.mpp == pytest.approx(0.25, rel=1e-3)

    def test_ome_imagej_and_argument(self, tmp_path):
        tifffile.imwrite(
            tmp_path / "a.ome.tif", self.picture, photometric="rgb", tile=(32, 32),
            metadata={"axes": "YXS", "PhysicalSizeX": 230, "PhysicalSizeXUnit": "nm",
                      "PhysicalSizeY": 230, "PhysicalSizeYUnit": "nm"},
        )  # fmt: skip
        tifffile.imwrite(tmp_path / "ij.tif", self.picture, imagej=True, resolution=(4, 4), metadata={"unit": "um"})
        assert open_slide(tmp_path / "a.ome.tif").mpp == pytest.approx(0.23)
        assert open_slide(tmp_path / "ij.tif").mpp == pytest.approx(0.25)
        stated = open_slide(tmp_path / "a.ome.tif", mpp=0.5)
        assert (stated.mpp, stated.resolution.source) == (0.5, "argument")

    @pytest.mark.parametrize("mpp", [0, -1, 3.0, 352.8, float("nan")])
    def test_impossible_arguments(self, folder, mpp):
        with pytest.raises(UsageError, match="µm per pixel"):
            open_slide(folder / "field.png", mpp=mpp)


class TestFaults:
    def fails(self, path: Path, *words: str) -> None:
        started = time.monotonic()
        with pytest.raises(InputError) as caught:
            open_slide(path)
        assert time.monotonic() - started < 5
        for word in (path.name, *words):
            assert word in str(caught.value), str(caught.value)

    def test_missing_empty_folder_and_nonsense(self, tmp_path):
        self.fails(tmp_path / "none.png", "does not exist")
        (tmp_path / "empty.jpg").touch()
        self.fails(tmp_path / "empty.jpg", "empty")
        (tmp_path / "things").mkdir()
        self.fails(tmp_path / "things", "no DICOM")
        (tmp_path / "text.png").write_text("not an image at all\n" * 50)
        self.fails(tmp_path / "text.png", "is not an image")

    @pytest.mark.parametrize("form", ["jpg", "png", "bmp"])
    @pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.99])
    def test_truncated_fields(self, tmp_path, form, share):
        Pictures.fromarray(smear(200, 160)).save(tmp_path / f"a.{form}")
        whole = (tmp_path / f"a.{form}").read_bytes()
        (tmp_path / f"b.{form}").write_bytes(whole[: int(len(whole) * share)])
        self.fails(tmp_path / f"b.{form}", "truncated", "bytes")

    @pytest.mark.parametrize("name", ["pyramid.tif", "flat.tif", "strips.tif", "big.tif", "sub.tif"])
    @pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.999])
    def test_truncated_tiff(self, folder, tmp_path, name, share):
        whole = (folder / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: max(4, int(len(whole) * share))])
        self.fails(tmp_path / name, "truncated", "bytes expected", "found")

    def test_a_thumbnail_is_no_end(self, tmp_path):
        """The end marker inside an EXIF thumbnail does not make a truncated JPEG whole."""
        segment = b"Exif\0\0" + b"\xff\xd8 thumbnail \xff\xd9"
        Pictures.fromarray(smear(200, 160)).save(tmp_path / "a.jpg", exif=segment)
        whole = (tmp_path / "a.jpg").read_bytes()
        (tmp_path / "b.jpg").write_bytes(whole[: len(whole) // 2])
        self.fails(tmp_path / "b.jpg", "truncated")

    def test_bad_tile_is_named_and_the_rest_is_read(self, folder, tmp_path):
        whole = bytearray((folder / "pyramid.tif").read_bytes())
        with tifffile.TiffFile(folder / "pyramid.tif") as file:
            page = file.pages.first
            start, length = page.dataoffsets[7], page.databytecounts[7]
        whole[start + length // 2 : start + length] = bytes(length - length // 2)
        (tmp_path / "bad.tif").write_bytes(whole)
        for reader in ("tiff", "openslide"):
            with open_slide(tmp_path / "bad.tif", reader=reader) as slide, open_slide(folder / "pyramid.tif") as good:
                box, other = Box(300, 300, 100, 100), Box(800, 800, 100, 100)
                if reader == "tiff":
                    with pytest.raises(InputError, match=r"Tile \(1, 1\) of level 0 of bad\.tif"):
                        slide.read(box)
                assert np.array_equal(slide.read(other), good.read(other))

    def test_openslide_goes_on_after_an_error(self, folder, tmp_path):
        whole = bytearray((folder / "pyramid.tif").read_bytes())
        with tifffile.TiffFile(folder / "pyramid.tif") as file:
            start, length = file.pages.first.dataoffsets[7], file.pages.first.databytecounts[7]
        whole[start : start + length] = bytes(length)
        (tmp_path / "bad.tif").write_bytes(whole)
        with open_slide(tmp_path / "bad.tif", reader="openslide") as slide:
            with pytest.raises(InputError, match=r"level 0 of bad\.tif"):
                slide.read(Box(300, 300, 100, 100))
            assert slide.read(Box(800, 800, 100, 100)).std() > 1

    def test_missing_tile_is_not_background(self, folder, tmp_path):
        with tifffile.TiffFile(folder / "pyramid.tif") as file:
            at = file.pages.first.tags["TileByteCounts"].valueoffset
        whole = bytearray((folder / "pyramid.tif").read_bytes())
        whole[at + 4 * 7 : at + 4 * 8] = bytes(4)
        (tmp_path / "gap.tif").write_bytes(whole)
        with open_slide(tmp_path / "gap.tif") as slide:
            assert (slide.read(Box(300, 300, 100, 100)) == OUTSIDE).all()
            assert slide.missing(Box(300, 300, 100, 100)) == 1.0
            assert slide.missing(Box(0, 256, 512, 256)) == pytest.approx(0.5)
            assert slide.missing(Box(800, 800, 100, 100)) == 0.0

    def test_bad_level_zero_is_found_at_once(self, folder, tmp_path):
        whole = bytearray((folder / "pyramid.tif").read_bytes())
        with tifffile.TiffFile(folder / "pyramid.tif") as file:
            for start, length in zip(file.pages.first.dataoffsets, file.pages.first.databytecounts, strict=True):
                whole[start : start + length] = bytes(length)
        (tmp_path / "bad.tif").write_bytes(whole)
        self.fails(tmp_path / "bad.tif", "full resolution")

    def test_unknown_codec_is_named(self, folder, tmp_path):
        whole = bytearray((folder / "flat.tif").read_bytes())
        with tifffile.TiffFile(folder / "flat.tif") as file:
            at = file.pages.first.tags["Compression"].valueoffset
        whole[at : at + 2] = struct.pack("<H", 65000)
        (tmp_path / "odd.tif").write_bytes(whole)
        self.fails(tmp_path / "odd.tif", "65000")

    def test_float_samples_are_named(self, tmp_path):
        tifffile.imwrite(tmp_path / "f.tif", np.zeros((64, 64, 3), np.float32), photometric="rgb")
        self.fails(tmp_path / "f.tif", "float32")

    def test_mrxs_names_its_missing_file(self, tmp_path):
        (tmp_path / "a.mrxs").write_bytes(b"\xff\xd8\xff")
        self.fails(tmp_path / "a.mrxs", "a/Slidedat.ini is missing")
        (tmp_path / "a").mkdir()
        text = "[HIERARCHICAL]\nINDEXFILE = Index.dat\n[DATAFILE]\nFILE_COUNT = 2\nFILE_0 = Data0000.dat\n"
        (tmp_path / "a" / "Slidedat.ini").write_text(text + "FILE_1 = D1.dat\n", encoding="utf-8-sig")
        (tmp_path / "a" / "Index.dat").write_text("x")
        (tmp_path / "a" / "Data0000.dat").write_text("x")
        self.fails(tmp_path / "a.mrxs", "a/D1.dat is missing")
        (tmp_path / "a" / "D1.dat").touch()
        self.fails(tmp_path / "a.mrxs", "a/D1.dat is empty")

    def test_two_series_in_a_folder(self, dicom, data, tmp_path):
        for i, path in enumerate((next(dicom.glob("*.dcm")), data / "wsi_samples" / "sm_image.dcm")):
            (tmp_path / f"{i}.dcm").write_bytes(path.read_bytes())
        self.fails(tmp_path, "2 DICOM series")

    def test_unknown_reader(self, folder):
        with pytest.raises(UsageError, match="openslide, tiff, field"):
            open_slide(folder / "field.png", reader="magic")
        assert set(READERS) == {"openslide", "tiff", "field"}


def png_header(width: int, height: int) -> bytes:
    import zlib

    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))]
    for name, content in ((b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")):
        check = struct.pack(">I", zlib.crc32(name + content))
        parts.append(struct.pack(">I", len(content)) + name + content + check)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def absurd(folder: Path) -> dict[str, bytes]:
    """Small files that claim 65k × 65k or more."""
    Pictures.fromarray(smear(64, 64)).save(folder / "s.jpg")
    jpeg = bytearray((folder / "s.jpg").read_bytes())
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
    bmp = bytearray(b"BM" + bytes(52))
    struct.pack_into("<IHHI", bmp, 2, 54, 0, 0, 54)
    struct.pack_into("<IiiHH", bmp, 14, 40, 65000, 65000, 1, 24)
    files = {"a.jpg": bytes(jpeg), "a.png": png_header(65000, 65000), "a.bmp": bytes(bmp)}
    for name, tile in (("strip.tif", None), ("tile.tif", (64, 64))):
        tifffile.imwrite(folder / name, smear(64, 64), tile=tile, photometric="rgb", metadata=None)
        data = bytearray((folder / name).read_bytes())
        with tifffile.TiffFile(folder / name) as file:
            tags = file.pages.first.tags
            for tag in ("ImageWidth", "ImageLength", *(("TileWidth", "TileLength") if tile else ("RowsPerStrip",))):
                kind = "<H" if tags[tag].dtype == 3 else "<I"
                struct.pack_into(kind, data, tags[tag].valueoffset, 65520)
        files[name] = bytes(data)
    return files


HOSTILE = """
import resource, sys, time
from pathlib import Path
from myelos.errors import InputError
from myelos.slides import open_slide
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).glob("[a-z]*.*")):
    started = time.monotonic()
    try:
        open_slide(path)
    except InputError as error:
        assert path.name in str(error), error
    else:
        raise SystemExit(f"{path.name} was opened")
    assert time.monotonic() - started < 3, path.name
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base)
"""


def test_absurd_headers_cost_neither_time_nor_memory(tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "hostile").mkdir()
    for name, content in absurd(tmp_path / "made").items():
        (tmp_path / "hostile" / name).write_bytes(content)
    loop = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 0) + struct.pack("<I", 8)
    many = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 65535) + bytes(1000)
    huge = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 324, 4, 2**32 - 1, 16, 0) + bytes(100)
    for name, content in (("loop.tif", loop), ("many.tif", many), ("huge.tif", huge)):
        (tmp_path / "hostile" / name).write_bytes(content)
    command = [sys.executable, "-c", HOSTILE, str(tmp_path / "hostile")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 150_000  # kB


def test_mutated_headers_end_in_an_error_or_an_image(tmp_path):
    """Every byte of a header is somebody's attack: nothing but MyelosError may come out."""
    rng = np.random.default_rng(7)
    small = smear(64, 48)
    write_tiff(tmp_path / "t.tif", small, mpp=MPP, tile=32, levels=2)
    Pictures.fromarray(small).save(tmp_path / "j.jpg")
    Pictures.fromarray(small).save(tmp_path / "p.png")
    Pictures.fromarray(small).save(tmp_path / "b.bmp")
    tifffile.imwrite(tmp_path / "l.tif", small, compression="lzw", photometric="rgb")
    opened_files = 0
    for name in ("t.tif", "l.tif", "j.jpg", "p.png", "b.bmp"):
        whole = (tmp_path / name).read_bytes()
        for _ in range(40):
            data = bytearray(whole)
            for at in rng.integers(4, min(len(data), 700), rng.integers(1, 4)):
                data[at] = rng.integers(0, 256)
            (tmp_path / f"x{name}").write_bytes(data)
            with contextlib.suppress(MyelosError), open_slide(tmp_path / f"x{name}") as slide:
                if slide.width * slide.height < 10**7:
                    slide.read(slide.bounds)
                    slide.overview(32)
                opened_files += 1
    assert opened_files > 20  # many bytes do no harm


class TestMemory:
    def test_overview_of_a_large_file_without_pyramid(self, tmp_path):
        """A single level of 205 megapixels: one strip is in memory at a time."""
        strip = smear(16000, 256)
        write_tiff(tmp_path / "a.tif", Rows(16000, 12800, (strip for _ in range(50))), mpp=MPP, levels=1)
        code = (
            "import resource, sys; from myelos.slides import open_slide\n"
            "slide = open_slide(sys.argv[1]); base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "print(slide.overview(1024).shape, len(slide.levels))\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base)"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "a.tif")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        shape, used = done.stdout.splitlines()
        assert shape == "(819, 1024, 3) 1"
        assert int(used) < 250_000  # kB; the pixels alone would be 600,000

    def test_writing_holds_rows_of_tiles_only(self, tmp_path):
        strip = smear(8192, 128)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        write_tiff(tmp_path / "a.tif", Rows(8192, 12800, (strip for _ in range(100))), mpp=MPP)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert after - before < 150_000  # kB; the pixels alone would be 314,000


class TestWriting:
    def test_array_and_rows_give_the_same_bytes(self, tmp_path):
        image = smear(1501, 1203)
        write_tiff(tmp_path / "a.tif", image, mpp=MPP)
        strips = (image[y : y + 100] for y in range(0, 1203, 100))
        write_tiff(tmp_path / "b.tif", Rows(1501, 1203, strips), mpp=MPP)
        assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "b.tif"]

    def test_levels_are_means(self, tmp_path):
        image = smear(1501, 1203)
        write_tiff(tmp_path / "a.tif", image, mpp=MPP, quality=95, levels=4)
        with open_slide(tmp_path / "a.tif") as slide:
            assert [(level.width, level.height) for level in slide.levels] == [
                (1501, 1203), (751, 602), (376, 301), (188, 151)
            ]  # fmt: skip
            assert [level.downsample for level in slide.levels] == [1, 2, 4, 8]
            third = slide.read_level(3, 0, 0, 187, 150)
            expected = cv2.resize(image[:1200, :1496], (187, 150), interpolation=cv2.INTER_AREA)
            soft = [
                cv2.GaussianBlur(pixels, (0, 0), 2).astype(int) for pixels in (third, expected)
            ]  # but for JPEG's noise
            assert np.abs(soft[0] - soft[1]).mean() < 0.7
            assert np.abs(soft[0][:, 1:] - soft[1][:, :-1]).mean() > 1.5  # one pixel off would show

    def test_nothing_is_left_of_a_failure(self, tmp_path):
        def strips():
            yield smear(600, 100)
            raise OSError("disk full")

        with pytest.raises(OSError, match="disk full"):
            write_tiff(tmp_path / "a.tif", Rows(600, 600, strips()), mpp=MPP)
        with pytest.raises(UsageError, match="rows"):
            write_tiff(tmp_path / "a.tif", Rows(600, 600, [smear(600, 100)]), mpp=MPP)
        with pytest.raises(UsageError, match="16"):
            write_tiff(tmp_path / "a.tif", smear(60, 60), mpp=MPP, tile=100)
        assert list(tmp_path.iterdir()) == []


class TestIdentity:
    def test_fingerprint(self, folder, tmp_path):
        import hashlib

        content = (folder / "pyramid.tif").read_bytes()
        (tmp_path / "other name.tif").write_bytes(content)
        assert fingerprint(folder / "pyramid.tif") == fingerprint(tmp_path / "other name.tif")
        assert full_hash(folder / "pyramid.tif") == hashlib.sha256(content).hexdigest()
        changed = bytearray(content)
        changed[len(content) // 2] ^= 1
        (tmp_path / "changed.tif").write_bytes(changed)
        assert fingerprint(tmp_path / "changed.tif") != fingerprint(folder / "pyramid.tif")
        assert slide_id(fingerprint(folder / "pyramid.tif")) == fingerprint(folder / "pyramid.tif")[:12]
        with pytest.raises(InputError, match="none"):
            fingerprint(tmp_path / "none")

    def test_large_files_are_sampled(self, tmp_path):
        data = np.random.default_rng(0).integers(0, 256, 9_000_000, np.uint8)
        data.tofile(tmp_path / "a")
        first = fingerprint(tmp_path / "a")
        for at in (0, 70_000 // 2, 9_000_000 - 1):
            changed = data.copy()
            changed[at] ^= 1
            changed.tofile(tmp_path / "a")
            assert fingerprint(tmp_path / "a") != first

    def test_companions_count(self, tmp_path):
        (tmp_path / "a.mrxs").write_bytes(b"label")
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "Data0.dat").write_bytes(b"pixels")
        first = fingerprint(tmp_path / "a.mrxs")
        (tmp_path / "a" / "Data0.dat").write_bytes(b"pixelz")
        assert fingerprint(tmp_path / "a.mrxs") != first


class TestInfo:
    def test_what_it_says(self, folder, data):
        import json

        found = describe(folder / "pyramid.tif")
        assert json.loads(json.dumps(found)) == found
        assert (found["width"], found["height"], found["mpp"], found["mpp_source"]) == (1408, 1152, MPP, "file")
        assert (found["reader"], found["kind"], found["compression"]) == ("tiff", "slide", "JPEG")
        assert found["slide_id"] == found["fingerprint"][:12]
        assert found["warnings"] == []
        assert any("--mpp" in warning for warning in describe(folder / "field.png")["warnings"])
        assert describe(folder / "field.png", mpp=0.3)["mpp_source"] == "argument"
        assert describe(data / "wsi_samples" / "CMU-1-Small-Region.svs")["objective"] == "20"

    def test_words_that_stand_for_no_scanner_are_not_shown(self, dicom):
        """The converter writes "Unknown" where DICOM demands a maker and a model and the TIFF states none."""
        with open_slide(dicom) as slide:
            assert "scanner" not in slide.properties
        assert describe(dicom)["scanner"] is None
        for maker, model, name in (
            ("Unknown", "Unknown", ""),
            ("Leica Biosystems", " unknown ", "Leica Biosystems"),
            ("n/a", "Ultra Fast Scanner", "Ultra Fast Scanner"),
            ("3DHISTECH", "PANNORAMIC 1000", "3DHISTECH PANNORAMIC 1000"),
            ("Aperio", "Aperio AT2", "Aperio AT2"),
            ("", "", ""),
        ):
            assert scanner_name(maker, model) == name

    def test_no_name_comes_out(self, tmp_path):
        picture = smear(64, 64)
        text = [(tag, 2, len(NAME) + 1, NAME, True) for tag in (269, 270, 271, 272, 285, 315, 316, 33432)]
        tifffile.imwrite(tmp_path / "plain.tif", picture, extratags=text, photometric="rgb", metadata=None)
        tags = {"photometric": "rgb", "tile": (32, 32), "compression": "jpeg", "metadata": None}
        aperio = f"Aperio Image Library v11\r\n64x64 Q=30|AppMag = 20|MPP = 0.25|User = {NAME}|Patient = {NAME}"
        tifffile.imwrite(tmp_path / "a.svs", picture, description=aperio, software=NAME, datetime=None, **tags)
        exif = Pictures.Exif()
        exif[0x010E] = exif[0x013B] = NAME
        Pictures.fromarray(picture).save(tmp_path / "a.jpg", exif=exif, comment=NAME.encode())
        for path in tmp_path.iterdir():
            for reader in (None, "openslide") if path.suffix == ".svs" else (None,):
                with open_slide(path, reader=reader) as slide:
                    assert "DOE" not in str(slide.properties) + str(slide.warnings)
            assert NAME.encode() in path.read_bytes()
            assert "DOE" not in str(describe(path))

    def test_no_name_comes_out_of_dicom(self, data, tmp_path):
        import pydicom

        dataset = pydicom.dcmread(data / "wsi_samples" / "sm_image.dcm")
        dataset.PatientName, dataset.PatientID, dataset.StudyDescription = NAME, NAME, NAME
        dataset.save_as(tmp_path / "a.dcm")
        assert "DOE" not in str(describe(tmp_path / "a.dcm"))


def test_the_limit_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(png_header(30000, 30000))
    with pytest.raises(InputError, match=r"30000 × 30000 px.*tiled pyramidal TIFF"):
        open_slide(tmp_path / "a.png")
