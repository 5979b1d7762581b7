"""What an image looks like, in some fifty numbers: its background, colours, edges, scales and blobs.

All lengths are relative to the image, so that nothing has to be known of the resolution. Colours are CIE L*a*b*
and optical densities relative to the image's own light background, so that the camera's white point matters little.
`myelos.imaging.plausibility` decides from these numbers whether an image is a smear.
"""

from __future__ import annotations

import cv2
import numpy as np

from myelos.imaging.working_copy import Array, Image, Working, largest, working_copy

NATIVE_SIDE = 352  # the finest texture is taken from the middle of the image as it came
HUE_SECTORS = ("red", "yellow", "green", "cyan", "blue", "magenta")


def measure(rgb: Image) -> dict[str, float]:
    """All features of an RGB image (h, w, 3) of uint8; every value is finite."""
    work = working_copy(rgb)
    features: dict[str, float] = {}
    for part in (_background, _colours, _hues, _densities, _edges, _scales, _blobs, _nuclei):
        features.update(part(work))
    features.update(_graphics(_middle(rgb)))
    return {name: float(np.nan_to_num(value, posinf=1e3, neginf=-1e3)) for name, value in features.items()}


def _middle(rgb: Image) -> Image:
    top, left = (max(0, (side - NATIVE_SIDE) // 2) for side in rgb.shape[:2])
    return np.ascontiguousarray(rgb[top : top + NATIVE_SIDE, left : left + NATIVE_SIDE])


def _background(work: Working) -> dict[str, float]:
    """How light, how coloured and how large the light background is, and how even."""
    lab, white = work.lab, work.white_lab
    near = ((lab - white) ** 2 @ np.ones(3, np.float32) < 100) & work.valid
    even = near & (_gradient(lab[..., 0]) < 2.0)
    total = max(1, int(work.valid.sum()))
    return {
        "background_light": white[0],
        "background_a": white[1],
        "background_b": white[2],
        "background_share": near.sum() / total,
        "background_even_share": even.sum() / total,
    }


def _colours(work: Working) -> dict[str, float]:
    """Lightness steps below the background, and the colour of the darkest parts beside it."""
    relative = work.sample_lab
    light, chroma = relative[:, 0], np.hypot(*(relative + work.white_lab).T[1:])
    steps = np.percentile(light, (1, 5, 25, 50))
    dark = relative[light <= steps[1]]
    middle = relative[(light > steps[1]) & (light <= steps[3])]
    return {
        "light_p1": steps[0],
        "light_p5": steps[1],
        "light_p25": steps[2],
        "light_p50": steps[3],
        "dark_a": np.median(dark[:, 1]),
        "dark_b": np.median(dark[:, 2]),
        "dark_spread": float(dark[:, 1:].std(axis=0).sum()),
        "middle_a": np.median(middle[:, 1]) if len(middle) else 0.0,
        "middle_b": np.median(middle[:, 2]) if len(middle) else 0.0,
        "chroma_p50": np.median(chroma),
        "chroma_p95": np.percentile(chroma, 95),
        "a_p1": np.percentile(relative[:, 1], 1),
        "a_p99": np.percentile(relative[:, 1], 99),
        "b_p1": np.percentile(relative[:, 2], 1),
        "b_p99": np.percentile(relative[:, 2], 99),
        "skew": float(((light - light.mean()) ** 3).mean() / (light.std() ** 3 + 1.0)),
    }


def _hues(work: Working) -> dict[str, float]:
    """Share of the pixels in each of six sectors of hue beside the background; the rest has its colour."""
    _, a, b = np.ascontiguousarray(work.sample_lab.T)
    angle = cv2.phase(a, b, angleInDegrees=True).ravel()
    sector = (((angle - 10) % 360) // 60).astype(int)  # red 10..70, yellow 70..130, ... magenta 310..10
    sector[np.hypot(a, b) < 7] = len(HUE_SECTORS)
    shares = np.bincount(sector, minlength=len(HUE_SECTORS) + 1) / len(sector)
    return {f"hue_{name}": shares[index] for index, name in enumerate(HUE_SECTORS)}


def _densities(work: Working) -> dict[str, float]:
    """Principal directions of the optical density: two stains on glass lie near a plane, photographs do not."""
    density = -np.log((work.sample_rgb + 8) / (work.white_rgb + 8))
    values, vectors = np.linalg.eigh(np.cov(density.T) + 1e-9 * np.eye(3))
    first = vectors[:, 2] * np.sign(vectors[:, 2].sum() + 1e-12)
    return {
        "density_sd": np.sqrt(values.sum()),
        "density_second": np.sqrt(max(values[1], 0) / values[2]),
        "density_third": np.sqrt(max(values[0], 0) / values[2]),
        "density_red": first[0],
        "density_green": first[1],
        "density_blue": first[2],
    }


def _gradient(plane: Array) -> Array:
    return np.hypot(cv2.Sobel(plane, cv2.CV_32F, 1, 0, scale=0.25), cv2.Sobel(plane, cv2.CV_32F, 0, 1, scale=0.25))


def _edges(work: Working) -> dict[str, float]:
    """Strength and direction of edges: round cells have edges in all directions, drawings in few."""
    green = work.rgb[..., 1].astype(np.float32)
    dx, dy = cv2.Sobel(green, cv2.CV_32F, 1, 0, scale=0.25), cv2.Sobel(green, cv2.CV_32F, 0, 1, scale=0.25)
    inside = cv2.erode(work.valid.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    strength, angle = np.hypot(dx, dy)[inside], np.arctan2(dy, dx)[inside]
    if not len(strength):
        return dict.fromkeys(("edge_p50", "edge_p90", "edge_p99", "edge_share", "edge_isotropy", "edge_axes"), 0.0)
    half, ninety, top = np.percentile(strength, (50, 90, 99))
    histogram = np.bincount(((angle + np.pi) / (2 * np.pi) * 36).astype(int) % 36, weights=strength, minlength=36)
    histogram = histogram / max(histogram.sum(), 1e-6)
    axes = histogram[[0, 8, 9, 17, 18, 26, 27, 35]].sum()
    return {
        "edge_p50": half / max(top, 1e-3),
        "edge_p90": ninety / max(top, 1e-3),
        "edge_p99": top,
        "edge_share": float((strength > 8).mean()),
        "edge_isotropy": -float((histogram * np.log(histogram + 1e-9)).sum()) / np.log(36),
        "edge_axes": axes,
    }


def _scales(work: Working) -> dict[str, float]:
    """Share of the contrast at each octave of size, and how far the image repeats itself."""
    plane = work.rgb[..., 1].astype(np.float32)
    plane = np.where(work.valid, plane, work.white_rgb[1]).astype(np.float32)
    total = float(plane.std()) + 1.0
    features, current = {}, plane
    for octave in range(5):
        blurred = cv2.GaussianBlur(current, (0, 0), 1.4)
        features[f"scale_{octave}"] = np.log(float((current - blurred).std()) / total + 1e-3)
        current = np.ascontiguousarray(blurred[::2, ::2])
    features["scale_rest"] = np.log(float(current.std()) / total + 1e-3)
    features["repeats"] = _repetition(plane)
    return features


def _repetition(plane: Array) -> float:
    """Highest peak of the autocorrelation away from its centre: near 1 for stripes and checkerboards."""
    side = min(plane.shape[0], plane.shape[1], 192)
    patch = plane[:side, :side] - plane[:side, :side].mean()
    window = cv2.createHanningWindow((side, side), cv2.CV_32F)
    power = np.abs(np.fft.rfft2(patch * window)) ** 2
    correlation = np.fft.irfft2(power, (side, side)) / max(float(power.mean()), 1e-6)
    correlation = np.fft.fftshift(correlation / max(float(correlation.max()), 1e-9))
    envelope = np.fft.fftshift(np.fft.irfft2(np.abs(np.fft.rfft2(window)) ** 2, (side, side)))
    correlation = correlation / np.maximum(envelope / envelope.max(), 0.2)
    centre, profile = side // 2, np.hypot(*(np.indices((side, side)) - side // 2))
    lowest = _first_minimum(correlation, profile, centre)
    ring = (profile > lowest) & (profile < 0.35 * side)
    return float(correlation[ring].max()) if ring.any() else 0.0


def _first_minimum(correlation: Array, radius: Array, limit: int) -> float:
    """Radius where the mean autocorrelation has fallen below 0.2 or stops falling."""
    rings = radius.astype(int).ravel()
    mean = np.bincount(rings, weights=correlation.ravel()) / np.maximum(np.bincount(rings), 1)
    for step in range(1, limit - 1):
        if mean[step] < 0.2 or mean[step + 1] > mean[step]:
            return float(step)
    return float(limit)


def _foreground(work: Working) -> tuple[Image, float]:
    """Mask (h, w) of 0 and 255: darker in green than the background by Otsu's threshold; and the threshold."""
    green = work.rgb[..., 1]
    threshold, _ = cv2.threshold(green[work.valid].reshape(-1, 1), 0, 255, cv2.THRESH_OTSU)
    mask = ((green <= threshold) & work.valid).astype(np.uint8) * 255
    return cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), float(threshold)


def _shapes(mask: Image) -> tuple[Array, Array, Array]:
    """Area, circularity 4πA/P² and solidity of each outer contour of at least 12 pixels."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    rows = [
        (area, 4 * np.pi * area / cv2.arcLength(c, True) ** 2, area / max(cv2.contourArea(cv2.convexHull(c)), 1.0))
        for c in sorted(contours, key=len, reverse=True)[:150]
        if (area := cv2.contourArea(c)) >= 12
    ]
    table = np.array(rows, np.float32).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def _blobs(work: Working) -> dict[str, float]:
    """Everything darker than the background: how much, how round, how equal in size."""
    mask, threshold = _foreground(work)
    area, circularity, solidity = _shapes(mask)
    names = ("blob_number", "blob_size", "blob_size_spread", "blob_circularity", "blob_solidity", "blob_round_share")
    features = dict.fromkeys(names, 0.0)
    pixels = mask.size
    features["blob_share"] = float((mask > 0).mean())
    features["blob_contrast"] = float(work.white_rgb[1] - threshold)
    if len(area):
        size = np.sqrt(area / pixels)
        features["blob_number"] = np.log1p(len(area))
        features["blob_size"] = float(np.median(size))
        features["blob_size_spread"] = float(np.subtract(*np.percentile(size, (75, 25))) / np.median(size))
        features["blob_circularity"] = float(np.average(circularity, weights=area))
        features["blob_solidity"] = float(np.average(solidity, weights=area))
        features["blob_round_share"] = float(area[(circularity > 0.7) & (solidity > 0.9)].sum() / area.sum())
    return features


def _nuclei(work: Working) -> dict[str, float]:
    """The darker part of the foreground, by a second threshold: compact, and of one colour, where it is nuclei."""
    mask, _ = _foreground(work)
    red = work.rgb[..., 0]  # nuclei take up red light, red cells hardly any
    inside = red[mask > 0]
    names = ("nucleus_share", "nucleus_number", "nucleus_largest", "nucleus_solidity", "nucleus_step")
    features = dict.fromkeys((*names, "nucleus_a", "nucleus_b", "nucleus_light", "rest_a", "rest_b"), 0.0)
    if len(inside) < 30:
        return features
    threshold, _ = cv2.threshold(inside.reshape(-1, 1), 0, 255, cv2.THRESH_OTSU)
    dark = ((red <= threshold) & (mask > 0)).astype(np.uint8) * 255
    area, _, solidity = _shapes(cv2.morphologyEx(dark, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)))
    core, rest = np.flatnonzero((dark > 0) & (mask > 0)), np.flatnonzero((dark == 0) & (mask > 0))
    if not len(area) or not len(rest):
        return features
    pixels = work.lab.reshape(-1, 3)
    colour, other = (np.median(pixels[part[::3]], axis=0) - work.white_lab for part in (core, rest))
    steps = (float((dark > 0).mean()), np.log1p(len(area)), float(np.sqrt(area.max() / dark.size)))
    features.update(zip(names, (*steps, float(np.average(solidity, weights=area)), other[0] - colour[0]), strict=True))
    features |= {"nucleus_a": colour[1], "nucleus_b": colour[2], "nucleus_light": colour[0]}
    return features | {"rest_a": other[1], "rest_b": other[2]}


def _graphics(native: Image) -> dict[str, float]:
    """Signs of what a machine drew: equal neighbours, few colours; and of noise: no likeness between neighbours."""
    step = largest(cv2.absdiff(np.ascontiguousarray(native[:, 1:]), np.ascontiguousarray(native[:, :-1])))
    equal = float((step == 0).mean()) if step.size else 1.0
    red, green, blue = (native[..., channel].astype(np.int32) >> 3 for channel in range(3))
    codes = red * 1024 + green * 32 + blue
    counts = np.sort(np.bincount(codes.ravel(), minlength=32768))[::-1] / codes.size
    grey = cv2.cvtColor(native, cv2.COLOR_RGB2GRAY)
    levels = np.bincount(grey.ravel() >> 2, minlength=64) / grey.size
    fine = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
    saturation = largest(native) - (255 - largest(255 - native))
    return {
        "equal_neighbours": equal,
        "colour_number": np.log1p(int((counts > 0).sum())),
        "colour_first": counts[0],
        "colour_five": counts[:5].sum(),
        "grey_entropy": -float((levels * np.log2(levels + 1e-12)).sum()),
        "grain": np.log(float(np.median(fine[::2])) + 0.1),
        "grain_top": np.log(float(np.percentile(fine[::2], 99)) + 0.1),
        "saturation_sd": float(saturation.std()),
    }
