"""Pure state of the hypervisor and its cold operations: no engine, no files, no clock."""
