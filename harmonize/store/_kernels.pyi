import numpy as np

def convert(
    targets: list[np.ndarray], sources: list[np.ndarray], scale: np.ndarray | None, offset: np.ndarray | None
) -> None: ...
