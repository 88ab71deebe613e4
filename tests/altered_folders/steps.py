"""What the steps of a folder are told: poolings, their order, inputs and outputs; prompts, limits, kinds of model."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neuralcore.embedding import ModelCorrupt
from tests import checkpoints, tiny_model
from tests.altered_folders import AlteredFolder, change, changed, plain, write

SETTINGS, ENCODER, POOLING = "config_sentence_transformers.json", "sentence_bert_config.json", "1_Pooling/config.json"
PATHS = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
FOUND = {"method": "forward", "method_output_name": "last_hidden_state"}
Alter = Callable[[Path], object]


def steps(*kinds: str, **told: dict[str, Any]) -> Alter:
    """Other steps; what a kind is told goes into its folder. A dotted kind is the whole name of a class."""

    def alter(folder: Path) -> None:
        paths = [PATHS.get(kind, f"{number}_{kind}") for number, kind in enumerate(kinds)]
        types = [kind if "." in kind else f"sentence_transformers.models.{kind}" for kind in kinds]
        entries = [
            {"idx": number, "name": str(number), "path": path, "type": kind}
            for number, (kind, path) in enumerate(zip(types, paths, strict=True))
        ]
        write(folder, "modules.json", entries)
        for kind, path in zip(kinds, paths, strict=True):
            if kind in told:
                write(folder, f"{path}/config.json", told[kind])

    return alter


def pooling(**values: Any) -> Alter:
    """A pooling file that says just this."""
    return lambda folder: write(folder, POOLING, {"embedding_dimension": tiny_model.DIMENSION} | values)


def flags(**chosen: bool) -> dict[str, bool]:
    """The six flags of old pooling files."""
    modes = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    return {f"pooling_mode_{mode}": chosen.get(mode, False) for mode in modes}


def prompts(default: str | None = None, **texts: str | None) -> Alter:
    """Prompts, and the name of the default."""
    return changed(SETTINGS, prompts=texts, default_prompt_name=default)


def both(*alterations: Alter) -> Alter:
    """One after the other."""
    return lambda folder: [alter(folder) for alter in alterations]


def without(*names: str) -> Alter:
    """Files or folders that are not there."""
    return lambda folder: [
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink() for name in names
    ]


def renamed(before: str, after: str) -> Alter:
    """A file of another name."""
    return lambda folder: (folder / before).rename(folder / after)


def pooled_twice(folder: Path) -> None:
    """The second pooling makes the text's vector anew: neither the first nor what scaled it is left."""
    steps("Transformer", "Pooling", "Normalize", "Pooling")(folder)
    pooling(pooling_mode="max")(folder)


def encoder_in_its_own_folder(folder: Path) -> None:
    """As sentence-transformers laid it out before version 1."""
    (folder / "0_Transformer").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", ENCODER):
        (folder / name).rename(folder / "0_Transformer" / name)
    steps("Transformer", "Pooling", "Normalize")(folder)
    text = (folder / "modules.json").read_text().replace('"path": ""', '"path": "0_Transformer"', 1)
    (folder / "modules.json").write_text(text)


def two_steps_of_one_name(folder: Path) -> None:
    """sentence-transformers puts the second in the place of the first."""
    text = (folder / "modules.json").read_text().replace('"name": "2"', '"name": "1"')
    (folder / "modules.json").write_text(text)


def mpnet(folder: Path) -> Path:
    """A folder with few positions, all of which the long text needs."""
    plain(folder)
    checkpoints.mpnet(21, n_positions=40).save(folder)
    change(folder, ENCODER, max_seq_length=38)
    return folder


def modality(**text: Any) -> Alter:
    """What an encoder's file of sentence-transformers 6 says of its output."""
    return changed(ENCODER, transformer_task="feature-extraction", modality_config={"text": {**FOUND, **text}},
                   module_output_name="token_embeddings")  # fmt: skip


# fmt: off
FOLDERS = [
    AlteredFolder("plain", lambda folder: None),
    # Poolings
    AlteredFolder("no_normalize", steps("Transformer", "Pooling")),
    AlteredFolder("pooling_cls", pooling(pooling_mode="cls")),
    AlteredFolder("pooling_max", pooling(**flags(max_tokens=True))),
    AlteredFolder("pooling_lasttoken", pooling(pooling_mode=["lasttoken"])),
    AlteredFolder("pooling_no_flag_set", pooling(**flags())),
    AlteredFolder("pooling_name_wins_over_flags", pooling(pooling_mode="cls", **flags(max_tokens=True))),
    AlteredFolder("pooling_says_nothing", pooling()),
    AlteredFolder("pooling_in_two_modes", pooling(**flags(cls_token=True, mean_tokens=True))),
    AlteredFolder("pooling_in_an_order_of_its_own", pooling(pooling_mode=["weightedmean", "lasttoken", "max"])),
    AlteredFolder("pooling_of_another_size", pooling(embedding_dimension=40, pooling_mode="mean"),
                  "takes 40 components of a token .embedding_dimension., its encoder gives 48"),
    AlteredFolder("pooling_twice_the_same", pooling(pooling_mode=["mean", "mean"])),
    AlteredFolder("pooling_in_no_mode", pooling(pooling_mode=[]), "pooling none"),
    AlteredFolder("pooling_weightedmean", pooling(pooling_mode="weightedmean")),
    AlteredFolder("pooling_mean_sqrt", pooling(**flags(mean_sqrt_len_tokens=True))),
    AlteredFolder("pooling_of_no_known_mode", pooling(pooling_mode="median"), "pooling median"),
    AlteredFolder("pooling_told_something_new", pooling(pooling_mode="mean", window=3), "its pooling is told window"),
    AlteredFolder("pooling_without_prompt", pooling(include_prompt=False), "leaves out the prompt's tokens"),
    AlteredFolder("pooling_missing", without("1_Pooling"), r"1_Pooling.config\.json.*no such file", ModelCorrupt),
    # Steps and their order
    AlteredFolder("no_pooling_step", steps("Transformer", "Normalize"), "no step Pooling"),
    AlteredFolder("no_steps", lambda folder: write(folder, "modules.json", []), "lists no steps"),
    AlteredFolder("normalize_before_pooling", steps("Transformer", "Normalize", "Pooling")),
    AlteredFolder(
        "normalize_tokens_before_pooling",
        steps("Transformer", "Normalize", "Pooling", Normalize={"module_input_name": "token_embeddings"}),
        "scaled .Normalize. before they are pooled",
    ),
    AlteredFolder(
        "normalize_tokens_after_pooling",
        steps("Transformer", "Pooling", "Normalize", Normalize={"module_input_name": "token_embeddings"}),
    ),
    AlteredFolder(
        "normalize_to_another_name",
        steps("Transformer", "Pooling", "Normalize", Normalize={"module_output_name": "unit"}),
    ),
    AlteredFolder(
        "normalize_of_nothing_there",
        steps("Transformer", "Pooling", "Normalize", Normalize={"module_input_name": "image_embeddings"}),
    ),
    AlteredFolder(
        "normalize_of_tokens_as_the_text",
        steps("Transformer", "Pooling", "Normalize",
              Normalize={"module_input_name": "token_embeddings", "module_output_name": "sentence_embedding"}),
        "makes sentence_embedding of token_embeddings",
    ),
    AlteredFolder("pooled_twice", pooled_twice),
    AlteredFolder("dropout", steps("Transformer", "Pooling", "Dropout", "Normalize", Dropout={"dropout": 0.5})),
    AlteredFolder("dropout_before_pooling", steps("Transformer", "Dropout", "Pooling"), "Dropout comes before"),
    AlteredFolder("layer_norm", steps("Transformer", "Pooling", "LayerNorm"), "not run here: LayerNorm"),
    AlteredFolder("two_encoders", steps("Transformer", "Transformer", "Pooling"), "two encoders"),
    AlteredFolder("pooling_first", steps("Pooling", "Transformer"), "first step is Pooling"),
    AlteredFolder("code_of_its_own", steps("custom_st.Transformer", "Pooling"), "custom_st.Transformer is code"),
    AlteredFolder("two_steps_of_one_name", two_steps_of_one_name, "two steps of the name '1'"),
    AlteredFolder("encoder_in_its_own_folder", encoder_in_its_own_folder),
    # What the encoder is told
    AlteredFolder("last_hidden_state_by_name", modality()),
    AlteredFolder("pooler_output", modality(method_output_name="pooler_output"), "method_output_name='pooler_output'"),
    AlteredFolder("other_layer", modality(method_output_name=["hidden_states", -2]), "hidden_states"),
    AlteredFolder("fill_mask", changed(ENCODER, transformer_task="fill-mask"), "transformer_task=fill-mask"),
    AlteredFolder("query_length", changed(ENCODER, query_length=8), "query_length=8"),
    AlteredFolder("arguments_of_the_config", changed(ENCODER, config_args={"num_hidden_layers": 1}),
                  "config_args.num_hidden_layers=1"),
    AlteredFolder("adapter", lambda folder: write(folder, "adapter_config.json", {"peft_type": "LORA"}), "an adapter"),
    AlteredFolder("processing", changed(ENCODER, processing_kwargs={"text": {"max_length": 8}}), "processing_kwargs"),
    AlteredFolder("arguments_without_effect", changed(
        ENCODER, unpad_inputs=False, model_args={"attn_implementation": "eager"}, query_length=None)),
    # Limits
    AlteredFolder("limit_of_the_tokenizer", both(
        changed(ENCODER, max_seq_length=None), changed("tokenizer_config.json", model_max_length=12))),
    AlteredFolder("limit_in_the_arguments", changed(ENCODER, tokenizer_args={"model_max_length": 9})),
    AlteredFolder("limit_of_the_positions", without(ENCODER)),
    AlteredFolder("limit_in_a_file_of_another_name", renamed(ENCODER, "sentence_roberta_config.json")),
    AlteredFolder("limit_below_three", changed(ENCODER, max_seq_length=0), "max_seq_length", ModelCorrupt),
    AlteredFolder("positions_of_mpnet", lambda folder: None, plain=mpnet),
    # Prompts
    AlteredFolder("empty_query", prompts("sts", query="", sts="red dog ")),
    AlteredFolder("empty_document", prompts("query", query="the cat ", document="")),
    AlteredFolder("query_and_passage", prompts(query="the cat ", passage="a dog ")),
    AlteredFolder("default_prompt", prompts("sts", query="the cat ", document="a dog ", sts="red mat ")),
    AlteredFolder("default_prompt_alone", prompts("sts", sts="red dog ")),
    AlteredFolder("prompt_that_is_null", prompts(query=None, document="a dog ")),
    AlteredFolder("default_prompt_unknown", prompts("sts", query="q: "), "default_prompt_name", ModelCorrupt),
    # Kinds of model
    AlteredFolder("cross_encoder", changed(SETTINGS, model_type="CrossEncoder"), "it is a CrossEncoder"),
    AlteredFolder("sparse_encoder", changed(SETTINGS, model_type="SparseEncoder"), "it is a SparseEncoder"),
    AlteredFolder("multi_vector", changed(SETTINGS, model_type="MultiVectorEncoder"), "it is a MultiVectorEncoder"),
    AlteredFolder("truncate_dim", changed(SETTINGS, truncate_dim=16, similarity_fn_name="dot")),
    AlteredFolder("truncate_dim_beyond", changed(SETTINGS, truncate_dim=100)),
    AlteredFolder("truncate_dim_of_zero", changed(SETTINGS, truncate_dim=0), "truncate_dim", ModelCorrupt),
    AlteredFolder("no_modules_json", both(
        without("modules.json"), pooling(pooling_mode="cls"), prompts("sts", query="the cat ", sts="red mat "))),
    AlteredFolder("causal_without_modules_json", both(
        without("modules.json"), changed("config.json", architectures=["BertForCausalLM"]))),
    AlteredFolder("chat_template", both(
        without("modules.json"), lambda folder: (folder / "chat_template.jinja").write_text("{{ messages }}")),
        "chat template"),
    AlteredFolder("older_cross_encoder", both(
        without("modules.json"),
        changed("config.json", sentence_transformers={"activation_fn": "torch.nn.modules.linear.Identity"})),
        "it is a CrossEncoder"),
]
