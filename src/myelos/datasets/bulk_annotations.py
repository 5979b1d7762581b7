"""Boxes of cells and regions as DICOM Microscopy Bulk Simple Annotations, in the form of the public marrow slides.

That form (Höfener et al. 2025, arXiv 2509.15895): rectangles as four corners in float32, pixels of the base level; a
group for the cells of a label inside the regions and one for those outside; identifiers as measurements; the session in
Clinical Trial Series ID. Labels keep the set's own spelling, codes come from the list of cell types.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myelos import taxonomy
from myelos.errors import InputError, LabelError, UsageError
from myelos.slides.dicom_study import (
    BULK_ANNOTATIONS,
    EXPLICIT_LITTLE,
    MICROSCOPY_IMAGE,
    Code,
    Study,
    as_bytes,
    begin,
    coded,
    pydicom_or_remedy,
)
from myelos.slides.dicom_write import SERIES
from myelos.tables import write_bytes

SCHEME = "bmdeep49"
REGIONS = "Monolayer regions of interest for cell classification"
UNLABELLED, CONSENSUS = "detection-only", "consensus"
REGION, STRUCTURE = "region_of_interest", "haematological_structure"
MOST = 2**24  # identifiers are float32

CELL_NUMBER: Code = ("EFO", "0010197", "single cell identifier")
REGION_NUMBER: Code = ("DCM", "111030", "Image Region")
IN_REGION: Code = ("DCM", "130489", "Referenced Region of Interest Identifier")
NO_UNIT: Code = ("UCUM", "1", "no units")
SELECTED: Code = ("DCM", "111099", "Selected region")
ANATOMICAL: Code = ("SCT", "91723000", "Anatomical structure")
ABNORMAL: Code = ("SCT", "49755003", "Morphologically abnormal structure")
SPATIAL: Code = ("SCT", "309825002", "Spatial and relational concepts")
CATEGORIES: dict[str, Code] = {  # of labels that are no plain anatomical structure
    "artifact": ("SCT", "260787004", "Physical object"),
    "damaged_cell": ABNORMAL,
    "giant_platelet": ABNORMAL,
    "smudge_cell": ABNORMAL,
    "technically_unfit": SPATIAL,
    REGION: SPATIAL,
}


@dataclass(frozen=True, slots=True)
class Annotations:
    """One series. boxes: (N, 4) x y width height in level-0 px. labels: of SCHEME, or REGION.

    session: "" for regions, UNLABELLED, a number from 0 on, or CONSENSUS. numbers: (N,) of cells or regions. regions:
    (N,) number of the region around each cell, -1 outside all; of a series of regions all are -1.
    """

    session: str
    boxes: NDArray[np.float64]
    labels: tuple[str, ...]
    numbers: NDArray[np.int64]
    regions: NDArray[np.int64]

    def __post_init__(self) -> None:
        count = len(self.boxes)
        if self.boxes.shape != (count, 4) or {len(self.labels), len(self.numbers), len(self.regions)} != {count}:
            raise ValueError("boxes, labels and numbers do not fit each other")
        if count and max(self.numbers.max(), self.regions.max()) >= MOST:
            raise UsageError(f"cells are numbered up to {self.numbers.max()}", why=f"the form ends at {MOST - 1}")

    @property
    def description(self) -> str:
        """The series description, by which readers tell the series apart."""
        words = {"": REGIONS, UNLABELLED: "Unlabeled cell bounding boxes"}
        words[CONSENSUS] = "Consensus: cell bounding boxes with cell type labels"
        return words.get(self.session, f"Session {self.session}: Cell bounding boxes with cell type labels")


def write_annotations(path: Path, annotations: Annotations, study: Study) -> None:
    """Write a series of one file for the image of the same study. Raises LabelError for a label that has no code."""
    name = annotations.session or "regions"
    dataset = begin(study, BULK_ANNOTATIONS, f"annotations {name}", 33, 1, modality="ANN")
    dataset.SeriesDescription = annotations.description
    if annotations.session:
        dataset.ClinicalTrialSeriesID, dataset.ClinicalTrialCoordinatingCenterName = annotations.session, ""
    dataset.ContentLabel, dataset.ContentDescription, dataset.ContentCreatorName = "SM_ANN", "Synthetic", ""
    dataset.AnnotationCoordinateType, dataset.PixelOriginInterpretation = "2D", "VOLUME"
    _refer(dataset, study)
    groups = [_group(annotations, label, chosen) for label, chosen in _parts(annotations)]
    for number, group in enumerate(groups, 1):
        group.AnnotationGroupNumber, group.AnnotationGroupUID = number, study.uid("group", name, number)
    dataset.AnnotationGroupSequence = groups
    write_bytes(path, as_bytes(dataset, EXPLICIT_LITTLE))


def _refer(dataset: Any, study: Study) -> None:
    """To the base level of the study's image."""
    pydicom = pydicom_or_remedy()
    image, series = pydicom.Dataset(), pydicom.Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = MICROSCOPY_IMAGE, study.uid("instance", SERIES, 0)
    series.SeriesInstanceUID, series.ReferencedInstanceSequence = study.uid("series", SERIES), [image]
    dataset.ReferencedImageSequence, dataset.ReferencedSeriesSequence = [image], [series]


def _parts(annotations: Annotations) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Labels in alphabetic order; the cells of each that lie inside a region, then those outside."""
    labels, inside = np.array(annotations.labels, dtype=str), annotations.regions >= 0
    for label in sorted(set(annotations.labels)):
        for where in (inside, ~inside):
            chosen = np.flatnonzero((labels == label) & where)
            if len(chosen):
                yield label, chosen


def _group(annotations: Annotations, label: str, chosen: NDArray[np.intp]) -> Any:
    group = pydicom_or_remedy().Dataset()
    group.AnnotationGroupLabel, group.AnnotationGroupGenerationType = label, "MANUAL"
    group.AnnotationPropertyCategoryCodeSequence = [coded(CATEGORIES.get(label, ANATOMICAL))]
    group.AnnotationPropertyTypeCodeSequence = [coded(code_of(label))]
    group.GraphicType, group.NumberOfAnnotations = "RECTANGLE", len(chosen)
    group.PointCoordinatesData = corners(annotations.boxes[chosen]).tobytes()
    group.AnnotationAppliesToAllOpticalPaths = "YES"
    values = [(REGION_NUMBER if label == REGION else CELL_NUMBER, annotations.numbers[chosen])]
    if annotations.regions[chosen[0]] >= 0:
        values.append((IN_REGION, annotations.regions[chosen]))
    group.MeasurementsSequence = [_measurements(code, numbers) for code, numbers in values]
    return group


def _measurements(name: Code, numbers: NDArray[np.int64]) -> Any:
    pydicom = pydicom_or_remedy()
    found, values = pydicom.Dataset(), pydicom.Dataset()
    values.FloatingPointValues = numbers.astype("<f4").tobytes()
    found.ConceptNameCodeSequence, found.MeasurementUnitsCodeSequence = [coded(name)], [coded(NO_UNIT)]
    found.MeasurementValuesSequence = [values]
    return found


def code_of(label: str) -> Code:
    """The code of a label of SCHEME; LabelError where there is none."""
    if label == REGION:
        return SELECTED
    if label not in taxonomy.SCHEMES[SCHEME].codes:
        raise LabelError(f"the public marrow slides have no label '{label}'")
    kind = taxonomy.cell_type(taxonomy.SCHEMES[SCHEME].codes[label])
    assert kind.concept is not None  # the scheme's test holds that every label has one
    return (*kind.concept, kind.label)


def corners(boxes: NDArray[np.float64]) -> NDArray[np.float32]:
    """(N, 4, 2) x y of the corners of (N, 4) boxes, clockwise from the upper left one."""
    x, y, width, height = boxes.T
    right, bottom = x + width, y + height
    return np.stack([x, y, right, y, right, bottom, x, bottom], axis=1).reshape(-1, 4, 2).astype("<f4")


def read_annotations(path: str | Path) -> Annotations:
    """One file of that form. Raises InputError where it is another, MissingDependencyError without pydicom."""
    path, pydicom = Path(path), pydicom_or_remedy()
    try:
        dataset = pydicom.dcmread(path)
    except (OSError, pydicom.errors.InvalidDicomError) as error:
        raise InputError(f"{path.name} is no DICOM file that can be read", why=str(error)) from None
    if dataset.get("SOPClassUID") != BULK_ANNOTATIONS or dataset.get("AnnotationCoordinateType") != "2D":
        raise InputError(f"{path.name} holds no annotations in pixels", why="another kind of DICOM file")
    groups = list(dataset.AnnotationGroupSequence)
    if any(group.GraphicType != "RECTANGLE" for group in groups):
        raise InputError(f"{path.name} holds annotations that are no rectangles")
    labels = [str(group.AnnotationGroupLabel) for group in groups for _ in range(int(group.NumberOfAnnotations))]
    numbers, regions = (
        np.concatenate([_values(group, names) for group in groups] or [np.zeros(0, np.int64)])
        for names in ((CELL_NUMBER[1], REGION_NUMBER[1]), (IN_REGION[1],))
    )
    session = str(dataset.get("ClinicalTrialSeriesID", ""))
    boxes = np.concatenate([_boxes(group) for group in groups] or [np.zeros((0, 4))])
    return Annotations(session, boxes, tuple(labels), numbers, regions)


def _boxes(group: Any) -> NDArray[np.float64]:
    points = np.frombuffer(group.PointCoordinatesData, "<f4").astype(np.float64).reshape(-1, 4, 2)
    least, most = points.min(axis=1), points.max(axis=1)
    return np.concatenate([least, most - least], axis=1)


def _values(group: Any, codes: tuple[str, ...]) -> NDArray[np.int64]:
    """(N,) whole numbers of the measurement that has one of the codes, -1 where the group has none."""
    for found in group.get("MeasurementsSequence", []):
        if found.ConceptNameCodeSequence[0].CodeValue in codes:
            return np.rint(np.frombuffer(found.MeasurementValuesSequence[0].FloatingPointValues, "<f4")).astype(
                np.int64
            )
    return np.full(int(group.NumberOfAnnotations), -1)
