"""Every file is accounted for; tasks pool equal layouts."""

import os
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from harmonize.ingest.find import find
from harmonize.ingest.identify import Draft
from harmonize.ingest.packed import PackedDraft, pack
from harmonize.ingest.plan import TASK_BYTES, plan
from harmonize.store.geometry import layout_name
from harmonize_converters.contract import SourceFiles
from stores import recording, stream


class Magic:
    """Recognises files that start with MAGIC; claims a ``.side`` of the same stem."""

    name, version, suffixes = "magic", "1", frozenset({".mag"})

    def recognize(self, head, name):
        return head.startswith(b"MAGIC")

    def group(self, files, siblings):
        out = []
        for file in files:
            if "INDEX" in file.key:
                continue
            side = siblings.get(file.key.rsplit(".", 1)[0] + ".side")
            out.append(
                SourceFiles("magic", file.key, (file, *([side] if side else [])), ("data", "side")[: 1 + bool(side)])
            )
        return out


def test_every_file_is_a_source_a_failure_or_a_named_side_file(tmp_path) -> None:
    root = tmp_path / "root"
    (root / "deep").mkdir(parents=True)
    (root / "other.zarr").mkdir()
    content = {
        "a.mag": b"MAGIC", "a.side": b"x", "misnamed.bin": b"MAGIC", "empty.mag": b"", "INDEX": b"MAGIC", "wrong.mag": b"text",
        "deep/strange.xyz": b"?", "README.md": b"hello", "LICENSE": b"MIT", ".hidden": b"x", "nothing.bin": b"",
        "other.zarr/zarr.json": b"{}", "other.zarr/c.mag": b"MAGIC",
    }  # fmt: skip
    for name, data in content.items():
        (root / name).write_bytes(data)
    (tmp_path / "secret.mag").write_bytes(b"MAGIC")
    os.symlink(tmp_path / "secret.mag", root / "escape.mag")
    found = find([root], {"magic": Magic()})
    assert [source.key for source in found.sources] == ["root/a.mag", "root/misnamed.bin"]
    assert {file.key: error.code for file, error in found.failures} == {
        "root/empty.mag": "empty_file", "root/wrong.mag": "format_mismatch", "root/nothing.bin": "empty_file",
        "root/deep/strange.xyz": "unrecognized_format", "root/escape.mag": "path_escape",
    }  # fmt: skip
    assert found.side_files == {".md": 1, "license": 1, "index": 1}


def test_a_file_given_by_name_is_the_same_source_as_in_its_folder(tmp_path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/a.mag").write_bytes(b"MAGIC")
    whole, single = (find([p], {"magic": Magic()}) for p in (tmp_path / "root", tmp_path / "root/a.mag"))
    assert whole.sources == single.sources


def test_two_folders_of_one_name_do_not_shadow_each_other(tmp_path) -> None:
    for parent in ("x", "y"):
        (tmp_path / parent / "data").mkdir(parents=True)
        (tmp_path / parent / "data" / "a.mag").write_bytes(b"MAGIC")
    found = find([tmp_path / "x/data", tmp_path / "y/data"], {"magic": Magic()})
    assert len(found.sources) == 1
    assert [error.code for _, error in found.failures] == ["duplicate_source"]


def _draft(number: int, n: int, rate: int) -> PackedDraft:
    one = recording(f"r{number:04d}", [stream(n, ("C3",), Fraction(rate))])
    return pack(Draft(None, None, one, "", False), None)  # type: ignore[arg-type]  # planning asks for no source


@given(st.lists(st.tuples(st.integers(1, TASK_BYTES), st.sampled_from([100, 200])), max_size=12), st.integers(1, 16))
def test_a_plan_holds_each_recording_once_in_pools_of_one_layout(sizes, workers) -> None:
    drafts = [_draft(number, n, rate) for number, (n, rate) in enumerate(sizes)]
    tasks = plan(drafts, workers)
    planned = sorted(draft.recording_id for task in tasks for draft in task.drafts)
    assert planned == [draft.recording_id for draft in drafts]
    for task in tasks:
        assert len({layout_name(draft.draft().recording.streams[0]) for draft in task.drafts}) == 1
        assert task.raw_bytes <= TASK_BYTES or len(task.drafts) == 1
        assert task.streamed == (task.raw_bytes > TASK_BYTES)
    assert plan(drafts[::-1], workers) == tasks, "the order in which sources were found does not matter"


def test_a_file_that_another_format_claims_is_no_source_of_its_own(tmp_path) -> None:
    """A signal file of a WFDB record in format 516 is a FLAC file, and would pass for sound."""

    class Sound:
        name, version, suffixes = "sound", "1", frozenset({".flac"})

        def recognize(self, head, name):
            return head.startswith(b"fLaC")

        def group(self, files, siblings):
            return [SourceFiles("sound", file.key, (file,), ("signal",)) for file in files]

    for name, data in {"a.mag": b"MAGIC", "a.side": b"fLaC", "b.flac": b"fLaC"}.items():
        (tmp_path / name).write_bytes(data)
    found = find([tmp_path], {"sound": Sound(), "magic": Magic()})
    assert [source.key.split("/")[1] for source in found.sources] == ["a.mag", "b.flac"]
    assert found.failures == []
