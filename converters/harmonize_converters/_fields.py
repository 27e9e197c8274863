"""Small texts in signal headers to values: exact numbers, dates, ages. Pure functions."""

from __future__ import annotations

import re
from datetime import date
from fractions import Fraction

from harmonize_schemas import Demographics

# Exponents of two digits at most: Fraction("1e999999999") would fill the memory.
_DECIMAL = re.compile(r"[+-]?(\d{1,40}([.,]\d{0,40})?|[.,]\d{1,40})([eE][+-]?\d{1,2})?")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_OLDEST = 120


def clean(raw: bytes) -> str:
    """Header bytes to text: up to the first NUL, UTF-8 or else Latin-1 (byte 0xB5 is µ), stripped. What
    cannot be printed becomes U+FFFD: dropping it could make another number."""
    text = decode_text(raw.split(b"\0", 1)[0])
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text.strip())


def decode_text(raw: bytes) -> str:
    """UTF-8, or Latin-1 where it is not: what old headers and annotations hold."""
    return raw.decode("utf-8" if is_utf8(raw) else "latin-1")


def is_utf8(raw: bytes) -> bool:
    """Whether bytes are UTF-8 (as ASCII is)."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def decimal(text: str) -> Fraction | None:
    """A decimal number, exactly; a comma counts as its point. None where it is no number."""
    stripped = text.strip()
    if not stripped.isascii() or not _DECIMAL.fullmatch(stripped):
        return None
    return Fraction(stripped.replace(",", "."))


def integer(text: str) -> int | None:
    """A whole number ("12", "12.0"); None where it is none."""
    value = decimal(text)
    return None if value is None or value.denominator != 1 else int(value)


def calendar_date(year: int, month: int, day: int) -> date | None:
    """A date; None where there is no such day."""
    try:
        return date(year, month, day)
    except ValueError:
        return None


def english_date(text: str) -> date | None:
    """ "02-MAR-2002" (EDF+) to a date."""
    found = re.fullmatch(r"(\d{1,2})-([A-Za-z]{3})-(\d{4})", text, re.ASCII)
    if not found or found[2].upper() not in _MONTHS:
        return None
    return calendar_date(int(found[3]), _MONTHS.index(found[2].upper()) + 1, int(found[1]))


def whole_years(born: date, at: date) -> float | None:
    """Age in completed years; None where it cannot be one."""
    years = at.year - born.year - ((at.month, at.day) < (born.month, born.day))
    return float(years) if 0 <= years <= _OLDEST else None


def demographics(age_years: float | None, sex_found: str | None) -> Demographics:
    """Age, pooled above 89, and sex. A text that is no known coding of sex is not kept."""
    sex = {"m": "male", "male": "male", "f": "female", "female": "female"}.get((sex_found or "").casefold())
    return Demographics.model_validate({**pooled_age(age_years), "sex": sex, "sex_found": sex_found if sex else None})


def pooled_age(years: float | None) -> dict[str, float | bool | None]:
    """The fields of an age; above 89 it is pooled (45 CFR 164.514(b)(2))."""
    pooled = years is not None and years >= 90
    return {"age_years": 90.0 if pooled else years, "age_pooled": pooled}


def plausible_age(text: str) -> float | None:
    """An age in years, as text, to completed years."""
    years = decimal(text)
    return float(int(years)) if years is not None and 0 <= years <= _OLDEST else None
