"""What runs an encoder: each folder writes or packs a file of its own from a `Stack`, and encodes with it."""
