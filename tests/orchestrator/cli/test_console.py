"""Whatever others wrote reaches the terminal as text."""

import io
import json

import pytest
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner

from orchestrator.cli import console, tables

EVIL = "a\x1b[2Jb\x1b]0;title\x07c\rd\be\x9b31mf\u202eg\u2028h\x00i\x7fj\ud800k"
OBEYED = set("\x1b\x07\r\b\x9b\u202e\u2028\x00\x7f\ud800")


def printed(*things):
    stream = io.StringIO()
    console.console(file=stream).print(*things)
    return stream.getvalue()


def a_table():
    made = Table(EVIL, title=EVIL)
    made.add_row(Text(EVIL), EVIL)
    return made


@pytest.mark.parametrize("thing", [EVIL, Text(EVIL), Text.assemble((EVIL, "bold")), a_table()])
def test_nothing_that_a_terminal_obeys_is_printed(thing):
    assert not set(printed(thing)) & OBEYED


def test_what_is_no_order_is_printed_as_it_is():
    text = "dé\u00a0jà \u4f60\u597d \U0001f468\u200d\U0001f469 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645\nline"
    assert printed(Text(text)) == text + "\n"


def test_styles_and_cursor_orders_of_our_own_are_kept():
    stream = io.StringIO()
    made = console.console(file=stream, force_terminal=True, color_system="standard")
    made.print(Text(f"x{EVIL}", style="red"))
    assert stream.getvalue().startswith("\x1b[31mxa\\x1b[2Jb")
    made.show_cursor(False)
    assert stream.getvalue().endswith("\x1b[?25l")


def test_samples_show_orders_as_text(capsys):
    from types import SimpleNamespace

    sample = SimpleNamespace(
        step=1, after_stage=None, reason=None, correct=True, value=1.0, environment="e", category=EVIL,
        messages=[{"role": "user", "content": EVIL}], completion=EVIL,
    )  # fmt: skip
    stream = io.StringIO()
    tables.print_samples(console.console(file=stream), [sample])
    assert not set(stream.getvalue()) & OBEYED
    assert "\\x1b[2J" in stream.getvalue()


def test_json_is_the_same_for_a_program_and_harmless_on_a_terminal(capsys):
    data = {EVIL.replace("\ud800", ""): [EVIL.replace("\ud800", ""), "你好 \U000e0041"]}
    console.print_json(data)
    text = capsys.readouterr().out
    assert not set(text) & OBEYED
    assert "你好" in text
    assert json.loads(text) == data


def test_problems_are_text_too():
    from orchestrator.cli.app import app

    result = CliRunner().invoke(app, ["show", "no\x1b[31mrun"])
    assert not set(result.output) & OBEYED
