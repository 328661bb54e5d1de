"""Training: settings, one fold, jobs over processes or a cluster, checkpoints, and trained folds that predict."""
