"""An environment of five turns: cross a frozen lake, a step a turn, without falling into a hole.

    environments:
      lake: {type: "lake:create", steps: [1, 2, 3, 4], size: 3, holes: 2, moves: 5}

`lake.yaml` beside this file trains on it. The prompt is a map, and so is every reply:

    @..
    .OO
    ..G

`@` is the walker, `G` the goal, `O` a hole. A turn is one of `left`, `right`, `up`, `down`; a step off the map leaves
the walker where it is, and a hole ends the walk. A category is how many steps the goal is away.
"""

from __future__ import annotations

import numpy as np

from environments import Category, Environment, Episode, Score, Task, Turn

MOVES = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
LARGEST = 32  # rows of a map
MOST_MAPS = 1000  # drawn for a task: with as many holes as cells no walk is ever found
WALKER, GOAL, HOLE, ICE = "@", "G", "O", "."

Place = tuple[int, int]  # row and column


class Lake:
    """A map: what does not move. Frozen ice wherever there is neither hole nor goal."""

    def __init__(self, size: int, goal: Place, holes: list[Place]) -> None:
        self.size, self.goal, self.holes = size, goal, holes

    def step(self, place: Place, move: str) -> Place:
        """Where a move leads to from a place."""
        row, column = (a + b for a, b in zip(place, MOVES.get(move, (0, 0)), strict=True))
        return (row, column) if 0 <= row < self.size and 0 <= column < self.size else place

    def distances(self) -> dict[Place, int]:
        """Steps to the goal from everywhere it can be reached from, holes left out."""
        found, frontier = {self.goal: 0}, [self.goal]
        while frontier:
            place = frontier.pop(0)
            for move in MOVES:
                beside = self.step(place, move)
                if beside not in found and beside not in self.holes:
                    found[beside] = found[place] + 1
                    frontier.append(beside)
        return found

    def drawn(self, walker: Place) -> str:
        """The map as text."""
        marks = {**dict.fromkeys(self.holes, HOLE), self.goal: GOAL, walker: WALKER}
        return "\n".join(
            "".join(marks.get((row, column), ICE) for column in range(self.size)) for row in range(self.size)
        )


class Walk(Episode):
    """One walk to the goal, into a hole, or until the moves are used up."""

    def __init__(self, task: Task, moves: int) -> None:
        self.messages, self.moves_left = task.messages, moves
        self.place: Place = tuple(task.data["walker"])
        holes = [tuple(hole) for hole in task.data["holes"]]
        self.lake = Lake(task.data["size"], tuple(task.data["goal"]), holes)
        self.distances = self.lake.distances()

    def step(self, completion: str) -> Turn:
        """Take a step. What is no direction uses up a move as well."""
        self.moves_left -= 1
        self.place = self.lake.step(self.place, completion.strip())
        if self.place == self.lake.goal or self.place in self.lake.holes or not self.moves_left:
            return Turn(score=self._score())
        reply = {"role": "user", "content": self.lake.drawn(self.place)}
        return Turn((reply,), self._score(), done=False)  # the score so far: for a walk that a budget cuts off

    def _score(self) -> Score:
        """1 at the goal; else at most .5, the more the nearer, and nothing in a hole."""
        steps = self.distances.get(self.place)
        if steps is None:
            return Score.of(0.0, left=float(self.lake.size**2))
        return Score.of(1.0 if steps == 0 else 0.5 / (1 + steps), left=float(steps))


class FrozenLake(Environment):
    """Prompt: a map. Every turn: a direction."""

    version = "1"
    scores_in_process = True  # a few steps on a small map
    symbols = tuple(MOVES)  # one token each, where the tokenizer is made on the spot

    def __init__(self, name: str, steps: list[int], size: int, holes: int, moves: int) -> None:
        if max(steps) > min(moves, 2 * (size - 1)):
            raise ValueError(f"{max(steps)} steps are too many for {moves} moves on a map of {size} by {size}")
        if size > LARGEST:
            raise ValueError(f"a map of {size} by {size} is too large to be drawn for every task: {LARGEST} at most")
        self.name, self.steps, self.map_size, self.holes, self.moves = name, steps, size, holes, moves

    @property
    def categories(self) -> list[Category]:
        """One category a distance to the goal."""
        return [Category(str(steps)) for steps in self.steps]

    def size(self, category: str) -> None:
        """Endless: any index is a task, but there are only so many maps."""

    def task(self, category: str, index: int) -> Task:
        """Make map number `index`; its answer is a good first step."""
        rng = np.random.default_rng([int(category), index])
        for _ in range(MOST_MAPS):
            cells = [divmod(int(cell), self.map_size) for cell in rng.permutation(self.map_size**2)]
            lake = Lake(self.map_size, cells[0], cells[1 : 1 + self.holes])
            distances = lake.distances()
            starts = [place for place, steps in distances.items() if steps == int(category)]
            if starts:
                break
        else:
            raise ValueError(
                f"{MOST_MAPS} maps with {self.holes} holes have no walk of {category} steps: take fewer holes"
            )
        walker = starts[rng.integers(len(starts))]
        good = [move for move in MOVES if distances.get(lake.step(walker, move)) == int(category) - 1]
        text = f"Walk from @ to G, not into O. Answer with one of: {', '.join(MOVES)}.\n{lake.drawn(walker)}"
        return Task(
            self.name,
            category,
            index,
            ({"role": "user", "content": text},),
            answer=good[rng.integers(len(good))],
            data={"size": self.map_size, "goal": lake.goal, "holes": lake.holes, "walker": walker},
        )

    def start(self, task: Task) -> Episode:
        """Begin a walk; `score` is for environments of one turn."""
        return Walk(task, self.moves)


def create(name: str, steps: list[int], size: int = 3, holes: int = 2, moves: int = 5) -> FrozenLake:
    """What the spec's `type` names."""
    return FrozenLake(name, steps, size, holes, moves)
