"""Whole models as ONNX graphs: `writing` makes one of a graph, `running` runs it, `reading` reads one."""
