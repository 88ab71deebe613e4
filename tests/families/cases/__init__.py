"""Random models, a module for each group of families."""
