"""Past one machine: a recipe in, one engine in every worker process, arrays out. Ray and Spark schedule."""
