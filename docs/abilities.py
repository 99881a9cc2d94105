"""The table of models and abilities, made from the classes: `python docs/abilities.py` renews it in README.md and docs/models/index.md."""

from __future__ import annotations

from pathlib import Path

from stillmotion.core.abilities import ABILITIES
from stillmotion.core.registry import MODELS, resolve

ROOT = Path(__file__).resolve().parents[1]
PAGES = {ROOT / "README.md": "docs/models/", ROOT / "docs" / "models" / "index.md": ""}
BEGIN, END = "<!-- abilities: made by docs/abilities.py -->\n", "<!-- end of abilities -->"


def table(prefix: str) -> str:
    """The table in Markdown; prefix: path from the page to the models' pages."""
    names = [ability.__name__ for ability in ABILITIES]
    lines = ["| model | " + " | ".join(names) + " |", "| --- |" + " :-: |" * len(names)]
    for model in MODELS:
        kind = resolve(MODELS, model)
        marks = ["yes" if issubclass(kind, ability) else "no" for ability in ABILITIES]
        lines.append(f"| [{model}]({prefix}{model}.md) | " + " | ".join(marks) + " |")
    return "\n".join(lines) + "\n"


def renewed(text: str, prefix: str) -> str:
    """The page with its table as it should be. Raises ValueError for a page without the two marks."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + table(prefix) + END + rest.split(END, 1)[1]


def main() -> None:
    for page, prefix in PAGES.items():
        page.write_text(renewed(page.read_text(encoding="utf-8"), prefix), encoding="utf-8")


if __name__ == "__main__":
    main()
