// Quantized rows as integers, whatever offset an instruction set stores them with.
#pragma once

#include <cstring>
#include <memory>
#include <vector>

#include "suite.h"

namespace suite {

class Rows {
public:
    Rows(const nc_kernels &kernels, int64_t n_rows, int64_t stride)
        : offset_(kernels.offset), stride_(stride), values_(aligned_bytes(n_rows * stride)), scale(n_rows), zero(n_rows) {}

    int32_t get(int64_t row, int64_t k) const {
        const uint8_t byte = bytes()[row * stride_ + k];
        return offset_ ? byte - offset_ : (int8_t)byte;
    }
    void set(int64_t row, int64_t k, int32_t q) { bytes()[row * stride_ + k] = (uint8_t)(q + offset_); }
    nc::Rows view() { return {(char *)values_.get(), stride_, scale.data(), zero.data()}; }

private:
    uint8_t *bytes() const { return (uint8_t *)values_.get(); }

    const int32_t offset_;
    const int64_t stride_;
    std::shared_ptr<void> values_;

public:
    std::vector<float> scale;
    std::vector<int32_t> zero;
};

}  // namespace suite
