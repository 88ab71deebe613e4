"""How long a text may be, against what transformers' own models take."""

from pathlib import Path

import pytest

from neuralcore.embedding.documents import Document
from neuralcore.embedding.families.positions import count_positions

pytestmark = pytest.mark.full

ROWS, VOCABULARY = 20, 40
SMALL = {
    "vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 16, "max_position_embeddings": ROWS,
}  # fmt: skip
FAMILIES = {
    "bert": {}, "camembert": {}, "data2vec-text": {}, "distilbert": {}, "electra": {}, "ibert": {}, "mpnet": {},
    "esm": {"mask_token_id": 32, "position_embedding_type": "absolute"},
    "longformer": {"attention_window": 4},
    "luke": {"entity_vocab_size": 10, "entity_emb_size": 16},
    "nystromformer": {"segment_means_seq_len": ROWS, "num_landmarks": 2},
    "roberta": {}, "roberta-prelayernorm": {}, "xlm-roberta": {}, "xlm-roberta-xl": {},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
}  # fmt: skip


def takes(model, n_tokens, pad_id):
    import torch

    ids = torch.full((1, n_tokens), 7 if pad_id != 7 else 8)
    try:
        with torch.no_grad():
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (IndexError, RuntimeError):
        return False
    return True


@pytest.mark.parametrize("pad_id", [None, 0, 1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_longest_text_is_what_transformers_takes(family, pad_id):
    import transformers

    own = {} if pad_id is None else {"pad_token_id": pad_id}
    if family == "esm" and pad_id is None:
        pytest.skip("has no default, and transformers fails without one")
    config = transformers.AutoConfig.for_model(family, **SMALL, **FAMILIES[family], **own)
    model = transformers.AutoModel.from_config(config, attn_implementation="eager").eval()
    said = {"model_type": family, "max_position_embeddings": ROWS, **own}
    longest = count_positions(Document(Path("config.json"), said))
    assert takes(model, longest, pad_id)
    assert not takes(model, longest + 1, pad_id)
