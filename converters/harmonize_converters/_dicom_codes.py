"""Coded concepts of DICOM (PS3.3 8.8): scheme and value of published schemes, and the published meaning.

A file's own words for a concept are not kept, nor codes of private schemes: they may say anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from pydicom.dataset import Dataset

from harmonize_converters._dicom_header import items, lenient_text
from harmonize_converters.contract import ConversionError
from harmonize_schemas import CodedConcept

_SNOMED_RT = ("SRT", "SNM3")
_SCHEMES: Mapping[str, str] = {
    "SCT": r"\d{6,18}",
    **dict.fromkeys(_SNOMED_RT, r"[A-Z][A-Z0-9]?-[A-Z0-9]{4,6}"),
    "DCM": r"\d{6}",
    "FMA": r"\d{1,7}",
    "RADLEX": r"RID\d{1,6}",
    "UMLS": r"C\d{7}",
    "NCIt": r"C\d{1,7}",
    "UBERON": r"\d{7}",
    "NEU": r"\d{1,6}",
    "LN": r"\d{1,7}-\d",
}
"""Published coding schemes (PS3.16 8), and how their codes look."""


def concepts(item: Dataset, name: str) -> list[CodedConcept | None]:
    """The concepts of a sequence, none where it is absent; None for one that is of no published scheme."""
    try:
        return [_concept(one) for one in items(item, name)]
    except ConversionError:
        return [None]


def _concept(item: Dataset) -> CodedConcept | None:
    scheme = lenient_text(item, "CodingSchemeDesignator") or ""
    value = lenient_text(item, "CodeValue") or lenient_text(item, "LongCodeValue") or ""
    if scheme not in _SCHEMES or not re.fullmatch(_SCHEMES[scheme], value, re.ASCII):
        return None
    return CodedConcept(code=f"{scheme}:{value}", meaning=_meaning(scheme, value))


@cache
def _meaning(scheme: str, value: str) -> str | None:
    if scheme in _SNOMED_RT:  # these codes went over into SCT (PS3.16 O.1): pydicom compares them
        from pydicom.sr.codedict import codes
        from pydicom.sr.coding import Code

        old = Code(value, "SRT", "")
        new = next((new for new in codes.SCT.concepts.values() if new == old), None)
        return None if new is None else _meanings()["SCT", new.value]
    return _meanings().get((scheme, value))


@cache
def _meanings() -> Mapping[tuple[str, str], str]:
    from pydicom.sr.codedict import codes  # a tenth of a second, for segmentations and tracers alone

    every = [code for scheme in codes.schemes() for code in getattr(codes, scheme).concepts.values()]
    every.sort(key=lambda code: len(code.meaning), reverse=True)  # of several, the shortest counts
    return {(code.scheme_designator, code.value): code.meaning for code in every}
