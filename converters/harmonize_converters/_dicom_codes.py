"""Coded concepts of DICOM (PS3.3 8.8): scheme and value of published schemes, and the published meaning.

A file's own words for a concept are not kept, nor codes of private schemes: they may say anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from pydicom.dataset import Dataset

from harmonize_converters._dicom_header import items, lenient_text
from harmonize_converters.channels import known_unit
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
    "MDC": r"\d{1,2}:\d{1,5}",
    "SCPECG": r"\d{1,2}(\.\d{1,2}){2,3}(-\d{1,3}){1,2}",
}
"""Published coding schemes (PS3.16 8), and how their codes look."""


def concepts(item: Dataset, name: str) -> list[CodedConcept | None]:
    """The concepts of a sequence, none where it is absent; None for one that is of no published scheme."""
    try:
        return [_concept(one) for one in items(item, name)]
    except ConversionError:
        return [None]


def current_code(item: Dataset, name: str) -> str | None:
    """The first concept of a sequence as "SCT:128446002", an old SNOMED RT code as the SCT one that took its place;
    None where there is none of a published scheme."""
    found = next(iter(concepts(item, name)), None)
    if found is None:
        return None
    scheme, _, value = found.code.partition(":")
    return ":".join(_current(scheme, value) or (scheme, value))


def published_meaning(scheme: str, value: str) -> str | None:
    """What a code means by PS3.16 as pydicom has it; None for one that it does not have."""
    return _meanings().get(_current(scheme, value) or ("", ""))


def _concept(item: Dataset) -> CodedConcept | None:
    scheme = lenient_text(item, "CodingSchemeDesignator") or ""
    value = lenient_text(item, "CodeValue") or lenient_text(item, "LongCodeValue") or ""
    if scheme not in _SCHEMES or not re.fullmatch(_SCHEMES[scheme], value, re.ASCII):
        return None
    return CodedConcept(code=f"{scheme}:{value}", meaning=published_meaning(scheme, value))


def unit_code(item: Dataset, name: str) -> str:
    """A unit's code in UCUM; empty where it is none that is published."""
    for unit in items(item, name)[:1]:
        code = lenient_text(unit, "CodeValue") or ""
        known = known_unit(code) or published_meaning("UCUM", code)
        if known and lenient_text(unit, "CodingSchemeDesignator") == "UCUM":
            return code
    return ""


@cache
def _current(scheme: str, value: str) -> tuple[str, str] | None:
    """The code in use for one: those of SNOMED RT went over into SCT (PS3.16 O.1), as pydicom compares them."""
    if scheme not in _SNOMED_RT:
        return scheme, value
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    old = Code(value, "SRT", "")
    return next((("SCT", new.value) for new in codes.SCT.concepts.values() if new == old), None)


@cache
def _meanings() -> Mapping[tuple[str, str], str]:
    from pydicom.sr.codedict import codes  # a tenth of a second, for what holds codes alone

    every = [code for scheme in codes.schemes() for code in getattr(codes, scheme).concepts.values()]
    every.sort(key=lambda code: len(code.meaning), reverse=True)  # of several, the shortest counts
    return {(code.scheme_designator, code.value): code.meaning for code in every}
