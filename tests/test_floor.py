"""What the benchmarks call the least time, and the texts they measure."""

import json

import pytest
from benchmarks import texts
from benchmarks.floor import Work, _read_peaks, count_work, floor_s, precision_of, share_of_peak
from tokenizers import Tokenizer, models, pre_tokenizers

PRINTED = """\
vpdpbusd, 512 bits                     int8   470.5 GOP/s
2 vpmaddubsw, vpmaddwd and additions   int8   286.1 GOP/s
vfmadd231ps, 512 bits                  fp32   118.2 GOP/s
"""


def test_best_instruction_of_each_precision_is_its_peak():
    assert _read_peaks(PRINTED) == {"int8": 470.5e9, "fp32": 118.2e9}


def test_work_is_that_of_all_minilm_l6_v2_by_hand(tmp_path):
    sizes = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6}
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 3}')
    tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    work = count_work(tmp_path, {"few": ["a", "a a"], "cut": ["a a a a a"]})
    assert work["few"] == Work(3, 3 * 21_233_664, 6 * 4 * 384 * (1 + 4))
    assert work["cut"] == Work(3, 3 * 21_233_664, 6 * 4 * 384 * 9)


def test_share_counts_attention_where_it_is_computed_as_products_are():
    work, peaks = Work(1, 80.0, 20.0), {"int8": 400.0, "fp32": 100.0}
    assert floor_s(work, peaks, "fp16", attention=True) == 1.0
    assert share_of_peak(work, peaks, "neuralcore_fp32", 2.0) == 0.5
    assert share_of_peak(work, peaks, "neuralcore_int8_onnx", 0.4) == 0.5
    assert share_of_peak(work, peaks, "neuralcore_bf16", 1.0) is None


@pytest.mark.parametrize(
    ("target", "precision"),
    [("onnxruntime_plain", "fp32"), ("sentence_transformers_bf16", "bf16"), ("neuralcore_int8_onnx", "int8")],
)
def test_precision_is_in_the_name_of_a_target(target, precision):
    assert precision_of(target) == precision


def test_abstracts_are_distinct_and_of_200_to_256_tokens(minilm):
    chosen = texts.abstracts(400)
    lengths = minilm.count_tokens(chosen)
    assert len(set(chosen)) == 400
    assert 200 <= lengths.mean() <= 256
    assert ((lengths >= 190) & (lengths <= 266)).mean() > 0.97


def test_calibration_texts_are_of_no_workload():
    measured = {text for batch in texts.workloads().values() for text in batch}
    assert not measured & set(texts.calibration_texts(300))
