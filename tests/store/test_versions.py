"""Versions: listed from the log as deltalake sees them, tagged, opened by name."""

import pytest
from deltalake import DeltaTable

import harmonize as hz
from harmonize.store import StoreError
from harmonize.store.delta_log import forget_history, logged_files, snapshots
from harmonize.store.versions import list_versions, remove_tag, require_version, resolve, tag_version
from stores import noise, recording, stream, write_signals


def write(root, *names):
    for name in names:
        write_signals(root, [(recording(name, [stream(50)]), noise((2, 50)))])


def by_deltalake(table):
    """Version to (live files, rows), each opened by deltalake."""
    out = {}
    for version in range(DeltaTable(str(table)).version() + 1):
        one = DeltaTable(str(table), version=version)
        files = {uri.rpartition("/")[2] for uri in one.file_uris()}
        out[version] = files, one.to_pyarrow_table().num_rows if files else 0
    return out


def test_every_version_is_what_deltalake_opens(tmp_path) -> None:
    root = tmp_path / "s.zarr"
    write(root, "a", "b", "a", "c")
    for table in sorted((root / "catalog").glob("*/_delta_log")):
        found = {one.version: (set(one.files), one.n_rows) for one in snapshots(table.parent)}
        assert found == by_deltalake(table.parent)
    table = root / "catalog/recordings"
    assert {name for files, _ in by_deltalake(table).values() for name in files} == logged_files(table)


def test_after_a_checkpoint_the_log_begins_there(tmp_path) -> None:
    root = tmp_path / "s.zarr"
    write(root, "a", "b", "a")
    table = root / "catalog/recordings"
    whole = by_deltalake(table)
    assert forget_history(table) == 3
    assert [(one.version, set(one.files), one.n_rows) for one in snapshots(table)] == [(3, *whole[3])]
    assert {file.name for file in table.glob("*.parquet")} == whole[3][0]
    assert sorted(file.name for file in (table / "_delta_log").glob("*.json")) == ["00000000000000000003.json"]
    assert forget_history(table) == 0
    write(root, "c")
    assert [one.version for one in snapshots(table)] == [3, 4]
    assert [set(one.files) for one in snapshots(table)][-1] == {
        uri.rpartition("/")[2] for uri in DeltaTable(str(table)).file_uris()
    }
    assert sorted(hz.open(root, version=4).recordings["recording_id"]) == ["test/a", "test/b", "test/c"]


def test_checkpoints_do_not_take_old_versions_away(tmp_path) -> None:
    """deltalake writes one every 100 commits and, unless told otherwise, drops log entries older than 30 days."""
    root = tmp_path / "s.zarr"
    write(root, "a")
    for table in (root / "catalog").glob("*/_delta_log"):
        assert DeltaTable(str(table.parent)).metadata().configuration["delta.enableExpiredLogCleanup"] == "false"
    table = DeltaTable(str(root / "catalog/recordings"))
    table.alter.set_table_properties(
        {"delta.checkpointInterval": "2", "delta.logRetentionDuration": "interval 0 seconds"}
    )
    write(root, "b", "c", "d", "e")
    assert list((root / "catalog/recordings/_delta_log").glob("*.checkpoint.parquet"))
    assert [len(hz.open(root, version=v)) for v in (1, 3, 6)] == [1, 2, 5]


def test_versions_are_listed_with_their_tags(tmp_path) -> None:
    root = tmp_path / "s.zarr"
    write(root, "a", "b")
    tag_version(root, "first", 1)
    frame = list_versions(root)
    assert frame.select("version", "operation", "recordings", "tags").rows() == [
        (0, "create", 0, []), (1, "convert", 1, ["first"]), (2, "convert", 2, []),
    ]  # fmt: skip
    assert frame["time"].str.ends_with("+00:00").all()
    assert frame["time"].is_sorted()


def test_a_tag_opens_its_version_and_not_another(tmp_path) -> None:
    root = tmp_path / "s.zarr"
    write(root, "a", "b")
    tag_version(root, "first", 1)
    assert len(hz.open(root, version="first")) == 1
    assert len(hz.open(root, version="1")) == 1
    assert resolve(root, "2") == 2
    for name, words in (("1st", "begins with a letter"), ("a b", "letter"), ("first", "already")):
        with pytest.raises(ValueError, match=words):
            tag_version(root, name, 1)
    with pytest.raises(StoreError, match="no version 9; the newest is 2"):
        tag_version(root, "later", 9)
    with pytest.raises(StoreError, match="no version 'none': its tags are first"):
        hz.open(root, version="none")
    remove_tag(root, "first")
    with pytest.raises(ValueError, match="no tag 'first'"):
        remove_tag(root, "first")
    with pytest.raises(StoreError, match="no store"):
        hz.open(tmp_path / "nothing", version="first")


def test_a_version_whose_files_are_gone_says_so(tmp_path) -> None:
    root = tmp_path / "s.zarr"
    write(root, "a", "a", "a", "b")
    table = root / "catalog/recordings"
    (only,) = set(snapshots(table)[2].files) - set(snapshots(table)[3].files)
    (table / only).unlink()
    with pytest.raises(StoreError, match=r"version 2 of the store was removed.*can be opened: 0-1, 3-4"):
        hz.open(root, version=2)
    require_version(root, 3)
