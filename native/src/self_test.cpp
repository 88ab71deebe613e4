#include "self_test.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>

namespace nc {
namespace {

class Random {
public:
    int32_t integer(int32_t low, int32_t high) {
        state_ = state_ * 6364136223846793005u + 1442695040888963407u;
        return low + (int32_t)((state_ >> 32) * (uint64_t)(high - low + 1) >> 32);
    }

private:
    uint64_t state_ = 1;
};

uint16_t to_bfloat(float x) {  // of numbers that are exact in it
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return (uint16_t)(bits >> 16);
}

// A product of random numbers, in memory as the kernels take it. Inputs and weights are whole: each precision holds them exactly.
template <int64_t n_rows, int64_t n_in, int64_t n_out>
class Trial {
public:
    explicit Trial(const nc_kernels &kernels) : kernels_(kernels) {
        Random random;
        for (int64_t c = 0; c < n_out; ++c)
            for (int64_t k = 0; k < n_in; ++k) set_weight(k, c, random);
        for (int64_t row = 0; row < n_rows; ++row) {
            scale_[row] = 1;
            zero_[row] = random.integer(NC_LOWEST, NC_HIGHEST);
            for (int64_t k = 0; k < n_in; ++k) set_input(row, k, random.integer(NC_LOWEST, NC_HIGHEST));
        }
        std::fill_n(column_scale_, n_out, 1.0f);
    }
    Trial(const Trial &) = delete;

    void multiply() {
        const Rows rows{inputs_, stride(), scale_, zero_};
        const nc_product product{weights_, column_scale_, column_sum_, bias_, (int32_t)n_in, (int32_t)n_out};
        kernels_.multiply(rows, product, false, out_, {0, n_rows}, {0, n_out / NC_PANEL});
    }

    bool is_right() const {
        for (int64_t row = 0; row < n_rows; ++row)
            if (!is_right(row)) return false;
        return true;
    }

private:
    static constexpr int64_t kBytes = 4;  // of an input or a weight, at most

    bool is_whole() const { return kernels_.precision == NC_INT8; }
    int64_t stride() const { return round_up(n_in * kernels_.input_bytes, 64); }

    // Of eight inputs, each four that AVX2 adds in 16 bits (NC_FOUR) have one weight of any size, and three small ones.
    void set_weight(int64_t k, int64_t c, Random &random) {
        const int32_t most = k % 8 == 0 || k % 8 == 2 ? 127 : 14, w = random.integer(-most, most);
        const int64_t group = is_whole() ? NC_GROUP : kernels_.precision == NC_BF16 ? 2 : 1;
        const int64_t at = c / NC_PANEL * NC_PANEL * n_in + (k / group * NC_PANEL + c % NC_PANEL) * group + k % group;
        weight_[k][c] = w;
        column_sum_[c] += w;
        switch (kernels_.precision) {
            case NC_INT8: ((int8_t *)weights_)[at] = (int8_t)w; break;
            case NC_FP32: ((float *)weights_)[at] = (float)w; break;
            case NC_FP16: ((nc::Half *)weights_)[at] = (nc::Half)w; break;
            default: ((uint16_t *)weights_)[at] = to_bfloat((float)w);
        }
    }

    void set_input(int64_t row, int64_t k, int32_t q) {
        input_[row][k] = q;
        char *to = inputs_ + row * stride();
        if (is_whole())
            ((uint8_t *)to)[k] = (uint8_t)(q + kernels_.offset);
        else if (kernels_.precision == NC_BF16)
            ((uint16_t *)to)[k] = to_bfloat((float)q);
        else
            ((float *)to)[k] = (float)q;
    }

    // In every precision the sum is below 2^24, and so exact in a float, in whatever order it was added.
    bool is_right(int64_t row) const {
        const int32_t zero = is_whole() ? zero_[row] : 0;
        int32_t total[n_out] = {};
        for (int64_t k = 0; k < n_in; ++k)
            for (int64_t c = 0; c < n_out; ++c) total[c] += (input_[row][k] - zero) * weight_[k][c];
        return std::equal(total, total + n_out, out_ + row * n_out, [](int32_t whole, float y) { return (float)whole == y; });
    }

    const nc_kernels &kernels_;
    int32_t input_[n_rows][n_in], weight_[n_in][n_out];
    alignas(64) char inputs_[n_rows * n_in * kBytes + n_rows * 64] = {}, weights_[n_in * n_out * kBytes];
    float scale_[n_rows], column_scale_[n_out], bias_[n_out] = {}, out_[n_rows * n_out] = {};
    int32_t zero_[n_rows], column_sum_[n_out] = {};
};

}  // namespace

bool is_right(const nc_kernels &kernels) {
    // More rows, columns and inputs than a whole number of any tiles.
    const auto trial = std::make_unique<Trial<17, 80, 80>>(kernels);
    trial->multiply();
    return trial->is_right();
}

double measure_speed(const nc_kernels &kernels) {
    constexpr int64_t n_rows = 48, n_in = 384, n_out = 64;
    constexpr std::chrono::microseconds kEnough{300};
    using Clock = std::chrono::steady_clock;
    const auto trial = std::make_unique<Trial<n_rows, n_in, n_out>>(kernels);
    trial->multiply();  // the clock of wide units has to settle
    Clock::duration best = Clock::duration::max();
    const auto start = Clock::now();
    for (int i = 0; i < 12 && (i < 2 || Clock::now() - start < kEnough); ++i) {
        const auto before = Clock::now();
        trial->multiply();
        best = std::min(best, Clock::now() - before);
    }
    return 2.0 * n_rows * n_in * n_out / std::chrono::duration<double>(best).count();
}

}  // namespace nc
