"""The project key and the pseudonyms made under it."""

import hashlib
import hmac
import os
from dataclasses import replace
from datetime import datetime

import pytest

from harmonize.ingest.facts import Facts, path_facts
from harmonize.ingest.identify import Known, Policy, draft, label_annotation, methods
from harmonize.ingest.packed import anchor, first_starts, pack
from harmonize.ingest.privacy import KeyFileError, ProjectKey, default_key_path, load_key
from harmonize.ingest.values import resolve
from harmonize_converters.contract import Described, Description, FoundAnnotation, FoundFile, Identity, SourceFiles
from harmonize_schemas import Recipe
from stores import stream

KEY = ProjectKey(b"k" * 32)


class FakeConverter:
    name, version = "fake", "1"


def drafted(tmp_path, privacy="pseudonym", key=KEY, known=frozenset(), **recipe):
    policy = Policy(Recipe(dataset="ds", privacy=privacy, **recipe), None, key)
    file = FoundFile(tmp_path / "north" / "Jane_Doe.edf", "data/north/Jane_Doe.edf", 10, 20)
    source = SourceFiles("fake", file.key, (file,), ("data",))
    identity = Identity("MRN123", "ADM9", "St. Elsewhere", "SN777", datetime(2009, 5, 6, 7, 8, 9))
    described = Described(Description("FAKE", "eeg", (stream(10),)), identity)
    facts = Facts(path_facts(policy.recipe, source))
    item = Known(source, described, facts, resolve(policy.recipe, facts, {}, lambda *_: None))
    one = draft(policy, FakeConverter(), item)
    ours = pack(one, item.start(policy))
    anchor([ours, replace(ours, start=datetime(2009, 5, 6, 7, 8, 0))], known)
    return ours.draft()


def test_the_default_key_is_made_once_for_its_owner_only(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("HARMONIZE_KEY_FILE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    first, second = load_key(), load_key()
    assert first == second
    assert default_key_path().stat().st_mode & 0o777 == 0o600
    assert len(first.secret) == 32
    assert first.secret.hex() not in repr(first)


def test_a_key_that_others_can_read_is_refused(tmp_path) -> None:
    file = tmp_path / "key"
    file.write_text("ab" * 32)
    file.chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_key(file)


@pytest.mark.parametrize("content", ["", "zz" * 32, "ab" * 31])
def test_what_is_no_key_is_refused(tmp_path, content) -> None:
    file = tmp_path / "key"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(KeyFileError, match="not a project key"):
        load_key(file)
    with pytest.raises(KeyFileError, match="no key file"):
        load_key(tmp_path / "nothing")


def test_pseudonyms_are_hmac_sha256_with_scope() -> None:
    expected = hmac.new(b"k" * 32, b"sub\0ds\0MRN123", hashlib.sha256).hexdigest()[:16]
    policy = Policy(Recipe(dataset="ds"), None, KEY)
    assert policy.pseudonym("sub", "MRN123", "ds") == f"sub-{expected}"
    assert policy.pseudonym("sub", None, "ds") is None


def test_nothing_that_identifies_is_in_the_document(tmp_path) -> None:
    text = drafted(tmp_path).recording.model_dump_json()
    for secret in ("MRN123", "ADM9", "Elsewhere", "SN777", "Jane", "Doe", "north", "2009", str(tmp_path)):
        assert secret not in text
        assert hashlib.sha256(secret.encode()).hexdigest()[:12] not in text


def test_one_subject_has_one_pseudonym_per_key(tmp_path) -> None:
    other = ProjectKey(b"x" * 32)
    assert drafted(tmp_path).recording.subject == drafted(tmp_path).recording.subject
    assert drafted(tmp_path).recording.subject != drafted(tmp_path, key=other).recording.subject


def test_public_data_keep_their_names(tmp_path) -> None:
    one = drafted(tmp_path, "keep", paths=(r"(?P<site>\w+)/",)).recording
    assert (one.recording_id, one.subject, one.session) == ("ds/north/Jane_Doe.edf", "MRN123", "ADM9")
    assert one.acquisition.site == "north", "the path goes over the file"
    assert one.source.id == "north/Jane_Doe.edf"
    assert str(tmp_path) not in one.model_dump_json()


def test_dates_become_seconds_since_the_subjects_first(tmp_path) -> None:
    subject = Policy(Recipe(dataset="ds"), None, KEY).pseudonym("sub", "MRN123", "ds")
    assert drafted(tmp_path).recording.start_s == 9.0
    again = drafted(tmp_path, known=frozenset([subject])).recording
    assert again.start_s is None
    assert "start_unanchored" in again.flags
    early, late = datetime(2001, 1, 1), datetime(2002, 2, 2)
    assert first_starts([("a", late), ("a", early), ("b", None), (None, early)]) == {"a": early}


def test_defaults_fill_only_what_is_unknown(tmp_path) -> None:
    one = drafted(tmp_path, defaults={"site": "elsewhere", "device_model": "M1", "line_frequency_hz": 50}).recording
    assert one.acquisition.site.startswith("site-")
    assert one.acquisition.device_model == "M1"
    assert one.acquisition.line_frequency_hz == 50


def test_path_fields_take_the_first_pattern_that_matches() -> None:
    recipe = Recipe(dataset="d", paths=(r"^(?P<site>s\d)/(?P<subject>p\d)", r"(?P<subject>p\d)"))

    def facts(key: str) -> dict[str, str]:
        return path_facts(recipe, SourceFiles("edf", key, (), ()))

    assert facts("root/s1/p2/x.edf") == {
        "path": "s1/p2/x", "name": "x.edf", "stem": "x", "folder": "s1/p2", "site": "s1", "subject": "p2"
    }  # fmt: skip
    assert facts("root/p3.edf") == {"path": "p3", "name": "p3.edf", "stem": "p3", "folder": "", "subject": "p3"}


def test_annotation_texts_stay_only_as_vocabulary_terms() -> None:
    stage = label_annotation(FoundAnnotation(1.0, 30.0, "Sleep stage W"), "edf", keep_text=False)
    assert (stage.label, stage.text) == ("sleep_wake", None)
    note = label_annotation(FoundAnnotation(1.0, None, "Jane coughs"), "edf", keep_text=False)
    assert (note.label, note.text) == ("event", None)
    assert label_annotation(FoundAnnotation(1.0, None, "Jane coughs"), "edf", keep_text=True).text == "Jane coughs"
    assert label_annotation(FoundAnnotation(1.0, None, None, label="wfdb:N"), "wfdb", False).label == "wfdb:N"


def test_the_key_follows_the_environment(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HARMONIZE_KEY_FILE", str(tmp_path / "deep" / "my.key"))
    assert load_key() == load_key(tmp_path / "deep" / "my.key")
    assert not [name for name in os.listdir(tmp_path / "deep") if name != "my.key"]


def test_the_methods_applied_are_recorded(tmp_path) -> None:
    ours = ("allow_list", "age_pooled_90", "keyed_pseudonyms", "relative_dates", "event_text_to_terms")
    assert drafted(tmp_path).recording.privacy.methods == ours
    assert methods(Recipe(dataset="d"), "DICOM") == (*ours, "dcm:113100", "dcm:113107", "dcm:113108")
    stated = Recipe(dataset="d", text_deidentified="the publisher")
    assert methods(stated, "DICOM") == (*ours[:4], "text_by_statement")
    assert "kept_as_published" in methods(Recipe(dataset="d", privacy="keep"), "DICOM")
