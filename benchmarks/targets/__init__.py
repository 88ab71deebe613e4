"""One file per competitor: NAME, load(model_folder, threads) and embed(model, texts)."""
