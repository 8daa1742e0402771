"""Whole models: values between operations, with several inputs and outputs, shared layers and masks. Imports no framework."""

from parity.graph.builder import Builder
from parity.graph.calls import Layered, computed, shapes_of
from parity.graph.graph import Graph, GraphInput, Node, Wire

__all__ = ["Builder", "Graph", "GraphInput", "Layered", "Node", "Wire", "computed", "shapes_of"]
