#include "encoder.h"

#include <algorithm>
#include <cstring>

#include "profile.h"
#include "workspace.h"

namespace nc {
namespace {

constexpr int64_t kPiecesPerThread = 2;

// Pieces that are worth a thread's while.
constexpr int64_t kRowsOfPiece = 4, kPanelsOfPiece = 4, kColumnsOfPiece = 16;

int64_t longest_of(const nc_batch &batch) {
    int64_t longest = 0;
    for (int i = 0; i < batch.n_texts; ++i) longest = std::max(longest, batch.offsets[i + 1] - batch.offsets[i]);
    return longest;
}

// A batch on its way through the layers. Each step is cut into rows, panels, heads, texts or columns, whose results do not
// depend on how; who is alone takes a step whole.
class Walk {
public:
    Walk(const nc_kernels &k, const nc_model &m, const nc_batch &b, const Workspace &w, float *out, nc_team *team)
        : k_(k), m_(m), b_(b), w_(w), out_(out), team_(team), n_rows_(b.offsets[b.n_texts]) {}

    void encode() {
        const nc_layer *layer = m_.layers, *const end = layer + m_.n_layers;
        embed(layer->attention_norms.before);
        for (; layer != end; ++layer) {
            attend(layer->attention, layer + 1 == end);
            for (int64_t first = 0; first < n_rows_; first += w_.block_rows)
                run_rows(*layer, layer + 1 == end ? nullptr : &layer[1].attention_norms.before, first,
                         std::min(n_rows_ - first, w_.block_rows));
        }
        m_.n_dense ? pool_and_step() : pool();
    }

private:
    // work(range, thread) on pieces of at least `grain`.
    template <typename Work>
    void cut(nc_stage stage, int64_t n, int64_t grain, const Work &work) {
        const int64_t n_pieces = team_ ? std::min((n + grain - 1) / grain, kPiecesPerThread * team_->size()) : 1;
        const auto piece = [&](int i, int thread) {
            const Stopwatch watch(stage);
            work(Range{n * i / n_pieces, n * (i + 1) / n_pieces}, thread);
        };
        if (n_pieces > 1)
            team_->share((int)n_pieces, piece);
        else if (n > 0)
            piece(0, 0);
    }

    Norm norm(const nc_norm &weights) const { return {weights, m_.norm, m_.epsilon}; }
    bool keeps_one() const { return m_.n_poolings == 1 && (m_.poolings[0] == NC_POOL_CLS || m_.poolings[0] == NC_POOL_LAST); }
    int64_t kept_of(int64_t text) const { return m_.poolings[0] == NC_POOL_CLS ? 0 : length(text) - 1; }
    int64_t length(int64_t text) const { return b_.offsets[text + 1] - b_.offsets[text]; }

    void embed(const nc_norm &next) {
        cut(NC_STAGE_EMBED, n_rows_, kRowsOfPiece, [&](Range rows, int thread) {
            k_.embed(m_, b_, w_.x, rows);
            prepare({}, next, 0, rows, thread);
        });
    }

    // The context of all tokens, or in the last layer of those that are kept: all others leave the batch here.
    void attend(const nc_attention &attention, bool is_last) {
        const Rows input = rows_of(k_, w_.input, m_.hidden);
        const int64_t n_heads = attention.n_heads, n_all = n_heads + 2 * attention.n_key_heads;
        cut(NC_STAGE_PROJECT, n_all, std::max<int64_t>(1, kPanelsOfPiece * NC_PANEL / attention.head_size),
            [&](Range heads, int) { k_.project(input, m_, attention, b_, w_.heads, heads); });
        const bool one = is_last && keeps_one();
        cut(NC_STAGE_ATTEND, b_.n_texts * n_heads, 1, [&](Range tasks, int thread) {
            for (int64_t task = tasks.first; task < tasks.last; ++task) attend_head(attention, task / n_heads, task % n_heads, one, thread);
        });
        if (one) keep_one();
    }

    void attend_head(const nc_attention &attention, int64_t text, int64_t head, bool one, int thread) {
        const int64_t row = one ? text : b_.offsets[text], width = attention.out.n_in;
        k_.attend({
            .model = m_,
            .layer = attention,
            .batch = b_,
            .heads = w_.heads,
            .text = text,
            .head = head,
            .queries = one ? Range{kept_of(text), kept_of(text) + 1} : Range{0, length(text)},
            .out = w_.context + row * width + head * attention.head_size,
            .out_stride = width,
            .scratch = w_.attention + thread * w_.attention_stride,
        });
    }

    void keep_one() {
        for (int64_t text = 0; text < b_.n_texts; ++text)  // forwards: no row is needed after another took its place
            std::memmove(w_.x + text * m_.hidden, w_.x + (b_.offsets[text] + kept_of(text)) * m_.hidden, m_.hidden * sizeof *w_.x);
        n_rows_ = b_.n_texts;
        is_kept_ = true;
    }

    // All that is done with rows by themselves: from the context to what the next layer's attention takes.
    void run_rows(const nc_layer &layer, const nc_norm *next, int64_t first, int64_t n) {
        const int64_t n_context = layer.attention.out.n_in, n_wide = layer.up.n_out;
        const Rows context = rows_of(k_, w_.input, n_context, first), input = rows_of(k_, w_.input, m_.hidden, first);
        const Wide wide{w_.wide, n_wide, rows_of(k_, w_.inner, n_wide)};
        cut(NC_STAGE_PREPARE, n, kRowsOfPiece, [&](Range rows, int thread) {
            k_.prepare(w_.context + first * n_context, norm({}), norm({}), row_of(thread), context, n_context, rows);
        });
        add(NC_STAGE_OUT, layer.attention.out, context, layer.attention_norms, &layer.feed_forward_norms.before, first, n);
        cut(NC_STAGE_EXPAND, round_up(n_wide, NC_BLOCK) / NC_BLOCK, 1,
            [&](Range blocks, int) { k_.expand(input, layer, m_.activation, wide, {0, n}, blocks); });
        cut(NC_STAGE_SETTLE, n, kRowsOfPiece, [&](Range rows, int) { k_.settle(wide, n_wide, rows); });
        add(NC_STAGE_DOWN, layer.down, wide.to, layer.feed_forward_norms, next, first, n);
    }

    // x = after(x + inner(product)), and what comes `next`: the input of a product, or nothing but the last norm.
    void add(nc_stage stage, const nc_product &product, const Rows &from, const nc_norms &norms, const nc_norm *next, int64_t first,
             int64_t n) {
        float *x = w_.x + first * m_.hidden;
        const bool inner = norms.inner.weight;
        cut(stage, product.n_out / NC_PANEL, kPanelsOfPiece,
            [&](Range panels, int) { k_.multiply(from, product, !inner, inner ? w_.result : x, {0, n}, panels); });
        cut(NC_STAGE_PREPARE, n, kRowsOfPiece, [&](Range rows, int thread) {
            if (inner) {
                k_.normalize(w_.result, norm(norms.inner), m_.hidden, rows);
                k_.add(x, w_.result, m_.hidden, rows);
            }
            if (next) return prepare(norms.after, *next, first, rows, thread);
            if (norms.after.weight) k_.normalize(x, norm(norms.after), m_.hidden, rows);
            if (m_.end_norm.weight) k_.normalize(x, norm(m_.end_norm), m_.hidden, rows);
        });
    }

    void prepare(const nc_norm &after, const nc_norm &before, int64_t first, Range rows, int thread) {
        k_.prepare(w_.x + first * m_.hidden, norm(after), norm(before), row_of(thread), rows_of(k_, w_.input, m_.hidden, first),
                   m_.hidden, rows);
    }

    float *row_of(int thread) const { return w_.row + thread * w_.row_stride; }

    void pool(int64_t text, float *out) {
        if (is_kept_)
            std::copy_n(w_.x + text * m_.hidden, m_.hidden, out);
        else
            k_.pool(m_, w_.x + b_.offsets[text] * m_.hidden, length(text), out);
    }

    void pool() {
        const int64_t n = m_.n_poolings * (int64_t)m_.hidden;
        cut(NC_STAGE_POOL, b_.n_texts, 1, [&](Range texts, int) {
            for (int64_t text = texts.first; text < texts.last; ++text) {
                pool(text, out_ + text * n);
                if (m_.normalize) k_.scale_to_unit(out_ + text * n, n);
            }
        });
    }

    void pool_and_step() {
        for (int64_t first = 0; first < b_.n_texts; first += kDenseTexts)
            pool_and_step(first, std::min<int64_t>(b_.n_texts - first, kDenseTexts));
    }

    void pool_and_step(int64_t first, int64_t n_texts) {
        cut(NC_STAGE_POOL, n_texts, 1, [&](Range texts, int) {
            for (int64_t i = texts.first; i < texts.last; ++i) pool(first + i, w_.vectors[0] + i * w_.vector_stride);
        });
        for (int i = 0; i < m_.n_dense; ++i) run_dense(m_.dense[i], w_.vectors[i % 2], w_.vectors[(i + 1) % 2], n_texts);
        const int64_t n = m_.dense[m_.n_dense - 1].n_out;
        for (int64_t i = 0; i < n_texts; ++i) {
            float *vector = out_ + (first + i) * n;
            std::copy_n(w_.vectors[m_.n_dense % 2] + i * w_.vector_stride, n, vector);
            if (m_.normalize) k_.scale_to_unit(vector, n);
        }
    }

    void run_dense(const nc_dense &step, const float *x, float *out, int64_t n_texts) {
        cut(NC_STAGE_POOL, round_up(step.n_out, kWidest) / kWidest, kColumnsOfPiece, [&](Range parts, int) {
            const int64_t last = std::min<int64_t>(parts.last * kWidest, step.n_out);
            k_.run_dense(step, x, w_.vector_stride, out, w_.vector_stride, n_texts, parts.first * kWidest, last);
        });
    }

    const nc_kernels &k_;
    const nc_model &m_;
    const nc_batch &b_;
    const Workspace &w_;
    float *out_;
    nc_team *team_;
    int64_t n_rows_;        // tokens, until only one of each text is left
    bool is_kept_ = false;  // that is so
};

}  // namespace

size_t workspace_bytes(const nc_kernels &kernels, const nc_model &model, int64_t n_tokens, int64_t n_texts, int64_t longest,
                       int n_threads) {
    return Workspace(nullptr, kernels, model, n_tokens, n_texts, longest, n_threads).n_bytes;
}

void encode(const nc_kernels &kernels, const nc_model &model, const nc_batch &batch, float *out, void *workspace,
            nc_team *team) {
    const int64_t n_tokens = batch.offsets[batch.n_texts];
    const Workspace laid_out(workspace, kernels, model, n_tokens, batch.n_texts, longest_of(batch), team ? team->size() : 1);
    Walk(kernels, model, batch, laid_out, out, team).encode();
}

}  // namespace nc
