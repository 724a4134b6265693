"""`als top`: fetch, an immutable picture of the facts, pure views, print; keys change a small state of their own."""
