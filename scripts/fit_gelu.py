"""Fits the polynomial that native/src/kernels/math.h uses for GELU, and prints its coefficients and its largest error.

    gelu(x) = x * Phi(x),    Phi(x) ~ 1/2 + u * P(u^2),  u = clamp(x, -4.5, 4.5) / 4.5

The weights of a least-squares fit are moved to where the error of gelu is largest until it is about even; P(1) is 1/2,
so that beyond 4.5 gelu is x or 0.

    python -m scripts.fit_gelu
"""

import math

import numpy as np

EDGE = 4.5
N_COEFFICIENTS = 10


def main() -> None:
    u = np.cos(np.linspace(0, np.pi / 2, 8001))[:-1]
    expected = np.array([0.5 * math.erf(EDGE * value / math.sqrt(2)) for value in u])
    # u P(u^2) = u / 2 + (u^2 - 1) u R(u^2): the condition at 1 holds for any R.
    basis = np.stack([(u**2 - 1) * u ** (2 * power + 1) for power in range(N_COEFFICIENTS - 1)], axis=1)
    target, weights = expected - u / 2, np.ones_like(u)
    for _ in range(200):
        scaled = weights * u
        found, *_ = np.linalg.lstsq(basis * scaled[:, None], target * scaled, rcond=None)
        error = np.abs(EDGE * u * (basis @ found - target))
        weights *= np.sqrt(error / error.max() + 1e-3)
        weights /= weights.max()
    coefficients = np.zeros(N_COEFFICIENTS)
    coefficients[0] = 0.5
    coefficients[1:] += found
    coefficients[:-1] -= found
    print(", ".join(f"{value:.9e}f" for value in coefficients))
    print(f"largest error of gelu within {EDGE}: {error.max():.1e}")


if __name__ == "__main__":
    main()
