"""A data set built from face photos: `python -m synthesis.builder.build`."""
