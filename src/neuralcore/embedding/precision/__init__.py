"""A model in another precision: made, compared, kept or refused."""
