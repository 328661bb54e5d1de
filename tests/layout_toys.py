"""Data roots in the competition and the re-made layout, of empty files: scanning never looks into a photo."""

from pathlib import Path

STEMS = ("mask1", "mask2", "mask3", "mask4", "mask5", "incorrect_mask", "normal")
ANNA, BORIS = "000001_female_Asian_31", "001498-1_male_Asian_23"
HEADER = "id,gender,race,age,path\n"
ROWS = f"000001,female,Asian,31,{ANNA}\n001498-1,male,Asian,23,{BORIS}\n"


def touch(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def add_person(folder: Path, stems: tuple[str, ...] = STEMS, ending: str = ".jpg") -> None:
    for stem in stems:
        touch(folder / f"{stem}{ending}")


def make_competition(root: Path) -> Path:
    """Two people to train on, two photos to predict, all tables there."""
    for person in (BORIS, ANNA):
        add_person(root / "train" / "images" / person)
    touch(root / "train" / "train.csv", HEADER + ROWS)
    for name in ("b.jpg", "a.jpg"):
        touch(root / "eval" / "images" / name)
    touch(root / "eval" / "info.csv", "ImageID,ans\nb.jpg,0\na.jpg,0\n")
    return root


def make_remade(root: Path) -> Path:
    """Two people to train on, three photos to predict."""
    for person in (BORIS, ANNA):
        add_person(root / "images" / "train" / person)
    for name in (
        "000007_male_White_40_mask3.jpg",
        "000008_Female_Black_24_incorrect_mask.PNG",
        "9_male_x_39_Normal.jpeg",
    ):
        touch(root / "images" / "eval" / name)
    return root
