"""How well damaged images are found: a threshold chosen on one half of the images, quoted on the other.

    python -m benchmarks.damaged_images --data mll_bone_marrow_cells --data pbc_dib_cells [--every 8]

Halves by the hash of an image's content. Damage: one bit of every so many-th JPEG turned, where that changes more than
a twentieth of the picture. The threshold is the lowest share of the staircase that flags at most one intact image in a
thousand of the first half; the second half is then judged with it, and with the one that is shipped.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from myelos.datasets.damaged import DamageSettings, staircase, stream_end
from myelos.datasets.images import content_hash, find_images

FLAGGED = 0.001  # of intact images, at most
CHANGED, LEVELS = 0.05, 12  # damage counts from this share of the picture on, by so many levels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", required=True)
    parser.add_argument("--every", type=int, default=8)
    arguments = parser.parse_args()
    paths = [path for folder in arguments.data for path in find_images(Path(folder))]
    corrupt = [path for path in paths if "corrupt" in path.parts]
    intact = [path for path in paths if "corrupt" not in path.parts]
    intact_shares = _shares(intact)
    made = list(_made(intact[:: arguments.every]))
    half = {path: int(content_hash(path)[:8], 16) % 2 for path in paths}
    first, second = (
        [share for path, share in zip(intact, intact_shares, strict=True) if half[path] == k] for k in (0, 1)
    )
    chosen = float(np.quantile(first, 1 - FLAGGED, method="higher"))
    print(f"{len(intact)} intact images, {len(made)} damaged ones made of them, {len(corrupt)} damaged ones of the set")
    print(f"chosen on the first half: above {chosen:.3f}; shipped: above {DamageSettings().share:g}")
    for name, threshold in (("chosen", chosen), ("shipped", DamageSettings().share)):
        flagged = sum(share > threshold for share in second)
        own = [(share, end) for path, share, end in made if half[path] == 1]
        pixels, both = sum(share > threshold for share, _ in own), sum(s > threshold or e for s, e in own)
        real = sum(share > threshold for share in _shares([path for path in corrupt if half[path] == 1]))
        total = sum(half[path] == 1 for path in corrupt)
        print(
            f"{name}, second half: {flagged} of {len(second)} intact flagged; made damage found {pixels} of {len(own)} "
            f"by pixels, {both} with the end of the data; damaged files of the set {real} of {total}"
        )
    worst = sorted(zip(intact_shares, intact, strict=True), reverse=True)[:5]
    print("highest of intact:", ", ".join(f"{path.name} {share:.2f}" for share, path in worst))


def _shares(paths: Sequence[Path]) -> list[float]:
    return [staircase(np.asarray(Image.open(path).convert("RGB")))[0] for path in paths]


def _made(paths: Sequence[Path]) -> Iterator[tuple[Path, float, bool]]:
    """Path, share of the staircase, and whether the end of the data tells, of copies with one bit turned."""
    rng = np.random.default_rng(0)
    for path in paths:
        whole = path.read_bytes()
        if not whole.startswith(b"\xff\xd8"):
            continue
        flipped = bytearray(whole)
        flipped[int(rng.integers(len(whole) // 5, len(whole) - 40))] ^= 1 << int(rng.integers(8))
        try:
            before, after = _decoded(whole), _decoded(bytes(flipped))
        except (OSError, ValueError, SyntaxError):
            continue
        if (np.abs(before.astype(int) - after).max(axis=2) > LEVELS).mean() > CHANGED:
            yield path, staircase(after)[0], bool(stream_end(bytes(flipped), after))


def _decoded(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


if __name__ == "__main__":
    main()
