"""The record of a comparison (JSON) and the page drawn from it (HTML)."""
