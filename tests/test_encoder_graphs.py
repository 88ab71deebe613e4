"""The ONNX encoder on graphs of others: their inputs and outputs, by name and type."""

import json

import numpy as np
import pytest
from onnx import TensorProto

from neuralcore.embedding.backends.onnx.encoder import OnnxEncoder
from neuralcore.embedding.config import ModelConfig
from neuralcore.embedding.errors import InferenceError, UnsupportedModel
from neuralcore.embedding.store.folder import ModelFolder
from tests.foreign_graphs import write_foreign
from tests.tokens import token_batch


def foreign_config(dimension=2, **values) -> ModelConfig:
    return ModelConfig(**{"name": "foreign", "dimension": dimension, "max_tokens": 9, "normalize": False, **values})


TEXTS = [[5, 7], [9], [1, 2, 6]]


@pytest.mark.parametrize("output", ["last_hidden_state", "token_embeddings"])
def test_token_vectors_go_by_either_usual_name(output, tmp_path):
    path = tmp_path / "foreign.onnx"
    write_foreign(path, outputs=[output])
    vectors = OnnxEncoder(path, foreign_config()).encode(token_batch(TEXTS))
    assert vectors.tolist() == [[6, 1], [9, 1], [3, 1]]


@pytest.mark.parametrize("dtype", [TensorProto.INT32, TensorProto.INT64])
def test_inputs_are_fed_by_name_in_the_type_the_graph_takes(dtype, tmp_path):
    path = tmp_path / "foreign.onnx"
    write_foreign(path, inputs=["token_type_ids", "position_ids", "attention_mask", "input_ids"], dtype=dtype)
    vectors = OnnxEncoder(path, foreign_config(4)).encode(token_batch(TEXTS))
    assert vectors.tolist() == [[0, 0.5, 1, 6], [0, 0, 1, 9], [0, 1, 1, 3]]


def test_padding_is_filled_with_the_pad_id(tmp_path):
    path = tmp_path / "foreign.onnx"
    write_foreign(path, outputs=["sentence_embedding"])
    vectors = OnnxEncoder(path, foreign_config(), pad_id=77).encode(token_batch(TEXTS))
    assert vectors.tolist() == [[77, 1], [77, 1], [6, 1]]


def test_pooled_output_is_read_when_it_is_the_only_one(tmp_path):
    path = tmp_path / "foreign.onnx"
    write_foreign(path, outputs=["sentence_embedding"])
    normalized = OnnxEncoder(path, foreign_config(normalize=True)).encode(token_batch([[3]]))
    np.testing.assert_allclose(normalized, [[3 / 10**0.5, 1 / 10**0.5]], rtol=1e-6)


def test_pooled_output_of_unknown_pooling_is_passed_over(tmp_path):
    path = tmp_path / "foreign.onnx"
    write_foreign(path, outputs=["pooler_output", "sentence_embedding", "token_embeddings"])
    assert OnnxEncoder(path, foreign_config()).encode(token_batch(TEXTS)).tolist() == [[6, 1], [9, 1], [3, 1]]


def test_output_named_by_the_configuration_is_read(tmp_path):
    path = tmp_path / "foreign.onnx"
    write_foreign(path, outputs=["last_hidden_state", "pooler_output"])
    config = foreign_config(output_name="pooler_output")
    assert OnnxEncoder(path, config).encode(token_batch([[5, 7]])).tolist() == [[7, 1]]


@pytest.mark.parametrize(("outputs", "name"), [(["logits"], None), (["last_hidden_state"], "nowhere")])
def test_graph_without_the_output_is_refused(outputs, name, tmp_path):
    path = tmp_path / "foreign.onnx"
    write_foreign(path, outputs=outputs)
    with pytest.raises(UnsupportedModel, match="no output") as caught:
        OnnxEncoder(path, foreign_config(output_name=name))
    assert outputs[0] in str(caught.value)


def test_pooler_output_alone_is_not_taken_for_the_embedding(tmp_path):
    path = tmp_path / "foreign.onnx"
    write_foreign(path, outputs=["pooler_output"])
    with pytest.raises(UnsupportedModel, match="pooler_output"):
        OnnxEncoder(path, foreign_config())


@pytest.mark.parametrize(
    "inputs", [["input_ids"], ["attention_mask"], ["input_ids", "attention_mask", "pixel_values"], ["ids", "mask"]]
)
def test_graph_with_other_inputs_is_refused(inputs, tmp_path):
    path = tmp_path / "foreign.onnx"
    write_foreign(path, inputs=inputs)
    with pytest.raises(UnsupportedModel, match="its inputs are") as caught:
        OnnxEncoder(path, foreign_config(len(inputs)))
    assert inputs[-1] in str(caught.value)


def test_graph_with_inputs_of_another_type_is_refused(tmp_path):
    path = tmp_path / "foreign.onnx"
    write_foreign(path, dtype=TensorProto.FLOAT)
    with pytest.raises(UnsupportedModel, match="its inputs are"):
        OnnxEncoder(path, foreign_config())


def test_graph_of_another_dimension_is_refused(tmp_path):
    path = tmp_path / "foreign.onnx"
    write_foreign(path, n_components=2)
    with pytest.raises(UnsupportedModel, match="2 components"):
        OnnxEncoder(path, foreign_config(3))


@pytest.mark.parametrize("op", ["Log", "Reciprocal"])
@pytest.mark.parametrize("threads", [1, 2])
def test_vectors_that_are_not_finite_are_refused(op, threads, tmp_path):
    """The logarithm and the reciprocal of token_type_ids, which are zero: -inf and inf."""
    path = tmp_path / "foreign.onnx"
    write_foreign(path, inputs=["input_ids", "attention_mask", "token_type_ids"], op=op)
    with pytest.raises(InferenceError, match="not finite"):
        OnnxEncoder(path, foreign_config(3), threads=threads).encode(token_batch(TEXTS))


def test_positions_begin_past_the_pad_token_where_the_family_counts_so(tmp_path):
    """The maximum of the positions of each text; a pad token that was typed is not counted, as in transformers."""
    path = tmp_path / "foreign.onnx"
    write_foreign(path, inputs=["input_ids", "attention_mask", "position_ids"])
    config = foreign_config(3, pooling="max", pad_position=1)
    vectors = OnnxEncoder(path, config, pad_id=1).encode(token_batch([[5, 7], [9], [4, 1, 6, 8]]))
    assert vectors[:, 2].tolist() == [3, 2, 4]
    vectors = OnnxEncoder(path, foreign_config(3, pooling="max")).encode(token_batch([[5, 7], [9], [4, 1, 6, 8]]))
    assert vectors[:, 2].tolist() == [1, 0, 3]


@pytest.mark.parametrize("output", ["last_hidden_state", "sentence_embedding"])
def test_graph_whose_vectors_turn_out_to_have_another_length_is_refused_by_name(output, tmp_path):
    path = tmp_path / "foreign.onnx"
    write_foreign(path, outputs=[output])
    with pytest.raises(UnsupportedModel, match="its vectors have 2 components, its configuration says otherwise"):
        OnnxEncoder(path, foreign_config(5)).encode(token_batch(TEXTS))


def test_graph_of_a_family_that_counts_past_the_pad_token_is_told_by_its_folder(tmp_path):
    architecture = {"model_type": "roberta", "pad_token_id": 3, "hidden_size": 3, "max_position_embeddings": 30}
    (tmp_path / "config.json").write_text(json.dumps(architecture))
    assert ModelFolder(tmp_path).config_of_graph().pad_position == 3
