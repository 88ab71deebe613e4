// From last hidden states to a vector: poolings, steps, unit length.
#include <cmath>
#include <cstring>

#include "reference.h"
#include "suite.h"

using reference::Doubles;
using suite::Random;

namespace {

constexpr float kUntouched = -12345;

void check_row(const float *row, const Doubles &expected, double allowed, const char *what) {
    for (size_t i = 0; i < expected.size(); ++i)
        CHECK(std::fabs(row[i] - expected[i]) <= allowed * (1 + std::fabs(expected[i])), "%s, %zu: %.9g, expected %.9g", what, i,
              row[i], expected[i]);
}

// Rows that start where no vector begins, and what lies beside the columns that were asked for.
struct Dense {
    Dense(Random &random, int32_t n_in, int32_t n_out, int32_t activation, bool bias, bool residual)
        : weight(random.floats((int64_t)n_in * n_out, -1, 1)), bias(random.floats(n_out, -1, 1)),
          beside(random.floats((int64_t)n_in * n_out, -1, 1)),
          view{weight.data(), bias ? this->bias.data() : nullptr, residual && n_in != n_out ? beside.data() : nullptr,
               n_in, n_out, activation, residual} {}
    Dense(const Dense &) = delete;

    std::vector<float> weight, bias, beside;
    nc_dense view;
};

}  // namespace

TEST("poolings equal float64, alone and side by side") {
    Random random(13);
    for (const std::vector<int32_t> &poolings : std::vector<std::vector<int32_t>>{
             {NC_POOL_CLS}, {NC_POOL_MEAN}, {NC_POOL_MAX}, {NC_POOL_LAST}, {NC_POOL_WEIGHTED}, {NC_POOL_ROOT},
             {NC_POOL_MAX, NC_POOL_WEIGHTED, NC_POOL_CLS, NC_POOL_MEAN, NC_POOL_ROOT, NC_POOL_LAST}})
        for (int64_t n : {16, 48, 384})
            for (int64_t n_tokens : {1, 2, 3, 17, 100}) {
                const std::vector<float> x = random.floats(n_tokens * n, -3, 2);
                std::vector<Doubles> rows;
                for (int64_t row = 0; row < n_tokens; ++row) rows.push_back(reference::to_doubles(&x[row * n], n));
                nc_model model{};
                model.hidden = (int32_t)n, model.poolings = poolings.data(), model.n_poolings = (int32_t)poolings.size();
                std::vector<float> out(n * poolings.size() + 1, kUntouched);
                kernels.pool(model, x.data(), n_tokens, out.data());
                check_row(out.data(), reference::pool(model, rows), 2e-6, "pooling");
                CHECK(out.back() == kUntouched, "one too many");
            }
}

TEST("the weights of 8,192 tokens add up to 1") {
    const int32_t pooling = NC_POOL_WEIGHTED;
    nc_model model{};
    model.hidden = 16, model.poolings = &pooling, model.n_poolings = 1;
    const std::vector<float> x(8192 * 16, 1);
    std::vector<float> out(16);
    kernels.pool(model, x.data(), 8192, out.data());
    for (float value : out) CHECK(std::fabs(value - 1) < 1e-5, "%.9g", value);
}

TEST("steps equal float64 for every activation, of any size, with and without bias and residual") {
    Random random(14);
    const int64_t n_rows = 3;
    for (int32_t activation : {NC_GELU, NC_GELU_TANH, NC_RELU, NC_SILU, NC_IDENTITY, NC_TANH, NC_SIGMOID})
        for (int32_t n_in : {1, 6, 48, 64})
            for (int32_t n_out : {1, 15, 37, 64})
                for (int with = 0; with < 4; ++with) {
                    const Dense step(random, n_in, n_out, activation, with & 1, with & 2);
                    const int64_t stride = n_in + 3, out_stride = n_out + 2;
                    const std::vector<float> x = random.floats(n_rows * stride, -1, 1);
                    std::vector<float> out(n_rows * out_stride, kUntouched);
                    kernels.run_dense(step.view, x.data(), stride, out.data(), out_stride, n_rows, 0, n_out);
                    for (int64_t row = 0; row < n_rows; ++row) {
                        const Doubles expected = reference::run_dense(step.view, reference::to_doubles(&x[row * stride], n_in));
                        check_row(&out[row * out_stride], expected, 5e-6, "step");
                        for (int64_t c = n_out; c < out_stride; ++c) CHECK(out[row * out_stride + c] == kUntouched, "beside");
                    }
                }
}

TEST("a step gives a text the same bits among any others, however columns are cut") {
    Random random(16);
    const int32_t n_in = 50, n_out = 70;
    for (bool residual : {false, true}) {
        const Dense step(random, n_in, n_out, NC_TANH, true, residual);
        const std::vector<float> x = random.floats(8 * n_in, -1, 1);
        std::vector<float> together(8 * n_out), alone(n_out);
        for (int64_t first = 0; first < n_out; first += 32)
            kernels.run_dense(step.view, x.data(), n_in, together.data(), n_out, 8, first, std::min<int64_t>(n_out, first + 32));
        for (int64_t row = 0; row < 8; ++row) {
            kernels.run_dense(step.view, &x[row * n_in], n_in, alone.data(), n_out, 1, 0, n_out);
            CHECK(!std::memcmp(alone.data(), &together[row * n_out], n_out * sizeof(float)), "row %ld", row);
        }
    }
}

TEST("activations of steps equal float64 to a millionth, and NaN stays NaN") {
    const int32_t n = 4001;
    std::vector<float> grid(n);
    for (int32_t i = 0; i < n; ++i) grid[i] = (float)(i - 2000) / 160;
    grid[0] = -1e30f, grid[n - 1] = 1e30f;
    const float zero = 0;
    std::vector<float> weight(n), out(n);
    for (int32_t activation : {NC_GELU, NC_GELU_TANH, NC_RELU, NC_SILU, NC_IDENTITY, NC_TANH, NC_SIGMOID}) {
        const nc_dense step{weight.data(), grid.data(), nullptr, 1, n, activation, 0};
        kernels.run_dense(step, &zero, 1, out.data(), n, 1, 0, n);
        Doubles expected;
        for (float x : grid) expected.push_back(reference::activate(activation, x));
        check_row(out.data(), expected, 1e-6, "activation");
        const float nan = std::nanf("");
        kernels.run_dense({&zero, &nan, nullptr, 1, 1, activation, 0}, &zero, 1, out.data(), 1, 1, 0, 1);
        CHECK(std::isnan(out[0]), "activation %d of NaN is %g", activation, out[0]);
    }
}

TEST("vectors of any size are scaled to length 1, and one of zeros stays zero") {
    Random random(17);
    for (int64_t n : {1, 3, 16, 37, 384, 1000}) {
        std::vector<float> x = random.floats(n, -2, 2), zeros(n);
        const Doubles expected = reference::scale_to_unit(reference::to_doubles(x.data(), n));
        kernels.scale_to_unit(x.data(), n);
        check_row(x.data(), expected, 1e-6, "length");
        kernels.scale_to_unit(zeros.data(), n);
        for (float value : zeros) CHECK(value == 0, "%g", value);
    }
}
