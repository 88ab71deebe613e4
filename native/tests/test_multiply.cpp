#include <algorithm>
#include <cmath>
#include <limits>

#include "product.h"
#include "rows.h"

using reference::Doubles;
using suite::Product;
using suite::Random;
using suite::Rows;

namespace {

constexpr float kUntouched = -12345;
constexpr double kGelu = 7e-5;  // what gelu may be off

struct Case {
    int64_t n_rows, first, last;  // panels
};

std::vector<float> multiply(const nc_kernels &kernels, Rows &x, const Product &product, bool add, Case cut, std::vector<float> out) {
    kernels.multiply(x.view(), product.view, add, out.data(), {0, cut.n_rows}, {cut.first, cut.last});
    return out;
}

// What comes into a feed-forward network, before it is settled; with room beside every row.
std::vector<float> expand(const nc_kernels &kernels, Rows &x, const nc_layer &layer, int32_t activation, int64_t n_rows,
                          std::vector<float> out, nc::Range blocks) {
    kernels.expand(x.view(), layer, activation, {out.data(), (int64_t)out.size() / n_rows, {}}, {0, n_rows}, blocks);
    return out;
}

Rows random_rows(const nc_kernels &kernels, Random &random, int64_t n_rows, int64_t n_in) {
    Rows rows(kernels, n_rows, n_in + 32);
    for (int64_t row = 0; row < n_rows; ++row) {
        for (int64_t k = 0; k < n_in; ++k) rows.set(row, k, (int32_t)random.integer(NC_LOWEST, NC_HIGHEST));
        rows.scale[row] = 1;
        rows.zero[row] = (int32_t)random.integer(NC_LOWEST, NC_HIGHEST);
    }
    return rows;
}

std::vector<int64_t> integers(const Rows &x, const Product &product, int64_t n_rows) {
    const nc_product &p = product.view;
    std::vector<int64_t> all(n_rows * p.n_out);
    std::vector<int32_t> q(p.n_in);
    for (int64_t row = 0; row < n_rows; ++row) {
        for (int64_t k = 0; k < p.n_in; ++k) q[k] = x.get(row, k);
        for (int64_t c = 0; c < p.n_out; ++c) all[row * p.n_out + c] = reference::integer_product(q.data(), x.zero[row], p, c);
    }
    return all;
}

// With scales of 1 and no bias a result is the exact integer, rounded to float32 once.
void check_exact(const nc_kernels &kernels, Rows &x, const Product &product, const std::vector<int64_t> &expected, Case cut) {
    const int64_t n_out = product.view.n_out, stride = n_out;
    const std::vector<float> before(cut.n_rows * stride, kUntouched);
    const std::vector<float> out = multiply(kernels, x, product, false, cut, before);
    for (int64_t row = 0; row < cut.n_rows; ++row)
        for (int64_t c = 0; c < stride; ++c) {
            const bool asked = c >= cut.first * NC_PANEL && c < cut.last * NC_PANEL;
            const float wanted = asked ? (float)expected[row * n_out + c] : kUntouched;
            if (out[row * stride + c] != wanted)
                CHECK(false, "%ld rows, n_in %d, panels %ld to %ld: (%ld, %ld) is %.9g, expected %.9g", cut.n_rows,
                      product.view.n_in, cut.first, cut.last, row, c, out[row * stride + c], wanted);
        }
    CHECK(true, "looked at");
}

void check_sizes(const nc_kernels &kernels, int64_t n_in, const std::vector<int64_t> &row_counts, int64_t n_panels) {
    Random random((uint64_t)n_in);
    const int64_t most = row_counts.back();
    Rows x = random_rows(kernels, random, most, n_in);
    Product product(n_in, n_panels * NC_PANEL);
    product.fill([&](int64_t, int64_t) { return random.integer(-127, 127); });
    const std::vector<int64_t> expected = integers(x, product, most);
    for (int64_t n_rows : row_counts)
        for (int64_t last = 1; last <= n_panels; ++last) check_exact(kernels, x, product, expected, {n_rows, 0, last});
}

}  // namespace

TEST("products are exact for 1 to 14 rows and around multiples of 6, 1 to 9 panels") {
    for (int64_t n_in : {8, 16, 24, 56, 64, 72})
        check_sizes(kernels, n_in, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 17, 18, 19, 23, 24, 25}, 9);
}

TEST("products are exact around multiples of 16 rows and of 64 inputs") {
    for (int64_t n_in : {16, 48, 64, 80, 128}) check_sizes(kernels, n_in, {15, 16, 17, 31, 32, 33, 47, 48, 49}, 6);
}

TEST("products are exact for the sizes of real models") {
    check_sizes(kernels, 384, {1, 5, 6, 7, 13}, 5);
    check_sizes(kernels, 1536, {1, 6, 8}, 4);
    check_sizes(kernels, 3072, {7}, 5);
}

TEST("products are exact wherever the panels are cut") {
    Random random(3);
    Rows x = random_rows(kernels, random, 8, 32);
    Product product(32, 9 * NC_PANEL);
    product.fill([&](int64_t, int64_t) { return random.integer(-127, 127); });
    const std::vector<int64_t> expected = integers(x, product, 8);
    for (int64_t first = 0; first <= 9; ++first)
        for (int64_t last = first; last <= 9; ++last) check_exact(kernels, x, product, expected, {8, first, last});
}

TEST("sums stay exact at the ends of every range") {
    for (int64_t n_in : {8, 256, 4096, 65536}) {
        const int64_t n_rows = n_in > 4096 ? 4 : 7, n_panels = n_in > 4096 ? 1 : 5;
        Product product(n_in, n_panels * NC_PANEL);
        // Columns: all of one sign, signs that alternate each, every second, and one half after the other; fours of 127 and
        // what it allows beside it, or as equal as they can be: 43 + 43 + 43 + 42 = NC_FOUR.
        product.fill([&](int64_t k, int64_t c) {
            const int64_t way = c % 5;
            const bool minus = way == 1 || (way == 2 && k % 2) || (way == 3 && k / 2 % 2) || (way == 4 && k >= n_in / 2);
            const int64_t size = c / 5 % 2 ? 43 : 127;
            return minus ? -size : size;
        });
        Rows x(kernels, n_rows, n_in);
        for (int64_t row = 0; row < n_rows; ++row) {
            x.scale[row] = 1;
            x.zero[row] = row % 2 ? NC_LOWEST : NC_HIGHEST;
            for (int64_t k = 0; k < n_in; ++k)
                x.set(row, k, row == 0 || row == 3 || (row > 3 && (k + row) % 2 == 0) ? NC_LOWEST : NC_HIGHEST);
        }
        const std::vector<int64_t> expected = integers(x, product, n_rows);
        check_exact(kernels, x, product, expected, {n_rows, 0, n_panels});
    }
}

namespace {

struct Finished {
    Finished(const nc_kernels &kernels, Random &random)
        : product(n_in, n_out), gate(n_in, n_out), x(random_rows(kernels, random, n_rows, n_in)) {
        for (Product *each : {&product, &gate}) {
            each->fill([&](int64_t, int64_t) { return random.integer(-127, 127); });
            each->bias = random.floats(n_out, -2, 2), each->view.bias = each->bias.data();
            each->column_scale = random.floats(n_out, 1e-3f, 9e-3f), each->view.column_scale = each->column_scale.data();
        }
        for (float &scale : x.scale) scale = random.uniform(5e-3f, 3e-2f);
    }

    // A result without what is done to it.
    Doubles results(const Product &of) const {
        const std::vector<int64_t> sums = integers(x, of, n_rows);
        Doubles all(sums.size());
        for (size_t i = 0; i < all.size(); ++i)
            all[i] = (double)sums[i] * of.column_scale[i % n_out] * x.scale[i / n_out] + of.bias[i % n_out];
        return all;
    }

    static constexpr int64_t n_in = 32, n_out = 144, n_rows = 13;
    Product product, gate;
    Rows x;
};

}  // namespace

TEST("plain and added products equal float64") {
    Random random(4);
    Finished with(kernels, random);
    const Doubles expected = with.results(with.product);
    const std::vector<float> other = random.floats(with.n_rows * with.n_out, -4, 4);
    for (bool add : {false, true}) {
        const std::vector<float> out = multiply(kernels, with.x, with.product, add, {with.n_rows, 1, 8}, other);
        for (int64_t i = 0; i < with.n_rows * with.n_out; ++i) {
            const int64_t c = i % with.n_out;
            const double wanted = expected[i] + (add ? other[i] : 0), size = std::fabs(expected[i]) + 6;
            if (c < NC_PANEL || c >= 8 * NC_PANEL)
                CHECK(out[i] == other[i], "%ld was written", i);
            else
                CHECK(std::fabs(out[i] - wanted) <= 1e-6 * size, "%ld: %.9g, expected %.9g", i, out[i], wanted);
        }
    }
}

TEST("activations and gates of a feed-forward network equal float64") {
    Random random(6);
    Finished with(kernels, random);
    const int64_t n_rows = with.n_rows, n_out = with.n_out, stride = n_out + 16;
    const Doubles up = with.results(with.product), gate = with.results(with.gate);
    for (int32_t activation : {NC_GELU, NC_GELU_TANH, NC_RELU, NC_SILU})
        for (bool gated : {false, true}) {
            nc_layer layer{};
            layer.up = with.product.view;
            if (gated) layer.gate = with.gate.view;
            const std::vector<float> out =
                expand(kernels, with.x, layer, activation, n_rows, std::vector<float>(n_rows * stride, kUntouched), {0, 2});
            for (int64_t row = 0; row < n_rows; ++row) {
                const Doubles back = reference::hadamard(Doubles(&out[row * stride], &out[row * stride + n_out]));
                double largest = 0;
                for (double value : back) largest = std::max(largest, std::fabs(value) / (double)reference::block_of(n_out));
                for (int64_t c = 0; c < stride; ++c) {
                    const double got = c < n_out ? back[c] / (double)reference::block_of(n_out) : out[row * stride + c];
                    if (c >= n_out) {
                        CHECK(got == kUntouched, "(%ld, %ld) was written", row, c);
                        continue;
                    }
                    const int64_t i = row * n_out + c;
                    const double wanted = gated ? reference::activate(activation, gate[i]) * up[i] : reference::activate(activation, up[i]);
                    const double allowed = kGelu * (gated ? 1 + std::fabs(up[i]) : 1) + 2e-6 * (largest + std::fabs(gate[i]));
                    CHECK(std::fabs(got - wanted) <= allowed, "activation %d, (%ld, %ld): %.9g, expected %.9g", activation, row, c, got,
                          wanted);
                }
            }
        }
}

TEST("what leads out of a feed-forward network is quantized within half a step of its transform, wherever rows and blocks are cut") {
    Random random(7);
    const int64_t n_in = 32, n_rows = 13;
    for (int64_t n : {16, 32, 48, 64, 96, 128, 192, 384})
        for (bool gated : {false, true}) {
            Product up(n_in, n), gate(n_in, n);
            for (Product *each : {&up, &gate}) {
                each->fill([&](int64_t, int64_t) { return random.integer(-127, 127); });
                for (float &scale : each->column_scale) scale = random.uniform(1e-3f, 9e-3f);
            }
            Rows x = random_rows(kernels, random, n_rows, n_in), whole(kernels, n_rows, n), parts(kernels, n_rows, n);
            for (float &scale : x.scale) scale = random.uniform(5e-3f, 3e-2f);
            nc_layer layer{};
            layer.up = up.view;
            if (gated) layer.gate = gate.view;
            std::vector<float> values(n_rows * n, kUntouched);
            const int64_t n_blocks = (n + NC_BLOCK - 1) / NC_BLOCK, middle = n_blocks / 2;
            const nc::Wide wide{values.data(), n, whole.view()}, again{values.data(), n, parts.view()};
            kernels.expand(x.view(), layer, NC_RELU, wide, {0, n_rows}, {0, n_blocks});
            kernels.settle(wide, n, {0, n_rows});
            for (nc::Range blocks : {nc::Range{middle, n_blocks}, nc::Range{0, middle}})
                for (nc::Range rows : {nc::Range{0, 5}, nc::Range{5, n_rows}}) kernels.expand(x.view(), layer, NC_RELU, again, rows, blocks);
            for (nc::Range rows : {nc::Range{0, 2}, nc::Range{2, n_rows}}) kernels.settle(again, n, rows);
            const std::vector<int64_t> up_sums = integers(x, up, n_rows), gate_sums = integers(x, gate, n_rows);
            for (int64_t row = 0; row < n_rows; ++row) {
                Doubles y(n);
                for (int64_t c = 0; c < n; ++c) {
                    const double value = (double)up_sums[row * n + c] * up.column_scale[c] * x.scale[row];
                    const double factor = (double)gate_sums[row * n + c] * gate.column_scale[c] * x.scale[row];
                    y[c] = gated ? value * std::max(factor, 0.0) : std::max(value, 0.0);
                }
                y = reference::hadamard(y);
                const double range = *std::max_element(y.begin(), y.end()) - std::min(0.0, *std::min_element(y.begin(), y.end()));
                CHECK(whole.scale[row] == parts.scale[row] && whole.zero[row] == parts.zero[row], "%ld columns, row %ld", n, row);
                CHECK(std::fabs(whole.scale[row] * (NC_HIGHEST - NC_LOWEST) - range) <= 1e-5 * range, "step %g", whole.scale[row]);
                for (int64_t c = 0; c < n; ++c) {
                    const double error = std::fabs((whole.get(row, c) - whole.zero[row]) * (double)whole.scale[row] - y[c]);
                    const bool at_end = whole.get(row, c) == NC_LOWEST || whole.get(row, c) == NC_HIGHEST;
                    CHECK(error <= (at_end ? 1.01 : 0.51) * whole.scale[row], "%ld columns, (%ld, %ld): %g became %d", n, row, c, y[c],
                          whole.get(row, c));
                    CHECK(whole.get(row, c) == parts.get(row, c), "%ld columns, (%ld, %ld) moved with a cut", n, row, c);
                }
            }
        }
}

TEST("scales and biases of any value do not crash a product") {
    const float values[] = {0, -0.0f, 1e-45f, 3e38f, -3e38f, std::numeric_limits<float>::infinity(), std::nanf("")};
    Random random(5);
    Product product(16, 48);
    product.fill([](int64_t, int64_t) { return 0; });
    Rows x = random_rows(kernels, random, 7, 16);
    for (size_t i = 0; i < 48; ++i) product.column_scale[i] = values[i % 7], product.bias[i] = values[i / 7 % 7];
    for (size_t row = 0; row < 7; ++row) x.scale[row] = values[row];
    for (bool add : {false, true}) {
        const std::vector<float> out = multiply(kernels, x, product, add, {7, 0, 3}, std::vector<float>(7 * 48));
        // Row 0 has scale 0, columns 7 to 13 bias 0 (minus for 14 on) and every scale: where that is finite, the sum is 0.
        CHECK(out[0] == 0, "%g", out[0]);
    }
    nc_layer layer{};
    layer.up = product.view;
    for (int32_t activation : {NC_GELU, NC_GELU_TANH, NC_RELU, NC_SILU}) {
        std::vector<float> values(7 * 48);
        Rows to(kernels, 7, 48);
        const nc::Wide wide{values.data(), 48, to.view()};
        kernels.expand(x.view(), layer, activation, wide, {0, 7}, {0, 1});
        kernels.settle(wide, 48, {0, 7});
        for (int64_t i = 0; i < 7 * 48; ++i) CHECK(to.get(i / 48, i % 48) >= NC_LOWEST && to.get(i / 48, i % 48) <= NC_HIGHEST, "%ld", i);
    }
}
