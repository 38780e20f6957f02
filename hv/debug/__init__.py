"""The debugger: what `hv step` does at its prompt and in its scripts.

`session.py` is one sitting: the machine, the vCPU that is looked at, and what is said. `command.py` finds the row for
a line; `commands/` has a file of rows for each group. No terminal in here: `hv.cli.step` passes lines in and takes
text out.
"""
