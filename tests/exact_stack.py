"""A `Stack` computed in float64, a token and a head at a time, from what families/stack.py says in words."""

from math import cos, erf, exp, sin, sqrt, tanh

import numpy as np

ACTIVATIONS = {
    "gelu": lambda x: 0.5 * x * (1 + erf(x / sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + tanh(sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: max(x, 0.0),
    "silu": lambda x: x / (1 + exp(-x)),
}


def exact_states(stack, ids):
    """The last token vectors of one text, float64 (tokens, size)."""
    embeddings, end = stack.read_embeddings(), stack.read_end()
    rows = _embedded(stack, embeddings, ids)
    for number, attention in enumerate(stack.attentions):
        layer = stack.read_layer(number)
        before = [_normed(stack, layer.attention_norms.before, row) for row in rows]
        attended = _attended(stack, attention, layer, embeddings.distance_bias, before)
        rows = _added(stack, layer.attention_norms, rows, [_product(layer.out, row) for row in attended])
        before = [_normed(stack, layer.feed_forward_norms.before, row) for row in rows]
        rows = _added(stack, layer.feed_forward_norms, rows, [_fed_forward(stack, layer, row) for row in before])
    return np.stack([_product(end.projection, _normed(stack, end.norm, row)) for row in rows])


def _embedded(stack, embeddings, ids):
    rows, n_counted = [], 0
    for index, token in enumerate(ids):
        row = embeddings.words[token].astype(np.float64) * stack.word_scale
        is_pad = stack.pad_position is not None and token == stack.pad_position
        n_counted += not is_pad
        position = index if stack.pad_position is None else stack.pad_position + (0 if is_pad else n_counted)
        if embeddings.positions is not None:
            row = row + embeddings.positions[position]
        rows.append(_product(embeddings.projection, _normed(stack, embeddings.norm, row)))
    return rows


def _product(linear, x):
    if linear is None:
        return x
    y = x @ linear.weight.astype(np.float64)
    return y if linear.bias is None else y + linear.bias


def _normed(stack, norm, x):
    if norm is None:
        return x
    if stack.norm == "layer":
        x = x - x.mean()
    y = x / sqrt((x * x).mean() + stack.epsilon) * norm.weight
    return y if norm.bias is None else y + norm.bias


def _added(stack, norms, rows, results):
    sums = [row + _normed(stack, norms.inner, result) for row, result in zip(rows, results, strict=True)]
    return [_normed(stack, norms.after, row) for row in sums]


def _fed_forward(stack, layer, x):
    act = ACTIVATIONS[stack.activation]
    up = _product(layer.up, x)
    if layer.gate is None:
        return _product(layer.down, np.array([act(value) for value in up]))
    gate = np.array([act(value) for value in _product(layer.gate, x)])
    return _product(layer.down, gate * up)


def _attended(stack, attention, layer, distance_bias, rows):
    size, n_tokens = attention.head_size, len(rows)
    n_readers = attention.n_heads // attention.n_key_heads

    def heads(linear, norm, n_heads, *, turned):
        found = {}
        for token, row in enumerate(rows):
            for head, part in enumerate(np.split(_product(linear, row), n_heads)):
                normed = _normed(stack, norm, part)
                found[head, token] = _turned(attention.rotary, token, normed) if turned else normed
        return found

    queries = heads(layer.query, layer.query_norm, attention.n_heads, turned=True)
    keys = heads(layer.key, layer.key_norm, attention.n_key_heads, turned=True)
    values = heads(layer.value, layer.value_norm, attention.n_key_heads, turned=False)
    results = np.zeros((n_tokens, attention.n_heads * size))
    for head in range(attention.n_heads):
        for query in range(n_tokens):
            weights = {}
            for key in range(n_tokens):
                if attention.causal and key > query:
                    continue
                if attention.window is not None and abs(key - query) > attention.window:
                    continue
                score = queries[head, query] @ keys[head // n_readers, key] * attention.scale
                if distance_bias is not None:
                    score += distance_bias[head, key - query + stack.max_positions - 1]
                weights[key] = exp(score)
            mean = sum(weight * values[head // n_readers, key] for key, weight in weights.items())
            results[query, head * size : (head + 1) * size] = mean / sum(weights.values())
    return results


def _turned(rotary, position, x):
    if rotary is None:
        return x
    half, y = rotary.size // 2, x.copy()
    for i in range(half):
        angle = position * rotary.theta ** (-2 * i / rotary.size)
        y[i] = x[i] * cos(angle) - x[i + half] * sin(angle)
        y[i + half] = x[i + half] * cos(angle) + x[i] * sin(angle)
    return y
