"""The words that the page uses, each in a line."""

from __future__ import annotations

from collections.abc import Iterable

from gz_lightning.figures import CLIP

IMAGES = {
    "leaf": "a class: an end of the tree of questions that the volunteers answered.",
    "distilled image": (
        "made by gradient descent, so that networks which train on such images alone learn what they would "
        "learn from all galaxies."
    ),
    "class mean": "the mean of all training galaxies of a leaf.",
    "nearest real galaxy": (
        "of all training galaxies, of any leaf, the one whose pixels come nearest to the (first) distilled "
        "image in one of its eight rotations and reflections."
    ),
}
LEARNED = {
    "first image": "what the distillation began with.",
    "distilled image": "what it became. What lies outside the range of a photograph is cut off.",
    "signed difference": (
        "distilled minus first, mean of the three colours, in standard deviations of the galaxies' pixels: "
        "red was made brighter, blue darker."
    ),
    "stretched": (
        f"the distilled image cut off at {CLIP:g} standard deviations from its mean and stretched from black "
        "to white: what is faint shows."
    ),
    "iteration": "one step of the distillation: all images move once.",
}
SEEN = {
    "fresh network": "a network with random initial parameters, trained on the distilled images alone.",
    "occlusion map": (
        "a square of the galaxy is covered with the mean colour of all galaxies, at one place after the "
        "other, and the fall of the odds of its leaf is noted (Zeiler & Fergus 2014). Red: the networks need "
        "what is there. Blue: what is there speaks for another leaf. That colour is brighter than the sky: red there, as in "
        "the corners of round galaxies, mostly means that the networks mind light beside the galaxy."
    ),
    "log-odds": "ln(P / (1 - P)) of the probability P: a fall by 1 divides the odds by 2.7.",
}
WORTH = {
    "guessing": "one in the number of leaves.",
    "distilled": "networks trained on the distilled images with the learned step size.",
    "distilled, tuned": ("the same with a step size (and set) chosen on validation galaxies, as for all rows below it."),
    "random real": "as many training galaxies, drawn at random from each leaf; the mean over several draws.",
    "class mean": "means of the training galaxies of each leaf.",
    "herding": "real galaxies chosen one by one, so that their mean stays nearest to the leaf's (Welling 2009).",
    "k-centre": "real galaxies chosen so that none of the leaf is far from a chosen one (Sener & Savarese 2018).",
    "k-means-nearest": "the real galaxies nearest to the centres of k-means.",
    "most confident": "the real galaxies that the volunteers were surest of.",
    "full data": "all training galaxies.",
    "step size": "how far a network goes along the gradient in one step of its training.",
    "protocol": "where choices are made, see below.",
    "spread": "population standard deviation over draws and networks.",
    "95 % interval": "a bootstrap over draws, networks and test galaxies at once.",
    "validation": "galaxies that choices are made on.",
    "test": "galaxies that no choice is made on; only the protocol mtt chooses between several sets on them.",
}
SCORES = {
    "balanced accuracy": "the mean recall of the leaves.",
    "recall": "of a leaf's galaxies, those that are recognised.",
    "calibration error": "how far confidence and accuracy lie apart (15 bins of confidence).",
    "first question": "the first answer on the tree, such as smooth or disk, is right.",
    "answers": "the answers on the way to the leaf that are right.",
    "relative accuracy": "accuracy in units of the full data's.",
    "label-robust score": (
        "gain over random galaxies less what hard labels lose, as the DD-Ranking paper defines it (Li et al. "
        "2025) on accuracies as fractions. The released code, ddranking 0.2.0, puts per cent into it and "
        "prints other numbers."
    ),
}
MAKING = {
    "expert": "a network trained on all training galaxies, of which the parameters were kept after every epoch.",
    "student": (
        "a network that starts from an expert's parameters of some epoch (the start epoch) and takes a few "
        "steps on the distilled images."
    ),
    "matching loss": (
        "how far from the expert, some epochs later, the student ends, in units of the way that the expert "
        "went: 0 is there, 1 is no nearer than where it began."
    ),
    "probe loss": (
        "the matching loss from the first start epoch that is not matched yet; what it does decides when the "
        "next stage begins."
    ),
    "finish": "after the matching: students are trained on the images from random parameters and scored on real galaxies.",
    "real loss": "cross entropy of such a student on training galaxies, once its confidence is set right by a temperature.",
    "stage": "the start epochs that are matched: those below a limit, which rises by one when a stage is learned.",
    "step size": "how far the student goes along the gradient in one step; learned together with the images.",
    "epoch": "one pass over the training galaxies.",
}


def words_for(words: dict[str, str], used: Iterable[str] | None = None) -> list[tuple[str, str]]:
    """Words and their meaning, only those that are used if that is given."""
    kept = None if used is None else set(used)
    return [(word, meaning) for word, meaning in words.items() if kept is None or word in kept]
