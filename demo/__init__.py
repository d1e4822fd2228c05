"""The demonstration: three real tables in `demo.db`, made anew from what Python and PyPI carry. See demo/README.md."""
