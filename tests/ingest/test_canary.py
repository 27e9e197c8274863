"""Unique strings planted where identities hide; then every byte that harmonize makes is searched for them."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import zarr

import harmonize as hz
from ingest.canaries import DATES, MAC, Canaries, plant
from ingest.canaries_recipes import E4_DEVICE, E4_START, plant_by_recipe

SHAPES = re.compile(rb"qz\d{6}xk|1\.2\.826\.0\.1\.424242\.\d{6}", re.IGNORECASE)
HEX = re.compile(rb"[0-9a-f]{16,}")


def run(*command: str, home: Path) -> tuple[int, bytes]:
    """A command as a user would run it, with a home of its own; its exit code and all that it said."""
    environment = os.environ | {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_CACHE_HOME": str(home / "cache"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "harmonize", *command], capture_output=True, check=False, env=environment
    )
    return done.returncode, done.stdout + done.stderr


def everything(store: hz.Store) -> Iterable[bytes]:
    """Every file as it is, every table and document decoded, every array with its chunks decoded."""
    for file in store.path.rglob("*"):
        yield str(file.relative_to(store.path)).encode()
        if file.is_file():
            yield file.read_bytes()
    for frame in (
        store.recordings,
        store.streams,
        store.annotations,
        store.label_rows,
        store.sources,
        store.failures,
        store.datasets,
    ):
        yield frame.write_json().encode()
    for name in store.recordings["recording_id"]:
        yield store[name].meta.model_dump_json().encode()
    for file in store.path.rglob("zarr.json"):
        node = zarr.open(file.parent, mode="r")
        if isinstance(node, zarr.Array):
            yield np.asarray(node[...]).tobytes() if node.dtype.kind != "T" else str(node[...].tolist()).encode()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Canaries, hz.Store, bytes]:
    """What was planted, the store, and every byte that was made: store, reports, metadata, logs, caches."""
    folder = tmp_path_factory.mktemp("canary")
    planted = plant(folder / "in")
    store, home = folder / "s.zarr", folder / "home"
    said = []
    code, text = run("convert", str(folder / "in"), "--into", str(store), "--workers", "1", home=home)
    said.append(text)
    assert code == 1, "one file is damaged"
    for kind, recipe in plant_by_recipe(folder / "by-recipe", planted).items():
        source = ("--recipe", recipe, str(folder / "by-recipe" / kind))
        code, text = run("convert", *source, "--into", str(store), "--workers", "1", home=home)
        said += [text, run("scan", *source, home=home)[1]]
        assert code == 0, text
    for command in (["ls", str(store)], ["ls", str(store), "--failures"], ["ls", str(store), "--unmapped"], ["audit", str(store), "--html", str(folder / "out.html")],
                    ["audit", str(store), "--json"], ["cite", str(store)], ["duplicates", str(store)], ["scan", str(folder / "in")],
                    ["metadata", str(store), "--into", str(folder / "meta")]):  # fmt: skip
        said.append(run(*command, home=home)[1])
    others = [file.read_bytes() for where in (home, folder / "meta") for file in where.rglob("*") if file.is_file()]
    others.append((folder / "out.html").read_bytes())
    opened = hz.open(store)
    return planted, opened, b"\0".join([*everything(opened), *said, *others])


def test_every_format_was_converted(made) -> None:
    _, store, _ = made
    assert sorted(store.recordings["format"]) == [
        "BrainVision",
        "DICOM",
        "DICOM",
        "DICOM",
        "EDF",
        "EDF+C",
        "Empatica E4",
        "FIF",
        "FLAC",
        "HDF5 arrays",
        "HDF5 arrays",
        "NIfTI-1",
        "NIfTI-1",
        "NPY array",
        "NPZ arrays",
        "NPZ arrays",
        "OpenSignals",
        "WAVE",
        "WFDB",
        "pickled arrays",
    ]
    assert store.failures["code"].to_list() == ["format_mismatch"]
    assert sorted(store.recordings["age"].drop_nulls()) == [30.0, 30.0, 44.0, 44.0, 44.0, 55.0], "typed fields do pass"


def test_the_search_sees_what_is_there(made) -> None:
    """The same search over the sources finds every canary, so finding none elsewhere means something."""
    planted, store, haystack = made
    assert b"C3" in haystack
    files = [file for name in ("in", "by-recipe") for file in (store.path.parent / name).rglob("*") if file.is_file()]
    raw = (gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes() for file in files)
    sources = b"\0".join([*(str(file).encode() for file in files), *raw])
    found = {one.lower().decode() for one in SHAPES.findall(sources)}
    assert {one: where for one, where in planted.planted.items() if one.lower() not in found} == {}
    assert len(planted.planted) > 3000


def test_no_canary_is_anywhere(made) -> None:
    planted, _, haystack = made
    found = {one.lower().decode() for one in SHAPES.findall(haystack)}
    assert {one: where for one, where in planted.planted.items() if one.lower() in found} == {}
    assert [text for text in (*DATES, MAC, E4_START, E4_DEVICE) if text.encode() in haystack] == []


def test_no_plain_hash_of_a_canary_is_anywhere(made) -> None:
    """A hash without a key would let anyone who guesses a name find it."""
    planted, _, haystack = made
    known = {
        hashlib.new(algorithm, text.encode()).hexdigest()[:16]: where
        for canary, where in planted.planted.items()
        for text in (canary, canary.lower(), canary.upper())
        for algorithm in ("md5", "sha1", "sha256", "sha512", "blake2b")
    }
    runs = (match.decode() for match in set(HEX.findall(haystack.lower())))
    found = {known[part] for run_ in runs for at in range(len(run_) - 15) if (part := run_[at : at + 16]) in known}
    assert found == set()
