"""What the published sets of single cells hold: classes, numbers, people, image sizes and µm per pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CellSet:
    """One set as its publication describes it.

    layouts: in which it is found. scheme: of its classes. images: how many, the largest number where sources differ.
    people: individuals. size: (width, height) in pixels, None where it varies. mpp: µm per pixel, None where not known;
    estimated: it is not the publication's. classes: code → images, empty where not given. note: what sources differ in.
    """

    name: str
    title: str
    layouts: tuple[str, ...]
    scheme: str
    images: int
    people: int | None
    size: tuple[int, int] | None
    mpp: float | None
    source: str
    classes: Mapping[str, int] = field(default_factory=dict)
    suffixes: frozenset[str] = frozenset()
    tolerance: int = 0  # images by which copies differ
    estimated: bool = False
    note: str = ""


_MLL21 = {
    "NGB": 9968, "NGS": 29424, "LYT": 26242, "MON": 4040, "EOS": 5883, "BAS": 441, "MMZ": 3055, "MYB": 6557,
    "PMO": 11994, "BLA": 11973, "PLM": 7629, "KSC": 42, "OTH": 294, "ART": 19630, "NIF": 3538, "PEB": 2740,
    "EBO": 27395, "HAC": 409, "ABE": 8, "LYI": 65, "FGC": 47,
}  # fmt: skip
_LMU15 = {
    "BAS": 79, "EBO": 78, "EOS": 424, "KSC": 15, "LYA": 11, "LYT": 3937, "MMZ": 15, "MOB": 26, "MON": 1789, "MYB": 42,
    "MYO": 3268, "NGB": 109, "NGS": 8484, "PMB": 18, "PMO": 70,
}  # fmt: skip

PUBLISHED: dict[str, CellSet] = {
    entry.name: entry
    for entry in (
        CellSet(
            name="mll_bone_marrow",
            title="Bone-Marrow-Cytomorphology_MLL_Helmholtz_Fraunhofer",
            layouts=("tcia-mll", "class-folders", "parquet"),
            scheme="mll21",
            images=171_375,
            people=945,
            size=(250, 250),
            mpp=0.086,
            source="Matek et al. 2021, Table 1; Matek and Marr 2024, Table 1; doi:10.7937/TCIA.AXH3-T579",
            classes=_MLL21,
            suffixes=frozenset({".jpg", ".jpeg"}),
            tolerance=1,
            note="The paper has 171,374 images, the archive 171,375",
        ),
        CellSet(
            name="lmu_aml",
            title="AML-Cytomorphology_LMU",
            layouts=("tcia-lmu", "class-folders"),
            scheme="lmu15",
            images=18_365,
            people=200,
            size=(400, 400),
            mpp=0.07072,
            source="Matek et al. 2019; Matek and Marr 2024, Table 1; doi:10.7937/tcia.2019.36f5o9ld; classes: "
            "annotations.dat of the collection",
            classes=_LMU15,
            suffixes=frozenset({".tif", ".tiff"}),
        ),
        CellSet(
            name="mll_aml",
            title="AML-Cytomorphology_MLL_Helmholtz",
            layouts=("tcia-aml",),
            scheme="aml_hehr",
            images=81_214,
            people=189,
            size=(144, 144),
            mpp=0.1725,
            source="Hehr et al. 2023; Matek and Marr 2024, Table 1; doi:10.7937/6PPE-4020",
            suffixes=frozenset({".tif", ".tiff"}),
            note="129 patients with one of four genetic entities, 60 controls; labels are of patients",
        ),
        CellSet(
            name="choi",
            title="Choi et al. 2017, as Matek et al. 2021 use it",
            layouts=("choi",),
            scheme="choi",
            images=627,
            people=10,
            size=None,
            mpp=None,
            source="Matek et al. 2021, external validation and Figure 4; doi:10.1371/journal.pone.0189259",
            note="627 images of 30 slides; sizes and light differ; the paper scales them up to 250 × 250. The archive "
            "itself was not seen",
        ),
        CellSet(
            name="pbc_dib",
            title="PBC_dataset_normal_DIB",
            layouts=("class-folders",),
            scheme="pbc13",
            images=17_092,
            people=None,
            size=None,
            mpp=0.1017,
            source="Acevedo et al. 2020, doi:10.1016/j.dib.2020.105474",
            suffixes=frozenset({".jpg"}),
            estimated=True,
            note="0.1017 µm per pixel is estimated from red cells, the publication gives none",
        ),
    )
}


def of_scheme(scheme: str | None, layout: str) -> CellSet | None:
    """The published set whose codes a folder of that layout uses, None where there is none."""
    schemes = {"pbc8": "pbc13"}
    wanted = schemes.get(scheme or "", scheme)
    return next((entry for entry in PUBLISHED.values() if layout in entry.layouts and entry.scheme == wanted), None)
