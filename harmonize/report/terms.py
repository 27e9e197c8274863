"""What is inside a store, for those who cite it or list it: licences, citations, BIDS and Croissant metadata."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from harmonize.store import Store

BIDS_VERSION = "1.10.0"
CROISSANT_VERSION = "http://mlcommons.org/croissant/1.0"
COLUMNS: Mapping[str, str] = {
    "recording_id": "Name of the recording in the store.",
    "dataset": "Source corpus.",
    "subject": "Subject; a pseudonym unless the source is public.",
    "session": "Session; a pseudonym unless the source is public.",
    "modality": "Kind of recording.",
    "site": "Where it was recorded; a pseudonym unless the source is public.",
    "device_maker": "Manufacturer of the device.",
    "device_model": "Model of the device.",
    "age": "Age in years at the recording; 90 stands for 90 and above.",
    "sex": "Sex as the source gives it: female, male or other.",
    "handedness": "Handedness: left, right or ambidextrous.",
    "start_s": "Seconds from the subject's first recording.",
    "duration_s": "Seconds from first to last sample.",
    "line_frequency_hz": "Mains frequency in Hz.",
    "fold": "Official fold or split of the source.",
    "format": "File format of the source.",
}
"""Columns of table ``recordings`` that are described to others, and what they mean."""
_PARTICIPANT = ("age", "sex", "handedness", "site")
_CONTEXT: Mapping[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/", "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract", "field": "cr:field",
    "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject", "fileSet": "cr:fileSet", "format": "cr:format",
    "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath", "key": "cr:key",
    "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
    "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace",
    "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField",
    "transform": "cr:transform",
}  # fmt: skip
"""The context that Croissant 1.0 prescribes (docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html, appendix 1)."""


def terms(store: Store) -> pl.DataFrame:
    """One row a data set in the store: recordings, subjects, and what its recipe says of licence and citation."""
    counts = store.recordings.group_by("dataset").agg(
        recordings=pl.len(), subjects=pl.col("subject").drop_nulls().n_unique()
    )
    return counts.join(store.datasets, on="dataset", how="left").sort("dataset")


def participants(store: Store) -> pl.DataFrame:
    """BIDS ``participants.tsv``: one row a subject of a data set, as of its earliest recording.

    ``participant_id`` is "sub-" and the letters and digits of data set and subject, which BIDS allows; two that
    fall together are told apart by a number. Recordings of unknown subjects have no row.
    """
    known = store.recordings.filter(pl.col("subject").is_not_null())
    first = known.sort("dataset", "subject", "start_s", "recording_id", nulls_last=True)
    rows = first.group_by("dataset", "subject", maintain_order=True).agg(
        *(pl.col(name).drop_nulls().first() for name in _PARTICIPANT), recordings=pl.len()
    )
    taken: dict[str, int] = {}
    names = []
    for dataset, subject in rows.select("dataset", "subject").iter_rows():
        name = "sub-" + re.sub(r"[^A-Za-z0-9]", "", dataset + subject)
        taken[name] = taken.get(name, 0) + 1
        names.append(name if taken[name] == 1 else f"{name}n{taken[name]}")
    return rows.select(pl.Series("participant_id", names, pl.String), pl.all())


def write_metadata(store: Store, folder: Path, name: str) -> list[Path]:
    """Write Croissant, BIDS and licence files about a store into a folder; returns what was written.

    ``croissant.json`` describes ``recordings.parquet`` and ``labels.parquet``, which are written beside it: the
    tables of this version of the store.
    """
    folder.mkdir(parents=True, exist_ok=True)
    recordings, labels = folder / "recordings.parquet", folder / "labels.parquet"
    store.recordings.select(*COLUMNS).sort("recording_id").write_parquet(recordings)
    store.label_rows.drop("commit").sort("recording_id", "name", "value").write_parquet(labels)
    people = participants(store)
    people.write_csv(folder / "participants.tsv", separator="\t", null_value="n/a")
    documents = {
        "participants.json": _participants_json(people),
        "dataset_description.json": _description(store, name),
        "croissant.json": croissant(store, name, {"recordings": recordings, "labels": labels}),
    }
    for file, document in documents.items():
        (folder / file).write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", "utf-8")
    return [recordings, labels, folder / "participants.tsv", *(folder / file for file in documents)]


def _participants_json(people: pl.DataFrame) -> dict[str, Any]:
    """The sidecar of ``participants.tsv``."""
    texts = dict(COLUMNS) | {
        "participant_id": "Unique name of the subject.",
        "recordings": "Recordings of the subject in the store.",
    }
    document: dict[str, Any] = {column: {"Description": texts[column]} for column in people.columns}
    document["age"]["Units"] = "years"
    for column in ("sex", "handedness"):
        document[column]["Levels"] = {level: level for level in sorted(people[column].drop_nulls().unique())}
    return document


def _description(store: Store, name: str) -> dict[str, Any]:
    """BIDS ``dataset_description.json`` of the whole."""
    rows = terms(store)
    licences = [f"{name}: {text or 'not stated'}" for name, text in rows.select("dataset", "licence").rows()]
    sources = [
        {key: value for key, value in (("URL", row["url"]), ("Version", row["version"])) if value}
        for row in rows.iter_rows(named=True)
    ]
    return {
        "Name": name,
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "License": "; ".join(licences),
        "ReferencesAndLinks": [text for texts in rows["citation"].drop_nulls() for text in texts],
        "GeneratedBy": [{"Name": "harmonize", "Version": version("harmonize-biomed")}],
        "SourceDatasets": [source for source in sources if source],
    }


def croissant(store: Store, name: str, tables: Mapping[str, Path]) -> dict[str, Any]:
    """Croissant 1.0 JSON-LD that describes Parquet tables (name to file) of a store."""
    rows = terms(store)
    licences = sorted({url or text for url, text in rows.select("licence_url", "licence").rows() if url or text})
    citations = [text for texts in rows["citation"].drop_nulls() for text in texts]
    named = ", ".join(rows["dataset"])
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CROISSANT_VERSION,
        "name": re.sub(r"[^A-Za-z0-9_-]", "_", name),
        "description": f"{len(store)} recordings of {named}, harmonized into one Zarr store (version {store.version}).",
        "version": f"{store.version}.0.0",
        "isLiveDataset": False,
        "distribution": [_file_object(table, file) for table, file in tables.items()],
        "recordSet": [_record_set(table, pl.read_parquet_schema(file)) for table, file in tables.items()],
    }
    if licences:
        document["license"] = licences
    if citations:
        document["citeAs"] = "\n".join(citations)
    urls = rows["url"].drop_nulls().to_list()
    if urls:
        document["url"] = urls[0]
        document["isBasedOn"] = urls
    return document


def _file_object(table: str, file: Path) -> dict[str, Any]:
    with file.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    return {
        "@type": "cr:FileObject",
        "@id": f"{table}.parquet",
        "name": f"{table}.parquet",
        "contentUrl": file.name,
        "encodingFormat": "application/x-parquet",
        "sha256": sha256,
    }


def _record_set(table: str, schema: Mapping[str, pl.DataType]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": table,
        "name": table,
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{table}/{column}",
                "name": column,
                "description": COLUMNS.get(column, "See the documentation of the store's tables."),
                "dataType": _data_type(dtype),
                "source": {"fileObject": {"@id": f"{table}.parquet"}, "extract": {"column": column}},
            }
            for column, dtype in schema.items()
        ],
    }


def _data_type(dtype: pl.DataType) -> str:
    if dtype.is_integer():
        return "sc:Integer"
    return "sc:Float" if dtype.is_float() else "sc:Text"
