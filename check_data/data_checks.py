"""Checks of names, tables and labels. No photo is read."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median_low

from check_data import table_checks
from check_data.findings import OK, PROBLEM, WARNING, Finding, counted
from check_data.scan import DataScan
from core.cli import name_some
from core.images import is_photo_name
from core.tasks import TASKS, UNKNOWN, Facts, Task, known_values, task_named
from storage.folds import STRATA_TASKS
from storage.layouts import MASK_OF_STEM, TABLE, detect_layout

RARE_FRACTION = 0.05
"""Fraction of the people below which a class is learned badly and its score is unstable."""

NO_LABEL = "unknown"
NEAR_EDGE = 2
"""Distance in years from an edge between age groups within which an age counts as near it."""
TRAINABLE_LAYOUTS = ("competition", "remade", "table")
SEVEN_PHOTOS = ", ".join(MASK_OF_STEM)


def layout(data: DataScan) -> Finding:
    """Report the layout, how a table was read, and counts. Nothing to train on is a problem unless it was forced."""
    train, eval_photos, people = data.train, data.eval, data.facts_of
    numbers = {"train_photos": len(train), "people": len(people), "eval_photos": len(eval_photos)}
    training = f"{counted(len(train), 'training photo')} of {counted(len(people), 'person', 'people')}"
    summary = f"{data.dataset.layout}: {training}, {counted(len(eval_photos), 'eval photo')}"
    if not train:
        severity = WARNING if data.layout_is_forced else PROBLEM
        hints = data.dataset.notes or _layout_hints(data.dataset.root)
        return Finding(severity, f"{summary}; nothing to train on", hints, numbers)
    if not eval_photos:
        return Finding(WARNING, f"{summary}; nothing to predict", data.dataset.notes, numbers)
    return Finding(OK, summary, data.dataset.notes, numbers)


def _layout_hints(root: Path) -> tuple[str, ...]:
    """Name the folders of training photos that were looked for, and a folder near `root` that has them."""
    looked_for = f"no photos in {root}/train/images (layout competition) or {root}/images/train (layout remade)"
    found = [folder for folder in _near(root.absolute()) if detect_layout(folder) in TRAINABLE_LAYOUTS]
    if found:
        return looked_for, f"give --data-dir {found[0]}, which has the layout {detect_layout(found[0])}"
    predict = "for photos without labels, which a trained run can predict, give --layout photos"
    seven = f"{SEVEN_PHOTOS} in a folder id_gender_race_age for each person"
    return looked_for, f"{seven}, or a table photos.csv, or a folder for each mask class (docs/data.md); {predict}"


def _near(root: Path) -> Iterator[Path]:
    """Yield folders up to two levels below and above `root`."""
    for pattern in ("*", "*/*"):
        yield from sorted(path for path in root.glob(pattern) if path.is_dir() and not path.name.startswith("."))
    yield from root.parents[:2]


def names(data: DataScan) -> Finding:
    if not data.faults:
        return Finding(OK, "all names and tables fit the layout and one another")
    summary = f"{counted(len(data.faults), 'name or row', 'names or rows')} that every step will refuse"
    return Finding(PROBLEM, summary, data.faults)


def ignored(data: DataScan) -> Finding:
    ignored_paths = data.dataset.ignored
    pictures = tuple(path for path in ignored_paths if is_photo_name(Path(path).name))
    numbers = {"files": len(ignored_paths), "pictures": len(pictures)}
    if pictures:
        known = "in no row of the table or class folder" if _is_table(data) else f"named none of {SEVEN_PHOTOS}"
        summary = f"{counted(len(pictures), 'picture')} not used: {known}, or no file"
        return Finding(WARNING, summary, pictures, numbers)
    return Finding(OK, f"{counted(len(ignored_paths), 'other file')} ignored", ignored_paths, numbers)


def _is_table(data: DataScan) -> bool:
    return data.dataset.layout == TABLE


def photos_per_person(data: DataScan) -> Finding:
    if _is_table(data):
        return table_checks.people(data)
    stems: dict[str, set[str]] = {}
    for photo in data.train:
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


def ids(data: DataScan) -> Finding:
    """Report ids in several folders. Folds treat these as different people: a leak if they are one person."""
    folders: dict[str, list[str]] = {}
    for person in () if _is_table(data) else data.facts_of:
        folders.setdefault(person.split("_")[0], []).append(person)
    twice = tuple(", ".join(persons) for persons in folders.values() if len(persons) > 1)
    if not twice:
        return Finding(OK, "no folders with ids in this layout" if _is_table(data) else "every id has one folder")
    return Finding(WARNING, f"{counted(len(twice), 'id')} in more than one folder, taken for different people", twice)


def classes(data: DataScan) -> Finding:
    """Count photos and people of each class. A class needs people in at least two folds to be learned and scored."""
    details, lacking, numbers = [], [], {}
    for task in _labelled_tasks(data):
        photos = _per_class(task, data, (photo.facts for photo in data.train))
        people = _people_per_class(task, data)
        details.append(
            f"{task.name}: " + ", ".join(f"{name} {photos[name]} of {people[name]}" for name in task.classes)
        )
        lacking += [f"{task.name} {name}" for name in task.classes if people[name] < 2]
        numbers[task.name] = {"photos": photos, "people": people}
    if lacking:
        return Finding(
            PROBLEM, f"too few people to train: {', '.join(lacking)} (two at least)", tuple(details), numbers
        )
    edges = " and ".join(map(str, data.age_edges))
    return Finding(OK, f"photos and people of each class, age groups from {edges} on", tuple(details), numbers)


def balance(data: DataScan) -> Finding:
    """Report rare classes by people, not photos: seven photos of one face say little more than one."""
    fractions = {}
    for task in _labelled_tasks(data):
        people = _people_per_class(task, data)
        labelled = len({photo.person for photo in data.train if _class_of(task, photo.facts, data) in task.classes})
        fractions |= {f"{task.name} {name}": people[name] / max(1, labelled) for name in task.classes}
    rare = {name: fraction for name, fraction in fractions.items() if fraction < RARE_FRACTION}
    if rare:
        listed = ", ".join(f"{name} {fraction:.1%}" for name, fraction in sorted(rare.items(), key=lambda row: row[1]))
        return Finding(WARNING, f"rare among the people: {listed}; --class-weights balanced helps", (), fractions)
    if not fractions:
        return Finding(OK, "no classes to compare")
    rarest = min(fractions, key=fractions.__getitem__)
    return Finding(OK, f"the rarest class, {rarest}, has {fractions[rarest]:.0%} of the people", (), fractions)


def ages(data: DataScan) -> Finding:
    """Report the range of ages and the people near an edge, where an error of one year is a wrong class."""
    task, people = task_named("age"), list(data.facts_of)
    known = known_values(task, list(data.facts_of.values()))
    years = sorted(map(int, known.values()))
    if not years:
        return Finding(OK, "no training person has an age in years")
    near = sum(any(-NEAR_EDGE <= age - edge < NEAR_EDGE for edge in data.age_edges) for age in years)
    summary = f"{years[0]} to {years[-1]} years, median {median_low(years)}; {near / len(years):.0%} of the people"
    numbers = {"years": dict(sorted(Counter(map(str, years)).items())), "near_edge": near}
    beyond = tuple(f"{people[row]}: {age:g} years" for row, age in known.items() if age > task.value.high)
    if beyond:
        summary = f"{summary} are near an edge; {len(beyond)} above {task.value.high:g} years"
        return Finding(WARNING, summary, beyond, numbers)
    return Finding(OK, f"{summary} are within {NEAR_EDGE} years of an edge", (), numbers)


def folds(data: DataScan) -> Finding:
    people, wanted = len(data.facts_of), data.folds
    if not people:
        return Finding(OK, "no folds without training people")
    if people < wanted:
        return Finding(
            PROBLEM, f"{counted(people, 'person', 'people')} for {wanted} folds; give --folds {people} or less"
        )
    if _is_table(data):
        return _folds_of_table(data)
    tasks = [task_named(name) for name in STRATA_TASKS]
    groups = Counter(" ".join(_class_of(task, facts, data) for task in tasks) for facts in data.facts_of.values())
    smallest = min(groups, key=groups.__getitem__)
    details = tuple(f"{name}: {counted(count, 'person', 'people')}" for name, count in sorted(groups.items()))
    smallest_group = f"smallest of gender x age group: {smallest}, {counted(groups[smallest], 'person', 'people')}"
    if groups[smallest] < wanted:
        return Finding(WARNING, f"{smallest_group}: not in each of {wanted} folds", details, dict(groups))
    return Finding(OK, f"{wanted} folds are possible; {smallest_group}", (), dict(groups))


def _folds_of_table(data: DataScan) -> Finding:
    """Judge each task by the people who have its label."""
    people = {task: _people_per_class(task, data) for task in _labelled_tasks(data)}
    sizes = {f"{task.name} {name}": people[task][name] for task in people for name in task.classes}
    rare = [f"{name} {counted(size, 'person', 'people')}" for name, size in sizes.items() if size < data.folds]
    few = [task.name for task in people if sum(people[task][name] for name in task.classes) < data.folds]
    if few:
        return Finding(PROBLEM, f"fewer labelled people than {data.folds} folds: {', '.join(few)}", tuple(rare), sizes)
    if rare:
        return Finding(WARNING, f"not in each of {data.folds} folds: {', '.join(rare)}", (), sizes)
    return Finding(OK, f"{data.folds} folds are possible; every class has as many people or more", (), sizes)


def _class_of(task: Task, facts: Facts, data: DataScan) -> str:
    """Return the class name, "unknown" without a label, or the reason why the facts cannot be read."""
    try:
        label = task.label(facts, data.age_edges)
    except (ValueError, KeyError) as error:
        return f"cannot be read ({error})"
    return NO_LABEL if label == UNKNOWN else task.classes[label]


def _labelled_tasks(data: DataScan) -> list[Task]:
    """Return the tasks of which a training photo has a label."""
    return [task for task in TASKS if any(_class_of(task, photo.facts, data) != NO_LABEL for photo in data.train)]


def _per_class(task: Task, data: DataScan, rows: Iterable[Facts]) -> Counter[str]:
    return Counter(_class_of(task, facts, data) for facts in rows)


def _people_per_class(task: Task, data: DataScan) -> Counter[str]:
    """Count the people with at least one photo of each class."""
    return Counter(name for _, name in {(photo.person, _class_of(task, photo.facts, data)) for photo in data.train})


def labels(data: DataScan) -> Finding:
    """Report facts that no task can read, and how many training photos lack the label of each task."""
    found = {task: [(photo, _class_of(task, photo.facts, data)) for photo in data.train] for task in TASKS}
    faults = tuple(
        f"{photo.image_id}: {task.name} {what}"
        for task, rows in found.items()
        for photo, what in rows
        if what not in (*task.classes, NO_LABEL)
    )
    if faults:
        return Finding(PROBLEM, f"{counted(len(faults), 'label')} that cannot be read", faults)
    lacking = {task.name: sum(what == NO_LABEL for _, what in rows) for task, rows in found.items()}
    lines = tuple(f"{name}: {count} of {len(data.train)} photos have none" for name, count in lacking.items() if count)
    if data.train and all(count == len(data.train) for count in lacking.values()):
        return Finding(PROBLEM, "no training photo has a label", lines, lacking)
    if lines:
        return Finding(WARNING, "labels are missing; a task learns from the photos that have its label", lines, lacking)
    return Finding(OK, f"every training photo has a label for {name_some([task.name for task in TASKS])}")
