"""gdb's remote serial protocol: `hv run --gdb` serves a domain to gdb.

packets.py: how bytes are packets. target.py: what gdb sees of a vCPU. requests.py: what it can ask while the domain
stands still, image_file.py
the image as a file of its. server.py: the socket, and who runs when.

Source: "Debugging with GDB", appendix "gdb Remote Serial Protocol".
"""
