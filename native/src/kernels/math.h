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

// The same to 1.1e-6 (1.2e-8 by the quotient, the rest by rounding), for what is not quantized. Beyond 5.3 it is x, or 0 but for
// the rounding. NaN stays NaN. Coefficients and their fit: scripts/fit_gelu.py.
inline F gelu_fine(F x) {
    const F low = larger(splat(-5.3f), x), u = smaller(splat(5.3f), low), t = u * u;
    F p = splat(2.3387329e-08f), q = splat(1.2246439e-06f);
    p = p * t + 6.4681481e-06f, q = q * t + 7.4698859e-05f;
    p = p * t + 1.7036563e-04f, q = q * t + 1.8924793e-03f;
    p = p * t + 4.6877163e-03f, q = q * t + 2.8691510e-02f;
    p = p * t + 3.3896636e-02f, q = q * t + 2.5163111e-01f;
    p = p * t + 3.9894211e-01f, q = q * t + 1.0f;
    return low * (u * p / q + 0.5f);
}

// 1 / (1 + exp(-x)).
inline F sigmoid(F x) { return 1.0f / (1.0f + exponential(-x)); }

// The form with tanh: tanh(z) = 2 sigmoid(2 z) - 1.
inline F gelu_tanh(F x) { return x * sigmoid(1.59576912f * (x + 0.044715f * x * x * x)); }

inline F hyperbolic_tangent(F x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }

inline F silu(F x) { return x * sigmoid(x); }

}  // namespace
