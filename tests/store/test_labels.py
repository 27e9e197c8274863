"""Labels: rows of values to columns, and both in the data sets."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from harmonize.data import WindowDataset
from harmonize.ingest.rows import label_rows
from harmonize.store import open_store
from harmonize.store.labels import widen
from stores import noise, recording, stream, write_signals

LABELS = [
    {"codes": {"AF": 80.0, "SR": 0.0}, "rhythm": "AF", "paced": True, "rate": 71},
    {"codes": {"SR": 100.0}, "rhythm": "SR", "paced": False, "kinds": ("a", "b")},
    {},
]


def store_with_labels(folder):
    """Three recordings of 4 s; the last has no label."""
    made = [
        recording(f"r{i}", [stream(400)], subject=f"s{i}").model_copy(update={"labels": labels})
        for i, labels in enumerate(LABELS)
    ]
    write_signals(folder / "s", [(one, noise((2, 400))) for one in made])
    return open_store(folder / "s")


def test_rows_keep_every_value_and_number() -> None:
    one = recording("r", [stream(10)]).model_copy(update={"labels": LABELS[0]})
    rows = [(row["name"], row["kind"], row["value"], row["number"]) for row in label_rows(one)]
    assert rows == [
        ("codes", "dict", "AF", 80.0),
        ("codes", "dict", "SR", 0.0),
        ("rhythm", "text", "AF", None),
        ("paced", "bool", None, 1.0),
        ("rate", "number", None, 71.0),
    ]


def test_columns_have_the_kind_of_their_label(tmp_path) -> None:
    labels = store_with_labels(tmp_path).labels
    assert labels["recording_id"].to_list() == ["test/r0", "test/r1"]
    assert labels.drop("recording_id").to_dict(as_series=False) == {
        "codes": [["AF", "SR"], ["SR"]],
        "kinds": [None, ["a", "b"]],
        "paced": [True, False],
        "rate": [71.0, None],
        "rhythm": ["AF", "SR"],
    }


def test_a_label_of_two_kinds_is_refused() -> None:
    rows = pl.DataFrame(
        {
            "recording_id": ["a", "b"],
            "name": ["x", "x"],
            "kind": ["text", "number"],
            "value": ["v", None],
            "number": [None, 1.0],
        }
    )
    with pytest.raises(ValueError, match="label 'x' is number and text"):
        widen(rows)


def test_labels_select_and_are_targets(tmp_path) -> None:
    store = store_with_labels(tmp_path)
    assert len(WindowDataset(store, window=1.0, where="rhythm = 'AF'")) == 4
    assert len(WindowDataset(store, window=1.0, where="paced")) == 4
    assert len(WindowDataset(store, window=1.0, where=pl.col("codes").list.contains("SR"))) == 8
    coded = WindowDataset(store, window=4.0, target="rhythm", domains=["rhythm", "modality"])
    assert [coded[i]["target"] for i in range(3)] == [0, 1, -1]
    assert coded.codes["rhythm"].names == ("AF", "SR")
    assert [coded[i]["modality"] for i in range(3)] == [0, 0, 0]
    many = WindowDataset(store, window=4.0, target="codes")
    assert many.codes["target"].names == ("AF", "SR")
    np.testing.assert_array_equal(many[0]["target"], [1, 1])
    np.testing.assert_array_equal(many[1]["target"], [0, 1])
    assert np.isnan(np.asarray(many[2]["target"])).all()
    assert coded.codes_of("paced").names == ("false", "true")
    with pytest.raises(ValueError, match="no column 'rythm'"):
        WindowDataset(store, window=4.0, target="rythm")
    with pytest.raises(ValueError, match="no column 'nothing'"):
        WindowDataset(store, window=4.0, domains=["nothing"])
