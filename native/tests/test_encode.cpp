// The whole encoder through the C interface.
#include <atomic>
#include <cstring>
#include <limits>
#include <numeric>
#include <thread>

#include "model.h"

using suite::Model;
using suite::Random;
using suite::Shape;
using Text = std::vector<int32_t>;
using Texts = std::vector<Text>;
using Vectors = std::vector<std::vector<float>>;

namespace {

Texts random_texts(Random &random, const std::vector<int64_t> &lengths) {
    Texts texts;
    for (int64_t n : lengths) {
        Text &text = texts.emplace_back(n);
        for (int32_t &id : text) id = (int32_t)random.integer(0, suite::kVocabulary - 1);
    }
    return texts;
}

// The workspace has exactly the size that is promised to be enough, and holds NaN.
Vectors encode(const nc_kernels &kernels, const nc_model &model, const Texts &texts, nc_team *team = nullptr, int n_threads = 1) {
    Text ids, positions;
    std::vector<int64_t> offsets{0};
    int64_t longest = 0;
    for (const Text &text : texts) {
        ids.insert(ids.end(), text.begin(), text.end());
        for (size_t i = 0; i < text.size(); ++i) positions.push_back((int32_t)i);
        offsets.push_back((int64_t)ids.size());
        longest = std::max(longest, (int64_t)text.size());
    }
    const nc_batch batch{ids.data(), positions.data(), offsets.data(), (int32_t)texts.size()};
    const auto workspace = suite::aligned_bytes(nc_workspace_bytes(&kernels, &model, (int64_t)ids.size(), (int64_t)texts.size(), longest, n_threads));
    const int64_t size = model.n_dense ? model.dense[model.n_dense - 1].n_out : model.n_poolings * model.hidden;
    std::vector<float> out(texts.size() * size);
    nc_encode(&kernels, &model, &batch, out.data(), workspace.get(), team);
    Vectors vectors;
    for (size_t i = 0; i < texts.size(); ++i) vectors.emplace_back(&out[i * size], &out[i * size] + size);
    return vectors;
}

bool same_bits(const std::vector<float> &a, const std::vector<float> &b) {
    return a.size() == b.size() && !std::memcmp(a.data(), b.data(), a.size() * sizeof(float));
}

Vectors encode_alone(const nc_kernels &kernels, const nc_model &model, const Texts &texts) {
    Vectors vectors;
    for (const Text &text : texts) vectors.push_back(encode(kernels, model, {text})[0]);
    return vectors;
}

// Any batch of these texts, in any order, gives the vectors that each has alone.
void check_order(const nc_kernels &kernels, const Model &model, const Texts &texts, const Vectors &alone,
                 const std::vector<size_t> &order, nc_team *team, int n_threads) {
    Texts batch;
    for (size_t i : order) batch.push_back(texts[i]);
    const Vectors vectors = encode(kernels, model.view, batch, team, n_threads);
    for (size_t i = 0; i < order.size(); ++i)
        CHECK(same_bits(vectors[i], alone[order[i]]), "text %zu of %zu, %d threads: not the vector it has alone", i, order.size(),
              n_threads);
}

// Lowest cosine to the same encoder in float64, over some texts.
double lowest_cosine(const nc_kernels &kernels, const nc_model &model, bool rounds) {
    Random random(31);
    const Texts texts = random_texts(random, {1, 3, 13, 33});
    const Vectors vectors = encode(kernels, model, texts);
    const suite::Reference expected(model, kernels.precision, rounds);
    double lowest = 1;
    for (size_t i = 0; i < texts.size(); ++i)
        lowest = std::min(lowest, reference::cosine(expected.encode(texts[i]), vectors[i].data()));
    return lowest;
}

std::vector<size_t> shuffled(Random &random, size_t n) {
    std::vector<size_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    for (size_t i = n; i > 1; --i) std::swap(order[i - 1], order[(size_t)random.integer(0, (int64_t)i - 1)]);
    order.resize((size_t)random.integer(1, (int64_t)n));
    return order;
}

}  // namespace

// One layer: in a random model each further one makes much of a value that was rounded the other way.
TEST_EACH("vectors of each layer equal float64 with the same roundings, to a cosine of 0.9999") {
    for (const Shape &shape : suite::kShapes) {
        Model model(shape, kernels.precision);
        model.view.n_layers = 1;
        for (const nc_layer &layer : model.layers) {
            model.view.layers = &layer;
            const double cosine = lowest_cosine(kernels, model.view, true);
            CHECK(cosine > 0.9999, "%s: cosine %.7f", shape.name, cosine);
        }
    }
}

TEST_EACH("vectors are near float64 without any rounding, to a cosine of 0.99, of fp32 0.9999999") {
    for (const Shape &shape : suite::kShapes) {
        const Model model(shape, kernels.precision);
        const double cosine = lowest_cosine(kernels, model.view, false);
        const bool exact = kernels.precision == NC_FP32 || kernels.precision == NC_FP16;  // halves are exact as such
        CHECK(cosine > (exact ? 0.9999999 : 0.99), "%s: cosine %.7f", shape.name, cosine);
    }
}

TEST("normalised vectors have length 1") {
    Random random(32);
    const Model model(suite::kShapes[0]);
    for (const std::vector<float> &vector : encode(kernels, model.view, random_texts(random, {1, 5, 30}))) {
        double squares = 0;
        for (float x : vector) squares += (double)x * x;
        CHECK(std::fabs(squares - 1) < 1e-5, "%.9g", squares);
    }
}

TEST_EACH("a text in any batch equals the text alone, bit for bit, on 1 to 4 threads") {
    int n_teams = 0, n_shapes = 0;
    const bool slow = !std::strcmp(kernels.name, "scalar") && kernels.input_bytes == 2;  // it emulates an instruction
    for (const Shape &shape : suite::kShapes) {
        if (slow && n_shapes++ % 4) continue;
        Random random(33);
        const Model model(shape, kernels.precision, 7);
        const Texts texts = random_texts(random, {1, 1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 16, 17, 24, 31, 40, 64, 140});
        const Vectors alone = encode_alone(kernels, model.view, texts);
        for (int n_threads : {0, 1 + n_teams++ % 4, 1 + n_teams++ % 4}) {  // 0: without a team
            nc_team *team = n_threads ? nc_make_team(n_threads) : nullptr;
            for (int round = 0; round < 2; ++round)
                check_order(kernels, model, texts, alone, shuffled(random, texts.size()), team, std::max(n_threads, 1));
            check_order(kernels, model, texts, alone, {0}, team, std::max(n_threads, 1));
            if (team) nc_free_team(team);
        }
    }
}

TEST_EACH("no text gives no vector") {
    const Model model(suite::kShapes[0], kernels.precision);
    nc_team *team = nc_make_team(2);
    CHECK(encode(kernels, model.view, {}).empty() && encode(kernels, model.view, {}, team, 2).empty(), "a vector of nothing");
    nc_free_team(team);
}

TEST("zero, huge, infinite and NaN weights do not crash the encoder") {
    Random random(34);
    const Texts texts = random_texts(random, {1, 7, 20});
    const float inf = std::numeric_limits<float>::infinity();
    int n_tried = 0;
    for (const Shape &shape : suite::kShapes)
        for (float bad : {0.0f, 1e-45f, 1e18f, 3e38f, -3e38f, inf, -inf, std::nanf("")})
            for (int where = 0; where < 4; ++where) {
                if (n_tried++ % 5 > 1) continue;  // each value in each place, in some shape
                Model model(shape);
                if (where == 0) model.word_scale.assign(model.word_scale.size(), bad);
                for (suite::Product &p : model.products) {
                    if (where == 1) p.column_scale.assign(p.column_scale.size(), bad);
                    if (where == 2) p.bias.assign(p.bias.size(), bad);
                    if (where == 3) p.fill([](int64_t, int64_t) { return 0; }), p.bias[0] = bad, p.column_scale[1] = bad;
                }
                for (nc_layer &layer : model.layers)  // the vectors were filled in place, their memory is the same
                    CHECK(layer.attention.qkv.bias != nullptr, "a layer");
                CHECK(encode(kernels, model.view, texts).size() == texts.size(), "%s", shape.name);
            }
}

TEST("a NaN in one word's embedding reaches no text without the word") {
    Random random(35);
    const Shape &shape = suite::kShapes[0];
    const Model clean(shape);
    Model damaged(shape);
    damaged.word_scale[7] = std::nanf("");
    Texts texts = random_texts(random, {5, 13, 20, 3});
    for (Text &text : texts)
        for (int32_t &id : text) id = id == 7 ? 8 : id;
    const Vectors expected = encode(kernels, clean.view, texts);
    texts[1][4] = 7;
    const Vectors vectors = encode(kernels, damaged.view, texts);
    for (size_t i : {0, 2, 3}) CHECK(same_bits(vectors[i], expected[i]), "text %zu changed", i);
}

TEST("callers who share a team get the vectors they get alone, also when it is stopped meanwhile") {
    Random random(36);
    const Model model(suite::kShapes[0]);
    const Texts texts = random_texts(random, {3, 9, 17, 30});
    const Vectors alone = encode_alone(kernels, model.view, texts);
    nc_team *team = nc_make_team(3);
    std::atomic<int> n_wrong{0}, n_begun{0};
    std::vector<std::thread> callers;
    for (size_t i = 0; i < texts.size(); ++i)
        callers.emplace_back([&, i] {
            for (int round = 0; round < 20; ++round) {
                ++n_begun;
                n_wrong += !same_bits(encode(kernels, model.view, {texts[i]}, team, 3)[0], alone[i]);
            }
        });
    while (n_begun < 30) std::this_thread::yield();
    nc_stop_team(team);
    for (std::thread &caller : callers) caller.join();
    CHECK(n_wrong == 0, "%d wrong vectors", n_wrong.load());
    nc_free_team(team);
}
