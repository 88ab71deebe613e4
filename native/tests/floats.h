// Weights and rows of the precisions of floats, rounded and packed as they are.
#pragma once

#include <vector>

#include "suite.h"

namespace suite {

inline int64_t group_of(int32_t precision) { return precision == NC_INT8 ? NC_GROUP : precision == NC_BF16 ? 2 : 1; }
inline int64_t bytes_of(int32_t precision) { return precision == NC_FP32 ? 4 : 2; }

// The place of weight (k, c) in panels of 16 columns.
inline int64_t float_place(int64_t k, int64_t c, int64_t n_in, int32_t precision) {
    const int64_t group = group_of(precision);
    return c / NC_PANEL * NC_PANEL * n_in + k / group * NC_PANEL * group + c % NC_PANEL * group + k % group;
}

// To nearest, ties to even.
inline uint16_t to_bf16(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    if (x != x) return (uint16_t)(bits >> 16 | 0x40);
    const uint32_t low = bits & 0xFFFF, high = bits >> 16;
    return (uint16_t)(low > 0x8000 || (low == 0x8000 && high % 2) ? high + 1 : high);
}

inline float from_bf16(uint16_t upper) {
    const uint32_t bits = (uint32_t)upper << 16;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

inline void write_float(void *to, int64_t at, float x, int32_t precision) {
    switch (precision) {
        case NC_FP32: ((float *)to)[at] = x; break;
        case NC_FP16: ((nc::Half *)to)[at] = (nc::Half)x; break;
        default: ((uint16_t *)to)[at] = to_bf16(x);
    }
}

inline float read_float(const void *from, int64_t at, int32_t precision) {
    switch (precision) {
        case NC_FP32: return ((const float *)from)[at];
        case NC_FP16: return (float)((const nc::Half *)from)[at];
        default: return from_bf16(((const uint16_t *)from)[at]);
    }
}

// Of a product's input: fp16 takes floats.
inline int32_t input_precision(int32_t precision) { return precision == NC_BF16 ? NC_BF16 : NC_FP32; }

struct FloatProduct {
    FloatProduct(Random &random, int64_t n_in, int64_t n_out, int32_t precision, float size)
        : precision(precision), memory(aligned_bytes(n_in * n_out * bytes_of(precision))), bias(random.floats(n_out, -0.3f, 0.3f)) {
        view = {memory.get(), nullptr, nullptr, bias.data(), (int32_t)n_in, (int32_t)n_out};
        for (int64_t c = 0; c < n_out; ++c)
            for (int64_t k = 0; k < n_in; ++k)
                write_float(memory.get(), float_place(k, c, n_in, precision), random.uniform(-size, size), precision);
    }
    FloatProduct(const FloatProduct &) = delete;

    float get(int64_t k, int64_t c) const { return read_float(view.weight, float_place(k, c, view.n_in, precision), precision); }

    const int32_t precision;
    std::shared_ptr<void> memory;
    std::vector<float> bias;
    nc_product view;
};

class FloatRows {
public:
    FloatRows(const nc_kernels &kernels, int64_t n_rows, int64_t n)
        : precision_(input_precision(kernels.precision)), stride_(nc::round_up(n * kernels.input_bytes, 64) + 64), memory_(aligned_bytes(n_rows * stride_)) {}

    float get(int64_t row, int64_t k) const { return read_float((char *)memory_.get() + row * stride_, k, precision_); }
    void set(int64_t row, int64_t k, float x) { write_float((char *)memory_.get() + row * stride_, k, x, precision_); }
    nc::Rows view(int64_t first = 0) const { return {(char *)memory_.get() + first * stride_, stride_, nullptr, nullptr}; }

private:
    const int32_t precision_;
    const int64_t stride_;
    std::shared_ptr<void> memory_;
};

}  // namespace suite
