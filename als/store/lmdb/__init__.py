"""The store of a single server: LMDB in its data folder."""
