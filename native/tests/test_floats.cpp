// Products with sums in fp32.
#include <cmath>
#include <cstring>
#include <limits>

#include "floats.h"
#include "reference.h"

using suite::FloatProduct;
using suite::FloatRows;
using suite::Random;

namespace {

constexpr float kUntouched = -12345;

FloatRows random_rows(const nc_kernels &kernels, Random &random, int64_t n_rows, int64_t n) {
    FloatRows rows(kernels, n_rows, n);
    for (int64_t row = 0; row < n_rows; ++row)
        for (int64_t k = 0; k < n; ++k) rows.set(row, k, random.uniform(-2, 2));
    return rows;
}

struct Sum {
    double value, sizes;  // of the products; the sum of their absolute values

    // What n_in roundings of fp32 may amount to.
    double error(int64_t n_in) const { return (double)(n_in + 2) * std::ldexp(sizes, -24) + 1e-30; }
};

Sum sum_of(const FloatRows &x, const FloatProduct &p, int64_t row, int64_t c) {
    Sum sum{p.bias[c], std::fabs(p.bias[c])};
    for (int64_t k = 0; k < p.view.n_in; ++k) {
        const double product = (double)x.get(row, k) * p.get(k, c);
        sum.value += product, sum.sizes += std::fabs(product);
    }
    return sum;
}

std::vector<float> multiply(const nc_kernels &kernels, const nc::Rows &x, const FloatProduct &p, bool add, int64_t n_rows, nc::Range panels,
                            float before = kUntouched) {
    std::vector<float> out(n_rows * p.view.n_out, before);
    kernels.multiply(x, p.view, add, out.data(), {0, n_rows}, panels);
    return out;
}

void check_size(const nc_kernels &kernels, int64_t n_rows, int64_t n_in, int64_t n_panels) {
    Random random((uint64_t)(n_in + n_rows));
    const FloatProduct product(random, n_in, n_panels * NC_PANEL, kernels.precision, 1);
    const FloatRows x = random_rows(kernels, random, n_rows, n_in);
    const std::vector<float> out = multiply(kernels, x.view(), product, false, n_rows, {0, n_panels});
    for (int64_t row = 0; row < n_rows; ++row)
        for (int64_t c = 0; c < product.view.n_out; ++c) {
            const Sum wanted = sum_of(x, product, row, c);
            const float got = out[row * product.view.n_out + c];
            CHECK(std::fabs(got - wanted.value) <= wanted.error(n_in), "%ld rows, n_in %ld, (%ld, %ld): %.9g, expected %.9g", n_rows, n_in,
                  row, c, got, wanted.value);
        }
}

bool same_bits(const float *a, const float *b, int64_t n) { return !std::memcmp(a, b, n * sizeof *a); }

}  // namespace

TEST_FLOATS("products of floats are within fp32's roundings of float64, for 1 to 14 rows and 1 to 9 panels") {
    for (int64_t n_in : {16, 48, 384})
        for (int64_t n_rows : {1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 14}) check_size(kernels, n_rows, n_in, 1 + n_rows % 9);
    check_size(kernels, 7, 3072, 5);
    check_size(kernels, 31, 1536, 4);
}

TEST_FLOATS("a result is the same bits alone, in any tile, and wherever panels are cut") {
    Random random(51);
    const int64_t n_rows = 29, n_in = 96, n_panels = 9, n_out = n_panels * NC_PANEL;
    const FloatProduct product(random, n_in, n_out, kernels.precision, 1);
    const FloatRows x = random_rows(kernels, random, n_rows, n_in);
    const std::vector<float> whole = multiply(kernels, x.view(), product, false, n_rows, {0, n_panels});
    for (int64_t row = 0; row < n_rows; ++row)
        for (int64_t n = 1; row + n <= n_rows && n < 15; n += 3)
            CHECK(same_bits(&whole[row * n_out], multiply(kernels, x.view(row), product, false, n, {0, n_panels}).data(), n * n_out),
                  "rows %ld to %ld alone", row, row + n);
    for (int64_t first = 0; first < n_panels; ++first)
        for (int64_t last = first; last <= n_panels; ++last) {
            const std::vector<float> part = multiply(kernels, x.view(), product, false, n_rows, {first, last});
            for (int64_t i = 0; i < n_rows * n_out; ++i) {
                const int64_t panel = i % n_out / NC_PANEL;
                const float wanted = panel >= first && panel < last ? whole[i] : kUntouched;
                if (part[i] != wanted) CHECK(false, "panels %ld to %ld, %ld: %.9g, not %.9g", first, last, i, part[i], wanted);
            }
        }
    CHECK(true, "looked at");
}

TEST_FLOATS("an added product is the product and what was there, rounded once more") {
    Random random(52);
    const FloatProduct product(random, 64, 80, kernels.precision, 1);
    const FloatRows x = random_rows(kernels, random, 13, 64);
    const std::vector<float> plain = multiply(kernels, x.view(), product, false, 13, {0, 5});
    const std::vector<float> added = multiply(kernels, x.view(), product, true, 13, {0, 5}, 3.7f);
    for (size_t i = 0; i < plain.size(); ++i) CHECK(added[i] == 3.7f + plain[i], "%zu: %.9g", i, added[i]);
}

TEST_FLOATS("activations and gates of floats equal float64") {
    Random random(53);
    const int64_t n_rows = 13, n_in = 32, n_out = 144;
    const FloatProduct up(random, n_in, n_out, kernels.precision, 0.5f), gate(random, n_in, n_out, kernels.precision, 0.5f);
    const FloatRows x = random_rows(kernels, random, n_rows, n_in);
    for (int32_t activation : {NC_GELU, NC_GELU_TANH, NC_RELU, NC_SILU})
        for (bool gated : {false, true}) {
            nc_layer layer{};
            layer.up = up.view;
            if (gated) layer.gate = gate.view;
            const FloatRows out(kernels, n_rows, n_out);
            std::vector<float> values(n_rows * n_out);
            const nc::Wide wide{values.data(), n_out, out.view()};
            for (nc::Range blocks : {nc::Range{1, 2}, nc::Range{0, 1}}) kernels.expand(x.view(), layer, activation, wide, {0, n_rows}, blocks);
            kernels.settle(wide, n_out, {0, n_rows});
            for (int64_t i = 0; i < n_rows * n_out; ++i) {
                const Sum a = sum_of(x, up, i / n_out, i % n_out), b = sum_of(x, gate, i / n_out, i % n_out);
                const double wanted = gated ? a.value * reference::activate(activation, b.value) : reference::activate(activation, a.value);
                const double rounding = kernels.precision == NC_BF16 ? std::ldexp(std::fabs(wanted), -8) : 0;
                const double allowed = (a.error(n_in) + b.error(n_in) + 1e-6) * (2 + std::fabs(a.value) + std::fabs(b.value)) + rounding;
                CHECK(std::fabs(out.get(i / n_out, i % n_out) - wanted) <= allowed, "activation %d, %ld: %.9g, expected %.9g", activation,
                      i, out.get(i / n_out, i % n_out), wanted);
            }
        }
}

// A product of zeros gives its bias.
TEST_FLOATS("activations of floats equal float64 to a millionth") {
    Random random(57);
    const int64_t n_out = NC_BLOCK;
    const FloatProduct zero(random, 16, n_out, kernels.precision, 0);
    const FloatRows x = random_rows(kernels, random, 1, 16), out(kernels, 1, n_out);
    std::vector<float> values(n_out), grid(n_out);
    for (int32_t activation : {NC_GELU, NC_GELU_TANH, NC_RELU, NC_SILU})
        for (int part = 0; part < 200; ++part) {
            for (float &value : grid) value = part ? random.uniform(-7, 7) : random.uniform(-100, 100);
            nc_layer layer{};
            layer.up = zero.view, layer.up.bias = grid.data();
            kernels.expand(x.view(), layer, activation, {values.data(), n_out, out.view()}, {0, 1}, {0, 1});
            for (int64_t i = 0; i < n_out; ++i) {
                const double wanted = reference::activate(activation, grid[i]);
                const double relative = kernels.precision == NC_BF16 ? 0x1p-8 : 1e-6;
                CHECK(std::fabs(out.get(0, i) - wanted) <= 1.2e-6 + relative * std::fabs(wanted), "activation %d of %.9g is %.9g, expected %.9g",
                      activation, grid[i], out.get(0, i), wanted);
            }
        }
}

TEST_FLOATS("inputs are written as they are, or rounded to bfloat16, ties to even") {
    Random random(54);
    const int64_t n = 64, n_rows = 3;
    std::vector<float> x = random.floats(n * n_rows, -3, 3), scratch(n);
    const float inf = std::numeric_limits<float>::infinity();
    const float ends[] = {0.0f, -0.0f, inf, -inf, 3.4e38f, 1 + 0x1p-8f, 1 + 0x3p-8f, 1 + 0x1p-8f + 0x1p-20f, -1 - 0x1p-8f, 0x1p-126f};
    std::copy(std::begin(ends), std::end(ends), x.begin());
    const FloatRows rows(kernels, n_rows, n);
    kernels.prepare(x.data(), {}, {}, scratch.data(), rows.view(), n, {0, n_rows});
    for (int64_t i = 0; i < n * n_rows; ++i) {
        const float wanted = kernels.precision == NC_BF16 ? suite::from_bf16(suite::to_bf16(x[i])) : x[i];
        CHECK(rows.get(i / n, i % n) == wanted, "%.9g became %.9g", x[i], rows.get(i / n, i % n));
    }
    x[5] = std::nanf("");
    kernels.prepare(x.data(), {}, {}, scratch.data(), rows.view(), n, {0, 1});
    CHECK(std::isnan(rows.get(0, 5)), "NaN became %g", rows.get(0, 5));
}

TEST_FLOATS("products of bfloat16 are the same bits in C++ and by the instruction") {
    const nc_kernels *portable = nc_find("scalar", kernels.precision);
    if (kernels.precision != NC_BF16) portable = &kernels;
    Random random(55);
    const FloatProduct product(random, 384, 64, kernels.precision, 1);
    FloatRows x = random_rows(kernels, random, 9, 384);
    for (int64_t k = 0; k < 384; ++k) {
        const float exponent = random.uniform(-140, 20);
        x.set(7, k, x.get(7, k) * std::exp2(exponent)), x.set(8, k, std::ldexp(1.0f, -128));  // denormal
    }
    const std::vector<float> a = multiply(kernels, x.view(), product, false, 9, {0, 4}), b = multiply(*portable, x.view(), product, false, 9, {0, 4});
    CHECK(same_bits(a.data(), b.data(), (int64_t)a.size()), "other bits than the portable kernels");
}

TEST_FLOATS("values that are not finite do not crash a product, and come out of it") {
    Random random(56);
    const FloatProduct product(random, 32, 48, kernels.precision, 1);
    FloatRows x = random_rows(kernels, random, 7, 32);
    x.set(2, 5, std::nanf("")), x.set(4, 6, std::numeric_limits<float>::infinity());
    const std::vector<float> out = multiply(kernels, x.view(), product, false, 7, {0, 3});
    for (int64_t i = 0; i < 7 * 48; ++i) CHECK(std::isfinite(out[i]) == (i / 48 != 2 && i / 48 != 4), "%ld: %g", i, out[i]);
    const FloatRows wide(kernels, 7, 48);
    std::vector<float> values(7 * 48);
    nc_layer layer{};
    layer.up = product.view;
    for (int32_t activation : {NC_GELU, NC_GELU_TANH, NC_SILU}) {
        kernels.expand(x.view(), layer, activation, {values.data(), 48, wide.view()}, {0, 7}, {0, 1});
        CHECK(std::isnan(wide.get(2, 0)), "activation %d: NaN became %g", activation, wide.get(2, 0));
    }
}
