"""Draw the picture of README.md: eight drawn people, each bare, masked, and masked wrongly.

python scripts/make_readme_picture.py        docs/images/sample_people.jpg
"""

import sys
import tempfile
from pathlib import Path

# Run as a script, only this folder is on the path, not the repository that the packages lie in.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core.contact_sheet import photo_grid
from core.images import write_photo
from synthesis.drawn import sample

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "sample_people.jpg"
ROWS = ("normal", "mask1", "incorrect_mask")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "sample"
        sample.main(["--out", str(out), "--train-people", "8", "--eval-photos", "1", "--seed", "3"])
        persons = sorted((out / "train" / "images").iterdir())
        sheet = photo_grid([person / f"{stem}.jpg" for stem in ROWS for person in persons])
    write_photo(PICTURE, sheet, quality=88)


if __name__ == "__main__":
    main()
