"""Shared by every step and free of training: files, command line, images, boxes, crops, tasks, processes."""

from core.environment import prepare_environment

# At import, not in run_cli: entry points import libraries before they run, and the processes that a command starts
# (pool, loader, Ray, torchrun) run no main. Both import this package first.
prepare_environment()
