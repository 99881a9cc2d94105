"""The vocabulary: clips, codes, loss terms, abilities, errors."""

from stillmotion.core.abilities import Decodes, Encodes, EncodesFrames, Generates, Imputes, Model, Predicts, Remembers, Swaps, require
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes, Gaussian
from stillmotion.core.errors import FileRefused, MissingAbility, NotFinite, UserError
from stillmotion.core.random import Noise
from stillmotion.core.terms import Terms

__all__ = [
    "Clips", "Codes", "Decodes", "Encodes", "EncodesFrames", "FileRefused", "Gaussian", "Generates", "Imputes", "MissingAbility",
    "Model", "Noise", "NotFinite", "Predicts", "Remembers", "Swaps", "Terms", "UserError", "require",
]
