"""Data set built from photos of faces: `python -m synthesis.builder.build`."""
