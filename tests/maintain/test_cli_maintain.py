"""verify, forget, vacuum and versions as a user meets them: output, JSON, exit codes."""

import json
import shutil

import pytest
from typer.testing import CliRunner

import harmonize as hz
from harmonize.cli import app
from maintain.cohort import write_cohort

run = CliRunner()
RECIPE = """
dataset: ward
paths: ['(?P<subject>[a-z]+)/']
"""


pytestmark = pytest.mark.usefixtures("own_key")


@pytest.fixture
def made(tmp_path):
    folder = write_cohort(tmp_path / "in", ("anna", "bert"))
    (tmp_path / "ward.yaml").write_text(RECIPE)
    assert (
        call("convert", folder, "--into", tmp_path / "s.zarr", "--recipe", tmp_path / "ward.yaml", "--workers", 0)[0]
        == 0
    )
    return folder, tmp_path / "s.zarr", tmp_path / "ward.yaml"


def call(*arguments):
    result = run.invoke(app, [str(one) for one in arguments])
    return result.exit_code, result.output


def test_verify_says_what_it_did_and_exits_1_when_something_is_wrong(made) -> None:
    folder, root, recipe = made
    code, said = call("verify", root, folder, "--recipe", recipe)
    assert (code, "6 recordings read and compared with their hashes, 6 compared with their sources" in said) == (
        0,
        True,
    ), said
    assert "Nothing is wrong" in said
    code, said = call("verify", root, "--workers", 1, "--json")
    assert (code, json.loads(said)["ok"], json.loads(said)["compared"]) == (0, True, 0)
    shutil.rmtree(next(root.glob("signals/*/*/samples/c")))
    code, said = call("verify", root)
    assert (code, "missing_chunk 2" in said) == (1, True)
    code, said = call("verify", root, "--json")
    assert (code, [one["code"] for one in json.loads(said)["findings"]]) == (1, ["missing_chunk"] * 2)


def test_verify_needs_the_store_s_key(made, tmp_path, monkeypatch) -> None:
    folder, root, recipe = made
    key = shutil.copy(tmp_path / "config/harmonize/project.key", tmp_path / "kept.key")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "elsewhere"))
    result = run.invoke(app, ["verify", str(root), str(folder), "--recipe", str(recipe)])
    assert "no key file" in str(result.exception)
    assert not (tmp_path / "elsewhere").exists(), "no key is made for a store that has one"
    assert call("verify", root, folder, "--recipe", recipe, "--key", key)[0] == 0
    (tmp_path / "other.key").write_text("0" * 64)
    (tmp_path / "other.key").chmod(0o600)
    code, said = call("verify", root, folder, "--recipe", recipe, "--key", tmp_path / "other.key")
    assert (code, "made under the project key" in said) == (2, True)


def test_forget_says_what_is_gone_and_what_is_not(made) -> None:
    folder, root, recipe = made
    code, said = call("forget", root, "bert")
    assert code == 0, said
    assert "3 recordings removed" in said
    assert "refused the subjects and their 3 sources" in said
    assert "Copies elsewhere" in said
    code, said = call("convert", folder, "--into", root, "--recipe", recipe, "--workers", 0, "--json")
    assert (code, [one["code"] for one in json.loads(said)["failures"]]) == (1, ["forgotten"] * 3)
    assert call("forget", root, "nobody")[0] == 2
    left = hz.open(root).recordings["subject"].unique().to_list()
    code, said = call("forget", root, left[0], "--json", "--without-key")
    assert (code, json.loads(said)["recordings"], json.loads(said)["refused_sources"]) == (0, 3, 0)


def test_forget_exits_1_while_something_may_still_be_there(made) -> None:
    _, root, _ = made
    layout = next(root.glob("signals/*/*")).parent
    (layout / "unfinished").mkdir()
    code, said = call("forget", root, "bert")
    assert (code, "Not finished: 1" in said, "--grace 0" in said) == (1, True, True)
    assert call("forget", root, "bert", "--grace", 0)[0] == 0


def test_vacuum_and_versions(made) -> None:
    folder, root, recipe = made
    (next(root.glob("signals/*/*")).parent / "unfinished").mkdir()
    code, said = call("vacuum", root, "--json")
    assert (code, json.loads(said)["parts"], json.loads(said)["young"]) == (0, {}, 1)
    code, said = call("vacuum", root, "--grace", 0, "--dry-run")
    assert (code, "Would remove 1 parts" in said) == (0, True)
    code, said = call("vacuum", root, "--grace", 0)
    assert (code, "Removed 1 parts" in said) == (0, True)
    assert call("versions", "tag", root, "v1")[0] == 0
    assert call("versions", "tag", root, "v1")[0] == 2
    code, said = call("versions", "ls", root, "--json")
    assert [(one["version"], one["operation"], one["recordings"], one["tags"]) for one in json.loads(said)] == [
        (0, "create", 0, []), (1, "convert", 6, ["v1"]),
    ]  # fmt: skip
    assert "convert" in call("versions", "ls", root)[1]
    shutil.copytree(folder / "anna", folder / "cora")
    assert call("convert", folder, "--into", root, "--recipe", recipe, "--workers", 0)[0] == 0
    assert len(json.loads(call("ls", root, "--version", "v1", "--json")[1])) == 6
    assert len(json.loads(call("ls", root, "--json")[1])) == 9
    assert call("verify", root, "--version", "v1")[0] == 0
    assert call("versions", "untag", root, "v1")[0] == 0
    assert call("versions", "untag", root, "v1")[0] == 2
