"""What LLaMA's relatives share: norms before sublayers, grouped heads, a gated network, and the names of it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from ..documents import Document
from .architecture import read_activation, read_epsilon, read_size
from .checkpoint import Checkpoint
from .reading import read_linear, read_norm
from .rotary import read_positions
from .stack import Attention, Embeddings, End, Layer, Linear, Norm, Norms, Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """The sizes of attention.

    Args:
        n_heads: of queries.
        n_key_heads: of keys and values.
        head_size: components of one.
    """

    n_heads: int
    n_key_heads: int
    head_size: int

    @classmethod
    def of(cls, config: Document, *, head_size: int | None = None) -> Self:
        """Read them.

        Args:
            config: config.json.
            head_size: where config.json has none; None if it has to.

        Raises:
            ModelCorrupt: a value that cannot be one.
        """
        n_heads = read_size(config, "num_attention_heads")
        n_key_heads = read_size(config, "num_key_value_heads", n_heads)
        if n_heads % n_key_heads:
            raise config.refused("num_key_value_heads", f"a divisor of num_attention_heads={n_heads}")
        return cls(n_heads=n_heads, n_key_heads=n_key_heads, head_size=read_size(config, "head_dim", head_size))


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Which parts a decoder has, and what of them have a bias.

    Args:
        input_bias: of queries, keys and values.
        out_bias: of what is made of their result.
        wide_bias: of the feed-forward network.
        head_norms: whether the heads of queries and keys have norms.
        inner_norms: whether sublayers have norms behind them, too.
        plus_one: whether norms multiply by 1 + weight.
    """

    input_bias: bool = False
    out_bias: bool = False
    wide_bias: bool = False
    head_norms: bool = False
    inner_norms: bool = False
    plus_one: bool = False


def decoder_stack(
    config: Document,
    checkpoint: Checkpoint,
    parts: Parts,
    attentions: Sequence[Attention],
    *,
    activation: str,
    word_scale: float = 1.0,
) -> Stack:
    """The whole encoder.

    Args:
        config: config.json.
        checkpoint: the weights.
        parts: which parts there are.
        attentions: of each layer, all of the same sizes.
        activation: the key that names it.
        word_scale: see `Stack`.
    """
    hidden, wide = read_size(config, "hidden_size"), read_size(config, "intermediate_size")
    n_words = read_size(config, "vocab_size")
    head_size = attentions[0].head_size
    n_query, n_key = (n_heads * head_size for n_heads in (attentions[0].n_heads, attentions[0].n_key_heads))

    def norm(name: str, size: int = hidden) -> Norm:
        return read_norm(checkpoint, name, size=size, bias=False, plus_one=parts.plus_one)

    def read_layer(number: int) -> Layer:
        prefix = f"layers.{number}"

        def linear(name: str, n_in: int, n_out: int, *, bias: bool) -> Linear:
            return read_linear(checkpoint, f"{prefix}.{name}_proj", n_in=n_in, n_out=n_out, bias=bias)

        def norms(before: str, inner: str) -> Norms:
            after = norm(f"{prefix}.{inner}_layernorm") if parts.inner_norms else None
            return Norms(before=norm(f"{prefix}.{before}_layernorm"), inner=after)

        second = "pre_feedforward" if parts.inner_norms else "post_attention"
        return Layer(
            query=linear("self_attn.q", hidden, n_query, bias=parts.input_bias),
            key=linear("self_attn.k", hidden, n_key, bias=parts.input_bias),
            value=linear("self_attn.v", hidden, n_key, bias=parts.input_bias),
            out=linear("self_attn.o", n_query, hidden, bias=parts.out_bias),
            query_norm=norm(f"{prefix}.self_attn.q_norm", head_size) if parts.head_norms else None,
            key_norm=norm(f"{prefix}.self_attn.k_norm", head_size) if parts.head_norms else None,
            attention_norms=norms("input", "post_attention"),
            up=linear("mlp.up", hidden, wide, bias=parts.wide_bias),
            gate=linear("mlp.gate", hidden, wide, bias=parts.wide_bias),
            down=linear("mlp.down", wide, hidden, bias=parts.wide_bias),
            feed_forward_norms=norms(second, "post_feedforward"),
        )

    return Stack(
        hidden=hidden,
        wide=wide,
        max_positions=read_positions(config),
        norm="rms",
        epsilon=read_epsilon(config, "rms_norm_eps"),
        activation=read_activation(config, activation),
        gated=True,
        attentions=tuple(attentions),
        read_embeddings=lambda: Embeddings(words=checkpoint.read("embed_tokens.weight", shape=(n_words, hidden))),
        read_layer=read_layer,
        read_end=lambda: End(norm=norm("norm")),
        word_scale=word_scale,
    )
