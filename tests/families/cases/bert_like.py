"""BERT, and the families that are BERT under other names."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.families import Case
from tests.families.checkpoints import Draw
from tests.families.texts import LIMIT
from tests.families.tokenizers import SIZE


@dataclass(frozen=True)
class Sizes:
    """The sizes of an encoder."""

    hidden: int
    wide: int
    n_heads: int
    n_layers: int = 2
    n_positions: int = 64

    def config(self, model_type: str, **others: Any) -> dict[str, Any]:
        """As BERT's config.json says them."""
        return {
            "model_type": model_type,
            "vocab_size": SIZE,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "intermediate_size": self.wide,
            "hidden_act": "gelu",
            "max_position_embeddings": self.n_positions,
            "layer_norm_eps": 1e-5,
            "type_vocab_size": 1,
            **others,
        }


ODD = Sizes(hidden=36, wide=60, n_heads=3)
"""Three heads, and sizes that no block of a kernel has."""
EVEN = Sizes(hidden=64, wide=128, n_heads=4)
"""Multiples of 16."""


def draw_bert(draw: Draw, *, sizes: Sizes, n_types: int) -> None:
    """The names of BERT and RoBERTa."""
    for name, rows in (("word", SIZE), ("position", sizes.n_positions), ("token_type", n_types)):
        draw.table(f"embeddings.{name}_embeddings", rows, sizes.hidden)
    draw.norm("embeddings.LayerNorm", sizes.hidden)
    for number in range(sizes.n_layers):
        layer = f"encoder.layer.{number}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            draw.linear(f"{layer}.attention.{part}", sizes.hidden, sizes.hidden)
        draw.norm(f"{layer}.attention.output.LayerNorm", sizes.hidden)
        draw.linear(f"{layer}.intermediate.dense", sizes.hidden, sizes.wide)
        draw.linear(f"{layer}.output.dense", sizes.wide, sizes.hidden)
        draw.norm(f"{layer}.output.LayerNorm", sizes.hidden)


def draw_distilbert(draw: Draw, *, sizes: Sizes) -> None:
    """The names of DistilBERT."""
    for name, rows in (("word", SIZE), ("position", sizes.n_positions)):
        draw.table(f"embeddings.{name}_embeddings", rows, sizes.hidden)
    draw.norm("embeddings.LayerNorm", sizes.hidden)
    for number in range(sizes.n_layers):
        layer = f"transformer.layer.{number}"
        for part in ("q_lin", "k_lin", "v_lin", "out_lin"):
            draw.linear(f"{layer}.attention.{part}", sizes.hidden, sizes.hidden)
        draw.norm(f"{layer}.sa_layer_norm", sizes.hidden)
        draw.linear(f"{layer}.ffn.lin1", sizes.hidden, sizes.wide)
        draw.linear(f"{layer}.ffn.lin2", sizes.wide, sizes.hidden)
        draw.norm(f"{layer}.output_layer_norm", sizes.hidden)


def distilbert_config(sizes: Sizes) -> dict[str, Any]:
    """What DistilBERT calls its sizes."""
    return {
        "model_type": "distilbert",
        "vocab_size": SIZE,
        "dim": sizes.hidden,
        "n_layers": sizes.n_layers,
        "n_heads": sizes.n_heads,
        "hidden_dim": sizes.wide,
        "activation": "gelu",
        "max_position_embeddings": sizes.n_positions,
        "sinusoidal_pos_embds": False,
        "tie_weights_": True,
        "pad_token_id": 0,
    }


def draw_head(draw: Draw, *, name: str, size: int) -> None:
    """What a task model has besides, in its own names."""
    draw.linear(f"{name}.dense", size, size)
    draw.norm(f"{name}.layer_norm", size)
    draw.normal(f"{name}.bias", SIZE, scale=1.0)


def _of(sizes: Sizes, n_types: int = 1) -> Callable[[Draw], None]:
    return partial(draw_bert, sizes=sizes, n_types=n_types)


CASES = [
    Case(
        name="bert_odd",
        config=ODD.config("bert", pad_token_id=0, type_vocab_size=2, layer_norm_eps=1e-12),
        draw=_of(ODD, 2),
        tokenizer="word_piece",
        pooling="cls",
        normalize=False,
    ),
    Case(
        name="bert_unigram",  # multilingual-e5-small and paraphrase-multilingual-MiniLM: BERT with XLM-R's words
        config=EVEN.config("bert", pad_token_id=0, type_vocab_size=2, layer_norm_eps=1e-12),
        draw=_of(EVEN, 2),
        tokenizer="unigram",
        is_native=True,
    ),
    Case(
        name="xlm_roberta_odd",
        config=ODD.config("xlm-roberta", pad_token_id=1),
        draw=_of(ODD),
        tokenizer="unigram",
        normalize=False,
    ),
    Case(
        name="xlm_roberta",
        config=EVEN.config("xlm-roberta", pad_token_id=1, max_position_embeddings=LIMIT + 2),
        draw=_of(Sizes(EVEN.hidden, EVEN.wide, EVEN.n_heads, n_positions=LIMIT + 2)),
        tokenizer="unigram",
        pooling="cls",
        is_native=True,
        prefix="roberta.",
        unread=partial(draw_head, name="lm_head", size=EVEN.hidden),
    ),
    Case(
        name="roberta_odd",
        config=ODD.config("roberta", pad_token_id=1),
        draw=_of(ODD),
        tokenizer="byte_level",
        prefix="roberta.",
        unread=partial(draw_head, name="lm_head", size=ODD.hidden),
    ),
    Case(
        name="roberta",
        config=EVEN.config("roberta", pad_token_id=1, type_vocab_size=2, hidden_act="relu"),
        draw=_of(EVEN, 2),
        tokenizer="byte_level",
        normalize=False,
        is_native=True,
    ),
    Case(
        name="camembert_odd",
        config=ODD.config("camembert", pad_token_id=1, hidden_act="gelu_new"),
        draw=_of(ODD),
        tokenizer="unigram",
        pooling="max",
        prefix="roberta.",
    ),
    Case(
        name="camembert",
        config=EVEN.config("camembert", pad_token_id=3),  # where positions count from is what config.json says
        draw=_of(EVEN),
        tokenizer="unigram",
        normalize=False,
        is_native=True,
    ),
    Case(
        name="distilbert_odd",
        config=distilbert_config(ODD) | {"sinusoidal_pos_embds": True},  # how positions began: the file has them
        draw=partial(draw_distilbert, sizes=ODD),
        tokenizer="word_piece",
        prefix="distilbert.",
        unread=partial(draw_head, name="vocab_transform", size=ODD.hidden),
    ),
    Case(
        name="distilbert",
        config=distilbert_config(EVEN),
        draw=partial(draw_distilbert, sizes=EVEN),
        tokenizer="word_piece",
        normalize=False,
        is_native=True,
    ),
]
