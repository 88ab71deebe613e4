// Functions of vectors.
#pragma once

#include "vector.h"

namespace {

// exp(x), to 2 units in the last place, for x clamped to [-80, 88]: an infinite result would become NaN further on,
// and the smallest ones would make products that are slow because they are denormal.
// exp(x) = 2^n exp(r), r in [-ln 2 / 2, ln 2 / 2]; ln 2 is split so that n * high is exact (Cody and Waite).
inline F exponential(F x) {
    x = smaller(larger(x, splat(-80.0f)), splat(88.0f));
    const I n = nearest(x * 1.44269504f);
    const F whole = to_float(n);
    const F r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
    F y = splat(1.0f / 5040);  // Taylor: the next term is below 2^-25
    y = y * r + 1.0f / 720;
    y = y * r + 1.0f / 120;
    y = y * r + 1.0f / 24;
    y = y * r + 1.0f / 6;
    y = y * r + 0.5f;
    y = y * r + 1.0f;
    y = y * r + 1.0f;
    return as_float(as_int(y) + (n << 23));
}

// x * Phi(x), to 6e-5 (1.5e-5 by the polynomial, the rest by rounding). What follows is quantized in 255 steps.
// Coefficients and their fit: scripts/fit_gelu.py.
inline F gelu(F x) {
    const F u = smaller(larger(x, splat(-4.5f)), splat(4.5f)) * (1 / 4.5f);
    const F t = u * u;
    F y = splat(-2.167132439e+00f);
    y = y * t + 1.461634902e+01f;
    y = y * t - 4.345287809e+01f;
    y = y * t + 7.564508687e+01f;
    y = y * t - 8.657799653e+01f;
    y = y * t + 6.950566832e+01f;
    y = y * t - 4.081559262e+01f;
    y = y * t + 1.798590361e+01f;
    y = y * t - 6.034134238e+00f;
    y = y * t + 1.794726095e+00f;
    return x * (y * u + 0.5f);
}

// The same to 5e-7 of x, for what is not quantized: formula 7.1.26 of Abramowitz and Stegun for erf.
inline F gelu_fine(F x) {
    const F size = larger(x, -x) * 0.70710678f;
    const F t = 1.0f / (1.0f + 0.3275911f * size);
    F y = splat(1.061405429f);
    y = y * t - 1.453152027f;
    y = y * t + 1.421413741f;
    y = y * t - 0.284496736f;
    y = y * t + 0.254829592f;
    const F tail = 0.5f * y * t * exponential(-size * size);  // of the normal distribution, behind |x|
    return x * (x > F{} ? 1.0f - tail : tail);
}

// 1 / (1 + exp(-x)).
inline F sigmoid(F x) { return 1.0f / (1.0f + exponential(-x)); }

// The form with tanh: tanh(z) = 2 sigmoid(2 z) - 1.
inline F gelu_tanh(F x) { return x * sigmoid(1.59576912f * (x + 0.044715f * x * x * x)); }

inline F hyperbolic_tangent(F x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }

inline F silu(F x) { return x * sigmoid(x); }

}  // namespace
