"""Ordered tables with transactions: the interface in `transaction`, and one file an engine."""
