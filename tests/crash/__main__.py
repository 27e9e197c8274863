"""``PYTHONPATH=tests python -m crash [--kills N]``: each step once, and N random moments; two children at a time."""

from __future__ import annotations

import argparse
import random
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from crash import harness


def main() -> None:
    """Prints a line for each kind of kill; a check that fails ends the run."""
    parser = argparse.ArgumentParser(prog="crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "cohort"
        harness.write_cohort(source)
        expected = harness.undisturbed(source, Path(folder) / "whole.zarr")
        print(f"undisturbed: {len(expected.recordings)} recordings, {len(expected.failures)} failures", flush=True)
        began, checked = time.monotonic(), Lock()

        def one(job: tuple[int, tuple[str, str, int] | float]) -> tuple[bool, int]:
            number, moment = job
            root = Path(folder) / f"{number}.zarr"
            killed = (
                harness.killed_after(source, root, moment)
                if isinstance(moment, float)
                else harness.killed_at_step(source, root, *moment)
            )
            with checked:
                return killed, harness.check(source, root, expected)

        rng = random.Random(chosen.seed)
        moments: list[tuple[str, str, int] | float] = [*harness.steps(chosen.seed)]
        moments += [rng.uniform(0, expected.seconds) for _ in range(chosen.kills)]
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(one, enumerate(moments)))
        n_steps = len(moments) - chosen.kills
        for what, part in (("steps", results[:n_steps]), ("random moments", results[n_steps:])):
            killed = [visible for was, visible in part if was]
            print(
                f"{what}: {len(part)} runs, {len(killed)} killed before they were done, of which "
                f"{sum(v == 0 for v in killed)} had committed nothing and the others 1 to {max(killed, default=0)} "
                "recordings; every store opened, showed whole recordings only, and was finished by a second run"
            )
        print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
