"""The demo, end to end."""

from rich.console import Console

import harmonize as hz
from harmonize.report.demo import run_demo


def test_the_demo_leaves_a_store_and_a_picture(tmp_path) -> None:
    console = Console(record=True, width=160)
    run_demo(tmp_path / "demo", console)
    store = hz.open(tmp_path / "demo" / "demo.zarr")
    assert store.failures.is_empty()
    counts = dict(store.recordings["modality"].value_counts().iter_rows())
    assert counts == {"eeg": 8, "psg": 1, "ecg": 24, "ct": 2, "mr": 1}
    assert set(store.recordings["site"]) == {"hospital-north", "hospital-south"}
    psg = next(name for name, kind in store.recordings.select("recording_id", "modality").iter_rows() if kind == "psg")
    rates = sorted(float(signal.meta.rate_hz) for signal in store[psg].signals.values())
    assert rates == [1, 25, 200]
    stages = store.annotations["label"].value_counts()
    assert dict(stages.iter_rows()) == {"sleep_wake": 4, "sleep_1": 1, "sleep_2": 6, "sleep_3": 5, "sleep_rem": 4}
    assert (tmp_path / "demo" / "overview.png").stat().st_size > 50_000
    text = console.export_text()
    assert "windows/s" in text
    assert "hospital-north" in text
