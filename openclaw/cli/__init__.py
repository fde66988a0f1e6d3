"""The `openclaw` command: a blocking client of the node on this machine, quick to start."""
