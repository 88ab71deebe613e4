#include <cmath>
#include <limits>

#include "product.h"
#include "rows.h"

using nc::Finish;
using suite::Product;
using suite::Random;
using suite::Rows;

namespace {

constexpr float kUntouched = -12345;

struct Case {
    int64_t n_rows, first, last;  // panels
};

// Multiplies, with room beside every row that must stay as it was.
std::vector<float> multiply(const nc_kernels &kernels, Rows &x, const Product &product, Finish finish, Case cut,
                            std::vector<float> out, const float *other) {
    const int64_t stride = (int64_t)out.size() / cut.n_rows;
    kernels.multiply(x.view(), product.view, finish, out.data(), stride, other ? other : out.data(), cut.n_rows, cut.first,
                     cut.last);
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
    const int64_t n_out = product.view.n_out, stride = n_out + 16;
    const std::vector<float> before(cut.n_rows * stride, kUntouched);
    const std::vector<float> out = multiply(kernels, x, product, Finish::Plain, cut, before, nullptr);
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

double expected_finish(Finish finish, double y, double other) {
    switch (finish) {
        case Finish::Gelu: return reference::gelu(y);
        case Finish::GeluTanh: return reference::gelu_tanh(y);
        case Finish::Relu: return std::max(y, 0.0);
        case Finish::Add: return y + other;
        case Finish::Silu: return reference::silu(y);
        case Finish::Times: return y * other;
        default: return y;
    }
}

}  // namespace

TEST("products are exact for 1 to 14 rows and around multiples of 6, 1 to 9 panels") {
    for (int64_t n_in : {8, 16, 24, 56, 64, 72})
        check_sizes(kernels, n_in, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 17, 18, 19, 23, 24, 25}, 9);
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

TEST("every way to finish a product equals float64") {
    Random random(4);
    const int64_t n_in = 32, n_out = 144, n_rows = 13, stride = n_out + 16;
    Product product(n_in, n_out);
    product.fill([&](int64_t, int64_t) { return random.integer(-127, 127); });
    product.bias = random.floats(n_out, -2, 2), product.view.bias = product.bias.data();
    product.column_scale = random.floats(n_out, 1e-3f, 9e-3f), product.view.column_scale = product.column_scale.data();
    Rows x = random_rows(kernels, random, n_rows, n_in);
    for (float &scale : x.scale) scale = random.uniform(5e-3f, 3e-2f);
    const std::vector<int64_t> sums = integers(x, product, n_rows);
    const std::vector<float> other = random.floats(n_rows * stride, -4, 4);
    for (Finish finish : {Finish::Plain, Finish::Gelu, Finish::GeluTanh, Finish::Relu, Finish::Silu, Finish::Add, Finish::Times}) {
        const bool add = finish == Finish::Add;  // in place
        const std::vector<float> out = multiply(kernels, x, product, finish, {n_rows, 1, 8},
                                                add ? other : std::vector<float>(n_rows * stride, kUntouched), add ? nullptr : other.data());
        for (int64_t row = 0; row < n_rows; ++row)
            for (int64_t c = 0; c < stride; ++c) {
                const int64_t at = row * stride + c;
                if (c < NC_PANEL || c >= 8 * NC_PANEL) {
                    CHECK(out[at] == (add ? other[at] : kUntouched), "(%ld, %ld) was written", row, c);
                    continue;
                }
                const double scaled = (double)sums[row * n_out + c] * product.column_scale[c] * x.scale[row];
                const double wanted = expected_finish(finish, scaled + product.bias[c], other[at]);
                const double size = std::fabs(scaled) + std::fabs(product.bias[c]) + std::fabs(other[at]);
                const double allowed = 1e-6 * size * std::max(1.0, (double)std::fabs(other[at])) + (finish == Finish::Gelu ? 7e-5 : 0);
                CHECK(std::fabs(out[at] - wanted) <= allowed, "finish %d, (%ld, %ld): %.9g, expected %.9g", (int)finish, row, c,
                      out[at], wanted);
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
    for (Finish finish : {Finish::Plain, Finish::Gelu, Finish::GeluTanh, Finish::Relu, Finish::Silu, Finish::Add, Finish::Times}) {
        const std::vector<float> out = multiply(kernels, x, product, finish, {7, 0, 3}, std::vector<float>(7 * 48), nullptr);
        CHECK(out.size() == 7 * 48, "sizes");
        // Row 0 has scale 0, columns 7 to 13 bias 0 (minus for 14 on) and every scale: where that is finite, the sum is 0.
        if (finish != Finish::Add) CHECK(out[0] == 0, "finish %d: %g", (int)finish, out[0]);
    }
}
