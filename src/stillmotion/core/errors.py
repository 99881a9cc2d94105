"""Errors that a user can act on: what was expected, what came, what to do."""

from __future__ import annotations


class UserError(ValueError):
    """Bad input from outside. The command line prints the message alone, without a traceback."""

    def __init__(self, expected: str, got: str, remedy: str = "") -> None:
        self.expected, self.got, self.remedy = expected, got, remedy
        super().__init__(f"expected {expected}, got {got}" + (f". {remedy}" if remedy else ""))


class FileRefused(UserError):
    """A file that cannot be read as what it should be; the message names the file."""


class MissingAbility(UserError):
    """A model was asked for something that it cannot do."""

    def __init__(self, model: str, ability: str, able: list[str]) -> None:
        remedy = f"Models that can: {', '.join(able)}." if able else "No registered model can."
        super().__init__(f"a model with the ability {ability}", f"{model}, which lacks it", remedy)


class NotFinite(ArithmeticError):
    """A loss term became NaN or infinite. Carries the step and the names of the terms."""

    def __init__(self, step: int, names: list[str]) -> None:
        self.step, self.names = step, names
        super().__init__(
            f"not a finite number at step {step}: {', '.join(names)}. The last good checkpoint is kept. "
            "Lower the learning rate, clip the gradient norm, or run again with --on-nan lower-lr."
        )
