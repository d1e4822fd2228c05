"""The demonstration: three real tables in `demo.db`, made from what Python and PyPI carry (README.md)."""
