// Norms, embeddings.
#include <cmath>

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

}  // namespace

TEST_EACH("norms equal float64, and change only the rows that were asked for") {
    Random random(11);
    for (int32_t kind : {NC_LAYER_NORM, NC_RMS_NORM})
        for (bool with_bias : {true, false})
            for (int64_t n : {16, 32, 48, 384, 768}) {
                const std::vector<float> weight = random.floats(n, -2, 2), bias = random.floats(n, -1, 1);
                const nc::Norm norm{{weight.data(), with_bias ? bias.data() : nullptr}, kind, 1e-12f};
                std::vector<float> x = random.floats(8 * n, -3, 5);
                for (int64_t i = 0; i < n; ++i) x[3 * n + i] = 7, x[4 * n + i] *= 1e-5f, x[5 * n + i] = i ? 0.0f : 30.0f;
                const std::vector<float> before = x;
                kernels.normalize(x.data(), norm, n, {1, 7});
                for (int64_t row = 0; row < 8; ++row) {
                    const Doubles same = reference::to_doubles(&before[row * n], n);
                    const bool asked = row >= 1 && row < 7;
                    check_row(&x[row * n], asked ? reference::normalize(same, norm) : same, asked ? 3e-5 : 0, "norm");
                }
            }
}

TEST_EACH("rows are added where they were asked for") {
    Random random(15);
    const int64_t n = 48;
    std::vector<float> x = random.floats(5 * n, -1, 1);
    const std::vector<float> before = x, y = random.floats(5 * n, -1, 1);
    kernels.add(x.data(), y.data(), n, {1, 4});
    for (int64_t i = 0; i < 5 * n; ++i) CHECK(x[i] == (i / n % 4 ? before[i] + y[i] : before[i]), "%ld", i);
}

TEST_EACH("embeddings equal float64, with and without positions and a norm") {
    Random random(12);
    const int64_t n = 48, n_words = 20, n_tokens = 30;
    std::vector<int8_t> words(n_words * n);
    for (int8_t &w : words) w = (int8_t)random.integer(-127, 127);
    const std::vector<float> scale = random.floats(n_words, 1e-3f, 1e-2f), table = random.floats(10 * n, -1, 1);
    const std::vector<float> weight = random.floats(n, 0.5f, 2), bias = random.floats(n, -1, 1);
    std::vector<int32_t> ids, positions;
    for (int64_t i = 0; i < n_tokens; ++i) ids.push_back((int32_t)random.integer(0, n_words - 1)), positions.push_back((int32_t)(i % 10));
    nc_model model{};
    model.words = words.data(), model.word_scale = scale.data();
    model.epsilon = 1e-5f, model.hidden = n;
    const nc_batch batch{ids.data(), positions.data(), nullptr, 0};
    for (int with = 0; with < 4; ++with) {
        model.positions = with & 1 ? table.data() : nullptr;
        model.embedding_norm = with & 2 ? nc_norm{weight.data(), bias.data()} : nc_norm{};
        std::vector<float> x(n_tokens * n, kUntouched);
        kernels.embed(model, batch, x.data(), {2, 29});
        for (int64_t row = 2; row < 29; ++row)
            check_row(&x[row * n], reference::embed(model, ids[row], positions[row]), 2e-6, "embedding");
        CHECK(x[2 * n - 1] == kUntouched && x[29 * n] == kUntouched, "rows beside were written");
    }
}
