"""What the steps of a folder are told: poolings, their order, inputs and outputs; prompts, limits, kinds of model."""

from pathlib import Path
from typing import Any

from tests.altered_folders import AlteredFolder, write

SETTINGS, ENCODER, POOLING = "config_sentence_transformers.json", "sentence_bert_config.json", "1_Pooling/config.json"
PATHS = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}


def steps(*kinds: str, **told: dict[str, Any]):
    """A folder with these steps; what a step is told goes into its own folder."""

    def alter(folder: Path) -> None:
        paths = [PATHS.get(kind, f"{number}_{kind}") for number, kind in enumerate(kinds)]
        write(folder, "modules.json", [
            {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for number, (kind, path) in enumerate(zip(kinds, paths, strict=True))
        ])  # fmt: skip
        for kind, path in zip(kinds, paths, strict=True):
            if kind in told:
                write(folder, f"{path}/config.json", told[kind])

    return alter


def pooling(**values: Any):
    """A folder whose pooling file says just this."""
    return lambda folder: write(folder, POOLING, {"embedding_dimension": 48, **values})


FOLDERS = [
    AlteredFolder("plain", lambda folder: None),
    AlteredFolder("no_normalize", steps("Transformer", "Pooling")),
    AlteredFolder("pooling_cls", pooling(pooling_mode="cls")),
    AlteredFolder("pooling_max", pooling(pooling_mode_max_tokens=True, pooling_mode_mean_tokens=False)),
    AlteredFolder("pooling_lasttoken", pooling(pooling_mode=["lasttoken"])),
]
