"""The table of checks, in the order they are told."""

from collections.abc import Callable
from dataclasses import dataclass

from check_data import data_checks, environment_checks, picture_checks
from check_data.findings import Finding
from check_data.scan import Survey

DATA, PICTURES, ENVIRONMENT = SECTIONS = ("data", "pictures", "environment")


@dataclass(frozen=True)
class Check:
    """One question. `online` marks what asks the network, which is done only if the user says so."""

    name: str
    section: str
    examine: Callable[[Survey], Finding]
    online: bool = False


CHECKS = (
    Check("layout", DATA, data_checks.layout),
    Check("names", DATA, data_checks.names),
    Check("other files", DATA, data_checks.ignored),
    Check("labels", DATA, data_checks.labels),
    Check("people", DATA, data_checks.photos_per_person),
    Check("ids", DATA, data_checks.ids),
    Check("classes", DATA, data_checks.classes),
    Check("balance", DATA, data_checks.balance),
    Check("ages", DATA, data_checks.ages),
    Check("folds", DATA, data_checks.folds),
    Check("readable", PICTURES, picture_checks.readable),
    Check("sizes", PICTURES, picture_checks.sizes),
    Check("copies", PICTURES, picture_checks.copies),
    Check("near copies", PICTURES, picture_checks.near_copies),
    Check("two labels", PICTURES, picture_checks.contradictions),
    Check("python", ENVIRONMENT, environment_checks.python),
    Check("torch", ENVIRONMENT, environment_checks.torch_pair),
    Check("opencv", ENVIRONMENT, environment_checks.opencv),
    Check("detector", ENVIRONMENT, environment_checks.detector),
    Check("gpu", ENVIRONMENT, environment_checks.gpu),
    Check("disk", ENVIRONMENT, environment_checks.disk),
    Check("hub", ENVIRONMENT, environment_checks.hub, online=True),
)


def examine(survey: Survey, *, online: bool) -> dict[Check, Finding]:
    """What every check says; those that ask the network only if `online`."""
    return {check: check.examine(survey) for check in CHECKS if online or not check.online}
