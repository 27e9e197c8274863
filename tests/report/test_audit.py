"""The audit of a small catalog whose every number is known."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import harmonize as hz
from harmonize.cli import app
from harmonize.report.audit import age_band, audit
from harmonize.report.audit_html import audit_page
from harmonize.report.audit_text import findings
from harmonize.report.confounding import associations
from harmonize.store import create_store
from harmonize.store.catalog import Batch, commit
from harmonize_schemas import Image
from stores import noise, recording, stream, write_image, write_signals

run = CliRunner()
SECRET = 137
"""The hours of the only recording of a site: must be in no output."""


def rows_of(n, site, device, sex, age, label, first=0, dataset="d", hours=0.1):
    """``n`` recordings of ``n`` persons, with one stream of ``hours`` at 1 Hz in two segments."""
    recordings, streams, labels = [], [], []
    for i in range(first, first + n):
        name = f"{dataset}/{site}-{i}"
        recordings.append({"recording_id": name, "dataset": dataset, "subject": f"{site}-{i}", "site": site,
                           "device_model": device, "modality": "ecg", "age": age, "sex": sex, "format": "WFDB",
                           "flags": ["channel_unmapped"] if label == "sick" else [], "source": name})  # fmt: skip
        size = round(hours * 3600)
        streams.append({"recording_id": name, "stream": "s", "stream_index": 0, "part": "p", "row": i, "start": 0,
                        "n_samples": size, "rate_num": 1, "rate_den": 1, "dtype": "int16", "layout": "l",
                        "channels": ["I", "II"], "types": ["ecg"] * 2, "units": ["mV"] * 2, "scale": [1.0] * 2,
                        "offset": [0.0] * 2, "missing": [None] * 2, "segment_start": [0, size // 2],
                        "segment_samples": [size // 2, size - size // 2],
                        "segment_onset_s": [0.0, 9999.0], "content": ["a", "b"]})  # fmt: skip
        labels += [{"recording_id": name, "name": "diagnosis", "kind": "text", "value": label, "number": None}]
    return recordings, streams, labels


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Site A: 40 women, healthy, device X. Site B: 38 men and 2 women, sick, device Y. Site C: one recording."""
    root = tmp_path_factory.mktemp("audit") / "cohort.zarr"
    create_store(root, "key")
    batch = Batch()
    for part in (
        rows_of(40, "A", "X", "female", 30.0, "well"),
        rows_of(38, "B", "Y", "male", 60.0, "sick"),
        rows_of(2, "B", "Y", "female", 61.0, "sick", first=38),
        rows_of(1, "C", "Z", None, 95.0, "well", hours=SECRET),
    ):
        for name, rows in zip(("recordings", "streams", "labels"), part, strict=True):
            getattr(batch, name).extend(rows)
    failure = {
        "source": "x",
        "dataset": "d",
        "format": "edf",
        "code": "truncated",
        "message": "Cut short.",
        "where": None,
    }
    batch.failures.append(failure)
    commit(root, batch)
    return root


def test_counts(store) -> None:
    found = audit(hz.open(store))
    # 0.1 h = 360 s in two segments of 180 s: 18 whole windows of 10 s each, 36 a recording.
    site = {row["site"]: row for row in found.by["site"].iter_rows(named=True)}
    assert site["A"]["recordings"] is None
    assert site["A"]["hidden"] == "withheld", "A and C would else follow from the total"
    assert site["C"]["hidden"] == "<5"
    assert (site["B"]["recordings"], site["B"]["subjects"], site["B"]["windows"]) == (40, 40, 40 * 36)
    assert site["B"]["hours"] == pytest.approx(4.0)
    assert found.totals["recordings"][0] == 81
    sex = {row["sex"]: row["hidden"] for row in found.by["sex"].iter_rows(named=True)}
    assert sex == {"female": None, "male": "withheld", "unknown": "<5"}
    cross = {(row["site"], row["sex"]): row["hidden"] for row in found.across["site, sex"].iter_rows(named=True)}
    assert cross[("B", "female")] == "<5"
    assert found.failures.select("code", "sources").rows() == [("truncated", 1)]


def test_windows_cross_no_gap(store) -> None:
    found = audit(hz.open(store), window_s=100.0)
    assert found.by["site"].filter(pl.col("site") == "B")["windows"].to_list() == [80]


def test_ages() -> None:
    ages = pl.DataFrame({"age": [0.0, 9.9, 10.0, 89.0, 90.0, None]})
    assert ages.select(age_band(pl.col("age")))["age_band"].to_list() == ["0-9", "0-9", "10-19", "80-89", "90+", None]


def test_confounding(store) -> None:
    table = audit(hz.open(store), min_cell=1).associations
    found = {(row["factor"], row["target"]): row for row in table.iter_rows(named=True)}
    assert found["site", "device"]["strength"] == pytest.approx(1.0)
    label = found["site", "label diagnosis"]
    assert (label["measure"], label["persons"], label["levels"]) == ("V", 81, 3)
    # Three sites by two values, one follows from the other: phi2 = 1; (1 - 2/80) / (2 - 1/80 - 1) = 0.975 / 0.9875.
    assert label["strength"] == pytest.approx(np.sqrt(0.975 / 0.9875))
    # [[40, 0], [2, 38]]: chi2 = 80 * (40 * 38 - 0 * 2)^2 / (40 * 40 * 42 * 38) = 72.381, phi2 = 0.904762;
    # corrected 0.892104, and 2 - 1/79 - 1 = 0.987342: V = sqrt(0.892104 / 0.987342) = 0.950548.
    assert found["site", "sex"]["strength"] == pytest.approx(0.950548, abs=1e-6)
    assert found["site", "age"]["measure"] == "ω"
    assert ("dataset", "sex") not in found, "one data set only"
    assert any("Site and device go together" in one for one in findings(audit(hz.open(store))))


def people(n, **columns):
    base = {"recording_id": [f"r{i:03d}" for i in range(n)], "person": [f"p{i}" for i in range(n)], "dataset": ["d"] * n,
            "site": ["A", "B"] * (n // 2), "device": ["X"] * n, "sex": [None] * n, "age": [None] * n,
            "start_s": [0.0] * n}  # fmt: skip
    return pl.DataFrame(base | columns, schema_overrides={"sex": pl.String, "age": pl.Float64})


def test_several_values_are_compared_one_by_one() -> None:
    rows = people(40)
    labels = [(f"r{i:03d}", "codes", "dict", "odd" if i % 2 else "even", 100.0) for i in range(40)]
    labels += [(f"r{i:03d}", "codes", "dict", "first half", 0.0) for i in range(20)]
    labels += [("r000", "codes", "dict", "rare", 1.0)]
    frame = pl.DataFrame(labels, ["recording_id", "name", "kind", "value", "number"], orient="row")
    found = {row["target"]: row["strength"] for row in associations(rows, frame).iter_rows(named=True)}
    assert found == {"label codes: odd": pytest.approx(1.0), "label codes: even": pytest.approx(1.0),
                     "label codes: first half": 0.0}  # fmt: skip


def test_a_person_counts_once_and_few_are_not_judged() -> None:
    rows = people(40, sex=["male", "female"] * 20, person=[f"p{i // 2}" for i in range(40)])
    none = pl.DataFrame(schema=dict.fromkeys(("recording_id", "name", "kind", "value", "number"), pl.String))
    assert len(associations(rows, none)) == 0, "the first recording of every person is of site A and male"
    few = associations(people(20, sex=["male", "female"] * 10), none)
    assert few.select("strength", "persons", "means").rows() == [(None, 20, "not judged: fewer than 30 persons")]


def test_missing_and_flags(store) -> None:
    found = audit(hz.open(store))
    missing = {(row["site"], row["field"]): row for row in found.missing.iter_rows(named=True)}
    assert missing["A", "height_cm"]["share"] == 1.0
    assert missing["A", "sex"]["share"] == 0.0
    assert missing["C", "sex"]["hidden"] == "<5"
    assert missing["B", "label diagnosis"]["share"] == 0.0
    flags = {row["site"]: row["share"] for row in found.flags.iter_rows(named=True)}
    assert flags == {"A": 0.0, "B": 1.0, "C": None}


def test_what_is_small_is_in_no_output(store, tmp_path) -> None:
    page = tmp_path / "a.html"
    printed = run.invoke(app, ["audit", str(store), "--html", str(page)])
    assert printed.exit_code == 0, printed.output
    as_json = run.invoke(app, ["audit", str(store), "--json"])
    assert as_json.exit_code == 0
    document = json.loads(as_json.stdout)
    # Hours of site C alone, and of the total, which would give them away, are 137 and 145.0.
    for name in ("cells", "label_cells", "label_sites", "channels"):
        assert all(row["hours"] is None or row["hours"] < 10 for row in document[name])
    assert "<5" in printed.output
    for text in (page.read_text("utf-8"), printed.output):
        assert not re.search(r"\b137\b|\b137\.0", text)


class Outline(HTMLParser):
    """Every tag that opens is closed; nothing is fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.links = [], []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "rect", "line", "circle", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_self_contained_and_escaped(tmp_path) -> None:
    root = tmp_path / "s.zarr"
    evil = "<script>x</script>"
    one = recording("a", [stream(3000)], site=evil, device_maker="M&M", sex="female", subject="s")
    write_signals(root, [(one, noise((2, 3000)))])
    outline = Outline()
    page = audit_page(audit(hz.open(root), min_cell=1))
    outline.feed(page)
    assert outline.open == []
    assert outline.links == []
    assert evil not in page
    assert "&lt;script&gt;" in page
    assert "M&amp;M" in page
    assert "http" not in page


def test_images(tmp_path) -> None:
    root = tmp_path / "s.zarr"
    image = Image(axes=("z", "y", "x"), shape=(3, 4, 5), dtype="int16", affine=None, affine_source="unknown",
                  spacing_mm=(1.0, 1.5, 2.0), spacing_source="pixdim")  # fmt: skip
    write_image(root, recording("i", image=image, modality="mr"), np.zeros((3, 4, 5), np.int16))
    found = audit(hz.open(root), min_cell=1)
    assert found.images.select("size", "dtype", "spacing_mm", "recordings").rows() == [
        ("5 × 4 × 3", "int16", "1 × 1.5 × 2", 1)
    ]
    assert found.totals.select("images", "windows").rows() == [(1, 0)]
    assert "5 × 4 × 3" in audit_page(found)


def test_an_empty_store_and_a_condition(store, tmp_path) -> None:
    create_store(tmp_path / "empty.zarr", "key")
    assert run.invoke(app, ["audit", str(tmp_path / "empty.zarr"), "--html", str(tmp_path / "e.html")]).exit_code == 0
    only = audit(hz.open(store), where="site = 'B' AND diagnosis = 'sick'")
    assert only.totals["recordings"].to_list() == [40]
    assert len(only.failures) == 0
    with pytest.raises(hz.store.StoreError, match="cannot use the condition"):
        audit(hz.open(store), where="mood = 1")


def test_sites_of_several_data_sets_stay_apart(tmp_path) -> None:
    root = tmp_path / "s.zarr"
    create_store(root, "key")
    for dataset in ("d", "e"):
        parts = rows_of(6, "A", "X", "female", 30.0, "well", dataset=dataset)
        commit(root, Batch(recordings=parts[0], streams=parts[1], labels=parts[2]))
    assert audit(hz.open(root)).by["site"]["site"].to_list() == ["d/A", "e/A"]
