"""Any Hugging Face encoder to ONNX by way of PyTorch, for families that have no builder."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...documents import is_there
from ...errors import DependencyMissing, UnsupportedModel
from ...families.checkpoint import SAFETENSORS_INDEX, checkpoint_files

DEFAULT_OPSET = 18

_INPUTS = ("input_ids", "attention_mask")
_OUTPUT = "last_hidden_state"


class TorchEncoder:
    """An encoder as transformers loads it: from safetensors only, without remote code.

    Args:
        folder: with config.json and model.safetensors.

    Raises:
        DependencyMissing: PyTorch or transformers is not installed.
        UnsupportedModel: transformers cannot load it, or it gives no hidden states.
        ModelCorrupt: its weights are said to be elsewhere than in its folder.
    """

    def __init__(self, folder: Path) -> None:
        if is_there(folder / SAFETENSORS_INDEX):
            checkpoint_files(folder / SAFETENSORS_INDEX)  # transformers opens whatever it names
        self._torch = _import("torch")
        transformers = _import("transformers")
        transformers.utils.logging.disable_progress_bar()  # it would draw one for a load of half a second
        self._folder = folder
        with _quiet():
            try:
                # Eager attention is plain operators: both exporters can write it.
                self._model = transformers.AutoModel.from_pretrained(
                    folder, use_safetensors=True, local_files_only=True, trust_remote_code=False,
                    attn_implementation="eager", dtype=self._torch.float32,
                ).eval()  # fmt: skip
            except Exception as error:  # of any kind, such as those of a strict dataclass
                raise UnsupportedModel(str(folder), f"transformers cannot load it: {_first_line(error)}") from error

    def hidden(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """The last hidden state, float32 (texts, tokens, hidden)."""
        tensors = {name: self._torch.from_numpy(value) for name, value in zip(_INPUTS, (ids, mask), strict=True)}
        with self._torch.inference_mode():
            values: NDArray[np.float32] = self._model(**tensors).last_hidden_state.numpy()
        return values

    def export(self, path: Path, *, opset: int | None = None) -> str:
        """Write the encoder as ONNX: inputs `input_ids` and `attention_mask`, output `last_hidden_state`.

        Args:
            path: the .onnx file to write; weights may go beside it.
            opset: version of ONNX's operators; None takes 18.

        Returns:
            Which of PyTorch's exporters could: "dynamo", or "torchscript" where that failed.

        Raises:
            UnsupportedModel: neither could.
        """
        reasons = []
        for name, write in (("dynamo", self._export_dynamo), ("torchscript", self._export_torchscript)):
            try:
                with _quiet():
                    write(path, opset or DEFAULT_OPSET)
                return name
            except DependencyMissing:
                raise
            except Exception as error:  # noqa: BLE001 - exporters raise whatever they like
                reasons.append(f"{name}: {_first_line(error)}")
                _remove(path)
        raise UnsupportedModel(str(self._folder), f"PyTorch cannot export it ({'; '.join(reasons)})")

    def _export_dynamo(self, path: Path, opset: int) -> None:
        _import("onnxscript")
        dynamic = self._torch.export.Dim.DYNAMIC
        self._torch.onnx.export(
            self._wrapped(), self._example(), str(path), dynamo=True, verbose=False, opset_version=opset,
            input_names=list(_INPUTS), output_names=[_OUTPUT], external_data=True,
            dynamic_shapes={name: {0: dynamic, 1: dynamic} for name in _INPUTS},
        )  # fmt: skip

    def _export_torchscript(self, path: Path, opset: int) -> None:
        axes = {0: "batch", 1: "sequence"}
        self._torch.onnx.export(
            self._wrapped(), self._example(), str(path), dynamo=False, opset_version=opset,
            input_names=list(_INPUTS), output_names=[_OUTPUT], dynamic_axes=dict.fromkeys((*_INPUTS, _OUTPUT), axes),
        )  # fmt: skip

    def _example(self) -> tuple[Any, Any]:
        ids = self._torch.randint(3, int(self._model.config.vocab_size), (3, 9))
        mask = self._torch.ones_like(ids)
        mask[1, 5:] = 0
        return ids, mask

    def _wrapped(self) -> Any:
        model = self._model

        class HiddenState(self._torch.nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, input_ids: Any, attention_mask: Any) -> Any:
                return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

        return HiddenState().eval()


def torch_is_installed() -> bool:
    """Whether PyTorch and transformers are there, without loading them."""
    from importlib.util import find_spec

    return all(find_spec(name) for name in ("torch", "transformers"))


def _import(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise DependencyMissing(name, "convert") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' many warnings about themselves."""
    import logging

    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _remove(path: Path) -> None:
    for written in path.parent.glob(f"{path.name}*"):
        written.unlink()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
