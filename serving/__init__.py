"""A trained run at work on any picture: faces found, cropped as in training, classified, drawn, written to tables.

from serving import load_model
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serving.api import Model, PhotoFaces, load_model

__all__ = ["Model", "PhotoFaces", "load_model"]


def __getattr__(name: str) -> object:
    """Import the Python API when it is first asked for, so that commands do not wait for it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from serving import api

    return getattr(api, name)
