"""One picture of a store: signals, images, counts by site and modality."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import polars as pl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harmonize.store import Store
from harmonize.store.views import ImageView, SignalView

SECONDS = 10.0
MAX_TRACES = 12
PANELS = 6


def draw_overview(store: Store, file: Path) -> None:
    """A PNG with one recording of each modality and the counts by site and modality."""
    with matplotlib.rc_context({"font.size": 8}):
        figure = Figure(figsize=(14, 9), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(2, 3).ravel()
        first = store.recordings.sort("modality", "recording_id").group_by("modality", maintain_order=True).first()
        for axis, name in zip(axes, first["recording_id"][: PANELS - 1], strict=False):
            view = store[name]
            if view.image is not None:
                _draw_slice(axis, view.image, f"{view.meta.modality}: {_origin(view.meta)}")
            else:
                longest = max(view.signals.values(), key=lambda signal: len(signal.meta.channels))
                _draw_traces(axis, longest, f"{view.meta.modality}: {_origin(view.meta)}")
        _draw_counts(axes[min(len(first), PANELS - 1)], store.recordings)
        for axis in axes[min(len(first), PANELS - 1) + 1 :]:
            axis.set_axis_off()
        figure.savefig(file, dpi=110)


def _origin(recording: Any) -> str:
    acquisition = recording.acquisition
    parts = (acquisition.site, acquisition.device_maker, acquisition.device_model)
    return ", ".join(part for part in parts if part) or "unknown site"


def _draw_traces(axis: Any, signal: SignalView, title: str) -> None:
    rate = float(signal.meta.rate_hz)
    n = min(signal.meta.n_samples, int(SECONDS * rate))
    channels = signal.meta.channels[:MAX_TRACES]
    values = signal.read(0, n)[: len(channels)]
    values = values - np.nanmedian(values, axis=1, keepdims=True)
    spread = float(np.nanpercentile(np.abs(values), 99)) * 2 or 1.0
    for place, row in enumerate(values):
        axis.plot(np.arange(n) / rate, row - place * spread, linewidth=0.5, color="#1f3b57")
    axis.set_yticks([-place * spread for place in range(len(channels))], [c.name for c in channels])
    units = sorted({channel.unit or channel.unit_found or "?" for channel in channels})
    axis.set_title(f"{title}\n{rate:g} Hz; one step = {spread:.3g} {', '.join(units)}", loc="left")
    axis.set_xlabel("seconds")
    axis.spines[["top", "right"]].set_visible(False)


def _draw_slice(axis: Any, image: ImageView, title: str) -> None:
    """The middle axial-most slice as acquired, of the first time, at its true proportions where they are known."""
    sizes = dict(zip(image.meta.axes[::-1], image.shape, strict=True))
    z = sizes.get("z", 1)
    picked = {"z": slice(z // 2, z // 2 + 1), "t": slice(0, 1)}
    plane = image.read([picked.get(axis, slice(None)) for axis in sizes])
    plane = plane.reshape(sizes["x"], sizes["y"], -1).swapaxes(0, 1)
    if image.meta.photometric != "RGB":
        plane = plane.max(axis=2)  # of segments that overlap
    low, high = (-160, 240) if image.meta.unit == "HU" else np.nanpercentile(plane, (1, 99.5))
    spacing = image.meta.spacing_mm
    aspect = spacing[1] / spacing[0] if spacing else 1.0
    shown = np.clip((plane - low) / max(high - low, 1e-9), 0, 1)
    axis.imshow(shown, cmap="gray", vmin=0, vmax=1, aspect=aspect, interpolation="nearest")
    size = f"{' x '.join(f'{s:.3g}' for s in spacing)} mm" if spacing else "spacing unknown"
    axis.set_title(f"{title}\nslice {z // 2} of {z}, {size}, {image.meta.unit or 'as stored'}", loc="left")
    axis.set_axis_off()


def _draw_counts(axis: Any, recordings: pl.DataFrame) -> None:
    counts = recordings.with_columns(pl.col("site").fill_null("unknown")).group_by("site", "modality").len()
    modalities = sorted(counts["modality"].unique())
    left = np.zeros(len(modalities))
    for site in sorted(counts["site"].unique()):
        here = dict(counts.filter(pl.col("site") == site).select("modality", "len").iter_rows())
        widths = np.array([here.get(name, 0) for name in modalities])
        axis.barh(modalities, widths, left=left, label=site)
        left += widths
    axis.set_title("recordings by modality and site", loc="left")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
