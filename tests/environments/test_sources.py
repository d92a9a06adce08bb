import pickle
import subprocess
import sys

import pytest
from pydantic import ValidationError

from environments import EnvironmentFault, EnvironmentSource, Score, types, validate
from environments.contracts import TOO_MANY
from environments.sources import size_fault
from environments.user_code import is_users_fault, module_name, own_place

CUSTOM = '''
from environments import Category, Environment, Score, Task

class Parity(Environment):
    """Is a number odd?"""
    name, version = "", "1"
    categories = [Category("small")]

    def __init__(self, name, below):
        self.name, self.below = name, below

    def size(self, category):
        return self.below

    def task(self, category, index):
        question = ({"role": "user", "content": f"Is {index} odd?"},)
        return Task(self.name, category, index, question, answer="yes" if index % 2 else "no")

    def score(self, task, completion):
        return Score.of(float(completion == task.answer))

def create(name, below=10):
    return Parity(name, below)
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's folder; the path and what was imported from it are put back afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "parity_game", raising=False)
    (tmp_path / "parity_game.py").write_text(CUSTOM)
    yield tmp_path
    sys.modules.pop("parity_game", None)


def test_built_in_types_are_listed_without_importing_them():
    others = {"gymnasium", "http", "textarena", "trl", "verifiers"}
    assert set(types()) == {"codebook", "reasoning_gym", "rows"} | others
    assert all(types().values())
    code = (
        "import sys, environments; environments.types();"
        "print([m for m in ('reasoning_gym', 'environments.codebook', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_source_pickles_and_builds_the_same_environment_again():
    source = EnvironmentSource("red", "codebook", {"categories": {"4": 4}})
    copy = pickle.loads(pickle.dumps(source))
    assert copy == source
    assert copy.create().task("4", 5) == source.create().task("4", 5)


def test_an_environment_in_one_file_beside_the_spec(folder):
    source = EnvironmentSource("parity", "parity_game:create", {"below": 7}, search_path=str(folder))
    environment = source.create()
    task = environment.task("small", 3)
    assert (environment.name, environment.size("small"), task.answer) == ("parity", 7, "yes")
    assert environment.start(task).step("yes").score == Score.of(1.0)
    assert sys.path[-1] == str(folder)
    source.create()
    assert sys.path.count(str(folder)) == 1


@pytest.mark.parametrize("type_", ["mine.py", "./mine.py"])
def test_a_file_without_a_function_is_told_how_it_is_written(type_):
    with pytest.raises(EnvironmentFault, match=r"names a file, and no function in it: write \./mine\.py:create"):
        EnvironmentSource("red", type_).create()


def test_an_unknown_type_lists_those_there_are_and_the_near_one():
    with pytest.raises(EnvironmentFault, match=r"'codebok'.*mean codebook.*codebook, .*reasoning_gym"):
        EnvironmentSource("red", "codebok").create()


@pytest.mark.parametrize(
    ("type_", "options", "message"),
    [
        ("no_such_module:create", {}, "no module 'no_such_module'"),
        ("tests.environments.fakes:make", {}, r"fakes.py has no function 'make'"),
        ("tests.environments.fakes:create", {"characte": "slow"}, r"cannot take the options \['characte'\]"),
        (
            "tests.environments.fakes:create",
            {"categories": ["a"], "characte": "slow"},
            r"cannot take the options \['characte'\]: .*Did you mean 'character'\?",
        ),
        (
            "tests.environments.fakes:create_something_else",
            {},
            "returned dict, not an environments.Environment",
        ),
        ("tests.environments.fakes:create", {"categories": []}, "at least one category"),
        ("tests.environments.fakes:create", {"categories": ["a", "a"]}, "each name once"),
    ],
)
def test_a_factory_that_cannot_be_used_says_why(type_, options, message):
    with pytest.raises(EnvironmentFault, match=message):
        EnvironmentSource("mine", type_, options).create()


def test_two_budgets_of_tokens_that_differ_are_refused():
    with pytest.raises(EnvironmentFault, match=r"`max_tokens` is 1, and 5 under `episodes`.*leave out the latter"):
        EnvironmentSource("red", "codebook", episodes={"max_tokens": 5}).create()
    assert EnvironmentSource("red", "codebook", episodes={"max_tokens": 1}).create().max_tokens == 1


def test_a_factory_is_not_given_what_is_said_of_its_episodes(folder):
    made = EnvironmentSource("parity", "parity_game:create", {}, str(folder), episodes={"max_tokens": 5}).create()
    assert made.max_tokens is None, "nor is its environment"
    (folder / "own_episodes.py").write_text(CUSTOM.replace("below=10", "episodes=10, below=10"))
    EnvironmentSource("mine", "own_episodes:create", {}, str(folder)).create()
    with pytest.raises(
        EnvironmentFault, match="own_episodes:create has a parameter `episodes`, which is a word of the spec"
    ):
        EnvironmentSource("mine", "own_episodes:create", {}, str(folder), episodes={"max_turns": 3}).create()


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        ("categories = property(lambda self: [len(one) for one in 5])", "TypeError"),
        ("def open(self, tell): {}['rows']", "KeyError"),
        ("def open(self, tell): raise SystemExit(0)", "SystemExit"),
    ],
)
def test_a_users_environment_that_cannot_be_opened_shows_where(folder, monkeypatch, broken, error):
    monkeypatch.delitem(sys.modules, "unopened", raising=False)
    (folder / "unopened.py").write_text(
        f"from tests.environments.fakes import Fake\nclass Closed(Fake):\n    {broken}\n"
        "def create(name):\n    return Closed(name, 'noisy', ['a'], [], 9, 9, True)\n"
    )
    with pytest.raises(EnvironmentFault, match=rf"environment mine: .*{error}.* in unopened.py:3; mend"):
        EnvironmentSource("mine", "unopened:create", {}, str(folder)).create(print)


@pytest.mark.parametrize(("place", "is_own"), [("mine", True), ("site-packages", False), ("dist-packages", False)])
def test_a_package_of_any_interpreter_is_not_the_users_own(tmp_path, place, is_own):
    (tmp_path / place).mkdir()
    file = tmp_path / place / "theirs.py"
    file.write_text("def fail():\n    raise KeyError('theirs')\n")
    known = {}
    exec(compile(file.read_text(), file, "exec"), known)
    with pytest.raises(KeyError) as error:
        known["fail"]()
    assert (own_place(error.value) == ", in theirs.py:2") is is_own


def test_what_ours_raises_that_a_users_code_called_is_not_the_users_fault():
    def calls_ours():
        module_name(None)

    def fails():
        raise KeyError("mine")

    for call, kind, is_users in ((calls_ours, AttributeError, False), (fails, KeyError, True)):
        with pytest.raises(kind) as error:
            call()
        assert is_users_fault(error.value) is is_users


def test_the_line_that_is_named_is_the_users_own_though_a_library_raised(folder):
    (folder / "badly_read.py").write_text("import json\n\n\ndef create(name):\n    return json.loads('no')\n")
    with pytest.raises(EnvironmentFault, match=r"raised JSONDecodeError: .*, in badly_read.py:5; mend"):
        EnvironmentSource("mine", "badly_read:create", {}, str(folder)).create()


def test_a_users_module_that_misses_an_import_of_its_own_shows_which(folder):
    (folder / "parity_game.py").write_text("import no_such_dependency\n")
    with pytest.raises(EnvironmentFault, match=r"cannot be imported: .*no_such_dependency.*parity_game.py:1"):
        EnvironmentSource("mine", "parity_game:create", {}, str(folder)).create()


def test_options_are_refused_with_the_key_in_the_error():
    with pytest.raises(ValidationError) as caught:
        validate("codebook", {"boook": "red"})
    assert caught.value.errors()[0]["loc"] == ("boook",)
    assert validate("package.module:factory", {"anything": 1}) is None


def test_a_missing_extra_is_named_by_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    with pytest.raises(EnvironmentFault, match=r"pip install 'evergreen-rl\[reasoning-gym\]'"):
        validate("reasoning_gym", {"dataset": "gcd"})


def test_a_size_is_a_whole_number_or_none_and_no_more_than_can_be_shuffled():
    assert [size_fault(size) for size in (None, 1, 10**8)] == [None] * 3
    assert size_fault(10**8 + 1) == TOO_MANY
    assert size_fault(0) == "its size must be None or a whole number of at least 1, found 0"
