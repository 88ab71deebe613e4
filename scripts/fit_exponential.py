"""Fits the polynomial that floats_attention.h of the kernels uses for exp(r), and prints coefficients and error.

    exp(r) ~ 1 + r + r^2 * P(r),    r from -ln 2 / 2 to ln 2 / 2

The weights of a least-squares fit are moved to where the relative error is largest; the best of all rounds counts.

    python -m scripts.fit_exponential
"""

import math

import numpy as np
from numpy.typing import NDArray

EDGE = math.log(2) / 2 * 1.0005  # rounding may go a little beyond the half
DEGREE = 5


def main() -> None:
    r = EDGE * np.cos(np.linspace(0, np.pi, 4001))
    expected = np.exp(r)
    basis = np.stack([r**power for power in range(2, DEGREE + 1)], axis=1)
    weights, least = np.ones_like(r), math.inf
    best: NDArray[np.floating] = np.zeros(DEGREE - 1)
    for _ in range(300):
        scaled = weights / expected
        found, *_ = np.linalg.lstsq(basis * scaled[:, None], (expected - 1 - r) * scaled, rcond=None)
        error = np.abs((basis @ found + 1 + r) / expected - 1)
        if error.max() < least:
            best, least = found, error.max()
        weights *= np.sqrt(error / error.max() + 1e-3)
        weights /= weights.max()
    print(", ".join(f"{value:.9e}f" for value in best))
    print(f"largest relative error: {least:.1e}")


if __name__ == "__main__":
    main()
