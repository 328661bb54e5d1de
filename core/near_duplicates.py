"""Which photos show the same picture: copied, re-encoded, resized or mirrored.

A picture's hash is the signs of its 256 lowest frequencies but the mean (as in pHash, with more of them, since faces
cut alike have the lowest ones in common).
"""

from collections.abc import Sequence

import cv2
import numpy as np

SIDE = 64
FREQUENCIES = 16
SAME_BITS = 44
"""So many of the 256 bits may differ in two copies of a picture. Other pictures, even of faces cut alike, differ in
more; where one pair in millions does not, a photo too many is left out."""
ROWS_AT_ONCE = 256
_MIRROR = np.packbits(np.tile(np.arange(FREQUENCIES) % 2, FREQUENCIES).astype(np.uint8)).view(np.uint64)
"""A mirrored picture has the signs of its odd frequencies across turned round."""


def image_hash(photo: np.ndarray) -> str:
    """The hash of (H, W, 3) uint8 as 64 hexadecimal digits."""
    way = cv2.INTER_AREA if min(photo.shape[:2]) > SIDE else cv2.INTER_LINEAR
    grey = cv2.cvtColor(cv2.resize(photo, (SIDE, SIDE), interpolation=way), cv2.COLOR_RGB2GRAY).astype(np.float32)
    waves = cv2.dct(grey)[:FREQUENCIES, :FREQUENCIES]
    signs = (waves > 0).astype(np.uint8)
    signs[0, 0] = 0
    return np.packbits(signs).tobytes().hex()


def find_near_duplicates(hashes: Sequence[str], same_bits: int = SAME_BITS) -> list[tuple[int, int]]:
    """All pairs (i, j), i < j, of places in `hashes` that are of the same picture, mirrored ones included."""
    if not hashes:
        return []
    words = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint64).reshape(len(hashes), -1)
    pairs = []
    for start in range(0, len(words), ROWS_AT_ONCE):
        rows, rest = words[start : start + ROWS_AT_ONCE], words[start:]
        for mirror in (np.zeros_like(_MIRROR), _MIRROR):
            near = _distances(rows ^ mirror, rest) <= same_bits
            pairs += [(start + i, start + j) for i, j in np.argwhere(near).tolist() if i < j]
    return sorted(set(pairs))


def _distances(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Differing bits of each of (R, 4) with each of (N, 4) uint64 words: (R, N) uint16."""
    total = np.zeros((len(rows), len(others)), np.uint16)
    for word in range(rows.shape[1]):
        total += np.bitwise_count(rows[:, word, None] ^ others[None, :, word])
    return total


def groups(count: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """The first member of each one's group, where pairs join groups: (count) places."""
    first = list(range(count))

    def find(place: int) -> int:
        while first[place] != place:
            first[place] = first[first[place]]
            place = first[place]
        return place

    for one, other in pairs:
        low, high = sorted((find(one), find(other)))
        first[high] = low
    return [find(place) for place in range(count)]
