// What products of floats are made of: fp32, halves that are widened in registers, pairs of bfloat16.
//
// A step of a sum takes one word (4 bytes) of a row, repeated in all lanes, and a vector of weights: one float of each column, or
// a pair of bfloat16.
#pragma once

#include "rows.h"

namespace {
namespace floats {

struct Fp32 {
    using Input = float;
    using Weight = float;
    static constexpr int GROUP = 1;  // inputs of a step

    static F read(const Weight *from) { return load(from); }
    static void add(F &total, F x, F w) { total += x * w; }
    static void write(Input *to, F x) { store(to, x); }
};

#ifdef NC_WIDEN
struct Fp16 : Fp32 {
    using Weight = nc::Half;

    static F read(const Weight *from) { return NC_WIDEN(from); }
};
#endif

template <typename Kind>
void write_row(const float *x, typename Kind::Input *to, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) Kind::write(to + i, load(x + i));
}

// See nc_kernels.
template <typename Kind>
void prepare(float *x, const nc::Norm &after, const nc::Norm &before, float *scratch, const nc::Rows &to, int64_t n, nc::Range rows) {
    for (int64_t row = rows.first; row < rows.last; ++row) {
        float *from = x + row * n;
        if (after) normalize_row(from, from, after, n);
        if (before) normalize_row(from, scratch, before, n);
        write_row<Kind>(before ? scratch : from, to.row<typename Kind::Input>(row), n);
    }
}

void settle(const nc::Wide &, int64_t, nc::Range) {}  // `expand` wrote all that there is

}  // namespace floats
}  // namespace
