"""Classes that written modules get where Keras has no layer for something, registered in Keras as those of the package "parity".

They are read as text; only `parity.frameworks.keras.written` imports them, to open models that were saved with them.
"""
