"""Models: which there are, where they come from, how their files are read, and how their graphs are built."""
