"""What notebooks show of a Comparison, a Network, Returns, a Diagnosis and a Transfer: HTML without script or request, light and dark."""

from parity.notebook.answers import comparison_html, diagnosis_html, returns_html, transfer_html
from parity.notebook.network import network_html

__all__ = ["comparison_html", "diagnosis_html", "network_html", "returns_html", "transfer_html"]
