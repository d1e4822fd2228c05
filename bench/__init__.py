"""Speed, size and quality, measured: see README.md."""
