"""Files of Keras of every age: `.keras`, whole models and weights alone in HDF5. Imports no framework."""
