"""The anatomy of a phantom chest radiograph: lungs, mediastinum, heart, bones, diaphragm, vessels.

A radiograph shows how much X-ray the body takes away along each ray, so every structure is a *thickness*
added to (bone, heart, liver) or taken from (air of the lungs) the soft tissue of the trunk; :func:`draw` adds
them up and puts them through a detector curve. Coordinates are fractions of the picture, ``x`` to the right
and ``y`` downwards, as a radiologist sees it: the heart lies on the right of the picture. The layout follows
the measured zones of QaTa-COV19: lungs from about 0.12 to 0.70 of the height.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, zoom

_LINES = 320  # side of the canvas on which bones and vessels are drawn, whatever the picture's size


@dataclass(frozen=True)
class Patient:
    """What differs between patients; all lengths are fractions of the picture's side."""

    centre: float  # x of the spine
    top: float  # y of the lungs' tips
    domes: tuple[float, float]  # y of the diaphragm's tops, left and right of the picture
    width: float  # half the width of the rib cage at its base
    tilt: float  # radians
    heart: tuple[float, float]  # half axes of the heart
    aorta: float  # radius of the aortic knob
    breath: float  # 0 to 1: how dark the lungs are
    fat: float  # 0 to 1: thickness of the soft tissue outside the rib cage
    bone: float  # contrast of the bones
    rib_phase: float  # y of the first rib
    gamma: float  # detector curve
    marker: int  # 0: none, 1: an R on the patient's right
    seed: int  # of vessels, texture and noise


def patient(rng: np.random.Generator) -> Patient:
    """Draw one patient."""
    base = rng.uniform(0.665, 0.72)
    return Patient(
        centre=rng.uniform(0.485, 0.515),
        top=rng.uniform(0.095, 0.135),
        domes=(base - rng.uniform(0.01, 0.035), base),
        width=rng.uniform(0.335, 0.385),
        tilt=rng.uniform(-0.035, 0.035),
        heart=(rng.uniform(0.165, 0.205), rng.uniform(0.105, 0.135)),
        aorta=rng.uniform(0.028, 0.042),
        breath=rng.uniform(0.72, 1.0),
        fat=rng.uniform(0.0, 1.0),
        bone=rng.uniform(0.7, 1.15),
        rib_phase=rng.uniform(0.0, 1.0),
        gamma=rng.uniform(0.85, 1.2),
        marker=int(rng.random() < 0.5),
        seed=int(rng.integers(2**31)),
    )


def _grid(who: Patient, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates ``x, y`` (size, size) of the pixels in the patient's upright frame."""
    axis = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(axis, axis)
    cos, sin = np.cos(who.tilt), np.sin(who.tilt)
    dx, dy = x - who.centre, y - 0.45
    return who.centre + cos * dx + sin * dy, 0.45 - sin * dx + cos * dy


def _step(distance: np.ndarray, soft: float) -> np.ndarray:
    """0 outside, 1 inside, over a rim of width ``soft``."""
    return 1.0 / (1.0 + np.exp(-np.clip(distance / soft, -40, 40)))


def _dome(who: Patient, x: np.ndarray, side: int) -> np.ndarray:
    """Height y of the diaphragm above column x; ``side`` -1 is the left of the picture."""
    across = side * (x - who.centre)  # 0 at the spine, growing outwards
    off = (across - 0.5 * who.width) / (0.5 * who.width)
    drop = np.where(off > 0, 0.10 * np.clip(off, 0, 1.6) ** 2.4, 0.035 * np.clip(-off, 0, 1.2) ** 2)
    return who.domes[0 if side < 0 else 1] + drop


def lung_depth(who: Patient, size: int) -> np.ndarray:
    """Depth (size, size) of each pixel below its lung's nearest wall, in picture sides; negative outside."""
    x, y = _grid(who, size)
    depth = np.full((size, size), -1.0)
    for side in (-1, 1):
        across = side * (x - who.centre)
        base = who.domes[0 if side < 0 else 1] + 0.13
        up = np.clip((base - y) / (base - who.top), 0, 1.2)  # 0 at the base, 1 at the tip
        outer = who.width * np.sqrt(np.clip(1 - up**3.2, 0, None)) * (1 - 0.06 * (1 - up))
        inner = 0.058 + 0.035 * np.exp(-(((y - 0.36) / 0.07) ** 2)) + 0.03 * np.clip(up - 0.75, 0, 1)
        inner = inner + 0.02 * np.clip((y - 0.5) / 0.2, 0, 1)
        wall = np.minimum.reduce([outer - across, across - inner, _dome(who, x, side) - y, y - who.top])
        depth = np.maximum(depth, wall)
    return depth


def _heart(who: Patient, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance inside the heart's outline, negative outside."""
    a, b = who.heart
    dx, dy = x - who.centre - 0.30 * a, y - (who.domes[1] - 0.72 * b)
    cos, sin = np.cos(0.62), np.sin(0.62)
    u, v = cos * dx + sin * dy, -sin * dx + cos * dy
    return (1 - np.sqrt((u / a) ** 2 + (v / b) ** 2)) * b


def clear_lung(who: Patient, size: int) -> np.ndarray:
    """Where an opacity would be seen: lung not behind the heart, bool (size, size)."""
    x, y = _grid(who, size)
    return (lung_depth(who, size) > 0.010) & (_heart(who, x, y) < -0.004)


class _Canvas:
    """Soft lines in the patient's frame, drawn large and brought to the picture's size."""

    def __init__(self, who: Patient):
        self.who = who
        self.image = Image.new("L", (_LINES, _LINES), 0)
        self.pen = ImageDraw.Draw(self.image)

    def line(self, xs: np.ndarray, ys: np.ndarray, width: float, value: float) -> None:
        """A polyline of the given width (picture sides) and value (0 to 1), joined with round dots."""
        cos, sin = np.cos(self.who.tilt), np.sin(self.who.tilt)
        dx, dy = xs - self.who.centre, ys - 0.45
        px = (self.who.centre + cos * dx - sin * dy) * _LINES
        py = (0.45 + sin * dx + cos * dy) * _LINES
        points = [(float(a), float(b)) for a, b in zip(px, py, strict=True)]
        pixels = max(1, round(width * _LINES))
        self.pen.line(points, fill=round(255 * value), width=pixels)

    def array(self, size: int, blur: float) -> np.ndarray:
        """The canvas as (size, size) float32 in [0, 1], blurred by ``blur`` (picture sides)."""
        soft = gaussian_filter(np.asarray(self.image, dtype=np.float32) / 255, blur * _LINES)
        return np.asarray(Image.fromarray(soft).resize((size, size), Image.Resampling.BOX))


def _ribs(who: Patient, size: int) -> np.ndarray:
    """Ribs with brighter rims: broad bands falling outwards behind, steeper ones coming back in front."""
    back, front = _Canvas(who), _Canvas(who)
    t = np.linspace(0, 1, 24)
    for canvas, behind in ((back, True), (front, False)):
        for number in range(9 if behind else 6):
            start = 0.075 + 0.066 * (number + 0.5 * who.rib_phase) + (0.0 if behind else 0.16)
            reach = who.width * np.sqrt(np.clip(1 - (1 - (start - who.top + 0.12) / 0.62) ** 3, 0.08, 1)) * 1.03
            for side in (-1, 1):
                if behind:
                    across = 0.045 + (reach - 0.045) * np.sin(t * np.pi / 2) ** 0.9
                    down = start - 0.02 * np.sin(np.pi * t * 0.7) + 0.1 * t**2.6
                else:
                    across = reach * (1 - 0.62 * t)
                    down = start - 0.05 + 0.12 * t - 0.035 * np.sin(np.pi * t)
                xs = who.centre + side * across
                width = 0.023 if behind else 0.02
                canvas.line(xs, down, width, 1.0)
                canvas.line(xs, down, 0.6 * width, 0.62)
    return back.array(size, 0.0025) + 0.6 * front.array(size, 0.004)


def _shoulders(who: Patient, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Clavicles with scapulae and arms' heads, and the spine with its bodies."""
    bones, spine = _Canvas(who), _Canvas(who)
    t = np.linspace(0, 1, 24)
    for side in (-1, 1):
        xs = who.centre + side * (0.035 + 0.36 * t)
        ys = who.top + 0.055 - 0.075 * t + 0.028 * np.sin(2 * np.pi * t)
        bones.line(xs, ys, 0.028, 1.0)
        bones.line(xs, ys, 0.017, 0.7)
        blade = who.centre + side * (0.30 + 0.09 * np.sin(np.pi * t * 0.9))
        bones.line(blade, who.top + 0.03 + 0.27 * t, 0.018, 0.45)
        arm = who.centre + side * np.full(2, 0.47)
        bones.line(arm, np.array([who.top + 0.02, who.top + 0.4]), 0.075, 0.45)
    for number in range(17):
        y = 0.01 + 0.058 * number + 0.02 * who.rib_phase
        spine.line(np.array([who.centre - 0.028, who.centre + 0.028]), np.array([y, y]), 0.040, 1.0)
    return bones.array(size, 0.003), spine.array(size, 0.005)


def _vessels(who: Patient, size: int, rng: np.random.Generator) -> np.ndarray:
    """Pulmonary vessels: branches that leave each hilum and taper towards the wall."""
    canvas = _Canvas(who)
    for side in (-1, 1):
        for angle in np.linspace(-1.35, 1.35, 13) + rng.normal(0, 0.08, 13):
            x, y, turn = who.centre + side * 0.085, 0.37 + 0.05 * np.sin(angle), angle
            width = rng.uniform(0.009, 0.014)
            for _ in range(9):
                turn += rng.normal(0, 0.16)
                xs = np.array([x, x + side * 0.028 * np.cos(turn)])
                ys = np.array([y, y + 0.028 * np.sin(turn)])
                canvas.line(xs, ys, width, min(1.0, 0.35 + 40 * width))
                fork = turn + rng.choice([-0.6, 0.6])
                canvas.line(
                    np.array([xs[1], xs[1] + side * 0.035 * np.cos(fork)]),
                    np.array([ys[1], ys[1] + 0.035 * np.sin(fork)]),
                    0.6 * width,
                    0.45,
                )
                x, y, width = xs[1], ys[1], 0.84 * width
    return canvas.array(size, 0.003)


def texture(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Smooth noise (size, size), mean 0 and deviation about 1, with ``cells`` cells across."""
    coarse = rng.normal(size=(cells + 3, cells + 3))
    fine = zoom(coarse, size / cells, order=3)
    return fine[:size, :size]


def draw(who: Patient, size: int, opacity: np.ndarray) -> np.ndarray:
    """The radiograph, (size, size) uint8; ``opacity`` (size, size) is 1 where fluid fills the lung."""
    rng = np.random.default_rng(who.seed)
    x, y = _grid(who, size)
    depth = lung_depth(who, size)
    near = np.clip(depth / 0.11, 0, 1)
    air = np.where(depth > 0, np.sqrt(near * (2 - near)), 0.0)  # round lungs: air is thin at the walls
    air = gaussian_filter(air, 0.004 * size) * (0.82 + 0.25 * np.clip((y - 0.15) / 0.5, 0, 1))
    across = np.abs(x - who.centre)

    # Trunk: neck, sloping shoulders, flanks.
    neck = 0.085 + 0.02 * who.fat
    shoulder = np.clip((y + 0.03) / 0.16, 0, 1)
    trunk = np.where(y < 0.14, neck + (0.46 - neck) * shoulder**1.6, 0.47 + 0.02 * who.fat)
    flank = who.width + 0.05 + 0.05 * who.fat + 0.05 * np.clip(0.45 - y, 0, 1)
    body = 0.30 * _step(trunk - across, 0.010)
    body += 0.34 * np.sqrt(np.clip(1 - (across / flank) ** 2, 0, 1)) * np.clip((y + 0.1) / 0.3, 0.25, 1)

    heart = np.clip(_heart(who, x, y) / 0.09, 0, 1) * _step(_dome(who, x, 1) - y, 0.012)
    middle = _step(0.062 + 0.012 * np.cos(9 * y) - across, 0.008) * (0.22 + 0.06 * np.clip(y / 0.6, 0, 1))
    knob = _step(who.aorta - np.hypot(x - who.centre - 0.06, y - 0.275), 0.006) * 0.16
    trachea = 0.12 * _step(0.017 - across, 0.005) * _step(0.31 - y, 0.02)
    hila = sum(
        0.16 * np.exp(-(((x - who.centre - side * 0.085) / 0.028) ** 2) - ((y - 0.385) / 0.05) ** 2) for side in (-1, 1)
    )
    belly = 0.0
    for side in (-1, 1):
        below = y - _dome(who, x, side)
        half = _step(side * (x - who.centre), 0.01)
        rim = 0.004 + 0.10 * np.clip((across - who.width + 0.01) / 0.05, 0, 1)  # no edge outside the lungs
        belly = belly + half * _step(below, rim) * (0.36 + 0.10 * np.clip(below / 0.2, 0, 1))
    belly = belly * _step(flank - across, 0.04)
    bubble = np.exp(-(((x - who.centre - 0.17) / 0.05) ** 2) - ((y - who.domes[1] - 0.055) / 0.028) ** 2)

    bones, spine = _shoulders(who, size)
    core = np.hypot(0.36 * np.sqrt(heart * (2 - heart)), middle)  # one shadow, not two laid over each other
    thick = body + gaussian_filter(core, 0.004 * size) + knob + hila - trachea + belly
    thick -= 0.10 * bubble * (who.fat < 0.6)
    thick += who.bone * (0.085 * _ribs(who, size) * _step(trunk - across, 0.02) + 0.12 * bones + 0.08 * spine)
    vessels = _vessels(who, size, rng) * np.where(depth > 0, 1.0, 0.0)
    lung = 0.54 * who.breath * air
    thick -= lung * (1 - 0.30 * vessels) * (1 - np.clip(opacity, 0, 1))
    thick += 0.012 * texture(rng, size, 9) + 0.010 * texture(rng, size, 28) * (air > 0.1)

    thick = 0.85 * thick + 0.15 * gaussian_filter(thick, 0.05 * size)  # scattered rays veil the picture
    light = np.clip(thick - 0.02, 0, None) ** (1.5 * who.gamma)
    light = 1.06 * light / (0.30 + light)  # the film's toe and shoulder
    light += rng.normal(size=(size, size)) * 0.014 * (1.25 - np.clip(light, 0, 1))
    if who.marker:
        _mark(light)
    return np.round(np.clip(light, 0, 1) * 255).astype(np.uint8)


def _mark(light: np.ndarray) -> None:
    """The radiographer's R, beside the patient's right shoulder: on the left of the picture."""
    letter = np.array([[int(bit) for bit in row] for row in ("1110", "1001", "1110", "1010", "1001")])
    scale = max(1, len(light) // 112)
    letter = np.kron(letter, np.ones((scale, scale)))
    row, column = int(0.05 * len(light)), int(0.05 * len(light))
    patch = light[row : row + letter.shape[0], column : column + letter.shape[1]]
    patch[letter > 0] = 0.95
