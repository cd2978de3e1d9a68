#!/usr/bin/env bash
# The decision tree of Galaxy Zoo 2 in galaxy-datasets asks edge-on galaxies for bars and spiral arms.
#
# Package: galaxy-datasets 0.0.25, installed without what it requires into a temporary folder. None of our code is
# imported. Not part of CI. Fails if the behaviour changes.
#
# Behaviour: label_metadata says of every question which answer leads to it. In Galaxy Zoo 2 (Willett et al. 2013, table
# 2) the questions on bar, spiral arms and bulge size follow "not edge-on". gz2_ortho_dependencies
# (ukidss_ortho_dependencies too) has them follow "features or disk", whereas those of DECaLS and Euclid in the same
# file have "disk-edge-on: no". A probability that is multiplied along these dependencies is too large for face-on
# galaxies by 1 / P(not edge-on): the classes of one galaxy below add up to 1.48. The questions of galaxies that were
# not asked differ as well.
#
# Output seen:
#   gz2: bar follows smooth-or-featured-gz2_featured-or-disk
#   ukidss: bar follows smooth-or-featured-ukidss_featured-or-disk
#   dr5: bar follows disk-edge-on-dr5_no
#   gz2: smooth, edge-on, bar and no bar add up to 1.48
#   by the published tree: 1.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-deps galaxy-datasets==0.0.25
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import runpy
from importlib.metadata import version
from pathlib import Path
from sysconfig import get_path

assert version("galaxy-datasets") == "0.0.25"
labels = runpy.run_path(str(Path(get_path("purelib")) / "galaxy_datasets/shared/label_metadata.py"))
asked = {
    "gz2": labels["gz2_ortho_dependencies"],
    "ukidss": labels["ukidss_ortho_dependencies"],
    "dr5": labels["decals_ortho_dependencies"],
}
for survey, after in (("gz2", "featured-or-disk"), ("ukidss", "featured-or-disk"), ("dr5", "no")):
    follows = asked[survey][f"bar-{survey}"]
    print(f"{survey}: bar follows {follows}")
    assert follows.endswith(f"_{after}")

FRACTIONS = {
    "smooth-or-featured-gz2_smooth": 0.2,
    "smooth-or-featured-gz2_featured-or-disk": 0.8,
    "disk-edge-on-gz2_yes": 0.6,
    "disk-edge-on-gz2_no": 0.4,
    "bar-gz2_yes": 0.5,
    "bar-gz2_no": 0.5,
}
CLASSES = ("smooth-or-featured-gz2_smooth", "disk-edge-on-gz2_yes", "bar-gz2_yes", "bar-gz2_no")


def probability(answer, dependencies):
    """The fraction of an answer times those of the answers that led to its question."""
    before = dependencies[answer.rpartition("_")[0]]
    return FRACTIONS[answer] * (1 if before is None else probability(before, dependencies))


total = sum(probability(answer, asked["gz2"]) for answer in CLASSES)
print(f"gz2: smooth, edge-on, bar and no bar add up to {total:.2f}")
published = sum(probability(answer, {**asked["gz2"], "bar-gz2": "disk-edge-on-gz2_no"}) for answer in CLASSES)
print(f"by the published tree: {published:.2f}")
assert abs(total - 1.48) < 1e-9 and abs(published - 1) < 1e-9
PYTHON
