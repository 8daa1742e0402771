"""Faults made by hand in live models: edits of arrays, other options, other code; they share no code with the faults' replays."""
