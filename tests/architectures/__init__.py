"""Architectures that people port, written small as their papers and projects have them: once in Keras, once in torch."""
