"""Configurations and weights of Keras, as `config.json` and `model.weights.h5` hold them: read and written without any framework."""
