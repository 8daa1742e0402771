"""The grid of configurations: what recurrent layers can be in Keras, torch and ONNX, each built and judged live.

`cases` lists the configurations as data; `keras_side`, `torch_side` and `onnx_side` build a configuration and let its own framework
run it; `judging` converts it, runs the target and compares the numbers; `page` writes what came out.
"""
