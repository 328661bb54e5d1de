"""Random appearance of a person. Gender and age show in it, with the overlap found in real people."""

from dataclasses import dataclass

import numpy as np

from synthesis.drawn.canvas import Colour, mix

YOUNGEST, OLDEST = 18, 69

SKIN_TONES: tuple[Colour, ...] = (
    *((238, 209, 189), (231, 197, 171), (222, 181, 151), (206, 161, 127)),
    *((184, 136, 103), (154, 108, 80), (122, 83, 60)),
)
HAIR_COLOURS: tuple[Colour, ...] = (
    *((30, 26, 27), (46, 33, 28), (74, 49, 35), (104, 71, 47)),
    *((140, 100, 62), (186, 150, 98), (124, 60, 38)),
)
GREY_HAIR: Colour = (188, 187, 186)
EYE_COLOURS: tuple[Colour, ...] = ((52, 34, 24), (78, 52, 34), (104, 76, 44), (92, 108, 74), (86, 116, 142))
CLOTHES: tuple[Colour, ...] = (
    *((52, 62, 84), (208, 210, 212), (118, 42, 48), (62, 92, 72), (92, 92, 98)),
    *((196, 176, 148), (64, 104, 150), (34, 34, 38), (170, 116, 128), (214, 190, 92)),
)


@dataclass(frozen=True)
class Trait:
    """Measure of a face: mean for a man and a woman of 18, change up to 69, standard deviation and limits."""

    name: str
    male: float
    female: float
    by_age: float
    spread: float
    low: float
    high: float


TRAITS: tuple[Trait, ...] = (
    Trait("face_width", 1.03, 0.97, 0.02, 0.025, 0.9, 1.1),
    Trait("jaw_width", 1.04, 0.92, 0.05, 0.035, 0.8, 1.14),
    Trait("chin_width", 1.10, 0.82, 0.06, 0.08, 0.65, 1.3),
    Trait("chin_length", 0.10, -0.16, 0.04, 0.07, -0.3, 0.28),
    Trait("neck_width", 1.55, 1.18, 0.08, 0.07, 1.0, 1.75),
    Trait("shoulder_width", 4.6, 3.8, 0.1, 0.2, 3.4, 5.1),
    Trait("eye_size", 0.97, 1.11, -0.13, 0.035, 0.8, 1.2),
    Trait("eye_open", 0.98, 1.10, -0.22, 0.07, 0.65, 1.3),
    Trait("eye_tilt", 0.02, 0.06, -0.07, 0.03, -0.1, 0.14),
    Trait("lashes", 0.20, 0.85, -0.20, 0.16, 0.05, 1.0),
    Trait("eye_shadow", 0.02, 0.42, -0.05, 0.16, 0.0, 0.8),
    Trait("brow_thickness", 0.27, 0.155, -0.04, 0.03, 0.09, 0.36),
    Trait("brow_height", 0.70, 0.86, -0.03, 0.05, 0.58, 1.0),
    Trait("brow_arch", 0.08, 0.15, -0.04, 0.045, 0.0, 0.32),
    Trait("nose_width", 0.60, 0.51, 0.10, 0.04, 0.42, 0.78),
    Trait("nose_length", 1.24, 1.16, 0.09, 0.05, 1.05, 1.45),
    Trait("mouth_width", 0.90, 0.83, -0.02, 0.05, 0.7, 1.02),
    Trait("lip_fullness", 0.86, 1.22, -0.38, 0.10, 0.4, 1.5),
    Trait("lip_colour", 0.22, 0.72, -0.08, 0.17, 0.05, 1.0),
    Trait("cheek_colour", 0.20, 0.48, -0.15, 0.13, 0.0, 0.8),
    Trait("wrinkles", -0.04, -0.07, 0.98, 0.08, 0.0, 1.0),
    Trait("eye_bags", 0.08, 0.04, 0.78, 0.12, 0.0, 1.0),
    Trait("sagging", -0.1, -0.1, 0.85, 0.09, 0.0, 1.0),
    Trait("spots", -0.2, -0.25, 0.95, 0.16, 0.0, 1.0),
)


@dataclass(frozen=True)
class HairStyle:
    """Haircut: weights for men and women of 18, factor on them at 69, and its shape in face units."""

    name: str
    male: float
    female: float
    by_age: float
    volume: float
    fringe: str
    reach: float = 0.0
    curl: float = 0.0
    bun: bool = False


HAIR_STYLES: tuple[HairStyle, ...] = (
    HairStyle("buzz", 1.6, 0.0, 1.5, 0.10, "up"),
    HairStyle("crop", 3.5, 0.3, 1.6, 0.30, "up"),
    HairStyle("side_part", 3.0, 0.3, 1.6, 0.40, "side"),
    HairStyle("fringe", 3.2, 0.3, 0.1, 0.42, "straight"),
    HairStyle("curls", 1.0, 0.9, 1.3, 0.55, "up", curl=0.14),
    HairStyle("pixie", 0.1, 0.9, 4.0, 0.42, "side"),
    HairStyle("bob", 0.1, 2.2, 1.3, 0.42, "straight", reach=2.6),
    HairStyle("wavy_bob", 0.1, 1.6, 2.2, 0.48, "side", reach=3.2, curl=0.12),
    HairStyle("long", 0.2, 3.2, 0.3, 0.40, "centre", reach=6.2),
    HairStyle("long_fringe", 0.0, 2.2, 0.2, 0.42, "straight", reach=6.0),
    HairStyle("long_waves", 0.1, 2.2, 0.5, 0.48, "side", reach=5.4, curl=0.12),
    HairStyle("bun", 0.15, 1.7, 1.2, 0.26, "up", bun=True),
)


@dataclass(frozen=True)
class Beard:
    """Beard: its frequency among men, the areas it covers (rows of `face.BEARD_AREAS`), and its density."""

    name: str
    frequency: float
    areas: tuple[str, ...]
    density: tuple[float, float]


BEARDS: tuple[Beard, ...] = (
    Beard("none", 0.40, (), (0.0, 0.0)),
    Beard("stubble", 0.27, ("moustache", "cheeks"), (0.30, 0.42)),
    Beard("moustache", 0.09, ("moustache",), (0.80, 0.95)),
    Beard("goatee", 0.08, ("moustache", "chin"), (0.80, 0.95)),
    Beard("full", 0.16, ("moustache", "cheeks"), (0.80, 0.95)),
)


@dataclass(frozen=True)
class Person:
    """Appearance of one drawn person. Lengths in face units, strengths from 0 to 1 (see `TRAITS`)."""

    gender: str
    age: int
    measures: dict[str, float]
    skin: Colour
    hair: Colour
    eyes: Colour
    clothes: Colour
    style: HairStyle
    grey: float
    recede: float
    parting: float
    beard: Beard
    beard_strength: float
    glasses: float
    earrings: bool
    collar: str
    texture_seed: int

    def __getitem__(self, trait: str) -> float:
        return self.measures[trait]


def random_person(rng: np.random.Generator, gender: str, age: int) -> Person:
    """Draw a person of the given gender ("male" or "female") and age in years from `rng`."""
    ageing = (age - YOUNGEST) / (OLDEST - YOUNGEST)
    man = gender == "male"
    tone = rng.uniform(0, len(SKIN_TONES) - 1)
    beard = _beard(rng, man)
    return Person(
        gender=gender,
        age=age,
        measures={trait.name: _measure(trait, rng, man, ageing) for trait in TRAITS},
        skin=_between(SKIN_TONES, tone),
        hair=_hair_colour(rng, tone, ageing),
        style=_style(rng, man, ageing),
        eyes=EYE_COLOURS[min(int(rng.exponential(1.1 if tone < 3 else 0.5)), len(EYE_COLOURS) - 1)],
        clothes=_jitter(rng, CLOTHES[rng.integers(len(CLOTHES))], 14),
        grey=_grey(rng, man, age),
        recede=float(np.clip(rng.normal(1.15 * ageing - 0.2, 0.24), 0, 1)) if man else 0.0,
        parting=float(rng.choice((-1, 1)) * rng.uniform(0.35, 0.9)),
        beard=beard,
        beard_strength=float(rng.uniform(*beard.density)),
        glasses=float(rng.random() < 0.16) * rng.uniform(0.5, 1),
        earrings=bool(rng.random() < (0.04 if man else 0.45)),
        collar=str(rng.choice(("round", "v", "shirt"))),
        texture_seed=int(rng.integers(2**31)),
    )


def _measure(trait: Trait, rng: np.random.Generator, man: bool, ageing: float) -> float:
    mean = (trait.male if man else trait.female) + trait.by_age * ageing
    return float(np.clip(rng.normal(mean, trait.spread), trait.low, trait.high))


def _style(rng: np.random.Generator, man: bool, ageing: float) -> HairStyle:
    weights = np.array([(style.male if man else style.female) * style.by_age**ageing for style in HAIR_STYLES])
    return HAIR_STYLES[rng.choice(len(HAIR_STYLES), p=weights / weights.sum())]


def _hair_colour(rng: np.random.Generator, tone: float, ageing: float) -> Colour:
    """Draw a hair colour: mostly dark, lighter with lighter skin, slightly faded with age."""
    darkness = rng.exponential(1.9 if tone < 2.5 else 0.6)
    colour = HAIR_COLOURS[min(int(darkness), len(HAIR_COLOURS) - 1)]
    shift = rng.uniform(0.85, 1.2)
    return mix(tuple(value * shift for value in colour), GREY_HAIR, 0.08 * ageing)


def _grey(rng: np.random.Generator, man: bool, age: int) -> float:
    """Draw the fraction of grey hair: rising from about 35 years on, reduced by dye for some."""
    natural = np.clip(rng.normal((age - 36) / 26, 0.16), 0, 1)
    dyed = rng.random() < (0.06 if man else 0.30)
    return float(natural * (0.25 if dyed else 1.0))


def _beard(rng: np.random.Generator, man: bool) -> Beard:
    kind = BEARDS[rng.choice(len(BEARDS), p=[beard.frequency for beard in BEARDS])]
    return kind if man else BEARDS[0]


def _between(colours: tuple[Colour, ...], place: float) -> Colour:
    first = min(int(place), len(colours) - 2)
    return mix(colours[first], colours[first + 1], place - first)


def _jitter(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    return tuple(float(np.clip(value + rng.normal(0, spread), 12, 250)) for value in colour)
