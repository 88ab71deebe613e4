#include "encoder.h"

#include <algorithm>
#include <functional>

namespace nc {
namespace {

constexpr int64_t kLine = 64;  // bytes of a cache line

// Hands out pieces of the caller's memory; from null, it only counts them.
class Arena {
public:
    explicit Arena(void *memory) : base_((char *)memory) {}

    template <typename T>
    T *take(int64_t n) {
        T *piece = base_ ? (T *)(base_ + used_) : nullptr;
        used_ += round_up(n * (int64_t)sizeof(T), kLine);
        return piece;
    }
    size_t used() const { return used_; }

private:
    char *base_;
    int64_t used_ = 0;
};

struct Workspace {
    float *x;          // [tokens][hidden], the residual stream
    float *context;    // [tokens][hidden], of attention
    float *large;      // [tokens][3 * hidden] or [tokens][wide]
    float *gate;       // [tokens][wide], SwiGLU only
    Quantized q;
    float *row;        // [widest] of one thread after the other
    float *attention;  // of one thread after the other
    int64_t attention_stride;
    size_t n_bytes;
};

Workspace lay_out(void *memory, const nc_model &m, int64_t n_tokens, int64_t longest, int n_threads) {
    Arena arena(memory);
    Workspace w;
    const int64_t widest = std::max<int64_t>(m.hidden, m.wide);
    w.x = arena.take<float>(n_tokens * m.hidden);
    w.context = arena.take<float>(n_tokens * m.hidden);
    w.large = arena.take<float>(n_tokens * std::max<int64_t>(3 * m.hidden, m.wide));
    w.gate = arena.take<float>(m.activation == NC_SWIGLU ? n_tokens * m.wide : 0);
    w.q.stride = widest;
    w.q.values = arena.take<uint8_t>(n_tokens * widest);
    w.q.scale = arena.take<float>(n_tokens);
    w.q.zero = arena.take<int32_t>(n_tokens);
    w.row = arena.take<float>(n_threads * widest);
    w.attention_stride = round_up(attention_floats(longest, m.hidden / m.n_heads), kLine);
    w.attention = arena.take<float>(w.attention_stride * n_threads);
    w.n_bytes = arena.used();
    return w;
}

int64_t longest_of(const nc_batch &batch) {
    int64_t longest = 0;
    for (int i = 0; i < batch.n_texts; ++i) longest = std::max(longest, batch.offsets[i + 1] - batch.offsets[i]);
    return longest;
}

// One thread's part of a batch. Work of a step is cut by rows, panels, heads or texts; none of it depends on how.
class Worker {
public:
    Worker(const nc_kernels &k, const nc_model &m, const nc_batch &b, const Workspace &w, float *out, nc_team *team, int index)
        : k_(k), m_(m), b_(b), w_(w), out_(out), team_(team), index_(index), n_threads_(team ? team->size() : 1),
          n_tokens_(b.offsets[b.n_texts]) {}

    void encode() {
        embed();
        for (int i = 0; i < m_.n_layers; ++i) {
            const nc_layer &layer = m_.layers[i];
            attend(layer);
            feed_forward(layer);
            normalize(layer.output_norm, i + 1 < m_.n_layers);
        }
        pool();
    }

private:
    struct Range {
        int64_t first, last;
    };

    Range share(int64_t n) const { return {n * index_ / n_threads_, n * (index_ + 1) / n_threads_}; }

    void meet() {
        if (team_) team_->meet();
    }

    void embed() {
        const Range rows = share(n_tokens_);
        k_.embed(m_, b_, w_.x, rows.first, rows.last);
        quantize(w_.x, m_.hidden, rows);
        meet();
    }

    void attend(const nc_layer &layer) {
        multiply(layer.qkv, Finish::Plain, w_.large);
        attend_heads();
        quantize(w_.context, m_.hidden);
        multiply(layer.out, Finish::Add, w_.x, w_.x);
        normalize(layer.attention_norm, true);
    }

    void feed_forward(const nc_layer &layer) {
        if (m_.activation == NC_SWIGLU) {
            multiply(layer.gate, Finish::Plain, w_.gate);
            multiply(layer.up, Finish::Gate, w_.large, w_.gate);
        } else {
            multiply(layer.up, finish(), w_.large);
        }
        quantize(w_.large, m_.wide);
        multiply(layer.down, Finish::Add, w_.x, w_.x);
    }

    Finish finish() const {
        switch (m_.activation) {
            case NC_GELU_TANH: return Finish::GeluTanh;
            case NC_RELU: return Finish::Relu;
            default: return Finish::Gelu;
        }
    }

    void multiply(const nc_product &product, Finish finish, float *out, const float *other = nullptr) {
        const Range panels = share(product.n_out / NC_PANEL);
        k_.multiply(w_.q, product, finish, out, product.n_out, other ? other : out, n_tokens_, panels.first, panels.last);
        meet();
    }

    void quantize(const float *x, int64_t n, Range rows) {
        k_.quantize(x, w_.row + index_ * w_.q.stride, w_.q, n, rows.first, rows.last);
    }

    void quantize(const float *x, int64_t n) {
        quantize(x, n, share(n_tokens_));
        meet();
    }

    // LayerNorm of x, and its integers if a product follows.
    void normalize(const nc_norm &norm, bool product_follows) {
        const Range rows = share(n_tokens_);
        k_.normalize(w_.x, norm, m_.epsilon, m_.hidden, rows.first, rows.last);
        if (product_follows) quantize(w_.x, m_.hidden, rows);
        meet();
    }

    void attend_heads() {
        const Range tasks = share((int64_t)b_.n_texts * m_.n_heads);
        for (int64_t task = tasks.first; task < tasks.last; ++task) attend_head(task / m_.n_heads, task % m_.n_heads);
        meet();
    }

    void attend_head(int64_t text, int64_t head) {
        const int64_t start = b_.offsets[text];
        const int64_t n_distances = 2 * (int64_t)m_.max_positions - 1;
        k_.attend({
            .qkv = w_.large + start * 3 * m_.hidden,
            .out = w_.context + start * m_.hidden,
            .bias = m_.distance_bias ? m_.distance_bias + head * n_distances : nullptr,
            .cosines = m_.cosines,
            .sines = m_.sines,
            .n_tokens = b_.offsets[text + 1] - start,
            .hidden = m_.hidden,
            .head_size = m_.hidden / m_.n_heads,
            .head = head,
            .max_positions = m_.max_positions,
            .scratch = w_.attention + index_ * w_.attention_stride,
        });
    }

    void pool() {
        const Range texts = share(b_.n_texts);
        for (int64_t text = texts.first; text < texts.last; ++text) {
            const int64_t start = b_.offsets[text];
            k_.pool(m_, w_.x + start * m_.hidden, b_.offsets[text + 1] - start, out_ + text * m_.hidden);
        }
    }

    const nc_kernels &k_;
    const nc_model &m_;
    const nc_batch &b_;
    const Workspace &w_;
    float *out_;
    nc_team *team_;
    const int index_, n_threads_;
    const int64_t n_tokens_;
};

}  // namespace

size_t workspace_bytes(const nc_model &model, int64_t n_tokens, int64_t longest, int n_threads) {
    return lay_out(nullptr, model, n_tokens, longest, n_threads).n_bytes;
}

void encode(const nc_kernels &kernels, const nc_model &model, const nc_batch &batch, float *out, void *workspace,
            nc_team *team) {
    const int n_threads = team ? team->size() : 1;
    const Workspace laid_out = lay_out(workspace, model, batch.offsets[batch.n_texts], longest_of(batch), n_threads);
    const auto work = [&](int index) { Worker(kernels, model, batch, laid_out, out, team, index).encode(); };
    if (team)
        team->run(std::ref(work));
    else
        work(0);
}

}  // namespace nc
