"""Models that are a table: a text's vector is the mean of its tokens' rows. No session, no kernels."""
