"""What every step shares. Nothing in here imports from the files at the top level.

Importing the package settles what libraries read from the environment when they are loaded, so it comes before them.
"""

import os

# albumentations asks the network for a newer version at import unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
# Waiting OpenMP threads sleep instead of spinning: a few percent slower on an idle machine, many times faster on one
# whose cores are shared with loader processes or other programs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from core.offline import go_offline, is_offline

# Here and not only in a command's main: the processes a command starts import this package, but run no main.
if is_offline():
    go_offline()
