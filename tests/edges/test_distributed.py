"""5,000 texts on a real local Ray cluster and in local Spark: the vectors of the engine, one engine a worker."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ray

from neuralcore.embedding import InputError
from neuralcore.embedding.distributed.ray import RayEmbedder, RayEngine
from neuralcore.embedding.distributed.recipe import EngineRecipe

pytestmark = [pytest.mark.edges, pytest.mark.filterwarnings("ignore")]  # theirs

ROOT = Path(__file__).parents[2]
WORDS = ("the", "cat", "sat", "on", "a", "big", "red", "mat", "under", "tree", "dog", "ran")
TEXTS = [" ".join(WORDS[(n * k) % 12] for k in range(1, 2 + n % 17)) + f" {n}" for n in range(5000)]
COMMAND = [sys.executable, "-m", "neuralcore.embedding.cli", "embed"]


@pytest.fixture(scope="module")
def cluster(asymmetric, cache):
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {"env_vars": {"NEURALCORE_CACHE": str(cache), "PYTHONPATH": path}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    yield
    ray.shutdown()


@pytest.fixture
def recipe(asymmetric, cache):
    return EngineRecipe(model=asymmetric, cache_dir=str(cache))


def test_ray_data_embeds_on_two_workers_as_the_engine_does(cluster, recipe, engine):
    class Named(RayEmbedder):
        def __call__(self, batch):
            return {**super().__call__(batch), "worker": np.full(len(batch["text"]), os.getpid())}

    rows = [{"number": number, "text": text} for number, text in enumerate(TEXTS)]
    dataset = ray.data.from_items(rows, override_num_blocks=10).map_batches(
        Named, fn_constructor_kwargs={"recipe": recipe, "embedding_type": "query"}, batch_size=250, num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=2),
    )  # fmt: skip
    found = sorted(dataset.take_all(), key=lambda row: row["number"])
    vectors = np.stack([row["embedding"] for row in found])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, engine.embed_batch(TEXTS, embedding_type="query"), atol=1e-5)
    assert len({row["worker"] for row in found}) == 2


def test_ray_engine_streams_in_order_and_raises_what_its_workers_raise(cluster, recipe, engine):
    with RayEngine(recipe, n_workers=2) as remote:
        assert remote.dimension == engine.dimension
        blocks = list(remote.embed_stream(iter(TEXTS)))
        np.testing.assert_allclose(np.concatenate(blocks), engine.embed_batch(TEXTS), atol=1e-5)
        with pytest.raises(InputError) as caught:
            list(remote.embed_stream([*["fine"] * 1500, "\ud800"]))
        assert caught.value.index == 1500


def test_command_on_ray_writes_the_file_of_the_command_alone(asymmetric, cache, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS) + "\n")
    environment = os.environ | {"NEURALCORE_CACHE": str(cache), "RAY_USAGE_STATS_ENABLED": "0"}
    for name, more in (("local", []), ("ray", ["--engine", "ray", "--workers", "2"])):
        command = [*COMMAND, "-m", asymmetric, "-i", str(texts), "-o", str(tmp_path / f"{name}.npy"), *more]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, done.stderr
    local, remote = (np.load(tmp_path / f"{name}.npy") for name in ("local", "ray"))
    assert remote.shape == (5000, 48)
    np.testing.assert_allclose(remote, local, atol=1e-5)


@pytest.fixture
def spark(monkeypatch):
    from pyspark.sql import SparkSession

    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    settings = {"spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1",
                "spark.driver.host": "127.0.0.1", "spark.sql.execution.arrow.maxRecordsPerBatch": "1000"}  # fmt: skip
    builder = SparkSession.builder.master("local[2]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


def test_spark_embeds_a_column_as_the_engine_does_and_null_as_null(spark, recipe, engine):
    from neuralcore.embedding.distributed.spark import embedding_udf

    rows = [*enumerate(TEXTS), (5000, None), (5001, "")]
    frame = spark.createDataFrame(rows, "number int, text string").repartition(4)
    embed = embedding_udf(recipe, embedding_type="query")
    found = {row["number"]: row["embedding"] for row in frame.withColumn("embedding", embed("text")).collect()}
    assert found.pop(5000) is None
    vectors = np.array([vector for _, vector in sorted(found.items())], np.float32)
    np.testing.assert_allclose(vectors, engine.embed_batch([*TEXTS, ""], embedding_type="query"), atol=1e-5)
    only_nulls = spark.createDataFrame([(None,)] * 3, "text string").select(embed("text").alias("embedding"))
    assert [row["embedding"] for row in only_nulls.collect()] == [None] * 3
    with pytest.raises(Exception, match="expected a str, got int"):  # Spark's own; numbers are no texts
        spark.range(3).select(embed("id")).collect()


@pytest.mark.parametrize("form", ["numpy", "pandas", "pyarrow"])
def test_ray_data_embeds_batches_of_every_form(cluster, recipe, engine, form):
    def embedded(rows, column="text"):
        return ray.data.from_items(rows).map_batches(
            RayEmbedder, fn_constructor_kwargs={"recipe": recipe, "column": column}, batch_format=form, num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=1), batch_size=64,
        ).take_all()  # fmt: skip

    rows = [{"number": number, "text": text, "embedding": "old"} for number, text in enumerate(TEXTS[:200])]
    found = sorted(embedded(rows), key=lambda row: row["number"])
    vectors = np.array([row["embedding"] for row in found], np.float32)
    np.testing.assert_allclose(vectors, engine.embed_batch(TEXTS[:200]), atol=1e-5)
    assert [row["text"] for row in found] == TEXTS[:200]
    with pytest.raises(Exception, match="the batch has no column 'body'; it has 'number', 'text', 'embedding'"):
        embedded(rows, column="body")
    with pytest.raises(Exception, match=r"column 'text': text 1: expected a str, got .*, a missing value"):
        embedded([{"text": "cat"}, {"text": None}])


def test_recipe_takes_paths_and_a_folder_is_found_from_anywhere(asymmetric, cache, engine, monkeypatch, tmp_path):
    monkeypatch.chdir(Path(asymmetric).parent)
    recipe = EngineRecipe(model=Path("asymmetric"), cache_dir=cache)
    assert (recipe.model, recipe.cache_dir) == (asymmetric, str(cache))
    monkeypatch.chdir(tmp_path)
    with pickle.loads(pickle.dumps(recipe)).load() as own:
        np.testing.assert_array_equal(own.embed("mat"), engine.embed("mat"))
