"""Masks drawn onto photos of faces."""
