"""What this package adds to other tools, each found by that tool through an entry point."""
