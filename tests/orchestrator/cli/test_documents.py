"""README and guides: every `evergreen ...` that stands there is a command, every link leads somewhere."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.cli.app import VERBS, load_verb
from tests.conftest import Evergreen
from tests.orchestrator.specs import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md"))]
QUESTIONS = DOCS / "questions.md"
OPTION = re.compile(r"(?<![\w-])(--?[a-z][a-z-]*)")
LINK = re.compile(r"\]\(([^()\s]+)\)")


def commands(page: Path) -> Iterator[str]:
    """Every command of a page, of its blocks and in backticks, without what is said beside it."""
    text = page.read_text()
    for of_block, in_line in re.findall(r"^(?: {4,}|\$ )?(evergreen .*)$|`(evergreen [^`\n]*)`", text, re.MULTILINE):
        for part in (of_block or in_line).split(" && "):
            command = re.split(r"\s{2,}|\s#|`|\| (?!evergreen)", part)[0]  # another program's options are its own
            if command.startswith("evergreen "):
                yield command


@cache
def verb(name: str) -> Any:
    """A verb's command; `-h` and other words that no verb has are refused by it."""
    return load_verb(name)


def options(name: str) -> set[str]:
    return {"--help"} | {word for one in verb(name).params for word in (*one.opts, *one.secondary_opts)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_commands_have_the_options_that_are_named(page: Path) -> None:
    for command in commands(page):
        words = command.partition(" -- ")[0].split()  # what follows is told to vLLM
        if words[1].startswith("-"):
            continue  # of the program itself
        assert words[1] in VERBS, command
        plain = re.sub(r"'[^']*'", "", " ".join(words[2:]))
        named = {name for name in words if name in VERBS}  # `ls | show RUN --json` stands for two
        assert set(OPTION.findall(plain)) <= set().union(*map(options, named)), command


def anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub makes addresses of them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if link.startswith(("http:", "https:", "mailto:")):
            continue
        file, _, heading = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not heading or heading in anchors(target), link


def test_the_index_names_every_guide() -> None:
    named = set(LINK.findall((DOCS / "README.md").read_text()))
    assert {page.name for page in DOCS.glob("*.md")} - {"README.md"} <= named


# --- docs/questions.md -----------------------------------------------------------------------------------------


def sections() -> dict[str, str]:
    _, *found = re.split(r"^## ", QUESTIONS.read_text(), flags=re.MULTILINE)
    return dict(section.split("\n", 1) for section in found)


@pytest.mark.parametrize("question", sections())
def test_a_question_is_answered_briefly_with_commands_that_are_read(
    question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    answer = sections()[question]
    assert question.endswith("?")
    assert len(re.sub(r"```.*?```\n", "", answer, flags=re.DOTALL).strip().splitlines()) <= 14
    given = re.findall(r"^    (evergreen .*)$", answer, re.MULTILINE)
    assert given
    for command in given:
        _, name, *words = shlex.split(command)
        verb(name).make_context(name, words)  # raises where an option or an argument is wrong


def test_the_mix_of_two_files_is_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evergreen: Evergreen
) -> None:
    """The spec of `How do I mix data sets?`, and the weights of the next question."""
    (text,) = re.findall(r"```yaml\n# mix.yaml\n(.*?)```", QUESTIONS.read_text(), re.DOTALL)
    (tmp_path / "mix.yaml").write_text(text)
    sums = [{"question": f"{n} + 1 = ?", "answer": n + 1} for n in range(40)]
    facts = [{"question": f"{n}?", "answer": "Po", "topic": ("rivers", "towns")[n % 2]} for n in range(80)]
    for name, rows in (("sums", sums), ("facts", facts)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    for command in commands(QUESTIONS):
        if "mix.yaml" in command:
            _, *words = shlex.split(command)
            done = evergreen(*words)
            assert done.exit_code == 0, done.stderr


def test_the_demo_stands_in_the_readme_as_it_is() -> None:
    (shown,) = re.findall(
        r"This is `examples/demo.yaml`:\n\n(?:```yaml\n)?(.*?)(?:```|\n\S)",
        (REPOSITORY / "README.md").read_text(),
        re.DOTALL,
    )
    lines = [line.removeprefix("    ") for line in shown.splitlines()]
    demo = (REPOSITORY / "examples/demo.yaml").read_text()
    assert yaml.safe_load("\n".join(lines)) == yaml.safe_load(demo)


def test_the_glossary_is_short() -> None:
    rows = [line for line in (DOCS / "glossary.md").read_text().splitlines() if line.startswith("| ")]
    assert len(rows) - 1 <= 50
    assert all(line.count("|") == 3 for line in rows)
