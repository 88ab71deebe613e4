/* The C interface of the native kernels: text encoders on CPU, without padding, in INT8, fp32, fp16 or bf16.
 *
 * Nothing here fails, allocates (but for teams of threads and self-tests) or checks: sizes, token ids and alignment are the caller's duty,
 * as `neuralcore.embedding.backends.native` fulfils it. All arrays are dense and row by row.
 *
 * Numbers in INT8. A product is y = x @ w + b with
 *
 *     (x H)[r][k]     ~ row_scale[r] * (q[r][k] - row_zero[r])     q: NC_LOWEST to NC_HIGHEST, for each token by itself
 *     (H^-1 w)[k][c]  ~ column_scale[c] * weight[k][c]             weight: -127 to 127
 *
 * where H is Sylvester's Hadamard matrix of 1 and -1, in blocks of the greatest power of two that divides n_in, NC_BLOCK at most:
 *
 *     y[r][c] = row_scale[r] * column_scale[c] * (sum_k q[r][k] weight[k][c] - row_zero[r] * column_sum[c]) + bias[c]
 *
 * The sum is exact: |q| <= 96, |weight| <= 127, and n_in <= 2^16 keep it below 2^31. So a row's result depends neither on the
 * rows beside it nor on how the work is cut.
 *
 * Attention takes what qkv gives as integers, too, of each token and head by itself: queries and keys of -127 to 127 with a scale,
 * values of -2047 to 2047 with a power of two from 2^-30 to 2^30. Weights of the softmax, each with its value's power in it, are
 * rounded to 1 / 8190 of the largest among 128 keys, and both sums are exact.
 *
 * In the other precisions a sum runs over k in one order, whatever stands beside a row: fp32 and fp16 multiply and add in fp32
 * (halves are widened), bf16 multiplies rounded inputs (to nearest, ties to even) and adds in fp32.
 */
#ifndef NEURALCORE_H
#define NEURALCORE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NC_API __attribute__((visibility("default")))
#define NC_ABI_VERSION 5
#define NC_PANEL 16 /* columns of a panel of packed weights */
#define NC_GROUP 4  /* neighbours in k that lie side by side in it, of INT8 */
#define NC_BLOCK 128

/* AVX2 without VNNI adds four products in 16 bits: of k = 8 i + 2 j + {0, 1, 4, 5}, j 0 or 1. They fit there since activations
   have 191 steps, and four such weights of a column add up to NC_FOUR at most, the positive and the negative ones apart:
   191 * 171 < 2^15. Fewer steps make activations coarser, more make weights so; 191 gave the least error. */
#define NC_LOWEST (-96)
#define NC_HIGHEST 95
#define NC_FOUR 171

/* How the weights of products and the table of words are kept. */
enum nc_precision { NC_INT8 = 0, NC_FP32 = 1, NC_FP16 = 2, NC_BF16 = 3 };
/* What a norm does: NC_LAYER_NORM (x - mean) / sqrt(variance + epsilon) * weight + bias,
                     NC_RMS_NORM   x / sqrt(mean(x^2) + epsilon) * weight + bias. */
enum nc_norm_kind { NC_LAYER_NORM = 0, NC_RMS_NORM = 1 };
/* The first four: of feed-forward networks and steps after pooling; all: of the latter. */
enum nc_activation { NC_GELU = 0, NC_GELU_TANH = 1, NC_RELU = 2, NC_SILU = 3, NC_IDENTITY = 4, NC_TANH = 5, NC_SIGMOID = 6 };
/* NC_POOL_WEIGHTED: token i of 1 to n by i over the sum of them all; NC_POOL_ROOT: the sum over the root of n. */
enum nc_pooling { NC_POOL_CLS = 0, NC_POOL_MEAN = 1, NC_POOL_MAX = 2, NC_POOL_LAST = 3, NC_POOL_WEIGHTED = 4, NC_POOL_ROOT = 5 };

/* A packed product. n_in and n_out are multiples of 16. Without a weight there is no product. */
typedef struct nc_product {
    const void *weight;          /* [n_out / 16][n_in / group][16][group]; group: 4 of INT8, 2 of bf16, else 1 */
    const float *column_scale;   /* [n_out], of INT8 alone */
    const int32_t *column_sum;   /* [n_out], of the integers, of INT8 alone */
    const float *bias;           /* [n_out] */
    int32_t n_in, n_out;
} nc_product;

/* Without a weight there is no norm; the bias may be NULL. */
typedef struct nc_norm {
    const float *weight, *bias;
} nc_norm;

/* Where the norms of a sublayer f stand: x = after(x + inner(f(before(x)))). */
typedef struct nc_norms {
    nc_norm before, inner, after;
} nc_norms;

/* Each head: softmax(query key^T + distance bias) value. Query head i reads key head i / (n_heads / n_key_heads).
 *
 * Queries come with the scale of the scores in them, from qkv or from query_norm. Query j sees the keys from j - window to
 * j + window, with `causal` to j. */
typedef struct nc_attention {
    nc_product qkv;              /* hidden to (n_heads + 2 n_key_heads) * head_size: queries, keys, values */
    nc_product out;              /* n_heads * head_size to hidden */
    nc_norm query_norm, key_norm, value_norm; /* [head_size], of each head, before its positions */
    const float *cosines, *sines;/* [max_positions][head_size / 2], rotary, or NULL */
    int32_t n_heads, n_key_heads, head_size; /* head_size is a multiple of 16, 1024 at most */
    int32_t causal;
    int32_t window;              /* NC_UNBOUNDED: all keys */
} nc_attention;

#define NC_UNBOUNDED (-1)

typedef struct nc_layer {
    nc_attention attention;
    nc_norms attention_norms;
    nc_product up;               /* hidden to wide */
    nc_product gate;             /* the same: down(up(x) * activation(gate(x))); else down(activation(up(x))) */
    nc_product down;             /* wide to hidden */
    nc_norms feed_forward_norms;
} nc_layer;

/* A step after pooling, in fp32: y = activation(x @ weight + bias), and with `is_residual` + x @ residual, or + x without one.
 * Sums have one order, whatever stands beside a text. */
typedef struct nc_dense {
    const float *weight;         /* [n_in][n_out], of any size */
    const float *bias;           /* [n_out], or NULL */
    const float *residual;       /* [n_in][n_out], or NULL; then n_in = n_out */
    int32_t n_in, n_out, activation, is_residual;
} nc_dense;

/* x = norm(words[id] * word_scale[id] + positions[position]) (without a scale: of 1), the layers, end_norm(x); the poolings of it side by side; the
 * steps; and unit length. */
typedef struct nc_model {
    const void *words;           /* [vocabulary][hidden] */
    const float *word_scale;     /* [vocabulary], of INT8 alone */
    const float *positions;      /* [positions][hidden], or NULL */
    const float *distance_bias;  /* [heads][2 * max_positions - 1], by key - query, or NULL; in every layer */
    nc_norm embedding_norm, end_norm;
    const nc_layer *layers;
    const int32_t *poolings;     /* [n_poolings] */
    const nc_dense *dense;       /* [n_dense]; the first one's n_in is n_poolings * hidden */
    float epsilon;               /* of every norm */
    int32_t n_layers, n_poolings, n_dense;
    int32_t hidden, max_positions;
    int32_t norm, activation, normalize;
    int32_t word_precision;      /* nc_precision of words: NC_INT8, NC_FP32 or NC_FP16 */
} nc_model;

/* Texts one after the other. */
typedef struct nc_batch {
    const int32_t *ids;       /* [offsets[n_texts]] */
    const int32_t *positions; /* the same: rows of nc_model.positions */
    const int64_t *offsets;   /* [n_texts + 1], from 0; no text is empty */
    int32_t n_texts;
} nc_batch;

typedef struct nc_kernels nc_kernels; /* one instruction set's, for one precision of products */
typedef struct nc_team nc_team;       /* threads that work on one batch together */

NC_API int32_t nc_abi_version(void);

/* Names of the instruction sets compiled in, best first, separated by spaces. */
NC_API const char *nc_compiled(void);

/* Kernels of an instruction set; NULL if it was not compiled, does not know the precision, or this CPU lacks it. */
NC_API const nc_kernels *nc_find(const char *name, int32_t precision);

/* Whether an instruction set computes right on this CPU: a small product of random numbers equals plain loops', exactly. It takes
 * some 50 microseconds. Who uses kernels without it trusts the CPU, the hypervisor or the emulator. */
NC_API int32_t nc_self_test(const nc_kernels *kernels);

/* Operations a second (a multiplication and an addition are two) of a small product on this thread; it takes some 300
 * microseconds. */
NC_API double nc_measure(const nc_kernels *kernels);

/* Bytes of working memory for a batch; the memory must be aligned to 64 bytes. */
NC_API size_t nc_workspace_bytes(const nc_kernels *kernels, const nc_model *model, int64_t n_tokens, int64_t n_texts,
                                 int64_t longest, int32_t n_threads);

/* Where time goes. Steps of the encoder, and the cycles (of the time stamp counter, summed over threads) that each took since
 * the count was switched on; off by default. */
enum nc_stage { NC_STAGE_EMBED, NC_STAGE_PROJECT, NC_STAGE_ATTEND, NC_STAGE_OUT, NC_STAGE_EXPAND, NC_STAGE_SETTLE,
                NC_STAGE_DOWN, NC_STAGE_PREPARE, NC_STAGE_POOL, NC_N_STAGES };
NC_API void nc_count_cycles(int32_t on);
NC_API void nc_read_cycles(int64_t *cycles); /* [NC_N_STAGES] */

/* A team of the calling thread and n_threads - 1 more, which start when it is first used; NULL without memory.
 *
 * It is taken and given back inside nc_encode, so nothing that happens between two calls can leave it taken. In a forked child,
 * where its threads are not, a team of the parent's does nothing, and stopping or freeing it returns at once. */
NC_API nc_team *nc_make_team(int32_t n_threads);

/* Wait until nobody uses the team, and end its threads. Twice is fine; calls that come later do without it. */
NC_API void nc_stop_team(nc_team *team);

/* The same, and its memory: nobody may use it any more. */
NC_API void nc_free_team(nc_team *team);

/* Vectors of a batch: out is float [n_texts][n_out of the last step, else n_poolings * hidden], workspace what nc_workspace_bytes
 * says for the team's threads. team may be NULL; if another caller has it, the calling thread works alone. Returns 0, or 1 if the
 * team's threads cannot be started: then out holds nothing. */
NC_API int32_t nc_encode(const nc_kernels *kernels, const nc_model *model, const nc_batch *batch, float *out, void *workspace,
                         nc_team *team);

#ifdef __cplusplus
}
#endif
#endif
