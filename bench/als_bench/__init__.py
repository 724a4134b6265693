"""als-bench: how fast this server is on this machine, and where the time goes."""
