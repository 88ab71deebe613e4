"""Fits what native/src/kernels/math.h uses for GELU, and prints coefficients and largest errors.

    gelu       x * (1/2 + u * P(u^2)),               u = clamp(x, -4.5, 4.5) / 4.5, for what is quantized
    gelu_fine  x * (1/2 + x * P(x^2) / Q(x^2)),      x clamped to -5.3 to 5.3, for the rest

The weights of a least-squares fit are moved to where the error of gelu is largest until it is about even. Of the first,
P(1) is 1/2, so that beyond 4.5 gelu is x or 0.

    python -m scripts.fit_gelu
"""

import math

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.floating]
EDGE, N_COEFFICIENTS = 4.5, 10
FINE_EDGE, FINE_DEGREE = 5.3, 5


def main() -> None:
    polynomial, error = fit_polynomial()
    print("gelu", show(polynomial), f"largest error within {EDGE}: {error:.1e}", sep="\n")
    above, below, error = fit_quotient()
    print("gelu_fine", show(above), show(below), f"largest error within {FINE_EDGE}: {error:.1e}", sep="\n")


def show(coefficients: Doubles) -> str:
    return ", ".join(f"{value:.9e}f" for value in coefficients)


def behind_zero(x: Doubles) -> Doubles:
    """Phi(x) - 1/2, of the normal distribution."""
    return np.array([0.5 * math.erf(value / math.sqrt(2)) for value in x])


def points(edge: float, n: int) -> Doubles:
    """Positive ones, denser towards the edge."""
    return edge * np.cos(np.linspace(0, np.pi / 2, n))[:-1]


def moved(weights: Doubles, error: Doubles) -> Doubles:
    weights = weights * np.sqrt(error / error.max() + 1e-3)
    result: Doubles = weights / weights.max()
    return result


def fit_polynomial() -> tuple[Doubles, float]:
    u = points(1, 8001)
    # u P(u^2) = u / 2 + (u^2 - 1) u R(u^2): the condition at 1 holds for any R.
    basis = np.stack([(u**2 - 1) * u ** (2 * power + 1) for power in range(N_COEFFICIENTS - 1)], axis=1)
    target, weights = behind_zero(EDGE * u) - u / 2, np.ones_like(u)
    for _ in range(200):
        scaled = weights * u
        found, *_ = np.linalg.lstsq(basis * scaled[:, None], target * scaled, rcond=None)
        error = np.abs(EDGE * u * (basis @ found - target))
        weights = moved(weights, error)
    coefficients = np.zeros(N_COEFFICIENTS)
    coefficients[0] = 0.5
    coefficients[1:] += found
    coefficients[:-1] -= found
    return coefficients, error.max()


def fit_quotient() -> tuple[Doubles, Doubles, float]:
    """P and Q by powers of x^2, from the lowest; the best of all rounds, since these do not settle."""
    x = points(FINE_EDGE, 6001)
    t = (x / FINE_EDGE) ** 2
    expected = behind_zero(x)
    powers = t[:, None] ** np.arange(FINE_DEGREE + 1)
    # P - g (Q - 1) = g, g being what P / Q is to be: linear in the coefficients of both.
    g = expected / x
    basis = np.concatenate([powers, -g[:, None] * powers[:, 1:]], axis=1)
    weights, below = np.ones_like(t), np.ones_like(t)
    best: Doubles = np.zeros(2 * FINE_DEGREE + 1)
    least = math.inf
    for _ in range(150):
        scaled = weights * t / below
        found, *_ = np.linalg.lstsq(basis * scaled[:, None], g * scaled, rcond=None)
        below = np.abs(1 + powers[:, 1:] @ found[FINE_DEGREE + 1 :])
        error = np.abs(x * (x * (powers @ found[: FINE_DEGREE + 1]) / below - expected))
        if error.max() < least:
            best, least = found, error.max()
        weights = moved(weights, error)
    size = FINE_EDGE ** (2.0 * np.arange(FINE_DEGREE + 1))
    return best[: FINE_DEGREE + 1] / size, np.concatenate([[1.0], best[FINE_DEGREE + 1 :]]) / size, least


if __name__ == "__main__":
    main()
