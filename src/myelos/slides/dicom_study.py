"""What all DICOM files of one slide share: patient, study, specimen, equipment, and identifiers that repeat.

Nothing here looks at a clock or a random number: every UID follows from the study's key, and 1970-01-01 stands where
the standard wants a date, so that the same slide gives the same bytes. pydicom is imported when it is first needed.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Any

import myelos
from myelos.errors import MissingDependencyError

NO_DATE, NO_TIME = "19700101", "000000"
MICROSCOPY_IMAGE = "1.2.840.10008.5.1.4.1.1.77.1.6"  # VL Whole Slide Microscopy Image Storage
BULK_ANNOTATIONS = "1.2.840.10008.5.1.4.1.1.91.1"  # Microscopy Bulk Simple Annotations Storage
JPEG_BASELINE, EXPLICIT_LITTLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.1"

Code = tuple[str, str, str]  # coding scheme, code, meaning


@dataclass(frozen=True, slots=True)
class Study:
    """One slide. key: whatever makes it the slide that it is; two slides with one key would share their identifiers.

    name: of the slide, the specimen and the made-up patient. what: specimen and stain in words. label: whether the
    slide's label lies in the picture.
    """

    key: str
    name: str
    what: str
    scanner: str
    label: bool = False

    def uid(self, *parts: object) -> str:
        """The UID of a part of the study, as `uid("series", "image")`: 128 bits of a hash after 2.25 (PS3.5 B.2)."""
        digest = hashlib.sha256("\n".join([self.key, *map(str, parts)]).encode()).digest()
        return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def pydicom_or_remedy() -> Any:
    """The module pydicom; MissingDependencyError where it is not installed."""
    try:
        import pydicom
    except ImportError:
        raise MissingDependencyError(
            "DICOM files need pydicom, which is not installed", remedy="Install it: pip install 'myelos[dicom]'"
        ) from None
    return pydicom


def coded(codes: Code) -> Any:
    """A code as the item of a code sequence."""
    item = pydicom_or_remedy().Dataset()
    item.CodingSchemeDesignator, item.CodeValue, item.CodeMeaning = codes
    return item


def begin(study: Study, kind: str, series: str, number: int, instance: object, *, modality: str) -> Any:
    """A dataset with what all kinds have. kind: its SOP class. series, number: name and number of its series."""
    dataset = pydicom_or_remedy().Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.SOPInstanceUID = kind, study.uid("instance", series, instance)
    dataset.StudyDate, dataset.StudyTime = "", ""
    dataset.ContentDate, dataset.ContentTime = NO_DATE, NO_TIME
    dataset.AccessionNumber, dataset.ReferringPhysicianName = "", ""
    dataset.Modality, dataset.Manufacturer, dataset.ManufacturerModelName = modality, "Myelos", study.scanner
    dataset.DeviceSerialNumber, dataset.SoftwareVersions = "none", myelos.__version__
    dataset.PatientName, dataset.PatientID = "Synthetic^Nobody", study.name
    dataset.PatientBirthDate, dataset.PatientSex = "", ""
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study.uid("study"), study.uid("series", series)
    dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "", number, 1
    dataset.StudyDescription = "Synthetic smear"
    _add_specimen(dataset, study)
    return dataset


def _add_specimen(dataset: Any, study: Study) -> None:
    specimen = pydicom_or_remedy().Dataset()
    specimen.SpecimenIdentifier, specimen.SpecimenUID = study.name, study.uid("specimen")
    specimen.IssuerOfTheSpecimenIdentifierSequence, specimen.SpecimenPreparationSequence = [], []
    specimen.SpecimenTypeCodeSequence = [coded(("SCT", "1179252003", "Slide"))]
    specimen.SpecimenShortDescription = study.what
    dataset.ContainerIdentifier, dataset.IssuerOfTheContainerIdentifierSequence = study.name, []
    dataset.ContainerTypeCodeSequence = [coded(("SCT", "433466003", "Microscope slide"))]
    dataset.AcquisitionContextSequence, dataset.SpecimenDescriptionSequence = [], [specimen]


def as_bytes(dataset: Any, syntax: str) -> bytes:
    """The dataset as a DICOM file in the transfer syntax `syntax`."""
    pydicom = pydicom_or_remedy()
    meta = pydicom.dataset.FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = Study("myelos", "", "", "").uid("implementation")
    meta.ImplementationVersionName = f"MYELOS {myelos.__version__}"[:16]
    dataset.file_meta = meta
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
