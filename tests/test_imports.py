"""What `import neuralcore.embedding` costs, measured in processes of their own."""

import json
import subprocess
import sys

import neuralcore.embedding

HEAVY = {
    "numpy",
    "onnxruntime",
    "onnx",
    "tokenizers",
    "tokie",
    "huggingface_hub",
    "safetensors",
    "rich",
    "click",
    "torch",
}
CODE = """
import json, sys, time
before = time.perf_counter()
import neuralcore.embedding
print(json.dumps({"seconds": time.perf_counter() - before, "modules": sorted(sys.modules)}))
"""


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_is_cheap_and_loads_no_heavy_library():
    results = [json.loads(run(CODE)) for _ in range(3)]
    assert min(result["seconds"] for result in results) < 0.1
    assert not HEAVY & set(results[0]["modules"])


def test_loading_a_cached_model_needs_neither_onnx_nor_the_hub_client(minilm_cache):
    code = (
        "import sys; from neuralcore.embedding import EmbeddingEngine;"
        f"EmbeddingEngine.from_pretrained('all-MiniLM-L6-v2', cache_dir={str(minilm_cache)!r}).embed('a');"
        "print(sorted({'onnx', 'huggingface_hub', 'safetensors', 'torch', 'rich'} & set(sys.modules)))"
    )
    assert run(code) == "[]\n"


def test_import_changes_neither_environment_nor_logging():
    code = (
        "import logging, os; before = dict(os.environ);"
        "from neuralcore.embedding import EmbeddingEngine;"
        "assert dict(os.environ) == before; assert not logging.getLogger().handlers;"
        "print(logging.getLogger('neuralcore').handlers)"
    )
    assert run(code) == "[]\n"


def test_public_names():
    names = (
        "EmbeddingEngine AsyncEmbeddingEngine EmbeddingType ModelConfig PoolingStrategy Dense Precision "
        "GpuOptions TokenBatch quantize_model detect_quantization verify_model Agreement Fingerprint check_fingerprint "
        "EmbeddingError UnsupportedModel ModelUnavailable ModelCorrupt InputError ProviderUnavailable "
        "DependencyMissing VerificationFailed FingerprintMismatch OutOfMemory Overloaded InferenceError"
    )
    assert names.split() == neuralcore.embedding.__all__
    assert all(getattr(neuralcore.embedding, name).__name__ == name for name in neuralcore.embedding.__all__)
    assert set(names.split()) <= set(dir(neuralcore.embedding))


def test_neuralcore_is_a_namespace_others_can_share():
    import neuralcore

    assert getattr(neuralcore, "__file__", None) is None


def test_onnxruntime_is_told_to_send_no_telemetry_and_a_users_word_is_left_alone():
    spy = (
        "import builtins, os; seen = []; real = builtins.__import__\n"
        "def spy(name, *args, **kwargs):\n"
        "    if name == 'onnxruntime': seen.append(os.environ.get('ORT_DISABLE_TELEMETRY'))\n"
        "    return real(name, *args, **kwargs)\n"
        "builtins.__import__ = spy\n"
    )
    after = "import neuralcore.embedding.backends.onnx.session; print(seen[0], os.environ.get('ORT_DISABLE_TELEMETRY'))"
    assert run(spy + after) == "1 None\n"
    assert run(spy + "os.environ['ORT_DISABLE_TELEMETRY'] = '0'; " + after) == "0 0\n"
