"""Draw one photo of a person with random pose, expression and light."""

from dataclasses import dataclass

import cv2
import numpy as np

from synthesis.drawn.canvas import HEAD_MIDDLE_Y, HEAD_RADII, Canvas, Colour, Pose, curve, mirrored, mix, ribbon
from synthesis.drawn.face import HAIRLINE_Y, draw_face, head_outline
from synthesis.drawn.facial_features import SHADOW, SIDES, Expression, mouth_corner
from synthesis.drawn.hair import draw_back_hair, draw_front_hair
from synthesis.drawn.person import CLOTHES, Person

HEIGHT, WIDTH = 512, 384
COARSE = 8


@dataclass(frozen=True)
class Portrait:
    """Drawn photo, with landmarks and box of the face in pixels.

    photo      (512, 384, 3) uint8 RGB, without camera effects (see `synthesis.camera`)
    landmarks  (5, 2) float32: eyes, nose tip, mouth corners, the viewer's left first
    box        x1, y1, x2, y2 of the face from chin to hairline
    """

    photo: np.ndarray
    landmarks: np.ndarray
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Shot:
    """Parameters that differ between two photos of the same person."""

    pose: Pose
    expression: Expression
    light: tuple[float, float, float]
    contrast: float
    wall: Colour


def random_shot(rng: np.random.Generator) -> Shot:
    """Draw pose, expression, light and wall of one photo."""
    scale = float(np.clip(rng.normal(36, 4.5), 25, 47))
    x, y = rng.normal(WIDTH / 2, 14), rng.normal(HEIGHT * 0.44 - 0.6 * (scale - 36), 18)
    roll, yaw, pitch = np.deg2rad(rng.normal(0, (5, 8, 4))).tolist()
    angle, height = rng.uniform(-1.2, 1.2), rng.uniform(-0.1, 0.7)
    light = np.array([np.sin(angle), -height, np.cos(angle) + 0.35])
    return Shot(
        pose=Pose(scale, x, y, roll=roll, yaw=yaw, pitch=pitch),
        expression=Expression(smile=rng.uniform(0.0, 0.32), eyelids=rng.uniform(0.8, 1.05), gaze=rng.normal(0, 0.05)),
        light=tuple(light / np.linalg.norm(light)),
        contrast=rng.uniform(0.25, 0.75),
        wall=mix(CLOTHES[rng.integers(len(CLOTHES))], (206, 204, 200), rng.uniform(0.2, 0.9)),
    )


def draw_person(person: Person, rng: np.random.Generator) -> Portrait:
    """Draw one photo of `person`; pose, expression, light and background come from `rng`."""
    shot = random_shot(rng)
    light = _light(shot)
    # The wall is not lit by the lamp: dividing here cancels the light applied to the whole image below.
    canvas = Canvas(_background(shot, rng) / light, shot.pose)
    draw_back_hair(canvas, person)
    _body(canvas, person)
    draw_face(canvas, person, shot.expression)
    draw_front_hair(canvas, person)
    photo = cv2.merge(list(np.clip(canvas.planes * light, 0, 255).astype(np.uint8)))
    return Portrait(photo, _landmarks(person, shot), _box(person, shot.pose))


def _landmarks(person: Person, shot: Shot) -> np.ndarray:
    corner_x, corner_y = mouth_corner(person, shot.expression)
    flat = shot.pose.project(np.array([(-1, 0), (1, 0), (-corner_x, corner_y), (corner_x, corner_y)]))
    nose = shot.pose.project(np.array([(0, person["nose_length"] + 0.02)]), lift=0.55)
    return np.concatenate([flat[:2], nose, flat[2:]])


def _box(person: Person, pose: Pose) -> tuple[float, float, float, float]:
    outline = head_outline(person)
    face = pose.project(outline[outline[:, 1] > HAIRLINE_Y])
    (left, top), (right, bottom) = face.min(axis=0), face.max(axis=0)
    return float(left), float(top), float(right), float(bottom)


def _background(shot: Shot, rng: np.random.Generator) -> np.ndarray:
    """Paint a blurred wall with a light gradient and a few rectangles, (3, H, W) float32."""
    rows, columns = HEIGHT // COARSE, WIDTH // COARSE
    across = np.linspace(-1, 1, columns, dtype=np.float32)[None, :, None]
    down = np.linspace(-1, 1, rows, dtype=np.float32)[:, None, None]
    gain = 1 + 0.18 * (across * np.float32(shot.light[0]) - down * np.float32(rng.uniform(-0.2, 0.8)))
    coarse = np.float32(shot.wall) * gain
    for _ in range(rng.integers(0, 6)):
        x, y = rng.integers(0, columns), rng.integers(0, rows)
        tall, wide = rng.integers(6, 40), rng.integers(3, 18)
        colour = mix(shot.wall, CLOTHES[rng.integers(len(CLOTHES))], rng.uniform(0.2, 0.6))
        cv2.rectangle(coarse, (int(x), int(y)), (int(x + wide), int(y + tall)), colour, -1)
    planes = cv2.split(cv2.GaussianBlur(coarse, (0, 0), rng.uniform(0.5, 1.6)))
    return np.stack([cv2.resize(plane, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for plane in planes])


def _body(canvas: Canvas, person: Person) -> None:
    """Paint neck and shoulders, which lean less than the head."""
    pose = canvas.pose
    ((x, y),) = pose.project(np.array([(0, 3.95)]))
    body = Canvas(canvas.planes, Pose(pose.scale, x, y, roll=pose.roll * 0.3))
    neck, wide = person["neck_width"], person["shoulder_width"]
    column = curve(mirrored([(neck, -2.6), (neck * 0.96, 0.1), (neck * 1.5, 1.2), (neck, 3)]), closed=True)
    skin = mix(person.skin, (120, 70, 50), 0.08)
    body.fill(column, skin, soft=0.03)
    body.shade(np.minimum(column, (9, 0.55)), SHADOW, soft=0.25, strength=0.75, within=body.mask(column))
    cut = {"round": 0.75, "v": 1.9, "shirt": 1.4}[person.collar]
    opening = [(0, 0.35 + cut), (neck * 0.5, 0.3 + 0.75 * cut), (neck * 1.1, 0.25)]
    shoulder = [(wide * 0.72, 1.0), (wide, 2.0), (wide * 1.12, 4.5), (wide * 1.2, 12.0)]
    body.fill(curve(mirrored([*opening, *shoulder])[:-1], closed=True), person.clothes, soft=0.03)
    _collar(body, person, cut, opening)


def _collar(body: Canvas, person: Person, cut: float, opening: list[tuple[float, float]]) -> None:
    neck = person["neck_width"]
    edge = [*((-x, y) for x, y in reversed(opening)), *opening[1:]]
    body.shade(ribbon(edge, 0.2, (1.0, 1.0)), (0.78, 0.78, 0.8), soft=0.03)
    if person.collar != "shirt":
        return
    for side in SIDES:
        flap = np.array(
            [(side * neck * 1.1, -0.05), (side * 0.1, cut + 0.3), (side * 0.75, cut + 0.9), (side * neck * 1.25, 0.75)]
        )
        body.fill(flap, mix(person.clothes, (255, 255, 255), 0.18), soft=0.03)
        body.shade(ribbon(flap[1:], 0.08, (1.0, 1.0)), (0.7, 0.7, 0.72), soft=0.02)


def _light(shot: Shot) -> np.ndarray:
    """Return the light on each pixel, near 1, (H, W) float32.

    The person is modelled as an ellipsoid under one lamp in a bright room (Lambert's cosine law).
    """
    pose, step = shot.pose, COARSE
    y, x = np.mgrid[0 : HEIGHT // step, 0 : WIDTH // step].astype(np.float32) * step + (step - 1) / 2
    x, y = (x - pose.x) / pose.scale, (y - pose.y) / pose.scale
    cos, sin = np.cos(pose.roll), np.sin(pose.roll)
    across = (cos * x + sin * y) / HEAD_RADII[0]
    down = (cos * y - sin * x - HEAD_MIDDLE_Y) / HEAD_RADII[1]
    length = np.maximum(np.hypot(across, down), 1)
    across, down = across / length, down / length
    outward = np.sqrt(np.clip(1 - across**2 - down**2, 0, 1))
    lit = np.clip(across * shot.light[0] + 0.7 * down * shot.light[1] + outward * shot.light[2], 0, 1)
    return cv2.resize((1 + shot.contrast * (lit - 0.66)).astype(np.float32), (WIDTH, HEIGHT))
