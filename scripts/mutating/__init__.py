"""Faults injected into live models: by edits of their arrays, other options, other code; none of it shares code with the faults' replays."""
