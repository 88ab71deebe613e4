// A random product and the memory it points into.
#pragma once

#include <vector>

#include "reference.h"
#include "suite.h"

namespace suite {

struct Product {
    Product(int64_t n_in, int64_t n_out)
        : weight(n_in * n_out), column_scale(n_out, 1), column_sum(n_out), bias(n_out), smooth(n_in, 1) {
        view = {weight.data(), column_scale.data(), column_sum.data(), bias.data(), smooth.data(), (int32_t)n_in, (int32_t)n_out};
    }
    Product(const Product &) = delete;

    template <typename Weight>
    void fill(Weight weight_of) {  // (k, c) to -127 ... 127
        for (int64_t c = 0; c < view.n_out; ++c) {
            column_sum[c] = 0;
            for (int64_t k = 0; k < view.n_in; ++k) {
                const int8_t w = (int8_t)weight_of(k, c);
                weight[reference::packed_place(k, c, view.n_in)] = w;
                column_sum[c] += w;
            }
        }
    }

    std::vector<int8_t> weight;
    std::vector<float> column_scale;
    std::vector<int32_t> column_sum;
    std::vector<float> bias, smooth;
    nc_product view;
};

}  // namespace suite
