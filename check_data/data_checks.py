"""What names, tables and labels say, without looking at a pixel."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from statistics import median_low

from check_data.findings import OK, PROBLEM, WARNING, Finding, counted
from check_data.scan import Survey
from core.cli import name_some
from core.images import is_photo_name
from core.tasks import TASKS, Facts, Task, task_named
from storage.folds import STRATA_TASKS
from storage.layouts import MASK_OF_STEM, Photo

RARE_SHARE = 0.05
"""Of the people; a class with fewer is learned badly, and its score swings."""

NEAR_EDGE = 2


def layout(survey: Survey) -> Finding:
    train, eval_photos, people = survey.train, survey.eval, survey.facts_of
    numbers = {"train_photos": len(train), "people": len(people), "eval_photos": len(eval_photos)}
    training = f"{counted(len(train), 'training photo')} of {counted(len(people), 'person', 'people')}"
    summary = f"{survey.dataset.layout}: {training}, {counted(len(eval_photos), 'eval photo')}"
    if not train:
        return Finding(WARNING, f"{summary}; nothing to train on, a trained run can predict them", (), numbers)
    if not eval_photos:
        return Finding(WARNING, f"{summary}; nothing to predict", (), numbers)
    return Finding(OK, summary, (), numbers)


def names(survey: Survey) -> Finding:
    if not survey.faults:
        return Finding(OK, "all names and tables fit the layout and one another")
    summary = f"{counted(len(survey.faults), 'name or row', 'names or rows')} that every step will refuse"
    return Finding(PROBLEM, summary, survey.faults)


def ignored(survey: Survey) -> Finding:
    passed = survey.dataset.ignored
    pictures = tuple(path for path in passed if is_photo_name(Path(path).name))
    numbers = {"files": len(passed), "pictures": len(pictures)}
    if pictures:
        known = ", ".join(MASK_OF_STEM)
        summary = f"{counted(len(pictures), 'picture')} not used: named none of {known}, or no file"
        return Finding(WARNING, summary, pictures, numbers)
    return Finding(OK, f"{counted(len(passed), 'other file')} passed over", passed, numbers)


def photos_per_person(survey: Survey) -> Finding:
    stems: dict[str, set[str]] = {}
    for photo in survey.train:
        stems.setdefault(photo.person, set()).add(Path(photo.path).stem)
    odd = {person: set(MASK_OF_STEM) - found for person, found in stems.items() if len(found) != len(MASK_OF_STEM)}
    numbers = {"photos": {str(count): people for count, people in sorted(Counter(map(len, stems.values())).items())}}
    if not odd:
        return Finding(
            OK, f"every person has {len(MASK_OF_STEM)} photos" if stems else "no training people", (), numbers
        )
    details = tuple(f"{person}: without {', '.join(sorted(lacking))}" for person, lacking in odd.items())
    summary = f"{counted(len(odd), 'person', 'people')} with fewer than {len(MASK_OF_STEM)} photos"
    return Finding(WARNING, summary, details, numbers)


def ids(survey: Survey) -> Finding:
    """An id in two folders is two people for the folds: right for a number given twice, a leak if it is one person."""
    folders: dict[str, list[str]] = {}
    for person in survey.facts_of:
        folders.setdefault(person.split("_")[0], []).append(person)
    twice = tuple(", ".join(persons) for persons in folders.values() if len(persons) > 1)
    if not twice:
        return Finding(OK, "every id stands for one folder")
    return Finding(WARNING, f"{counted(len(twice), 'id')} in more than one folder, taken for different people", twice)


def classes(survey: Survey) -> Finding:
    """A class must have people in two folds at least, else no fold can both learn and score it."""
    details, lacking, numbers = [], [], {}
    for task in TASKS if survey.train else ():
        photos = _per_class(task, survey, (photo.facts for photo in survey.train))
        people = _people_per_class(task, survey)
        details.append(
            f"{task.name}: " + ", ".join(f"{name} {photos[name]} of {people[name]}" for name in task.classes)
        )
        lacking += [f"{task.name} {name}" for name in task.classes if people[name] < 2]
        numbers[task.name] = {"photos": photos, "people": people}
    if lacking:
        return Finding(
            PROBLEM, f"too few people to train: {', '.join(lacking)} (two at least)", tuple(details), numbers
        )
    edges = " and ".join(map(str, survey.age_edges))
    return Finding(OK, f"photos and people of each class, age groups from {edges} on", tuple(details), numbers)


def balance(survey: Survey) -> Finding:
    """By people, not photos: seven photos of one face are little more than one."""
    shares = {}
    for task in TASKS if survey.train else ():
        people = _people_per_class(task, survey)
        shares |= {f"{task.name} {name}": people[name] / max(1, len(survey.facts_of)) for name in task.classes}
    rare = {name: share for name, share in shares.items() if share < RARE_SHARE}
    if rare:
        listed = ", ".join(f"{name} {share:.1%}" for name, share in sorted(rare.items(), key=lambda row: row[1]))
        return Finding(WARNING, f"rare among the people: {listed}; --class-weights balanced helps", (), shares)
    if not shares:
        return Finding(OK, "no classes to compare")
    rarest = min(shares, key=shares.__getitem__)
    return Finding(OK, f"the rarest class, {rarest}, has {shares[rarest]:.0%} of the people", (), shares)


def ages(survey: Survey) -> Finding:
    """Ages near an edge between groups are learned as noise: a guess one year off is a wrong class."""
    years = sorted(int(facts["age"]) for facts in survey.facts_of.values())
    if not years:
        return Finding(OK, "no ages without training people")
    near = sum(any(-NEAR_EDGE <= age - edge < NEAR_EDGE for edge in survey.age_edges) for age in years)
    summary = f"{years[0]} to {years[-1]} years, median {median_low(years)}; {near / len(years):.0%} of the people"
    numbers = {"years": dict(sorted(Counter(map(str, years)).items())), "near_edge": near}
    return Finding(OK, f"{summary} are within {NEAR_EDGE} years of an edge", (), numbers)


def folds(survey: Survey) -> Finding:
    people, wanted = len(survey.facts_of), survey.folds
    if not people:
        return Finding(OK, "no folds without training people")
    if people < wanted:
        return Finding(
            PROBLEM, f"{counted(people, 'person', 'people')} for {wanted} folds; give --folds {people} or less"
        )
    tasks = [task_named(name) for name in STRATA_TASKS]
    groups = Counter(" ".join(_class_of(task, facts, survey) for task in tasks) for facts in survey.facts_of.values())
    smallest = min(groups, key=groups.__getitem__)
    details = tuple(f"{name}: {counted(count, 'person', 'people')}" for name, count in sorted(groups.items()))
    said = f"smallest of gender x age group: {smallest}, {counted(groups[smallest], 'person', 'people')}"
    if groups[smallest] < wanted:
        return Finding(WARNING, f"{said}: not in each of {wanted} folds", details, dict(groups))
    return Finding(OK, f"{wanted} folds are possible; {said}", (), dict(groups))


def _class_of(task: Task, facts: Facts, survey: Survey) -> str:
    """The class name, or "unknown" for facts the task cannot read."""
    try:
        return task.classes[task.read_label(facts, survey.age_edges)]
    except (ValueError, KeyError):
        return "unknown"


def _per_class(task: Task, survey: Survey, rows: Iterable[Facts]) -> Counter[str]:
    return Counter(_class_of(task, facts, survey) for facts in rows)


def _people_per_class(task: Task, survey: Survey) -> Counter[str]:
    """People with at least one photo of the class."""
    return Counter(name for _, name in {(photo.person, _class_of(task, photo.facts, survey)) for photo in survey.train})


def unlabelled(photo: Photo, survey: Survey) -> list[str]:
    """Tasks whose label cannot be read from the photo's facts."""
    return [task.name for task in TASKS if _class_of(task, photo.facts, survey) == "unknown"]


def labels(survey: Survey) -> Finding:
    """A further task may need a column that some rows lack."""
    lacking = {photo.image_id: unlabelled(photo, survey) for photo in survey.train}
    without = tuple(f"{image_id}: {', '.join(tasks)}" for image_id, tasks in lacking.items() if tasks)
    if not without:
        return Finding(OK, f"every training photo has a label for {name_some([task.name for task in TASKS])}")
    return Finding(PROBLEM, f"{counted(len(without), 'training photo')} without a label", without)
