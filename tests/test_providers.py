"""Devices: what was asked for by name is had, or is an error."""

import dataclasses
from pathlib import Path

import onnxruntime as ort
import pytest

from neuralcore.embedding.backends.onnx.session import OnnxSession, available_providers
from neuralcore.embedding.errors import InputError, ModelCorrupt, ProviderUnavailable
from neuralcore.embedding.providers import GpuOptions, choose_device, provider_list
from tests.checkpoints import bert
from tests.test_graphs import build

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
no_gpu = pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="this onnxruntime has CUDA")


@pytest.mark.parametrize(
    ("device", "available", "expected"),
    [
        ("cpu", [CPU], "cpu"),
        ("cpu", [CUDA, CPU], "cpu"),
        ("auto", [CPU], "cpu"),
        ("auto", [TENSORRT, CUDA, CPU], "cuda"),
        ("auto", ["AzureExecutionProvider", CPU], "cpu"),
        ("cuda", [CUDA, CPU], "cuda"),
        ("tensorrt", [TENSORRT, CUDA, CPU], "tensorrt"),
    ],
)
def test_device_is_chosen_from_what_is_available(device, available, expected):
    assert choose_device(device, available) == expected


@pytest.mark.parametrize(("device", "available"), [("cuda", [CPU]), ("tensorrt", [CUDA, CPU]), ("cuda", [])])
def test_device_asked_for_by_name_and_missing_is_an_error(device, available):
    with pytest.raises(ProviderUnavailable, match="install onnxruntime-gpu") as caught:
        choose_device(device, available)
    assert (caught.value.requested, caught.value.available) == (device, available)


@no_gpu
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_no_gpu_here_is_an_error_and_not_a_fall_back(device):
    with pytest.raises(ProviderUnavailable, match=CPU):
        choose_device(device, available_providers())


@no_gpu
def test_auto_gives_the_cpu_here():
    assert choose_device("auto", available_providers()) == "cpu"


@pytest.mark.parametrize("device", ["gpu", "CPU", "cuda:0", "", None])
def test_unknown_device_is_refused_with_the_known_ones(device):
    with pytest.raises(InputError, match="device must be one of cpu, cuda, tensorrt, auto"):
        choose_device(device, [CUDA, CPU])


def test_cpu_is_asked_for_alone():
    assert provider_list("cpu", GpuOptions(device_id=3)) == [(CPU, {})]


def test_cuda_comes_first_and_grows_by_what_it_needs():
    assert provider_list("cuda", GpuOptions()) == [
        (CUDA, {"device_id": 0, "arena_extend_strategy": "kSameAsRequested"}),
        (CPU, {}),
    ]


def test_options_of_cuda():
    (_, options), _ = provider_list("cuda", GpuOptions(device_id=1, memory_limit_bytes=2**30))
    assert options == {"device_id": 1, "arena_extend_strategy": "kSameAsRequested", "gpu_mem_limit": 2**30}


def test_options_of_tensorrt(tmp_path):
    gpu = GpuOptions(device_id=1, memory_limit_bytes=2**30, engine_cache=tmp_path)
    providers = provider_list("tensorrt", gpu)
    assert [name for name, _ in providers] == [TENSORRT, CUDA, CPU]
    assert providers[0][1] == {
        "device_id": 1,
        "trt_max_workspace_size": 2**30,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(tmp_path),
    }
    assert provider_list("tensorrt", GpuOptions())[0][1] == {"device_id": 0}


def test_gpu_options_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        GpuOptions().device_id = 2


@no_gpu
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
@pytest.mark.filterwarnings("ignore:Specified provider")  # all that ONNX Runtime itself says
def test_session_refuses_what_onnx_runtime_fell_back_to(device, tmp_path):
    path = build(bert(1), tmp_path)
    with pytest.raises(ProviderUnavailable, match=f"fell back to {CPU}") as caught:
        OnnxSession(path, device=device, n_threads=1, gpu=GpuOptions())
    assert caught.value.requested == device


def test_session_says_what_it_runs_on(tmp_path):
    session = OnnxSession(build(bert(1), tmp_path), device="cpu", n_threads=1, gpu=GpuOptions())
    assert session.provider == CPU
    assert session.inputs.keys() == {"input_ids", "attention_mask"}
    assert session.outputs.keys() == {"last_hidden_state", "sentence_embedding"}


@pytest.mark.parametrize("content", [None, b"", b"not an ONNX file", b"\x08\x07\x12"])
def test_file_that_cannot_be_loaded_is_corrupt(content, tmp_path, capfd):
    path: Path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelCorrupt, match=r"model\.onnx") as caught:
        OnnxSession(path, device="cpu", n_threads=1, gpu=GpuOptions())
    assert caught.value.path == str(path)
    assert capfd.readouterr() == ("", "")


def test_graph_without_its_weights_is_corrupt(tmp_path):
    path = build(bert(1), tmp_path)
    path.with_name("model.onnx.data").unlink()
    with pytest.raises(ModelCorrupt, match=r"model\.onnx"):
        OnnxSession(path, device="cpu", n_threads=1, gpu=GpuOptions())
