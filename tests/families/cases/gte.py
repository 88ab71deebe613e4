"""GTE, under the names of transformers and of the code on the Hub; and what differs from it by its network."""

from functools import partial
from typing import Any

from tests.families import Case
from tests.families.cases.bert_like import EVEN, ODD, Sizes, draw_head
from tests.families.checkpoints import Draw
from tests.families.tokenizers import SIZE


def draw_gte(draw: Draw, *, sizes: Sizes, n_types: int = 1) -> None:
    """The names of both."""
    draw.table("embeddings.word_embeddings", SIZE, sizes.hidden)
    if n_types:
        draw.table("embeddings.token_type_embeddings", n_types, sizes.hidden)
    draw.norm("embeddings.LayerNorm", sizes.hidden)
    for number in range(sizes.n_layers):
        layer = f"encoder.layer.{number}"
        draw.linear(f"{layer}.attention.qkv_proj", sizes.hidden, 3 * sizes.hidden)
        draw.linear(f"{layer}.attention.o_proj", sizes.hidden, sizes.hidden)
        draw.norm(f"{layer}.attn_ln", sizes.hidden)
        draw.linear(f"{layer}.mlp.up_gate_proj", sizes.hidden, 2 * sizes.wide, bias=False)
        draw.linear(f"{layer}.mlp.down_proj", sizes.wide, sizes.hidden)
        draw.norm(f"{layer}.mlp_ln", sizes.hidden)


def draw_in_memory(draw: Draw, *, sizes: Sizes) -> None:
    """The names that transformers' class has while it runs."""
    for name, rows in (("word", SIZE), ("token_type", 1)):
        draw.table(f"embeddings.{name}_embeddings", rows, sizes.hidden)
    draw.norm("embeddings.LayerNorm", sizes.hidden)
    for number in range(sizes.n_layers):
        layer = f"layers.{number}"
        for part in "qkvo":
            draw.linear(f"{layer}.self_attn.{part}_proj", sizes.hidden, sizes.hidden)
        draw.norm(f"{layer}.post_attention_layernorm", sizes.hidden)
        draw.linear(f"{layer}.mlp.gate_proj", sizes.hidden, sizes.wide, bias=False)
        draw.linear(f"{layer}.mlp.up_proj", sizes.hidden, sizes.wide, bias=False)
        draw.linear(f"{layer}.mlp.down_proj", sizes.wide, sizes.hidden)
        draw.norm(f"{layer}.post_mlp_layernorm", sizes.hidden)


def draw_jina(draw: Draw, *, sizes: Sizes) -> None:
    """The names of jina-embeddings-v3."""
    for name, rows in (("word", SIZE), ("token_type", 1)):
        draw.table(f"embeddings.{name}_embeddings", rows, sizes.hidden)
    draw.norm("emb_ln", sizes.hidden)
    for number in range(sizes.n_layers):
        layer = f"encoder.layers.{number}"
        draw.linear(f"{layer}.mixer.Wqkv", sizes.hidden, 3 * sizes.hidden)
        draw.linear(f"{layer}.mixer.out_proj", sizes.hidden, sizes.hidden)
        draw.norm(f"{layer}.norm1", sizes.hidden)
        draw.linear(f"{layer}.mlp.fc1", sizes.hidden, sizes.wide)
        draw.linear(f"{layer}.mlp.fc2", sizes.wide, sizes.hidden)
        draw.norm(f"{layer}.norm2", sizes.hidden)


def code_config(sizes: Sizes, **others: Any) -> dict[str, Any]:
    """config.json as it lies beside weights for the code on the Hub."""
    classes = {"AutoConfig": "configuration.NewConfig", "AutoModel": "modeling.NewModel"}
    return sizes.config(
        "new",
        architectures=["NewModel"],
        auto_map={name: f"Alibaba-NLP/new-impl--{place}" for name, place in classes.items()},
        layer_norm_type="layer_norm",
        layer_norm_eps=1e-12,
        position_embedding_type="rope",
        pack_qkv=True,
        unpad_inputs=False,
        use_memory_efficient_attention=False,
        logn_attention_clip1=False,
        logn_attention_scale=False,
        **others,
    )


# transformers knows no NTK scaling, but frequencies that are divided by a factor: of head size d, a factor f of the one
# is a base of f theta and a factor f^(2/d) of the other (https://kexue.fm/archives/9706, formula 6).
_NTK = {"rope_type": "linear", "rope_theta": 2.0 * 5000, "factor": 2.0 ** (2 / 16)}

CASES = [
    Case(
        name="gte_odd",
        config=ODD.config("gte", rope_parameters={"rope_type": "default", "rope_theta": 20_000.0}, pad_token_id=1),
        draw=partial(draw_gte, sizes=ODD),
        tokenizer="unigram",
        pooling="cls",
        prefix="new.",
        unread=partial(draw_head, name="lm_head", size=ODD.hidden),
    ),
    Case(
        name="gte",
        config=EVEN.config("gte", type_vocab_size=0, pad_token_id=0),
        draw=partial(draw_gte, sizes=EVEN, n_types=0),
        tokenizer="word_piece",
        normalize=False,
        is_native=True,
    ),
    Case(
        name="gte_in_memory",
        config=ODD.config("gte", hidden_act="silu", rope_theta=300.0, rope_scaling={"type": "linear", "factor": 4.0}),
        draw=partial(draw_in_memory, sizes=ODD),
        tokenizer="unigram",
        prefix="gte.",
    ),
    Case(
        name="new_odd",
        config=code_config(ODD, rope_theta=20_000.0, rope_scaling=None),
        reference=ODD.config("gte", rope_theta=20_000.0, layer_norm_eps=1e-12),
        draw=partial(draw_gte, sizes=ODD),
        tokenizer="unigram",
        pooling="cls",
    ),
    Case(
        name="new_ntk",
        config=code_config(EVEN, rope_theta=5000, rope_scaling={"factor": 2.0, "type": "ntk"}),
        reference=EVEN.config("gte", rope_parameters=_NTK, layer_norm_eps=1e-12),
        draw=partial(draw_gte, sizes=EVEN),
        tokenizer="word_piece",
        pooling="cls",
        is_native=True,
        prefix="new.",
        unread=partial(draw_head, name="classifier", size=EVEN.hidden),
    ),
    Case(
        name="jina_v3_odd",
        config=ODD.config("jina_embeddings_v3", rope_parameters={"rope_type": "default", "rope_theta": 500.0}),
        draw=partial(draw_jina, sizes=ODD),
        tokenizer="unigram",
        normalize=False,
    ),
    Case(
        name="jina_v3",
        config=EVEN.config("jina_embeddings_v3", pad_token_id=1),
        draw=partial(draw_jina, sizes=EVEN),
        tokenizer="unigram",
        prefix="roberta.",
        is_native=True,
    ),
]
