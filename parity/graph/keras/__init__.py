"""Keras configurations and weights -> whole graphs. Imports no framework."""

from parity.graph.keras.reading import graph_from_keras

__all__ = ["graph_from_keras"]
