"""HTTP in front of an engine: OpenAI's and TEI's dialects, metrics, and a page to try it. The extra `[serve]`."""
