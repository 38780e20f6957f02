"""`python -m hv` is `hv`."""

from hv.cli.main import main

main()
