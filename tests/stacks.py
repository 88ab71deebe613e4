"""The encoder of a checkpoint that a test wrote."""

from neuralcore.embedding.families import read_stack
from neuralcore.embedding.families.architecture import as_document
from neuralcore.embedding.families.checkpoint import Checkpoint


def stack_of(path, architecture):
    """Of a safetensors file, or the index of several, and what its config.json says."""
    return read_stack(as_document(architecture, path.with_name("config.json")), Checkpoint(path))
