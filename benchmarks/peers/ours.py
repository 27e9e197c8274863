"""``ours.py VENV [torchvision]``: a peer's environment takes the project's own torch, numpy and the like; with the
word also empty stand-ins of torchvision and torchaudio, which MDS imports and does not need."""

from __future__ import annotations

import sys
from pathlib import Path

MODULES = {
    "torchvision/__init__.py": "",
    "torchvision/datasets.py": "class VisionDataset: ...\nclass CIFAR10: ...\n",
    "torchvision/transforms/__init__.py": "",
    "torchvision/transforms/functional.py": "def to_tensor(_): raise NotImplementedError\n",
    "torchaudio/__init__.py": "",
}


def main() -> None:
    (packages,) = Path(sys.argv[1]).glob("lib/python3*/site-packages")
    for name, text in MODULES.items() if sys.argv[2:] == ["torchvision"] else ():
        file = packages / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (ours,) = (path for path in map(Path, sys.path) if path.name == "site-packages")
    (packages / "ours.pth").write_text(f"{ours}\n")


if __name__ == "__main__":
    main()
