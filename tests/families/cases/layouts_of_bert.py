"""Folders of BERT's relatives laid out as published models are: what their files say beside sizes."""

from functools import partial
from typing import Any

from tests.families import Case
from tests.families.cases.bert_like import EVEN, distilbert_config, draw_bert, draw_distilbert, draw_head
from tests.families.cases.gte import code_config, draw_gte
from tests.families.checkpoints import Draw

_TANH = "torch.nn.modules.activation.Tanh"
_OF_BERT: dict[str, Any] = {
    "attention_probs_dropout_prob": 0.1,
    "classifier_dropout": None,
    "gradient_checkpointing": False,
    "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "position_embedding_type": "absolute",
    "transformers_version": "4.29.0",
    "use_cache": True,
}
_OF_XLM_ROBERTA = _OF_BERT | {"bos_token_id": 0, "eos_token_id": 2, "output_past": True, "pad_token_id": 1}
_MASK = {"content": "<mask>", "lstrip": True, "normalized": True, "rstrip": False, "single_word": False}
_XLM_ROBERTA_TOKENS: dict[str, Any] = {
    "tokenizer_class": "XLMRobertaTokenizer",
    "bos_token": "<s>",
    "clean_up_tokenization_spaces": True,
    "cls_token": "<s>",
    "eos_token": "</s>",
    "mask_token": {"__type": "AddedToken", **_MASK},
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "sp_model_kwargs": {},
    "unk_token": "<unk>",
}
_CASED_TOKENS: dict[str, Any] = {
    "tokenizer_class": "BertTokenizer",
    "do_basic_tokenize": True,
    "do_lower_case": False,
    "full_tokenizer_file": None,
    "mask_token": "[MASK]",
    "model_max_length": 512,
    "never_split": None,
    "special_tokens_map_file": "labse-pytorch/special_tokens_map.json",
    "strip_accents": None,
    "tokenize_chinese_chars": True,
}


def _pooling(mode: str) -> dict[str, Any]:
    """The flags of a pooling file of 2021."""
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    flags = {f"pooling_mode_{name}": name == mode for name in modes}
    return {"1_Pooling/config.json": {"word_embedding_dimension": EVEN.hidden, **flags}}


def _settings(**others: Any) -> dict[str, Any]:
    """The settings of sentence-transformers, which had versions only before version 2.3."""
    versions = {"sentence_transformers": "2.0.0", "transformers": "4.7.0", "pytorch": "1.9.0+cu102"}
    return {"config_sentence_transformers.json": {"__version__": versions, **others}}


def _draw_pooler(draw: Draw) -> None:
    draw.linear("pooler.dense", EVEN.hidden, EVEN.hidden)


_bert = partial(draw_bert, sizes=EVEN, n_types=2)
_xlm_roberta = partial(draw_bert, sizes=EVEN, n_types=1)

CASES = [
    Case(
        name="multilingual_e5_small",
        config=EVEN.config(
            "bert",
            **_OF_BERT | {"architectures": ["BertModel"], "pad_token_id": 0, "tokenizer_class": "XLMRobertaTokenizer"},
        )
        | {"type_vocab_size": 2, "layer_norm_eps": 1e-12},
        draw=_bert,
        tokenizer="unigram",
        settings=_XLM_ROBERTA_TOKENS | {"model_max_length": 1000000000000000019884624838656},
        files=_pooling("mean_tokens"),
        unread=_draw_pooler,
        is_native=True,
    ),
    Case(
        name="multilingual_e5_large",
        config=EVEN.config("xlm-roberta", architectures=["XLMRobertaModel"], **_OF_XLM_ROBERTA),
        draw=_xlm_roberta,
        tokenizer="unigram",
        settings=_XLM_ROBERTA_TOKENS | {"model_max_length": 512},
        files=_pooling("mean_tokens"),
        unread=_draw_pooler,
        is_native=True,
    ),
    Case(
        name="bge_m3",
        config=EVEN.config("xlm-roberta", architectures=["XLMRobertaModel"], torch_dtype="float32", **_OF_XLM_ROBERTA),
        draw=_xlm_roberta,
        tokenizer="unigram",
        pooling="cls",
        settings=_XLM_ROBERTA_TOKENS
        | {
            "added_tokens_decoder": {
                str(number): {
                    "content": token,
                    **dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False),
                }
                | {"special": True}
                for number, token in enumerate(("<s>", "<pad>", "</s>", "<unk>"))
            },
            "mask_token": "<mask>",
            "model_max_length": 8192,
        },
        files=_pooling("cls_token") | _settings(),
        is_native=True,
    ),
    Case(
        name="paraphrase_multilingual_minilm",
        config=EVEN.config("bert", architectures=["BertModel"], pad_token_id=0, **_OF_BERT)
        | {"type_vocab_size": 2, "layer_norm_eps": 1e-12},
        draw=_bert,
        tokenizer="unigram",
        normalize=False,
        settings={key: value for key, value in _XLM_ROBERTA_TOKENS.items() if key != "tokenizer_class"}
        | {"do_lower_case": True, "model_max_length": 512, "strip_accents": None, "tokenize_chinese_chars": True},
        files=_pooling("mean_tokens") | _settings(),
        is_native=True,
    ),
    Case(
        name="paraphrase_multilingual_mpnet",
        config=EVEN.config("xlm-roberta", architectures=["XLMRobertaModel"], **_OF_XLM_ROBERTA),
        draw=_xlm_roberta,
        tokenizer="unigram",
        normalize=False,
        settings=_XLM_ROBERTA_TOKENS | {"model_max_length": 512, "special_tokens_map_file": None},
        files=_pooling("mean_tokens") | _settings(),
        is_native=True,
    ),
    Case(
        name="all_distilroberta",
        config=EVEN.config(
            "roberta", architectures=["RobertaForMaskedLM"], bos_token_id=0, eos_token_id=2, pad_token_id=1, **_OF_BERT
        ),
        draw=_xlm_roberta,
        tokenizer="byte_level",
        settings={
            "tokenizer_class": "RobertaTokenizer",
            "add_prefix_space": False,
            "bos_token": "<s>",
            "eos_token": "</s>",
            "errors": "replace",
            "mask_token": "<mask>",
            "model_max_length": 512,
            "special_tokens_map_file": None,
            "trim_offsets": True,
        },
        files=_pooling("mean_tokens") | _settings(),
        prefix="roberta.",
        unread=partial(draw_head, name="lm_head", size=EVEN.hidden),
        is_native=True,
    ),
    Case(
        name="sentence_camembert",
        config=EVEN.config("camembert", architectures=["CamembertModel"], **_OF_BERT | {"bos_token_id": 5})
        | {"eos_token_id": 6, "output_past": True, "pad_token_id": 1},
        draw=_xlm_roberta,
        tokenizer="unigram_camembert",
        normalize=False,
        settings={
            "tokenizer_class": "CamembertTokenizer",
            "additional_special_tokens": ["<s>NOTUSED", "</s>NOTUSED"],
            "bos_token": "<s>",
            "eos_token": "</s>",
            "mask_token": {"__type": "AddedToken", **_MASK},
            "model_max_length": 512,
            "sp_model_kwargs": {},
        },
        files=_pooling("mean_tokens") | _settings(),
        is_native=True,
    ),
    Case(
        name="distiluse",
        config=distilbert_config(EVEN)
        | {"architectures": ["DistilBertModel"], "attention_dropout": 0.1, "dropout": 0.1, "qa_dropout": 0.1}
        | {"output_hidden_states": True, "output_past": True, "seq_classif_dropout": 0.2},
        draw=partial(draw_distilbert, sizes=EVEN),
        tokenizer="word_piece",
        normalize=False,
        dense=[(48, _TANH)],
        settings=_CASED_TOKENS,
        files=_pooling("mean_tokens") | _settings(),
        is_native=True,
    ),
    Case(
        name="labse",
        config=EVEN.config("bert", architectures=["BertModel"], directionality="bidi", pad_token_id=0, **_OF_BERT)
        | {"type_vocab_size": 2, "layer_norm_eps": 1e-12, "pooler_fc_size": 768, "pooler_num_attention_heads": 12}
        | {"pooler_num_fc_layers": 3, "pooler_size_per_head": 128, "pooler_type": "first_token_transform"},
        draw=_bert,
        tokenizer="word_piece",
        pooling="cls",
        dense=[(EVEN.hidden, _TANH)],
        settings=_CASED_TOKENS,
        files=_pooling("cls_token") | _settings(),
        unread=_draw_pooler,
        is_native=True,
    ),
    Case(
        name="arctic_embed_m_v2",
        config=EVEN.config(
            "gte",
            architectures=["GteModel"],
            auto_map={"AutoConfig": "configuration_hf_alibaba_nlp_gte.GteConfig"},
            layer_norm_type="layer_norm",
            logn_attention_clip1=False,
            logn_attention_scale=False,
            pack_qkv=True,
            pad_token_id=1,
            position_embedding_type="rope",
            rope_scaling=None,
            rope_theta=160000,
            unpad_inputs="true",
            use_memory_efficient_attention="true",
        ),
        draw=partial(draw_gte, sizes=EVEN),
        tokenizer="unigram",
        pooling="cls",
        settings=_XLM_ROBERTA_TOKENS | {"model_max_length": 32768},
        files=_pooling("cls_token") | _settings(prompts={"query": "query: "}, default_prompt_name=None),
        is_native=True,
    ),
    Case(
        name="gte_multilingual",
        config=code_config(EVEN, pad_token_id=1, rope_theta=20000, rope_scaling={"factor": 8.0, "type": "ntk"}),
        reference=EVEN.config(
            "gte",
            layer_norm_eps=1e-12,
            rope_parameters={"rope_type": "linear", "rope_theta": 8.0 * 20000, "factor": 8.0 ** (2 / 16)},
        ),
        draw=partial(draw_gte, sizes=EVEN),
        tokenizer="unigram",
        pooling="cls",
        settings=_XLM_ROBERTA_TOKENS | {"model_max_length": 32768},
        files=_pooling("cls_token"),
        prefix="new.",
        unread=partial(draw_head, name="classifier", size=EVEN.hidden),
        is_native=True,
    ),
]
