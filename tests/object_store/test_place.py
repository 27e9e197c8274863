"""URLs as places: what is read from them, what is refused, and which libraries are given what."""

from __future__ import annotations

import pickle
import sys
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

import harmonize as hz
from harmonize.cli import app, main
from harmonize.store import object_path
from harmonize.store.errors import UnreachableError
from harmonize.store.object_path import ObjectPath, client, delta_options
from harmonize.store.place import create, place_of
from object_store.servers import S3, SECRET


@pytest.mark.parametrize(
    ("url", "scheme", "bucket", "key"),
    [
        ("s3://bucket/corpus.zarr", "s3", "bucket", "corpus.zarr"),
        ("s3://bucket/a/b c/corpus.zarr/", "s3", "bucket", "a/b c/corpus.zarr"),
        ("gs://b.with.dots/x", "gs", "b.with.dots", "x"),
        ("az://container/a/x.zarr", "az", "container", "a/x.zarr"),
    ],
)
def test_urls(url: str, scheme: str, bucket: str, key: str) -> None:
    place = place_of(url)
    assert place == ObjectPath(scheme, bucket, key)
    assert str(place) == f"{scheme}://{bucket}/{key}"
    below = place / "catalog" / "recordings"
    assert (below.name, str(below.parent), str(below)) == (
        "recordings",
        f"{place}/catalog",
        f"{place}/catalog/recordings",
    )
    assert pickle.loads(pickle.dumps(below)) == below
    assert place_of(place) is place


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://host/x", "not with ftp:"),
        ("S3://bucket/x", "not with S3:"),
        ("s3://bucket", "both a bucket and a path"),
        ("s3:///x", "both a bucket and a path"),
        ("s3://bucket/a//b", "both a bucket and a path"),
        ("s3://bucket/../x", "both a bucket and a path"),
        (f"s3://key:{SECRET}@bucket/x", "go into the environment"),
        (f"s3://bucket/x?secret={SECRET}", "go into the environment"),
        (Path("s3://bucket/x"), "as text"),
    ],
)
def test_what_is_no_url_of_a_store_is_refused_and_not_quoted(url: str | Path, says: str) -> None:
    with pytest.raises(hz.StoreError, match=says) as caught:
        hz.open(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("path", ["corpus.zarr", "a/s3/b", "/x:y/z", "C:/data"])
def test_a_path_is_a_folder(path: str) -> None:
    assert place_of(path) == Path(path)
    assert place_of(Path(path)) == Path(path)


@pytest.mark.parametrize(
    ("scheme", "kind", "conditional"),
    [("s3", "S3Store", {"aws_conditional_put": "etag"}), ("gs", "GCSStore", {}), ("az", "AzureStore", {})],
)
def test_each_scheme_has_its_client_and_options(monkeypatch, scheme: str, kind: str, conditional: dict) -> None:
    """Not more is tested of gs:// and az://: there is no server for them here."""
    store = pytest.importorskip("obstore.store")
    monkeypatch.setattr(object_path, "_clients", {})
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    place = place_of(f"{scheme}://place/x")
    assert isinstance(place, ObjectPath)
    made = client(place)
    assert type(made) is getattr(store, kind)
    assert made.config[{"az": "container_name"}.get(scheme, "bucket")] == "place"
    assert client(place / "below") is made, "one client for a bucket"
    assert delta_options(place) == {"max_retries": "10", "retry_timeout": "180s"} | conditional


def test_without_obstore_the_extra_is_named(monkeypatch, s3: S3, tmp_path) -> None:
    monkeypatch.setattr(object_path, "_clients", {})
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    for use in (hz.open, partial(hz.convert, tmp_path)):
        with pytest.raises(hz.StoreError, match=r"pip install 'harmonize-biomed\[s3\]'"):
            use(s3.url())


def test_a_wrong_bucket_wrong_credentials_and_no_store_are_told_apart(s3: S3, monkeypatch, tmp_path) -> None:
    with pytest.raises(hz.StoreError, match=f"there is no store at {s3.url('other')}"):
        hz.open(s3.url("other"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreachableError, match=r"there is no bucket s3://missing$"):
        hz.convert(tmp_path / "empty", "s3://missing/corpus.zarr")
    s3.put("full.zarr/mine.txt", b"precious")
    with pytest.raises(hz.StoreError, match="not a store and not empty"):
        hz.convert(tmp_path / "empty", s3.url("full.zarr"))
    assert s3.names("full.zarr") == ["full.zarr/mine.txt"]
    s3.faults(status=403.0, fail=1.0)
    with pytest.raises(UnreachableError, match="refuses what was asked with the credentials"):
        hz.open(s3.url())
    monkeypatch.setattr(object_path, "MAX_RETRIES", 0)
    lacking = {
        ("AWS_ALLOW_HTTP",): "set AWS_ALLOW_HTTP=true",
        ("AWS_ACCESS_KEY_ID",): "does not say how to reach s3://bucket",
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"): "no credentials for s3://bucket",
    }
    for names, says in lacking.items():
        with monkeypatch.context() as without:
            without.setattr(object_path, "_clients", {})
            for name in names:
                without.delenv(name)
            with pytest.raises(hz.StoreError, match=says) as caught:
                hz.open(s3.url())
            assert SECRET not in str(caught.value)


def test_the_command_line_says_it_in_one_line(s3: S3, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["harmonize", "ls", s3.url("nothing")])
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr().err
    assert caught.value.code == 2
    assert "there is no store at" in said.replace("\n", " ")
    assert "Traceback" not in said


def test_commands_take_urls(s3: S3, tmp_path, monkeypatch) -> None:
    from maintain.cohort import write_eeg

    write_eeg(tmp_path / "ward" / "anna" / "eeg.edf", "anna")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    run = CliRunner()
    commands = [
        ["convert", str(tmp_path / "ward"), "--into", s3.url(), "--workers", "0"],
        ["ls", s3.url()],
        ["audit", s3.url()],
        ["verify", s3.url(), str(tmp_path / "ward")],
        ["versions", "tag", s3.url(), "first"],
        ["versions", "ls", s3.url()],
        ["vacuum", s3.url(), "--dry-run"],
        ["duplicates", s3.url()],
    ]
    for command in commands:
        result = run.invoke(app, command)
        assert result.exit_code == 0, (command, result.output)
        assert SECRET not in result.output
    shown = run.invoke(app, ["show", s3.url(), hz.open(s3.url()).recordings["recording_id"][0]])
    assert shown.exit_code == 0
    assert "C3" in shown.output


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_a_file_is_created_once(s3: S3, tmp_path, where: str) -> None:
    s3.folder += where
    file = place_of(tmp_path if where == "folder" else s3.url()) / "below" / "one.json"
    s3.faults(lost=1.0, only="PUT", times=1)  # the answer to the first try; the second finds its own object
    create(file, b"first")
    if where == "bucket":
        assert [one["status"] for one in s3.asked() if one["method"] == "PUT"] == [503, 412]
    assert file.read_bytes() == b"first"
    with pytest.raises(FileExistsError):
        create(file, b"second")
    assert file.read_bytes() == b"first"
    assert [one.name for one in tmp_path.rglob("*.partial")] == []
