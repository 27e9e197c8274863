"""The base of every model: strict, frozen, no unknown fields; and exact rates."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator, WithJsonSchema


class Strict(BaseModel):
    """A document that refuses what it cannot say: unknown fields, wrong types, NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _rate(value: Any) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, int | str | Fraction):
        raise ValueError(f"a rate is an integer, a fraction or its text 'n/d', not {type(value).__name__}")
    rate = Fraction(value)
    if rate <= 0:
        raise ValueError("a rate must be above zero")
    return rate


Rate = Annotated[
    Fraction,
    PlainValidator(_rate),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(/[0-9]+)?$"}),
]
"""A sampling rate in Hz as an exact fraction (FIDELITY S02); in JSON ``"250"`` or ``"1000/3"``."""
