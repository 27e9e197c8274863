"""The schema: strict, round-tripping, documented; the JSON Schema on disk is the one the models make."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
from pydantic import ValidationError

from harmonize_schemas import Image, Recipe, Recording, Segment, SignalStream, vocabulary
from harmonize_schemas.jsonschema import SCHEMAS, schema_text
from stores import channel, recording, stream

VOCABULARIES = [
    "annotation_labels",
    "channel_types",
    "channels",
    "failures",
    "flags",
    "modalities",
    "references",
    "units",
]
SCHEMA_FOLDER = Path(__file__).parents[2] / "schemas" / "json"


@pytest.mark.parametrize("name", SCHEMAS)
def test_json_schema_on_disk_is_current(name) -> None:
    assert (SCHEMA_FOLDER / f"{name}.schema.json").read_text("utf-8") == schema_text(name), "run: make docs"


def test_no_schema_on_disk_without_a_model() -> None:
    assert {file.name for file in SCHEMA_FOLDER.iterdir()} == {f"{name}.schema.json" for name in SCHEMAS}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_every_term_has_a_reference(name) -> None:
    assert all(entry["reference"] for entry in vocabulary(name).values())


def test_vocabularies_refer_to_each_other() -> None:
    units = vocabulary("units")
    types = vocabulary("channel_types")
    assert all(entry["unit"] in units for entry in types.values() if entry["unit"])
    assert all(entry["type"] in types for entry in vocabulary("channels").values())
    spellings = [s for entry in units.values() for s in entry["spellings"]]
    assert len(spellings) == len(set(spellings)), "one spelling, one unit"
    names = [s.casefold() for term, entry in vocabulary("channels").items() for s in (term, *entry["aliases"])]
    assert len(names) == len(set(names)), "one name, one channel"


def test_a_recording_survives_json() -> None:
    one = recording("a", [stream(100, rate=Fraction(1000, 3), segments=[(0, 40, 0.25), (40, 60, 9.0)])])
    assert Recording.model_validate_json(one.model_dump_json()) == one
    assert json.loads(one.model_dump_json())["streams"][0]["rate_hz"] == "1000/3"


def test_what_the_model_cannot_say_is_an_error() -> None:
    document = json.loads(recording("a", [stream(100)]).model_dump_json())
    for change in (
        {"patient_name": "x"}, {"modality": "telepathy"}, {"dataset": "Upper Case"}, {"recording_id": "no-slash"},
        {"flags": ["no_such_flag"]}, {"duration_s": float("nan")}, {"subject": 7},
    ):  # fmt: skip
        with pytest.raises(ValidationError):
            Recording.model_validate_json(json.dumps(document | change))


@pytest.mark.parametrize("rate", [0, -1, 0.5, "fast", True])
def test_a_rate_is_an_exact_positive_fraction(rate) -> None:
    with pytest.raises(ValidationError):
        stream(10).model_validate(stream(10).model_dump() | {"rate_hz": rate}, strict=False)


@pytest.mark.parametrize(
    "segments",
    [[(0, 50, 0.0)], [(0, 60, 0.0), (50, 50, 5.0)], [(0, 50, 1.0), (50, 50, 1.2)], [(1, 99, 0.0)]],
    ids=["too few samples", "overlap in samples", "overlap in time", "starts late"],
)
def test_segments_lie_end_to_end_and_never_overlap(segments) -> None:
    with pytest.raises(ValidationError):
        SignalStream(
            name="s", rate_hz=Fraction(100), dtype="int16", n_samples=100, channels=(channel("C3"),),
            segments=tuple(Segment(start=a, n_samples=n, onset_s=t) for a, n, t in segments),
        )  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"axes": ("x", "y"), "shape": (3, 3)}, {"axes": ("z", "x"), "shape": (3, 3)}, {"shape": (3, 0, 4)},
        {"slopes": (1.0, 2.0)}, {"affine_source": "sform"}, {"dtype": "complex64"}, {"unit": "furlong"},
    ],
)  # fmt: skip
def test_an_image_must_be_consistent(change) -> None:
    good = {
        "axes": ("z", "y", "x"), "shape": (3, 4, 5), "dtype": "int16", "affine": None, "affine_source": "unknown",
        "spacing_mm": None, "spacing_source": "unknown",
    }  # fmt: skip
    Image(**good)
    with pytest.raises(ValidationError):
        Image(**good | change)


def test_a_recipe_names_only_known_groups() -> None:
    with pytest.raises(ValidationError, match="group 'hospital' is no field"):
        Recipe(dataset="d", paths=(r"(?P<hospital>\w+)",))
    with pytest.raises(ValidationError, match="privcy"):
        Recipe.model_validate({"dataset": "d", "privcy": "keep"})
