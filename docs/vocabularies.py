"""``make docs``: the vocabularies as one page, so that a person can read what names and codes mean."""

from __future__ import annotations

from pathlib import Path

from harmonize_schemas import vocabulary

PAGES = {
    "failures": "Why a source was not converted",
    "flags": "What to know about a recording that was",
    "channel_types": "Channel types and their canonical units",
    "units": "Units and how they are spelled in files",
    "modalities": "Modalities",
    "references": "References of montages, and how they are spelled in files",
    "annotation_labels": "Annotation labels",
    "privacy_methods": "How identifiers were treated",
}


def main() -> None:
    """Write docs/vocabularies.md."""
    lines = ["# Vocabularies", "", "Written by `make docs` from `schemas/harmonize_schemas/vocab`."]
    for name, title in PAGES.items():
        lines += ["", f"## {title}", "", "| term | meaning | reference |", "|---|---|---|"]
        for term, entry in vocabulary(name).items():
            said = {key: value for key, value in entry.items() if key not in ("reference", "text") and value}
            meaning = entry.get("text") or "; ".join(
                f"{key}: {', '.join(value) if isinstance(value, list) else value}" for key, value in said.items()
            )
            cells = (f"`{term}`", meaning, entry["reference"])
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
