"""Files on disk: data roots, crop folders, crop caches, folds, run folders, label corrections, eval labels."""
