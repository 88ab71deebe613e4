#include "workspace.h"

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
    Rows take_rows(int64_t n, int64_t stride) {
        return {take<char>(n * stride), stride, take<float>(n), take<int32_t>(n)};
    }
    size_t used() const { return used_; }

private:
    char *base_;
    int64_t used_ = 0;
};

}  // namespace

Widths::Widths(const nc_model &m) : hidden(m.hidden) {
    for (int i = 0; i < m.n_layers; ++i) {
        const nc_layer &layer = m.layers[i];
        heads = std::max<int64_t>(heads, layer.attention.out.n_in);
        wide = std::max<int64_t>(wide, layer.up.n_out);
        if (layer.attention_norms.inner.weight || layer.feed_forward_norms.inner.weight) inner_norms = true;
    }
    for (int i = 0; i < m.n_dense; ++i) vector = std::max<int64_t>({vector, m.dense[i].n_in, m.dense[i].n_out});
}

Workspace::Workspace(void *memory, const nc_kernels &kernels, const nc_model &m, int64_t n_tokens, int64_t n_texts,
                     int64_t longest, int n_threads) {
    Arena arena(memory);
    const Widths widths(m);
    block_rows = std::min(n_tokens, n_threads > 1 ? std::max(kernels.block_rows, kTeamRows) : kernels.block_rows);
    x = arena.take<float>(n_tokens * m.hidden);
    context = arena.take<float>(n_tokens * widths.heads);
    int64_t heads_bytes = 0, attention_bytes = 0;
    for (int i = 0; i < m.n_layers; ++i) {
        heads_bytes = std::max(heads_bytes, kernels.heads_bytes(m.layers[i].attention, n_tokens, n_texts));
        attention_bytes = std::max(attention_bytes, kernels.attention_bytes(m.layers[i].attention, longest));
    }
    heads = arena.take<char>(heads_bytes);
    input = arena.take_rows(n_tokens, row_bytes(kernels, widths.input()));
    inner = arena.take_rows(block_rows, row_bytes(kernels, widths.wide));
    wide = arena.take<float>(block_rows * widths.wide);
    result = arena.take<float>(widths.inner_norms ? block_rows * m.hidden : 0);
    row_stride = round_up(std::max(widths.input(), widths.wide), kWidest);
    row = arena.take<float>(n_threads * row_stride);
    attention_stride = round_up(attention_bytes, kLine);
    attention = arena.take<char>(n_threads * attention_stride);
    vector_stride = round_up(widths.vector, kWidest);
    for (float *&each : vectors) each = arena.take<float>(kDenseTexts * vector_stride);
    n_bytes = arena.used();
}

}  // namespace nc
