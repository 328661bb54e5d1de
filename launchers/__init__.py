"""Where independent pieces of work run: one after the other on this machine, or spread over a Ray cluster."""
