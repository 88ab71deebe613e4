"""ELECTRA: BERT, whose tables may have another width than its layers."""

from functools import partial

from tests.families import Case
from tests.families.cases.bert_like import EVEN, ODD, Sizes, draw_bert, draw_head
from tests.families.checkpoints import Draw
from tests.families.tokenizers import SIZE

_NARROW = 20


def draw_electra(draw: Draw, *, sizes: Sizes, width: int) -> None:
    """The names of ELECTRA: those of BERT, and a projection where tables have another width than layers."""
    draw_bert(draw, sizes=sizes, n_types=2)
    if width == sizes.hidden:
        return
    for name, rows in (("word", SIZE), ("position", sizes.n_positions), ("token_type", 2)):
        draw.table(f"embeddings.{name}_embeddings", rows, width)
    draw.norm("embeddings.LayerNorm", width)
    draw.linear("embeddings_project", width, sizes.hidden)


CASES = [
    Case(
        name="electra",
        config=EVEN.config("electra", embedding_size=EVEN.hidden, type_vocab_size=2, pad_token_id=0),
        draw=partial(draw_electra, sizes=EVEN, width=EVEN.hidden),
        tokenizer="word_piece",
        is_native=True,
    ),
    Case(
        name="electra_narrow",
        config=ODD.config("electra", embedding_size=_NARROW, type_vocab_size=2, pad_token_id=0),
        draw=partial(draw_electra, sizes=ODD, width=_NARROW),
        tokenizer="word_piece",
        pooling="cls",
        normalize=False,
        prefix="electra.",
        unread=partial(draw_head, name="discriminator_predictions", size=ODD.hidden),
    ),
]
