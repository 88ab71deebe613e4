// Quantized rows as integers, however an instruction set stores them: int8; uint8 from 0 (VNNI); int16 (AVX2).
#pragma once

#include <cstring>
#include <memory>
#include <vector>

#include "suite.h"

namespace suite {

class Rows {
public:
    Rows(const nc_kernels &kernels, int64_t n_rows, int64_t stride)
        : bytes_(kernels.element_bytes), offset_(std::strstr(kernels.name, "vnni") ? 128 : 0), stride_(stride),
          values_(aligned_bytes(n_rows * stride * bytes_)), scale(n_rows), zero(n_rows) {}

    int32_t get(int64_t row, int64_t k) const {
        const char *at = (const char *)values_.get() + (row * stride_ + k) * bytes_;
        if (bytes_ == 2) return read<int16_t>(at);
        return offset_ ? read<uint8_t>(at) - offset_ : read<int8_t>(at);
    }
    void set(int64_t row, int64_t k, int32_t q) {
        const int32_t stored = q + offset_;  // the lowest bytes come first on every machine this runs on
        std::memcpy((char *)values_.get() + (row * stride_ + k) * bytes_, &stored, bytes_);
    }
    nc::Quantized view() { return {values_.get(), scale.data(), zero.data(), stride_}; }

private:
    template <typename T>
    static T read(const char *from) {
        T value;
        std::memcpy(&value, from, sizeof value);
        return value;
    }

    const int64_t bytes_, offset_, stride_;
    std::shared_ptr<void> values_;

public:
    std::vector<float> scale;
    std::vector<int32_t> zero;
};

}  // namespace suite
