"""Gymnasium's environments as text games: what is seen, what is read, what it is worth."""

import importlib
import re
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from environments import EnvironmentFault, EnvironmentSource, spaces
from environments.checker import check
from environments.pools import make_task
from environments.scoring.jobs import ScoringJob, play
from tests.environments.checker.here import findings_here

gymnasium = pytest.importorskip("gymnasium")

LAKE = {
    "id": "FrozenLake-v1",
    "kwargs": {"is_slippery": False},
    "actions": ["left", "down", "right", "up"],
    "categories": {"small": {"map_name": "4x4"}, "large": {"map_name": "8x8"}},
}
BLACKJACK = {"id": "Blackjack-v1", "actions": ["stick", "hit"], "reward_range": [-1, 1]}
TO_THE_GOAL = ["down", "down", "right", "right", "down", "right"]

OWN = """
import gymnasium

class Scale(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 255, (64, 64, 3))
    action_space = gymnasium.spaces.Tuple((gymnasium.spaces.Discrete(3), gymnasium.spaces.Box(0, 1, (2,))))

    def __init__(self, weight=1):
        self.weight = weight

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample() * 0, {}

    def step(self, action):
        return self.observation_space.sample() * 0, float(action[0]) / 2, True, False, {}

def make(weight=1, seed=0):
    made = Scale(weight)
    made.seed_given = seed
    return made

def to_text(observation, env):
    return f"{env.weight} kg, {env.seed_given}"

def to_action(text, env):
    return {"light": (0, [0, 0]), "heavy": (2, [0, 0])}.get(text)
"""


def source(folder=None, **options):
    return EnvironmentSource("game", "gymnasium", options, str(folder) if folder else None)


def played(environment, completions, category=None, index=0):
    task = environment.task(category or environment.categories[0].name, index)
    return [play(environment, ScoringJob(task, tuple(completions[: n + 1]))) for n in range(len(completions))]


@pytest.mark.parametrize("options", [LAKE, BLACKJACK], ids=["FrozenLake", "Blackjack"])
def test_the_checker_finds_nothing_but_that_there_are_no_reference_answers(options):
    assert {found.rule for found in findings_here(source(**options))} == {"no-answer"}


@pytest.mark.slow
@pytest.mark.parametrize("options", [LAKE, BLACKJACK], ids=["FrozenLake", "Blackjack"])
def test_the_checker_finds_nothing_else_in_processes_of_their_own(options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert {found.rule for found in check(source(**options), tasks=4)} == {"no-answer"}


def test_the_way_to_the_goal_is_worth_one():
    lake = source(**LAKE).create()
    assert lake.task("small", 3).messages[0]["content"] == (
        "Play FrozenLake-v1. Answer with one of: left, down, right, up.\n\nGame 3.\n\n[S]FFF\nFHFH\nFFFH\nHFFG"
    )
    turns = played(lake, TO_THE_GOAL)
    assert [turn.done for turn in turns] == [False] * 5 + [True]
    assert turns[0].messages[0]["content"] == "  (Down)\nSFFF\n[F]HFH\nFFFH\nHFFG"
    assert (turns[-1].score.value, turns[-1].score.correct) == (1.0, True)
    fallen = played(lake, ["right", "down"])[-1]
    assert (fallen.done, fallen.score.value, fallen.score.correct) == (True, 0.0, False)


def test_a_game_is_its_seed_and_nothing_else():
    slippery = source(**{**LAKE, "kwargs": {}}).create()
    replies = ["down", "right"] * 4
    first, again = (played(slippery, replies, "large", 5) for _ in range(2))
    assert first == again
    assert len({str(played(slippery, replies, "large", index)) for index in range(6)}) > 1
    hands = {source(**BLACKJACK).create().task("default", index).messages[0]["content"] for index in range(20)}
    assert len({hand.rpartition("\n")[2] for hand in hands}) > 5


def test_rewards_are_scaled():
    blackjack = source(**BLACKJACK).create()
    values = {played(blackjack, ["stick"], index=index)[0].score.value for index in range(30)}
    assert values == {0.0, 0.5, 1.0}
    unscaled = source(id="Blackjack-v1").create()
    lost = next(turn for i in range(30) for turn in played(unscaled, ["0"], index=i) if turn.score.value is None)
    assert "reward_range" in lost.score.reason


def test_a_game_that_does_not_end_is_worth_nothing_unless_its_steps_pay():
    pole = {"id": "CartPole-v1", "reward_range": [0, 500], "turns": 3}
    assert played(source(**pole).create(), ["0", "1", "0"])[-1].score.value == 0.0
    paid = played(source(**pole, unfinished="rewards").create(), ["0", "1", "0"])
    assert [turn.score.value for turn in paid] == pytest.approx([0.002, 0.004, 0.006])
    assert [turn.done for turn in paid] == [False, False, True]


def test_a_game_in_which_doing_nothing_would_pay_best_is_refused():
    car = {"id": "MountainCar-v0", "turns": 10, "unfinished": "rewards", "reward_range": [-10, 0]}
    with pytest.raises(ValidationError, match=r"replies that are no action.*`invalid: end`.*`penalty`"):
        source(**car).create()
    dear = played(source(**car, invalid="penalty", penalty=1).create(), ["jump"] * 10)
    assert dear[-1].score.value == 0.0
    assert played(source(**car, invalid="end").create(), ["jump"])[-1].score.value == 0.0
    for game in ({"id": "Taxi-v4", "reward_range": [-200, 20]}, BLACKJACK):  # at the goal they pay: it may be best
        (said,) = source(**game, unfinished="rewards").create().warnings
        assert "may pay best for replies that are no action" in said
        assert not source(**game, unfinished="rewards", invalid="end").create().warnings


def test_a_budget_that_ends_a_game_spares_it_no_cost():
    """Such a game was paid best for a reply that was too long: it stopped before its steps had cost anything."""
    car = {"id": "MountainCar-v0", "turns": 3, "unfinished": "rewards", "reward_range": [-3, 0], "invalid": "end"}
    turns = played(source(**car).create(), ["0", "1", "2"])
    assert [(turn.done, turn.score.value) for turn in turns] == [(False, 0.0), (False, 0.0), (True, 0.0)]
    wide = played(source(**{**car, "reward_range": [-30, 0]}).create(), ["0", "1", "2"])
    assert [turn.score.value for turn in wide] == pytest.approx([0.0, 0.0, 0.9])
    taxi = {"id": "Taxi-v4", "reward_range": [-200, 20], "turns": 3, "unfinished": "rewards", "invalid": "end"}
    assert [turn.score.value for turn in played(source(**taxi).create(), ["0"] * 2)] == [0.0, 0.0]


def test_a_game_whose_rewards_no_range_holds_is_told_also_where_nobody_wins_it():
    cliff = source(id="CliffWalking-v1", turns=3).create()
    *_, last = played(cliff, ["0", "0", "0"])
    assert (last.done, last.score.value) == (True, None)
    assert "reward_range" in last.score.reason


def test_a_factory_is_called_by_the_environments_name(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    own = {"id": "./mine.py:make", "observation": "./mine.py:to_text", "action": "./mine.py:to_action"}
    scale = source(tmp_path, **own, categories={"a": {"weight": 4}}).create()
    assert scale.task("a", 7).messages[0]["content"].startswith(f"Play {scale.name}.")


def test_an_invalid_reply_does_what_the_spec_says():
    still = played(source(**LAKE).create(), ["jump", *TO_THE_GOAL])
    assert still[0].messages[0]["content"] == (
        "That is no action: there is none of that name. Answer with one of: left, down, right, up."
    )
    assert still[-1].score.value == 1.0
    assert still[-1].score.components == {"reward": 1.0, "invalid": 1.0}
    paid = played(source(**LAKE, invalid="penalty", penalty=0.25).create(), ["jump", *TO_THE_GOAL])
    assert (paid[-1].score.value, paid[-1].score.correct) == (0.75, False)
    ended = played(source(**LAKE, invalid="end").create(), ["jump"])
    assert (ended[0].done, ended[0].score.value) == (True, 0.0)


def test_functions_of_the_users_own_make_and_write_and_read(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    own = {"id": "./mine.py:make", "observation": "./mine.py:to_text", "action": "./mine.py:to_action"}
    scale = source(tmp_path, **own, categories={"a": {"weight": 4}}, instructions="Light or heavy?").create()
    assert scale.task("a", 7).messages[0]["content"] == "Light or heavy?\n\nGame 7.\n\n4 kg, 7"
    assert played(scale, ["heavy"])[0].score.value == 1.0
    assert "it is none that the game knows" in played(scale, ["?"])[0].messages[0]["content"]
    with pytest.raises(EnvironmentFault, match=r"12,288 numbers, of shape 64x64x3; write them by .*observation"):
        source(tmp_path, id="./mine.py:make").create()
    read = source(tmp_path, **{**own, "action": None}).create()
    assert (
        "JSON list, 0: a number from 0 to 2; 1: numbers: 0 to 1, 0 to 1"
        in read.task("default", 0).messages[0]["content"]
    )
    assert played(read, ["[2, [0.5, 1]]"])[0].score.value == 1.0
    assert not played(read, ["[2, [0.5, 7]]"])[0].done


COUNTED = """
import gymnasium
MADE, CLOSED = [], []

class Counted(gymnasium.Env):
    observation_space = gymnasium.spaces.Discrete(9)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, old=False):
        self.old, self.num = old, 0
        MADE.append(1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0 if self.old == "reset" else (0, {})

    def step(self, action):
        self.num += 1
        return (self.num, 1.0, False, {}) if self.old == "step" else (self.num, 1.0, self.num == 3, False, {})

    def close(self):
        CLOSED.append(1)
        if self.old == "close":
            raise RuntimeError("nor is this")
"""


@pytest.mark.parametrize("fails", [False, "close"])
@pytest.mark.parametrize("replies", [["0", "1", "0"], ["0", "1"], ["none"], []])
def test_each_that_is_made_is_closed_once_over_or_not(tmp_path, replies, fails):
    (tmp_path / "counted_game.py").write_text(COUNTED)
    turns = 3 if len(replies) == 3 else 2
    options = {"turns": turns, "invalid": "end", "kwargs": {"old": fails}}
    environment = source(tmp_path, id="./counted_game.py:Counted", **options).create()
    module = sys.modules[type(environment.made("default", 0).unwrapped).__module__]
    made, closed = module.MADE, module.CLOSED
    made.clear()
    closed.clear()
    task = environment.task("default", 0)
    assert (len(made), len(closed)) == (1, 1), "that of the prompt"
    episode = environment.start(task)
    for reply in replies:
        if episode.step(reply).done:
            break
    del episode
    assert (len(made), len(closed)) == (2, 2)


@pytest.mark.parametrize(
    ("old", "said"),
    [
        ("reset", r"task\('default', 0\) raised ValueError: reset\(\) returned a int, not \(observation, info\); mend"),
        (
            "step",
            r"raised ValueError: step\(\) returned 4 values, not \(observation, reward, terminated,",
        ),
    ],
)
def test_what_old_gym_returns_is_told(tmp_path, old, said):
    (tmp_path / "old_game.py").write_text(COUNTED)
    environment = source(tmp_path, id="./old_game.py:Counted", kwargs={"old": old}).create()
    if old == "reset":
        with pytest.raises(EnvironmentFault, match=said):
            make_task(environment, "default", 0)
    else:
        assert re.search(said, play(environment, ScoringJob(environment.task("default", 0), ("1",))).score.reason)


def test_the_checker_names_the_line_of_the_users_own_file(tmp_path):
    (tmp_path / "broken_game.py").write_text(COUNTED.replace("super().reset(seed=seed)", "{}['rows']"))
    found = findings_here(source(tmp_path, id="./broken_game.py:Counted"))
    (fails,) = [one for one in found if one.rule == "task-fails"]
    assert "KeyError: 'rows', in broken_game.py:14" in str(fails)


def test_a_random_answer_is_an_action_in_the_text_that_is_read():
    rng = np.random.default_rng(0)
    for options, texts in ((LAKE, LAKE["actions"]), (BLACKJACK, ["stick", "hit"]), ({"id": "Blackjack-v1"}, "01")):
        game = source(**options).create()
        task = game.task(game.categories[0].name, 0)
        assert {game.legal_answer(task, rng) for _ in range(100)} == set(texts)
        assert game.legal_answer(task, np.random.default_rng(7)) == game.legal_answer(task, np.random.default_rng(7))
    tagged = source(**BLACKJACK, answer="tag").create()
    assert {tagged.legal_answer(tagged.task("default", 0), rng) for _ in range(50)} == {
        "<answer>stick</answer>",
        "<answer>hit</answer>",
    }


DOORS = """
import gymnasium

class Doors(gymnasium.Env):
    observation_space = gymnasium.spaces.Discrete(9)

    def __init__(self, seed):
        self.num = 2 + seed % 4
        self.action_space = gymnasium.spaces.Discrete(self.num)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.num, {}

    def step(self, action):
        return self.num, float(action == self.num - 1), True, False, {}

def make(seed):
    return Doors(seed)
"""


def test_a_game_that_has_other_actions_than_the_first_asks_for_its_own(tmp_path):
    (tmp_path / "doors.py").write_text(DOORS)
    game = source(tmp_path, id="./doors.py:make").create()
    rng = np.random.default_rng(0)
    for index, last in ((0, "1"), (3, "4")):
        task = game.task("default", index)
        assert f"Answer with a number from 0 to {last}." in task.messages[-1]["content"]
        assert {game.legal_answer(task, rng) for _ in range(100)} == set(map(str, range(int(last) + 1)))
        told, won = played(game, ["no door", last], index=index)
        assert f"Answer with a number from 0 to {last}." in told.messages[-1]["content"]
        assert won.score.value == 1.0


def test_every_space_is_drawn_from_as_it_is_read():
    of, rng = gymnasium.spaces, np.random.default_rng(0)
    numbers = [of.Discrete(3, start=-1), of.MultiDiscrete([3, 4]), of.MultiBinary([2, 2])]
    boxes = [of.Box(0, 1, (2,)), of.Box(-np.inf, np.inf, (3,)), of.Box(0, 255, (2, 2), np.uint8), of.Box(-1, 1, ())]
    nested = of.Dict(a=of.Text(3), b=of.Tuple((of.MultiBinary(2), of.Box(0, 1, (1,)))), c=of.MultiDiscrete([[2], [4]]))
    by_number = of.Dict({0: of.Discrete(2), 1: of.Text(3)})
    for space in (*numbers, *boxes, of.Text(5), nested, by_number):
        texts = [spaces.drawn(space, rng) for _ in range(30)]
        assert len(set(texts)) > 2, space
        for text in texts:
            assert space.contains(spaces.read_action(text, space)), (space, text)
    exact = of.Box(-1, 1, (4,))
    exact.seed(0)
    sampled = exact.sample()
    read = spaces.read_action(" ".join(map(repr, sampled.tolist())), exact)
    assert (read == sampled).all()


def test_what_a_function_of_ones_own_reads_is_listed_for_a_random_player(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    own = {"id": "./mine.py:make", "observation": "./mine.py:to_text", "action": "./mine.py:to_action"}
    silent = source(tmp_path, **own).create()
    with pytest.raises(EnvironmentFault, match=r"what ./mine.py:to_action reads .* list some, `legal: \[TEXT, ...\]`"):
        silent.legal_answer(silent.task("default", 0), np.random.default_rng(0))
    told = source(tmp_path, **own, legal=["light", "heavy"]).create()
    rng = np.random.default_rng(0)
    assert {told.legal_answer(told.task("default", 0), rng) for _ in range(50)} == {"light", "heavy"}


def test_without_the_package_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(EnvironmentFault, match=r"pip install 'evergreen-rl\[gymnasium\]'"):
        source(**LAKE).create()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"id": "FrozenLake-v7"}, "FrozenLake"),
        ({**LAKE, "penalty": 0.5}, "belong together"),
        ({**LAKE, "invalid": "penalty"}, "belong together"),
        ({**LAKE, "reward_range": [1, 0]}, "the lowest first"),
        ({**LAKE, "actions": ["Up", "up"]}, "have to differ"),
        ({**LAKE, "observation": "pixels"}, "`values`, ./file.py:function, found 'pixels'"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_the_spec_is_read(options, said):
    with pytest.raises(ValidationError, match=said):
        source(**options).create()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({**LAKE, "actions": ["left", "right"]}, "`actions` names 2, and there are 4"),
        ({**LAKE, "kwargs": {"slippery": True}}, "cannot be made.*slippery"),
        ({"id": "CartPole-v1", "observation": "render"}, "renders no text"),
    ],
)
def test_what_the_environment_cannot_do_is_refused_when_it_is_made(options, said):
    with pytest.raises(EnvironmentFault, match=said):
        source(**options).create()


LATE = """
import gymnasium

class Late(gymnasium.Env):
    observation_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.action_space = gymnasium.spaces.Discrete(2)
        return 0, {}

def make():
    return Late()
"""


def test_a_game_that_cannot_be_looked_at_is_told(tmp_path):
    (tmp_path / "late.py").write_text(LATE)
    with pytest.raises(EnvironmentFault, match=r"environment game: making it raised AttributeError: .*action_space"):
        source(tmp_path, id="./late.py:make").create()


@pytest.mark.parametrize("id_", ["registered_walk:Walk-v7", "Walk-v7"])
def test_the_version_of_an_environment_that_a_module_registered_has_the_modules_code(id_, tmp_path, monkeypatch):
    code = OWN.replace("Scale", "Walk") + '\ngymnasium.register("Walk-v7", entry_point="registered_walk:Walk")\n'
    (tmp_path / "seen.py").write_text(OWN)
    versions = []
    monkeypatch.syspath_prepend(tmp_path)
    for text in (code, code.replace("/ 2", "/ 3")):
        (tmp_path / "registered_walk.py").write_text(text)
        monkeypatch.delitem(sys.modules, "registered_walk", raising=False)
        gymnasium.registry.pop("Walk-v7", None)
        if id_ == "Walk-v7":
            importlib.import_module("registered_walk")
        made = source(tmp_path, id=id_, observation="./seen.py:to_text", action="./seen.py:to_action").create()
        versions.append(made.version)
    assert versions[0] != versions[1]
