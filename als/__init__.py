"""ALS, a license server for local networks. This package is the server and what both sides share."""

__version__ = "0.1.0"
