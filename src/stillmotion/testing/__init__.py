"""The law book: checks that every model must pass, for the models here and for those of others."""

from stillmotion.testing.cases import CASES, Case, Lesson, case_of
from stillmotion.testing.laws import LAWS, Law, check_all
from stillmotion.testing.toys import colour_of, toy

__all__ = ["CASES", "LAWS", "Case", "Law", "Lesson", "case_of", "check_all", "colour_of", "toy"]
