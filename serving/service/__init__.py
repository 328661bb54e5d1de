"""The HTTP service: photos in, predictions out. `python -m serving.http` starts it."""
