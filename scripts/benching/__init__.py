"""Parts of scripts/bench.py that need more than a few lines."""
