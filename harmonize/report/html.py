"""Pieces of a self-contained HTML page: tables with bars, grids of shaded cells, two drawings. Pure text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

STYLE = """
:root { --ink:#1c2733; --soft:#5b6876; --line:#dfe4e9; --fill:#2f6f9f; --warm:#b4552d; --paper:#fff; }
* { box-sizing:border-box }
body { margin:0; background:#f4f6f8; color:var(--ink);
  font:15px/1.5 "Helvetica Neue",Arial,"Liberation Sans",sans-serif }
main { max-width:1080px; margin:0 auto; padding:36px 44px 64px; background:var(--paper) }
h1 { font-size:28px; line-height:1.2; margin:0 0 4px; font-weight:600 }
h2 { font-size:20px; margin:44px 0 6px; padding-top:14px; border-top:2px solid var(--ink); font-weight:600 }
h3 { font-size:15px; margin:22px 0 6px; font-weight:600 }
p { max-width:76ch; margin:6px 0 } .soft { color:var(--soft) }
ul.findings { max-width:84ch; padding-left:20px } ul.findings li { margin:5px 0 }
.totals { display:flex; flex-wrap:wrap; gap:10px 26px; margin:20px 0 8px }
.totals b { display:block; font-size:25px; font-weight:600; line-height:1.2 }
.totals span { color:var(--soft); font-size:13px }
.columns { display:grid; grid-template-columns:1fr 1fr; gap:4px 40px } .columns > div { min-width:0 }
.scroll { overflow-x:auto }
table { border-collapse:collapse; font-size:13.5px; margin:4px 0 8px }
th { text-align:left; font-weight:600; color:var(--soft); font-size:12.5px; vertical-align:bottom }
th, td { padding:3px 10px 3px 0; border-bottom:1px solid var(--line) }
td.n, th.n { text-align:right; font-variant-numeric:tabular-nums; white-space:nowrap }
td.small { color:var(--soft); font-style:italic }
td.name { max-width:420px; overflow-wrap:break-word }
table:not(.grid) td.name:first-child:has(+ td.n) { min-width:230px }
table:not(.grid) td.n { min-width:76px }
td.bar { width:190px; padding-left:8px }
td.bar i { display:block; height:10px; background:var(--fill); border-radius:1px }
table.grid td.n, table.grid th.n { padding:4px 8px; border:2px solid var(--paper); text-align:center; min-width:58px }
table.grid th.n { min-width:76px; max-width:116px; white-space:normal; overflow-wrap:break-word }
table.grid td.name { min-width:150px; border:0 }
figure { margin:10px 0 } figcaption { color:var(--soft); font-size:13px; max-width:84ch }
svg text { font:12.5px "Helvetica Neue",Arial,"Liberation Sans",sans-serif; fill:var(--ink) }
svg .soft { fill:var(--soft) }
details { margin:8px 0 } summary { cursor:pointer; color:var(--fill) }
@media (max-width:800px) { .columns { grid-template-columns:1fr } main { padding:20px } }
@media print { body { background:none } main { max-width:none; padding:0 } h2 { break-after:avoid } }
"""

Cell = tuple[str, float | None]
"""What stands in a cell and how strongly it is shaded, 0 to 1; None: a count that is hidden."""


def page(title: str, body: Iterable[str]) -> str:
    """A whole document that loads nothing from elsewhere."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head>\n<body><main>\n{chr(10).join(body)}\n</main></body></html>\n"
    )


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], bars: Sequence[float] | None = None) -> str:
    """A table: the first columns text, those whose head ends in " #" numbers; ``bars`` 0 to 1, one a row."""
    numbers = [name.endswith(" #") for name in head]
    cells = "".join(
        f"<th{' class=n' if n else ''}>{escape(name.removesuffix(' #'))}</th>"
        for name, n in zip(head, numbers, strict=True)
    )
    lines = []
    for place, row in enumerate(rows):
        line = "".join(
            f'<td class="{"n" if n else "name"}{" small" if n and text[:1] in ("<", "w") else ""}">{escape(text)}</td>'
            for text, n in zip(row, numbers, strict=True)
        )
        if bars is not None:
            line += f'<td class="bar"><i style="width:{100 * bars[place]:.1f}%"></i></td>'
        lines.append(f"<tr>{line}</tr>")
    head_row = f"<tr>{cells}{'<th></th>' if bars is not None else ''}</tr>"
    return f'<div class="scroll"><table>{head_row}{"".join(lines)}</table></div>'


def grid(
    corner: str,
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Mapping[tuple[str, str], Cell],
    hue: str = "47,111,159",
) -> str:
    """Shaded cells, rows by columns; what is in no cell stays empty."""
    head = "".join(f'<th class="n">{escape(name).replace("/", "/<wbr>")}</th>' for name in columns)
    lines = []
    for row in rows:
        line = ""
        for column in columns:
            text, shade = cells.get((row, column), ("", 0.0))
            if shade is None:
                line += f'<td class="n small">{escape(text)}</td>'
            else:
                ink = ";color:#fff" if shade > 0.6 else ""
                line += f'<td class="n" style="background:rgba({hue},{0.9 * shade:.2f}){ink}">{escape(text)}</td>'
        lines.append(f'<tr><td class="name">{escape(row)}</td>{line}</tr>')
    head = f"<tr><th>{escape(corner)}</th>{head}</tr>"
    return f'<div class="scroll"><table class="grid">{head}{"".join(lines)}</table></div>'


def pyramid(bands: Sequence[str], left: Sequence[Cell], right: Sequence[Cell], names: tuple[str, str]) -> str:
    """Two rows of bars back to back, one pair a band; ``Cell``: its text and its length, 0 to 1."""
    row, middle, reach, gap = 24, 350, 250, 42
    height = row * len(bands) + 30
    out = [
        f'<svg width="700" height="{height}" viewBox="0 0 700 {height}" role="img">',
        f'<text x="{middle - gap}" y="14" text-anchor="end" class="soft">{escape(names[0])}</text>',
        f'<text x="{middle + gap}" y="14" class="soft">{escape(names[1])}</text>',
    ]
    for place, (band, one, two) in enumerate(zip(reversed(bands), reversed(left), reversed(right), strict=True)):
        y = 24 + place * row
        out.append(f'<text x="{middle}" y="{y + 14}" text-anchor="middle">{escape(band)}</text>')
        for (text, length), side, colour in ((one, -1, "#b4552d"), (two, 1, "#2f6f9f")):
            width = reach * (length or 0.0)
            x = middle + side * gap - (width if side < 0 else 0)
            out.append(f'<rect x="{x:.1f}" y="{y + 2}" width="{width:.1f}" height="{row - 6}" fill="{colour}"/>')
            at, anchor = middle + side * (gap + width + 6), "end" if side < 0 else "start"
            out.append(f'<text x="{at:.1f}" y="{y + 14}" text-anchor="{anchor}" class="soft">{escape(text)}</text>')
    return "".join(out) + "</svg>"


def dots(names: Sequence[str], values: Sequence[float], notes: Sequence[str], steps: Mapping[str, float]) -> str:
    """One dot a row on a scale of 0 to 1, with named steps as lines and a note at the right."""
    row, left, right, top = 24, 330, 760, 34
    height = top + row * len(names) + 6
    out = [f'<svg width="1000" height="{height}" viewBox="0 0 1000 {height}" role="img" style="max-width:100%">']
    for word, at in steps.items():
        x = left + (right - left) * at
        out.append(f'<line x1="{x}" x2="{x}" y1="{top - 8}" y2="{height}" stroke="#dfe4e9"/>')
        out.append(f'<text x="{x}" y="{top - 14}" text-anchor="middle" class="soft">{escape(word)}</text>')
    for place, (name, value, note) in enumerate(zip(names, values, notes, strict=True)):
        y, x = top + row * place + 12, left + (right - left) * value
        shown = name if len(name) <= 48 else name[:47] + "…"
        out.append(f'<text x="{left - 14}" y="{y + 4}" text-anchor="end">{escape(shown)}</text>')
        out.append(f'<line x1="{left}" x2="{x:.1f}" y1="{y}" y2="{y}" stroke="#2f6f9f" stroke-width="2"/>')
        out.append(f'<circle cx="{x:.1f}" cy="{y}" r="5" fill="#2f6f9f"/>')
        out.append(f'<text x="{right + 16}" y="{y + 4}" class="soft">{escape(note)}</text>')
    return "".join(out) + "</svg>"
