"""The `hv` command, one file a sub-command; nothing heavy is imported before it is needed."""
