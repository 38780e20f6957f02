"""Handlers of hypercalls, one file a hypercall; `registry.table()` binds them to the rows of hv.abi.hypercalls."""
