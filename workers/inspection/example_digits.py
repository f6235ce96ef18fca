"""The example dataset: scikit-learn's handwritten digits, 1,797 real images of 8 x 8 pixels, as an npz.

python -m workers.inspection.example_digits OUT.npz
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def write_digits(path: Path) -> None:
    """Arrays `images` uint8 [1797, 1, 8, 8] of 0..16, `labels` int64 [1797], `value_range` [0, 16]."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            images=digits.images.astype(np.uint8)[:, None],
            labels=digits.target.astype(np.int64),
            value_range=np.array([0, 16]),
        )


if __name__ == "__main__":
    write_digits(Path(sys.argv[1]))
