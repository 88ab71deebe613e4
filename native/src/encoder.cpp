#include "encoder.h"

#include <algorithm>
#include <functional>

namespace nc {
namespace {

constexpr int64_t kLine = 64;       // bytes of a cache line
constexpr int64_t kDenseTexts = 8;  // vectors that go through the steps after pooling together: weights are read once for them

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

// The most that any layer needs.
struct Widths {
    int64_t hidden, heads = 0, large = 0, gate = 0, head_size = 0, vector = 0;

    explicit Widths(const nc_model &m) : hidden(m.hidden) {
        for (int i = 0; i < m.n_layers; ++i) add(m.layers[i]);
        for (int i = 0; i < m.n_dense; ++i) vector = std::max<int64_t>({vector, m.dense[i].n_in, m.dense[i].n_out});
    }
    int64_t context() const { return std::max(hidden, heads); }  // of results of attention, and of what a norm before it gives
    int64_t input() const { return std::max(context(), wide); }  // of a product

private:
    void add(const nc_layer &layer) {
        const nc_attention &a = layer.attention;
        heads = std::max<int64_t>(heads, a.out.n_in);
        head_size = std::max<int64_t>(head_size, a.head_size);
        wide = std::max<int64_t>(wide, layer.up.n_out);
        large = std::max<int64_t>({large, a.qkv.n_out, layer.up.n_out});
        if (layer.gate.weight) gate = std::max<int64_t>(gate, layer.gate.n_out);
        if (layer.attention_norms.inner.weight || layer.feed_forward_norms.inner.weight) large = std::max(large, hidden);
    }

    int64_t wide = 0;
};

struct Workspace {
    float *x;          // [tokens][hidden], the residual stream
    float *context;    // [tokens][hidden or heads], of attention; and the input of a product behind a norm
    float *large;      // [tokens][queries, keys, values or wide]; and a sublayer's result before a norm
    float *gate;       // [tokens][wide], where there is a gate
    Quantized q;
    float *row;        // [widest] of one thread after the other
    float *attention;  // of one thread after the other
    int64_t attention_stride;
    float *vectors[2]; // [kDenseTexts][widest], where there are steps after pooling
    int64_t vector_stride;
    size_t n_bytes;
};

Workspace lay_out(void *memory, const nc_model &m, int64_t n_tokens, int64_t longest, int n_threads) {
    Arena arena(memory);
    Workspace w;
    const Widths widths(m);
    w.x = arena.take<float>(n_tokens * m.hidden);
    w.context = arena.take<float>(n_tokens * widths.context());
    w.large = arena.take<float>(n_tokens * widths.large);
    w.gate = arena.take<float>(n_tokens * widths.gate);
    w.q.stride = widths.input();
    w.q.values = arena.take<uint8_t>(n_tokens * w.q.stride);
    w.q.scale = arena.take<float>(n_tokens);
    w.q.zero = arena.take<int32_t>(n_tokens);
    w.row = arena.take<float>(n_threads * w.q.stride);
    w.attention_stride = round_up(attention_floats(longest, widths.head_size), kLine);
    w.attention = arena.take<float>(w.attention_stride * n_threads);
    w.vector_stride = round_up(widths.vector, kWidest);
    for (float *&vectors : w.vectors) vectors = arena.take<float>(kDenseTexts * w.vector_stride);
    w.n_bytes = arena.used();
    return w;
}

int64_t longest_of(const nc_batch &batch) {
    int64_t longest = 0;
    for (int i = 0; i < batch.n_texts; ++i) longest = std::max(longest, batch.offsets[i + 1] - batch.offsets[i]);
    return longest;
}

// One thread's part of a batch. Work of a step is cut by rows, panels, heads, texts or columns; none of it depends on how.
class Worker {
public:
    Worker(const nc_kernels &k, const nc_model &m, const nc_batch &b, const Workspace &w, float *out, nc_team *team, int index)
        : k_(k), m_(m), b_(b), w_(w), out_(out), team_(team), index_(index), n_threads_(team ? team->size() : 1),
          n_tokens_(b.offsets[b.n_texts]) {}

    void encode() {
        const nc_layer *layer = m_.layers, *const end = layer + m_.n_layers;
        embed(layer->attention_norms.before);
        for (; layer != end; ++layer) {
            attend(layer->attention, layer->attention_norms, layer->feed_forward_norms.before);
            feed_forward(*layer, layer + 1 == end ? nullptr : &layer[1].attention_norms.before);
        }
        m_.n_dense ? pool_and_step() : pool();
    }

private:
    struct Range {
        int64_t first, last;
    };

    Range share(int64_t n) const { return {n * index_ / n_threads_, n * (index_ + 1) / n_threads_}; }

    void meet() {
        if (team_) team_->meet();
    }

    void embed(const nc_norm &next) {
        const Range rows = share(n_tokens_);
        k_.embed(m_, b_, w_.x, rows.first, rows.last);
        prepare(next, rows);
        meet();
    }

    void attend(const nc_attention &attention, const nc_norms &norms, const nc_norm &next) {
        multiply(attention.qkv, Finish::Plain, w_.large);
        attend_heads(attention);
        quantize(w_.context, attention.out.n_in);
        add(attention.out, norms, &next);
    }

    void feed_forward(const nc_layer &layer, const nc_norm *next) {
        if (layer.gate.weight) {
            multiply(layer.gate, finish(), w_.gate);
            multiply(layer.up, Finish::Times, w_.large, w_.gate);
        } else {
            multiply(layer.up, finish(), w_.large);
        }
        quantize(w_.large, layer.down.n_in);
        add(layer.down, layer.feed_forward_norms, next);
    }

    Finish finish() const {
        switch (m_.activation) {
            case NC_GELU_TANH: return Finish::GeluTanh;
            case NC_RELU: return Finish::Relu;
            case NC_SILU: return Finish::Silu;
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

    void normalize(const nc_norm &weights, const float *x, float *to, Range rows) {
        const Norm norm{weights, m_.norm, m_.epsilon};
        if (norm) k_.normalize(x, to, norm, m_.hidden, rows.first, rows.last);
    }

    // Integers of what the next product takes: x, or a norm of it.
    void prepare(const nc_norm &before, Range rows) {
        normalize(before, w_.x, w_.context, rows);
        quantize(before.weight ? w_.context : w_.x, m_.hidden, rows);
    }

    // x = after(x + inner(product)), and what comes `next`: the input of a product, or nothing but the last norm.
    void add(const nc_product &product, const nc_norms &norms, const nc_norm *next) {
        const Range rows = share(n_tokens_);
        if (norms.inner.weight) {
            multiply(product, Finish::Plain, w_.large);
            normalize(norms.inner, w_.large, w_.large, rows);
            k_.add(w_.x, w_.large, m_.hidden, rows.first, rows.last);
        } else {
            multiply(product, Finish::Add, w_.x, w_.x);
        }
        normalize(norms.after, w_.x, w_.x, rows);
        if (next)
            prepare(*next, rows);
        else
            normalize(m_.end_norm, w_.x, w_.x, rows);
        meet();
    }

    void attend_heads(const nc_attention &attention) {
        const int64_t n_heads = attention.n_heads;
        const Range tasks = share(b_.n_texts * n_heads);
        for (int64_t task = tasks.first; task < tasks.last; ++task) attend_head(attention, task / n_heads, task % n_heads);
        meet();
    }

    void attend_head(const nc_attention &attention, int64_t text, int64_t head) {
        const int64_t start = b_.offsets[text];
        k_.attend({
            .model = m_,
            .layer = attention,
            .qkv = w_.large + start * attention.qkv.n_out,
            .out = w_.context + start * attention.out.n_in,
            .n_tokens = b_.offsets[text + 1] - start,
            .head = head,
            .scratch = w_.attention + index_ * w_.attention_stride,
        });
    }

    void pool(int64_t text, float *out) {
        const int64_t start = b_.offsets[text];
        k_.pool(m_, w_.x + start * m_.hidden, b_.offsets[text + 1] - start, out);
    }

    void pool() {
        const int64_t n = m_.n_poolings * (int64_t)m_.hidden;
        const Range texts = share(b_.n_texts);
        for (int64_t text = texts.first; text < texts.last; ++text) {
            pool(text, out_ + text * n);
            if (m_.normalize) k_.scale_to_unit(out_ + text * n, n);
        }
    }

    void pool_and_step() {
        for (int64_t first = 0; first < b_.n_texts; first += kDenseTexts)
            pool_and_step(first, std::min<int64_t>(b_.n_texts - first, kDenseTexts));
    }

    void pool_and_step(int64_t first, int64_t n_texts) {
        const Range texts = share(n_texts);
        for (int64_t i = texts.first; i < texts.last; ++i) pool(first + i, w_.vectors[0] + i * w_.vector_stride);
        meet();
        for (int i = 0; i < m_.n_dense; ++i) run_dense(m_.dense[i], w_.vectors[i % 2], w_.vectors[(i + 1) % 2], n_texts);
        const int64_t n = m_.dense[m_.n_dense - 1].n_out;
        for (int64_t i = texts.first; i < texts.last; ++i) {
            float *vector = out_ + (first + i) * n;
            std::copy_n(w_.vectors[m_.n_dense % 2] + i * w_.vector_stride, n, vector);
            if (m_.normalize) k_.scale_to_unit(vector, n);
        }
        meet();
    }

    void run_dense(const nc_dense &step, const float *x, float *out, int64_t n_texts) {
        const Range parts = share(round_up(step.n_out, kWidest) / kWidest);
        const int64_t first = std::min<int64_t>(parts.first * kWidest, step.n_out);
        const int64_t last = std::min<int64_t>(parts.last * kWidest, step.n_out);
        k_.run_dense(step, x, w_.vector_stride, out, w_.vector_stride, n_texts, first, last);
        meet();
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
