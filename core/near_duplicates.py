"""Near-duplicates: photos that show the same image copied, re-encoded, resized or mirrored.

An image's hash is the signs of its 256 lowest frequencies without the mean, as in pHash, with more of them, since face
crops have the lowest ones in common. Among many portraits of one composition some hashes are close by chance, so where
the images are at hand their details are compared as well.
"""

from collections.abc import Sequence

import cv2
import numpy as np

SIDE = 64
FREQUENCIES = 16
CUTS = (0, 0.01, 0.02)
"""Parts of height and width that are cut off at each edge."""
DETAIL_SIGMA = 4
"""Pixels of the blur, of SIDE, beside which the rest is detail."""
SAME_BITS = 44
"""Most of the 256 bits that differ in two copies of an image. Other images, even face crops, differ in more; the rare
pair (one in millions) that does not costs a photo."""
COPY_BITS = 32
"""The same with hardly an error. A photo re-encoded, resized or brightened differs in up to 23 bits, one cropped
by 1% at the edges in up to 28; among 19,500 photos of 5,000 people no two photos of different people came as close."""
SAME_DETAILS = 0.935
"""Least correlation of the details of two copies of an image. A photo re-encoded, resized, brightened until parts are
white, or cropped by 2% at the edges has at least 0.957; 206 pairs of drawn portraits of different people whose hashes
differ in at most COPY_BITS had at most 0.909."""
ROWS_AT_ONCE = 256
_MIRROR = np.packbits(np.tile(np.arange(FREQUENCIES) % 2, FREQUENCIES).astype(np.uint8)).view(np.uint64)
"""Bits that mirroring inverts: the signs of odd horizontal frequencies."""


def image_hash(image: np.ndarray) -> str:
    """Return the hash of (H, W, 3) uint8 as 64 hexadecimal digits."""
    waves = cv2.dct(_small_grey(image))[:FREQUENCIES, :FREQUENCIES]
    signs = (waves > 0).astype(np.uint8)
    signs[0, 0] = 0
    return np.packbits(signs).tobytes().hex()


def _small_grey(image: np.ndarray) -> np.ndarray:
    way = cv2.INTER_AREA if min(image.shape[:2]) > SIDE else cv2.INTER_LINEAR
    return cv2.cvtColor(cv2.resize(image, (SIDE, SIDE), interpolation=way), cv2.COLOR_RGB2GRAY).astype(np.float32)


def image_details(image: np.ndarray) -> np.ndarray:
    """Return what a blurred (H, W, 3) uint8 image lacks, as (3, SIDE, SIDE) float32 of unit length.

    The three are of the whole image, and of it without 1 and 2% at each edge.
    """
    height, width = image.shape[:2]
    found = []
    for part in CUTS:
        rows, columns = round(height * part), round(width * part)
        small = _small_grey(image[rows : height - rows, columns : width - columns])
        fine = small - cv2.GaussianBlur(small, (0, 0), DETAIL_SIGMA)
        fine -= fine.mean()
        found.append(fine / max(float(np.linalg.norm(fine)), 1e-6))
    return np.stack(found)


def have_same_details(one: np.ndarray, other: np.ndarray) -> bool:
    """Return True if two results of `image_details` are of one image: copied, mirrored, or cropped by a little."""
    pairs = [(one[0], cut) for cut in other] + [(cut, other[0]) for cut in one[1:]]
    likeness = max(float((first * view).sum()) for first, second in pairs for view in (second, second[:, ::-1]))
    return likeness >= SAME_DETAILS


def find_near_duplicates(hashes: Sequence[str], same_bits: int = SAME_BITS) -> list[tuple[int, int]]:
    """Return all pairs (i, j), i < j, of indices into `hashes` of the same image, mirrored ones included."""
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
    """Return the number of differing bits of each of (R, 4) with each of (N, 4) uint64 words, (R, N) uint16."""
    total = np.zeros((len(rows), len(others)), np.uint16)
    for word in range(rows.shape[1]):
        total += np.bitwise_count(rows[:, word, None] ^ others[None, :, word])
    return total


def groups(count: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Return for each of `count` indices the first one of its group, where pairs join groups."""
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
