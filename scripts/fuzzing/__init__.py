"""The rooms of scripts/fuzz.py: samples of every format, mutations of them, and the process that opens the mutants."""
