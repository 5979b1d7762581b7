"""Small copies of the published layouts of single cells, written from rendered images: what the tests read."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np

MLL = {"BLA": 3, "EOS": 2, "PMO": 2, "ABE": 1}
LMU = {"MYO": 2, "MOB": 1, "NGS": 2}
AML = {"control": {"AAA": 2, "AAB": 3}, "PML_RARA": {"BBA": 2}}
CHOI = ("Myeloblast", "Promyelocyte", "Band neutrophil", "Basophilic erythroblast", "orthochromatic_erythroblast")


def cell(seed: int, width: int = 250, height: int | None = None) -> np.ndarray:
    """(height, width, 3) uint8 RGB: a nucleus with texture in a cell, with a red cell or two beside it."""
    height = height or width
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), (238, 232, 236), np.uint8)
    centre, radius = (width // 2, height // 2), int(min(width, height) * rng.uniform(0.25, 0.32))
    for _ in range(2):
        place = tuple(int(value) for value in rng.integers(0, min(width, height), 2))
        cv2.circle(image, place, radius * 2 // 3, (222, 190, 196), -1, cv2.LINE_AA)
    cv2.circle(image, centre, radius, (206, 196, 226), -1, cv2.LINE_AA)
    for _ in range(int(rng.integers(2, 5))):
        lobe = tuple(int(c + rng.uniform(-0.4, 0.4) * radius) for c in centre)
        cv2.circle(image, lobe, radius // 2, (96, 60, 150), -1, cv2.LINE_AA)
    for _ in range(40):
        grain = tuple(int(c + rng.uniform(-0.8, 0.8) * radius) for c in centre)
        cv2.circle(image, grain, int(rng.integers(1, 3)), tuple(int(v) for v in rng.integers(60, 200, 3)), -1)
    noisy = cv2.GaussianBlur(image, (0, 0), 0.8).astype(np.float32) + rng.normal(0, 3, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    code = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
    assert cv2.imwrite(str(path), cv2.cvtColor(image, code))
    return path


def tcia_mll(folder: Path) -> Path:
    """Bone-Marrow-Cytomorphology: sub-folders of thousands for all but the rarest class."""
    for code, number in MLL.items():
        for index in range(1, number + 1):
            place = folder / code if number == 1 else folder / code / "0001-1000"
            save(place / f"{code}_{index:05d}.jpg", cell(sum(map(ord, code)) + index))
    return folder


def tcia_lmu(folder: Path) -> Path:
    """AML-Cytomorphology_LMU: TIFF with alpha, annotations with a second round for the first image of each class."""
    lines = []
    for code, number in LMU.items():
        for index in range(1, number + 1):
            rgb = cell(sum(map(ord, code)) + index, 400)
            alpha = np.full((*rgb.shape[:2], 1), 255, np.uint8)
            save(folder / "AML-Cytomorphology_LMU" / code / f"{code}_{index:04d}.tiff", np.concatenate([rgb, alpha], 2))
            again = "MOB UNC" if index == 1 else "nan nan"
            lines.append(f"{code}/{code}_{index:04d}.tiff {code} {again}")
    (folder / "annotations.dat").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def tcia_aml(folder: Path) -> Path:
    """AML-Cytomorphology_MLL_Helmholtz: a folder for each patient of each entity, a row for each patient."""
    rows = []
    for entity, patients in AML.items():
        for patient, number in patients.items():
            for index in range(number):
                seed = sum(map(ord, patient)) + index
                save(folder / "data" / entity / patient / f"image_{index}.tif", cell(seed, 144))
            rows.append({"patient_id": patient, "bag_label": entity, "instance_count": number})
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def choi(folder: Path) -> Path:
    """Images of differing size in folders of ten classes (five here)."""
    for number, name in enumerate(CHOI):
        save(folder / name / "1.png", cell(900 + number, 80 + 10 * number, 90))
    return folder


def pbc(folder: Path, *, manifest: bool) -> Path:
    """PBC_dataset_normal_DIB: eight folders, finer codes in the file names."""
    rows = []
    for number, (name, code) in enumerate([("neutrophil", "SNE"), ("neutrophil", "NEUTROPHIL"), ("ig", "MMY")]):
        path = save(folder / "images" / name / f"{code}_{number + 100}.jpg", cell(700 + number, 360, 363))
        rows.append([path.relative_to(folder).as_posix(), name, code])
    if manifest:
        with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["file", "label", "fine_code"], *rows])
    return folder


def parquet(folder: Path, *, named: bool = True, struct: bool = True, words: bool = False) -> Path:
    """Two tables of a hub, labels as numbers named in the schema's metadata, or as words."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    codes = list(MLL)
    folder.mkdir(parents=True, exist_ok=True)
    for part, split in enumerate(["train", "test"]):
        encoded = [cv2.imencode(".jpg", cell(300 + 10 * part + i)[..., ::-1])[1].tobytes() for i in range(3)]
        images = [{"bytes": data, "path": None} for data in encoded] if struct else encoded
        labels = [codes[i] for i in range(3)] if words else list(range(3))
        table = pa.table({"image": images, "label": labels})
        if named and not words:
            features = {"image": {"_type": "Image"}, "label": {"names": codes, "_type": "ClassLabel"}}
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    return folder
