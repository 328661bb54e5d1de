"""Drawn sample people, drawn masks, and data sets built from them."""
