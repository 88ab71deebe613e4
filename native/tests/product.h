// A random product and the memory it points into.
#pragma once

#include <algorithm>
#include <vector>

#include "reference.h"
#include "suite.h"

namespace suite {

struct Product {
    Product(int64_t n_in, int64_t n_out)
        : weight(n_in * n_out), column_scale(n_out, 1), column_sum(n_out), bias(n_out) {
        view = {weight.data(), column_scale.data(), column_sum.data(), bias.data(), (int32_t)n_in, (int32_t)n_out};
    }
    Product(const Product &) = delete;

    // (k, c) to -127 ... 127. Made smaller where it would break NC_FOUR with those before it.
    template <typename Weight>
    void fill(Weight weight_of) {
        for (int64_t c = 0; c < view.n_out; ++c) {
            column_sum[c] = 0;
            for (int64_t k = 0; k < view.n_in; ++k) {
                int least = -NC_FOUR, most = NC_FOUR;
                for (int64_t other = k / 8 * 8; other < k; ++other)
                    if (other % 4 / 2 == k % 4 / 2) {
                        const int before = weight[reference::packed_place(other, c, view.n_in)];
                        least -= std::min(before, 0), most -= std::max(before, 0);
                    }
                const int8_t w = (int8_t)std::clamp((int)weight_of(k, c), least, most);
                weight[reference::packed_place(k, c, view.n_in)] = w;
                column_sum[c] += w;
            }
        }
    }

    std::vector<int8_t> weight;
    std::vector<float> column_scale;
    std::vector<int32_t> column_sum;
    std::vector<float> bias;
    nc_product view;
};

}  // namespace suite
