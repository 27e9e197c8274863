"""Find: folders to sources, every file accounted for (DESIGN 1, principle 3)."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path, PurePosixPath

from harmonize.ingest.dealt import dealt
from harmonize_converters.contract import HEAD_BYTES, ConversionError, Converter, FoundFile, Peeking, SourceFiles
from harmonize_schemas import Recipe

SIDE_SUFFIXES = frozenset(
    [
        ".txt",
        ".md",
        ".rst",
        ".csv",
        ".tsv",
        ".json",
        ".yaml",
        ".yml",
        ".xml",
        ".html",
        ".htm",
        ".pdf",
        ".log",
        ".py",
        ".m",
        ".ipynb",
        ".sh",
        ".cff",
        ".bib",
        ".bval",
        ".bvec",
        ".png",
        ".jpg",
        ".jpeg",
    ]
)
SIDE_NAMES = frozenset(["license", "readme", "changes", "records", "annotators", "copying", "makefile"])


@dataclass
class Walked:
    """The files below the folders given, by key, as far as the recipe wants them; the others; and those that cannot
    be taken, with why."""

    files: dict[str, FoundFile] = field(default_factory=dict)
    unwanted: list[FoundFile] = field(default_factory=list)
    failures: list[tuple[FoundFile, ConversionError]] = field(default_factory=list)


@dataclass
class Found:
    """What a search came to: sources, files that failed (with why), and counts of side files by suffix."""

    sources: list[SourceFiles] = field(default_factory=list)
    failures: list[tuple[FoundFile, ConversionError]] = field(default_factory=list)
    side_files: Counter[str] = field(default_factory=Counter)


def find(paths: Iterable[Path], converters: Mapping[str, Converter], recipe: Recipe | None = None) -> Found:
    """Walk folders (or take single files) and group what is there into sources, as far as the recipe wants.

    Raises ``FileNotFoundError`` for a path that does not exist.
    """
    return group(walk(paths, recipe), converters, recipe)


def walk(paths: Iterable[Path], recipe: Recipe | None = None) -> Walked:
    """Names, sizes and times of all files, none of them opened. Raises ``FileNotFoundError``."""
    walked = Walked()
    files = walked.files
    choosing = recipe is not None and bool(recipe.files.include or recipe.files.exclude)
    for path in paths:
        for file, error in _walk(path.resolve(strict=True)):
            if error:
                walked.failures.append((file, error))
            elif choosing and recipe is not None and not _wanted(file, recipe):
                walked.unwanted.append(file)
            elif file.key in files and files[file.key].path != file.path:
                walked.failures.append((file, ConversionError("duplicate_source")))
            else:
                files[file.key] = file
    return walked


def group(
    walked: Walked,
    converters: Mapping[str, Converter],
    recipe: Recipe | None = None,
    executor: Executor | None = None,
) -> Found:
    """Recognise files by their first bytes, and group them into sources; many files are opened by the executor."""
    found = Found(failures=list(walked.failures), side_files=Counter(map(_kind, walked.unwanted)))
    files = dict(walked.files)
    by_converter: dict[str, list[FoundFile]] = {name: [] for name in converters}
    rest: list[FoundFile] = []
    bare = _bare_arrays(files, recipe)
    found.sources.extend(bare)
    described = {file.key for source in bare for file in source.files}
    unread = [file for file in files.values() if file.key not in described]
    names = dealt(executor, partial(_recognize, converters), unread, ConversionError("worker_died"))
    for file, name in zip(unread, names, strict=True):
        if isinstance(name, ConversionError):
            del files[file.key]
            found.failures.append((file, name))
            continue
        (by_converter[name] if name else rest).append(file)
    for reader, own in by_converter.items():
        found.sources.extend(_group(converters[reader], own, files, executor) if own else [])
    if recipe is not None and recipe.uneven_slices == "keep":
        found.sources = [replace(source, uneven_slices=True) for source in found.sources]
    # A FLAC file that a WFDB header claims is that record's, and no sound.
    parts = {file.key: source.converter for source in found.sources for file in source.files[1:]}
    found.sources = [one for one in found.sources if parts.get(one.primary.key, one.converter) == one.converter]
    claimed = {file.key for source in found.sources for file in source.files}
    suffixes = frozenset().union(*(converter.suffixes for converter in converters.values()))
    unknown = {file.key for file in rest}
    for file in files.values():
        if file.key in claimed:
            continue
        # A recognised file that its converter made no source of is an index of others (DICOMDIR).
        error = _why_unclaimed(file, suffixes) if file.key in unknown else None
        if error:
            found.failures.append((file, error))
        else:
            found.side_files[_kind(file)] += 1
    found.sources.sort(key=lambda source: source.key)
    return found


def _kind(file: FoundFile) -> str:
    return file.path.suffix.lower() or file.path.name.lower()


def _bare_arrays(files: Mapping[str, FoundFile], recipe: Recipe | None) -> list[SourceFiles]:
    """Sources of the files that the recipe's ``arrays`` name; of several that match the first counts."""
    sources: list[SourceFiles] = []
    for file in files.values() if recipe else ():
        inner = PurePosixPath(*PurePosixPath(file.key).parts[1:]).as_posix()
        spec = next((one for one in recipe.arrays if _glob(one.files).match(inner)), None) if recipe else None
        if spec is not None:
            from harmonize_converters.arrays import array_sources  # h5py takes a while, and few need it

            sources.extend(array_sources(file, spec))
    return sources


def _wanted(file: FoundFile, recipe: Recipe) -> bool:
    inner = PurePosixPath(*PurePosixPath(file.key).parts[1:])
    include, exclude = ([_glob(one) for one in globs] for globs in (recipe.files.include, recipe.files.exclude))
    text = inner.as_posix()
    return (not include or any(one.match(text) for one in include)) and not any(one.match(text) for one in exclude)


@cache
def _glob(pattern: str) -> re.Pattern[str]:
    """A glob on a whole path: "*" and "?" stay within a folder, "**/" is any folders or none, "**" all below."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(words.get(part, re.escape(part)) for part in parts) + r"\Z")


def _walk(path: Path) -> Iterator[tuple[FoundFile, ConversionError | None]]:
    if path.is_file():
        yield _file(path.as_posix(), path.parent)
        return
    folders = [path.as_posix()]
    while folders:
        folder = folders.pop()
        try:
            entries = os.scandir(folder)
        except OSError:
            yield _file(folder, path)[0], ConversionError("unreadable_file", "The folder cannot be listed.")
            continue
        with entries:
            here = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda one: one.name)
        if any(entry.name == "zarr.json" for entry in here):  # a store is no source
            continue
        folders += [entry.path for entry in reversed(here) if entry.is_dir(follow_symlinks=False)]
        for entry in here:
            if not entry.is_dir():
                yield _file(entry.path, path, entry)


def found_file(path: Path, root: Path) -> FoundFile:
    """A file below a folder, as it is now. Raises ``OSError``."""
    stat = path.stat()
    return FoundFile(path, f"{root.name}/{path.relative_to(root).as_posix()}", stat.st_size, stat.st_mtime_ns)


def root_of(file: FoundFile) -> Path:
    """The folder that a file was found under."""
    return file.path.parents[len(PurePosixPath(file.key).parts) - 2]


def _file(name: str, root: Path, entry: os.DirEntry[str] | None = None) -> tuple[FoundFile, ConversionError | None]:
    path = Path(name)
    key = f"{root.name}{name[len(root.as_posix().rstrip('/')) :]}"
    if (entry or path).is_symlink() and not path.resolve().is_relative_to(root):
        return FoundFile(path, key, 0, 0), ConversionError("path_escape", "A link leads out of the folder given.")
    try:
        stat = (entry or path).stat()
    except OSError:
        return FoundFile(path, key, 0, 0), ConversionError("unreadable_file")
    return FoundFile(path, key, stat.st_size, stat.st_mtime_ns), None


def _group(
    converter: Converter, files: Sequence[FoundFile], siblings: Mapping[str, FoundFile], executor: Executor | None
) -> list[SourceFiles]:
    if not isinstance(converter, Peeking):
        return converter.group(files, siblings)
    return converter.group(files, siblings, dealt(executor, converter.peek, files, None))


def _recognize(converters: Mapping[str, Converter], file: FoundFile) -> str | ConversionError | None:
    """The converter of a file; an error where it cannot be read."""
    try:
        with file.path.open("rb") as handle:
            head = handle.read(HEAD_BYTES)
    except OSError:
        return ConversionError("unreadable_file")
    called = file.path.name
    return next((name for name, one in converters.items() if head and one.recognize(head, called)), None)


def _why_unclaimed(file: FoundFile, suffixes: frozenset[str]) -> ConversionError | None:
    name = file.path.name.lower()
    promised = name.endswith(tuple(suffixes))
    side = file.path.suffix.lower() in SIDE_SUFFIXES or file.path.stem.lower() in SIDE_NAMES
    if side and not promised:
        return None
    if file.size == 0:
        return ConversionError("empty_file")
    return ConversionError("format_mismatch" if promised else "unrecognized_format")
