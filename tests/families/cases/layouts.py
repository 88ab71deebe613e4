"""Folders laid out as published models are: what their configurations, tokenizers and steps say beside sizes."""

from functools import partial
from typing import Any

from tests.families import Case
from tests.families.cases.decoders import draw_decoder, draw_modernbert
from tests.families.tokenizers import SIZE

_IDENTITY = "torch.nn.modules.linear.Identity"
_SIZES = {"vocab_size": SIZE, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4}


def _steps(*kinds: str) -> dict[str, Any]:
    """modules.json as sentence-transformers wrote it until version 5, and the pooling's older flags."""
    paths = ["" if kind == "Transformer" else f"{number}_{kind}" for number, kind in enumerate(kinds)]
    return {
        "modules.json": [
            {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for number, (kind, path) in enumerate(zip(kinds, paths, strict=True))
        ]
    }


def _pooling(mode: str) -> dict[str, Any]:
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    flags = {f"pooling_mode_{name}": name == mode for name in modes}
    return {"1_Pooling/config.json": {"word_embedding_dimension": 64, **flags, "include_prompt": True}}


def _token(content: str, **others: Any) -> dict[str, Any]:
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    return {"content": content, **flags, "special": True, **others}


_QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    **_SIZES,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 397,
    "eos_token_id": 397,
    "head_dim": 32,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 128,
    "max_window_layers": 28,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "use_cache": True,
    "use_sliding_window": False,
}
_GEMMA3 = {
    "architectures": ["Gemma3TextModel"],
    "model_type": "gemma3_text",
    **_SIZES,
    "_sliding_window_pattern": 6,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_logit_softcapping": None,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "final_logit_softcapping": None,
    "head_dim": 32,
    "hidden_activation": "gelu_pytorch_tanh",
    "initializer_range": 0.02,
    "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
    "max_position_embeddings": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "pad_token_id": 0,
    "query_pre_attn_scalar": 32,
    "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10000.0,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": 16,
    "use_bidirectional_attention": True,
    "use_cache": True,
}
_MODERNBERT = {
    "architectures": ["ModernBertModel"],
    "model_type": "modernbert",
    **_SIZES,
    "attention_bias": False,
    "bos_token_id": 1,
    "classifier_pooling": "mean",
    "cls_token_id": 1,
    "deterministic_flash_attn": False,
    "eos_token_id": 2,
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160000.0,
    "gradient_checkpointing": False,
    "hidden_activation": "gelu",
    "layer_norm_eps": 1e-05,
    "local_attention": 16,
    "local_rope_theta": 10000.0,
    "max_position_embeddings": 128,
    "mlp_bias": False,
    "norm_bias": False,
    "norm_eps": 1e-05,
    "num_attention_heads": 4,
    "pad_token_id": 3,
    "position_embedding_type": "absolute",
    "reference_compile": False,
    "sep_token_id": 2,
    "sparse_prediction": False,
}

CASES = [
    Case(
        name="qwen3_embedding",
        config=_QWEN3,
        draw=partial(draw_decoder, config=_QWEN3),
        tokenizer="byte_level_end",
        pooling="lasttoken",
        is_native=True,
        settings={
            "tokenizer_class": "Qwen2Tokenizer",
            "add_bos_token": False,
            "add_prefix_space": False,
            "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
            "bos_token": None,
            # No text goes through it: modules.json says that the folder is sentence-transformers' own.
            "chat_template": "{% for message in messages %}<|im_start|>{{ message.content }}<|im_end|>{% endfor %}",
            "clean_up_tokenization_spaces": False,
            "eos_token": "<|im_end|>",
            "errors": "replace",
            "model_max_length": 131072,
            "pad_token": "<|endoftext|>",
            "split_special_tokens": False,
            "unk_token": None,
        },
        files=_steps("Transformer", "Pooling", "Normalize")
        | _pooling("lasttoken")
        | {
            "config_sentence_transformers.json": {
                "prompts": {"query": "Instruct: find what answers the query\nQuery:", "document": ""},
                "default_prompt_name": None,
                "similarity_fn_name": "cosine",
            },
            "sentence_bert_config.json": {},
        },
    ),
    Case(
        name="embeddinggemma",
        config=_GEMMA3,
        draw=partial(draw_decoder, config=_GEMMA3, is_gemma=True),
        tokenizer="byte_fallback",
        settings={
            "tokenizer_class": "GemmaTokenizer",
            "add_bos_token": True,
            "add_eos_token": True,
            "boi_token": "<start_of_image>",
            "bos_token": "<bos>",
            "clean_up_tokenization_spaces": False,
            "eos_token": "<eos>",
            "extra_special_tokens": {"boi_token": "<start_of_image>", "image_token": "<image_soft_token>"},
            "mask_token": "<mask>",
            "model_max_length": 2048,
            "pad_token": "<pad>",
            "sp_model_kwargs": None,
            "spaces_between_special_tokens": False,
            "unk_token": "<unk>",
            "use_default_system_prompt": False,
        },
        dense=((96, _IDENTITY), (64, _IDENTITY)),
        dense_bias=False,
        is_native=True,
        files=_steps("Transformer", "Pooling", "Dense", "Dense", "Normalize") | _pooling("mean_tokens"),
    ),
    Case(
        name="gte_modernbert",
        config=_MODERNBERT,
        draw=partial(draw_modernbert, config=_MODERNBERT),
        tokenizer="byte_level_cls",
        pooling="cls",
        is_native=True,
        settings={
            "tokenizer_class": "PreTrainedTokenizerFast",
            "added_tokens_decoder": {
                str(number): _token(name) for number, name in enumerate(["[UNK]", "[CLS]", "[SEP]"])
            },
            "clean_up_tokenization_spaces": True,
            "cls_token": "[CLS]",
            "extra_special_tokens": {},
            "mask_token": "[MASK]",
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": 8192,
            "pad_token": "[PAD]",
            "sep_token": "[SEP]",
            "unk_token": "[UNK]",
        },
        files=_steps("Transformer", "Pooling", "Normalize") | _pooling("cls_token"),
    ),
]
