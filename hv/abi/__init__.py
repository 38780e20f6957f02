"""Xen's public ABI for x86-64 PV guests, declared once.

Rules:

1. One file per public header of Xen 4.17, with its constants and structures in Xen's spelling.
2. Operations are rows of data (`rows.py`, `hypercalls.py`); handlers and decoders read one row.
3. Whatever Cython, C or the guests need of it is generated (`emit.py`); nothing is listed twice.
4. Only the standard library is imported here, and no other part of hv.

`layout.py` says how a structure is written down.
"""
