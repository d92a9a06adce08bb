"""What is no spec is refused as it is read: other encodings, endless or circular YAML, what no field could hold."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import SpecError
from orchestrator.spec import load_spec
from orchestrator.spec.document import DEEPEST, MOST_BYTES, MOST_VALUES, read
from tests.conftest import Evergreen

GOOD = "seed: 1\nenvironments:\n  book: {type: codebook}\n"
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
MERGES = "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 10))


def refusal(path: Path, content: str | bytes, *overrides: str) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    begun = time.monotonic()
    with pytest.raises(SpecError) as refused:
        load_spec(path, overrides)
    assert time.monotonic() - begun < 10
    return str(refused.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD.encode("utf-16"), "is in UTF-16; save it as UTF-8"),
        (GOOD.encode("utf-32"), "is in UTF-32; save it as UTF-8"),
        ((GOOD + "# é").encode("latin-1"), ", line 4: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        (GOOD + "x: \x07", ", line 4: is not valid YAML: the character U+0007 is not allowed"),
        (GOOD + "a: &a [*a]", ", line 4: has an alias inside of what it names"),
        (GOOD + "a: &a\n  b: {c: *a}", ", line 5: has an alias inside of what it names"),
        (GOOD + "a: &a\n  <<: *a", ", line 5: has an alias inside of what it names"),
        (GOOD + LAUGHS, f": has more than {MOST_VALUES:,} values, with what aliases stand for"),
        (GOOD + MERGES, f": has more than {MOST_VALUES:,} values, with what aliases stand for"),
        (GOOD + f"x: {'[' * 5000}", f"line 4: is nested more than {DEEPEST} deep"),
        (GOOD + f"a: &a {'[' * 30}{']' * 30}\nb: {'[' * 30}*a{']' * 30}", f"nested more than {DEEPEST} deep"),
        ("#" * (MOST_BYTES + 1), f"has more than {MOST_BYTES:,} bytes, so it is no spec"),
        (GOOD + "seed: 2", ", line 4: has the key `seed` twice in one map, first in line 1"),
        (GOOD + "yes: 2", ", line 4: has the key `yes`, which is read as bool: put it in quotes"),
        (GOOD + "x: !!binary aGVsbG8=", ", line 4: has !!binary, which has no place here"),
        (
            GOOD + "x: !!python/name:os.abort ''",
            ", line 4: has !!python/name:os.abort, which has no place here",
        ),
        (GOOD + "x: !!int many", ", line 4: has 'many', which cannot be read as int"),
        (GOOD + 'x: "\\UFFFFFFFF"', ", line 4: has an escape that is no character"),
        (GOOD + f"x: {'9' * 5000}", ", line 4: has '9999999999"),
        (GOOD + "x: .nan", ", line 4: x: nan is no finite number"),
        (GOOD + "x: 1180591620717411303424", ", line 4: x: 1180591620717411303424 is beyond 2**63"),
        (GOOD + 'x: "\\ud800"', ", line 4: x: '\\ud800' holds a character that no file or database takes"),
        (GOOD + 'x: "a\\0b"', ", line 4: x: 'a\\x00b' holds a character that no file or database takes"),
        (GOOD + f"x: {{{'k' * 300}: 1}}", ", line 4: x: the key 'kkkkkkk"),
        (GOOD + 'x: {"a\\eb": 1}', ", line 4: x: the key 'a\\x1bb' is no key"),
    ],
    ids=lambda value: value[-40:] if isinstance(value, str) else "bytes",
)
def test_what_is_no_spec_is_refused_with_its_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    said = refusal(tmp_path / "mine.yaml", content)
    assert said.startswith(str(tmp_path / "mine.yaml"))
    assert message in said
    assert len(said) < 400


def test_a_byte_order_mark_is_read_over_and_a_date_is_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(("\ufeff" + GOOD.replace("seed: 1", "name: 2024-01-01")).encode())
    assert load_spec(path).name == "2024-01-01"


def test_aliases_and_merge_keys_within_bounds_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("base: &base {a: 1, b: [2]}\none: {<<: *base, a: 3}\ntwo: [*base, *base]\n")
    assert read(path, "a map").raw["one"] == {"a": 3, "b": [2]}


def test_a_map_in_itself_is_refused_from_a_program_too() -> None:
    raw: dict[str, Any] = {"environments": {"book": {"type": "codebook"}}}
    raw["environments"]["book"]["categories"] = raw
    with pytest.raises(SpecError, match="nested more than"):
        load_spec(raw)


LONG = "x" * 100_000


@pytest.mark.parametrize(
    "content",
    [
        GOOD.replace("seed: 1", f"seed: {LONG}"),
        GOOD.replace("seed: 1", f"name: {LONG}"),
        GOOD.replace("seed: 1", f"objective: {LONG}"),
        GOOD.replace("seed: 1", f"objective: {{preset: rloo, shaper: {LONG}}}"),
        GOOD.replace("seed: 1", f"policy: {{model: {LONG}, layers: 2}}"),
        GOOD.replace("seed: 1", f"curriculum: {{bandit: {LONG}}}"),
        GOOD.replace("seed: 1", f"curriculum: {{bandit: '{LONG}:y'}}"),
        GOOD.replace("seed: 1", f"curriculum: {{bandit: {{type: sec, temperature: [{LONG}]}}}}"),
        GOOD.replace("codebook", LONG),
        GOOD.replace("seed: 1", f"tracker: {{uri: {LONG}}}"),
        GOOD.replace("seed: 1", f"ledger: {{url: {LONG}}}"),
        GOOD.replace("seed: 1", f"step: [{', '.join(['1'] * 9999)}]"),
        GOOD.replace("seed: 1", f"warm_start: {{environments: [{LONG}]}}"),
        f"{LONG}: 1\n{GOOD}",
        GOOD.replace("seed: 1", f"'{LONG}"),
    ],
)
def test_no_message_repeats_a_long_value(tmp_path: Path, content: str) -> None:
    said = refusal(tmp_path / "mine.yaml", content)
    assert "x" * 150 not in said
    assert len(said) < 2500


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (f"seed={LONG}", "seed: input should be a valid integer"),
        (f"{LONG}=1", "is no key: at most"),
        (LONG, "--set wants key=value"),
        ("seed=&a [*a]", "--set seed=&a [*a]: the value has an alias inside of what it names"),
        (f"seed={'[' * 5000}", "the value is nested more than"),
        ("seed=!!python/name:os.abort x", "the value has !!python/name:os.abort, which has no place here"),
        ("name=\udcff", "the value is not valid YAML: the character U+DCFF is not allowed"),
        (".".join("a" * 5000) + "=1", "is nested more than"),
    ],
    ids=lambda value: value[:30],
)
def test_an_override_has_the_same_bounds(tmp_path: Path, override: str, message: str) -> None:
    said = refusal(tmp_path / "mine.yaml", GOOD, override)
    assert message in said
    assert len(said) < 600


def test_control_characters_of_a_spec_never_reach_the_terminal(tmp_path: Path, evergreen: Evergreen) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD + 'policy: "./\\e[31mred\\u202e"\n')
    result = evergreen("validate", path, "--home", tmp_path)
    assert result.exit_code == 2
    assert "\x1b" not in result.stderr
    assert "\u202e" not in result.stderr


def test_no_argument_is_repeated_at_length(finished: Path, evergreen: Evergreen) -> None:
    for words in (("methods", LONG), ("diff", "small", LONG), ("check-env", LONG), ("validate", LONG)):
        home = () if words[0] == "methods" else ("--home", finished)
        result = evergreen(*words, *home)
        assert result.exit_code == 2
        assert len(result.stderr) < 2000


@pytest.mark.parametrize("verb", ["run", "validate"])
def test_a_run_where_a_spec_is_wanted_is_told(finished: Path, evergreen: Evergreen, verb: str) -> None:
    named = evergreen(verb, "small", "--home", finished)
    assert named.exit_code == 2
    goes_on = f"`evergreen resume small --home {finished}` goes on with it"
    assert f"small is a run, and a spec file is wanted: {goes_on}" in named.stderr
    folder = evergreen(verb, finished / "small", "--home", finished)
    assert folder.exit_code == 2
    assert f"It is the folder of a run: {goes_on}" in folder.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("show",),
        ("resume",),
        ("stop",),
        ("report",),
        ("export", "FOLDER"),
        ("weights", "FOLDER"),
        ("compare",),
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize("below", ["small", "small/spec.yaml"])
def test_a_path_where_a_run_is_wanted_is_told(
    finished: Path, tmp_path: Path, evergreen: Evergreen, words: tuple[str, ...], below: str
) -> None:
    verb, *more = words
    more = [str(tmp_path / "made") for _ in more]
    result = evergreen(verb, finished / below, *more, "--home", finished)
    assert result.exit_code == 2
    listing = f"`evergreen ls --home {finished}`"
    assert f"a path and cannot name a run: give a name, as {listing} lists them. Did you mean small?" in result.stderr


@pytest.mark.parametrize("key", ["[", "a[b]", "function-after"])
def test_an_unknown_key_that_looks_like_a_validators_name_is_named(tmp_path: Path, key: str) -> None:
    assert f"{key}: unknown key" in refusal(tmp_path / "mine.yaml", f'{GOOD}\n"{key}": 1\n')
