"""The administrator's tools: the `als` command line, its views, the demo, and the vendor's tool."""
