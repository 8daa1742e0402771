"""TensorFlow's SavedModel folders and checkpoints, by their own files.

`places` finds them, `bundle` reads tensors, `saved_model` what is said of them.
"""
