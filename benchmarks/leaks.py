"""How well `validate --leaks` tells leaks from siblings: precision and recall on labelled tasks of five shapes.

    python -m benchmarks.leaks [--seed 0] [--threshold 0.8]

Shapes: logic puzzles and digit grids that share one long template (reasoning_gym's `zebra_puzzles`, `arc_1d`), stories
with numbers (`gsm_symbolic`), short problems in LaTeX from templates of which each is rare (as in MATH; written here),
and the countdown rows of the tests. Of each, 200 tasks are trained on and 150 other draws are held out: siblings.
Beside them stand two kinds of known answer:

- leaks, each a training task: `formatted` (case and white space), `reworded` (two words changed, none of them a
  number), `reordered` (clues, examples or numbers in another order), `wrapped` (another instruction around it);
- near misses, each a training task with one number changed, which is another task.

Printed: of the siblings and near misses how many are called leaks, of the leaks how many are found; precision and
recall over all. Seeds 100 and above were looked at while the rule was made, 0 was not.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from environments import Category, Environment, Pool, Score, Task
from environments.leaks import find_leaks
from environments.leaks.texts import TOKEN

NUM_TRAINING, NUM_SIBLINGS, NUM_PLANTED = 200, 150, 40
SPARE = 20  # drawn more, as some draws are equal
ROWS = Path(__file__).parents[1] / "tests" / "data" / "sec"
Change = Callable[[str, random.Random], str]

# Problems in the manner of MATH: a template a line, numbers drawn from the range behind the bar.
TEMPLATES = r"""
Compute $\dbinom{#}{#}$.|3 16
What is the greatest common factor of $#$ and $#$?|8 200
What is the least common multiple of $#$ and $#$?|4 60
How many positive divisors does $#$ have?|12 900
What is the units digit of $#^{#}$?|2 40
Find the sum of the roots of the equation $x^2 - #x + # = 0.$|2 60
Solve for $x$: $#x + # = #.$|2 90
Solve for $x$: $\frac{x}{#} - # = #.$|2 30
Evaluate $\left|# - #i\right|.$|1 20
Evaluate $\log_{#} #.$|2 99
Simplify $\sqrt{#} + \sqrt{#}.$|8 300
Expand the product $(x + #)(x - #)$.|2 30
What is the remainder when $#^{#}$ is divided by $#$?|3 40
Find the distance between the points $(#, #)$ and $(#, #)$ in the plane.|1 20
What is the area of a triangle with base # and height #?|3 60
A bag contains # red marbles and # blue marbles. Two marbles are drawn at random without replacement. What is the probability that both are red? Express your answer as a common fraction.|3 20
How many # digit numbers have digits whose sum is #?|3 20
A rectangle has a perimeter of # centimeters and a length of # centimeters. How many square centimeters are in its area?|10 90
The operation $\star$ is defined by $a \star b = a^2 + #b - #$. What is the value of $# \star #$?|2 20
If $f(x) = #x^2 - #x + #$, what is the value of $f(#)$?|2 20
In how many ways can # people be seated around a round table if # of them insist on sitting next to each other?|4 14
Convert the number $#_{#}$ to base ten.|5 900
A car travels # miles in # hours. At this rate, how many miles does it travel in # hours?|2 90
The first term of an arithmetic sequence is # and the common difference is #. What is the #th term?|2 60
What is the smallest positive integer that is divisible by both $#$ and $#$ and leaves a remainder of $#$ when divided by $#$?|3 40
Let $z = # + #i$ and $w = # - #i$. Compute $z \cdot w.$|1 20
Two fair #-sided dice are rolled. What is the probability that the sum of the numbers shown is #? Express your answer as a common fraction.|4 20
A circle has a radius of # inches. What is the number of inches in the length of an arc that subtends an angle of $#^\circ$ at its center? Express your answer in terms of $\pi$.|2 90
Each exterior angle of a regular polygon measures $#$ degrees and each side is # units long. What is the perimeter of the polygon?|5 60
The mean of # numbers is #. When another number is added, the mean becomes #. What is the number that was added?|3 40
""".strip().splitlines()  # noqa: E501


def math_problem(rng: random.Random) -> str:
    """Fill one of the templates."""
    text, _, limits = rng.choice(TEMPLATES).rpartition("|")
    low, high = map(int, limits.split())
    return re.sub("#", lambda _: str(rng.randint(low, high)), text)


def procedural(dataset: str, seed: int, num: int) -> list[str]:
    """Draw questions of a data set of reasoning_gym."""
    import reasoning_gym

    drawn = reasoning_gym.create_dataset(dataset, size=num, seed=seed)
    return [drawn[place]["question"] for place in range(num)]


def countdown(seed: int, num: int) -> list[str]:
    """Draw some of the rows of the tests."""
    import pyarrow.parquet as pq

    tables = (pq.read_table(ROWS / f"countdown_{part}.parquet", columns=["prompt"]) for part in ("train", "test"))
    texts = [prompt[0]["content"] for table in tables for prompt in table["prompt"].to_pylist()]
    return random.Random(seed).sample(texts, num)


SHAPES: dict[str, Callable[[int, int], list[str]]] = {
    "puzzles": lambda seed, num: procedural("zebra_puzzles", seed, num),
    "grids": lambda seed, num: procedural("arc_1d", seed, num),
    "stories": lambda seed, num: procedural("gsm_symbolic", seed, num),
    "problems": lambda seed, num: [math_problem(rng) for rng in [random.Random(seed)] for _ in range(num)],
    "countdown": countdown,
}


def formatted(text: str, rng: random.Random) -> str:
    """Change case and white space."""
    return rng.choice([text.upper(), text.replace(" ", "  "), text.replace("\n", "\n\n") + "\n", text.swapcase()])


def reworded(text: str, rng: random.Random) -> str:
    """Replace two words, none of them with a digit, by others."""
    words = text.split(" ")
    places = [place for place, word in enumerate(words) if re.fullmatch("[A-Za-z]{2,}", word)]
    for place in rng.sample(places, min(2, len(places))):
        words[place] = rng.choice(["any", "such", "thus", "quite", "some"])
    return " ".join(words)


def reordered(text: str, rng: random.Random) -> str:
    """Shuffle clues, examples, or the numbers of a list; sentences but the last where there is none of these."""
    if clues := re.findall(r"^\d+\. .*$", text, re.MULTILINE):
        bodies = [clue.partition(" ")[2] for clue in clues]
        rng.shuffle(bodies)
        for number, (clue, body) in enumerate(zip(clues, bodies, strict=True), 1):
            text = text.replace(clue, f"{number}. \0{body}", 1)
        return text.replace("\0", "")
    if examples := re.findall(r"Input:.*\nOutput:.*", text):
        turned = iter(examples[1:] + examples[:1])
        return re.sub(r"Input:.*\nOutput:.*", lambda _: next(turned), text)
    if found := re.search(r"\[(\d+(?:, \d+)+)\]", text):
        numbers = found[1].split(", ")
        return text.replace(found[1], ", ".join(numbers[1:] + numbers[:1]))
    *sentences, last = re.split(r"(?<=[.?]) ", text)
    return " ".join([*sentences[1:], *sentences[:1], last])


def wrapped(text: str, rng: random.Random) -> str:
    """Put another instruction around it."""
    before, after = rng.choice(
        [
            ("Answer the question below.\n\n", ""),
            ("", "\n\nThink step by step and put the final answer in a box."),
            ("Question: ", "\nAnswer:"),
        ]
    )
    return before + text + after


def one_number_changed(text: str, rng: random.Random) -> str:
    """Change one number; of a list's where there is one."""
    first, last = listed.span() if (listed := re.search(r"\[\d+(?:, \d+)+\]", text)) else (0, len(text))
    found = rng.choice(list(re.compile(r"\d+").finditer(text, first, last)))
    return f"{text[: found.start()]}{int(found[0]) + rng.choice([1, 2, 3])}{text[found.end() :]}"


LEAKS: tuple[Change, ...] = (formatted, reworded, reordered, wrapped)


class Labelled(Environment):
    """Tasks to train on, and held-out ones."""

    name, version = "labelled", "1"

    def __init__(self, training: Sequence[str], held_out: Sequence[str]) -> None:
        self.texts, self.num_training = [*training, *held_out], len(training)

    @property
    def categories(self) -> list[Category]:
        return [Category("all")]

    def size(self, category: str) -> int:
        return len(self.texts)

    def task(self, category: str, index: int) -> Task:
        return Task(self.name, category, index, ({"role": "user", "content": self.texts[index]},))

    def pool(self, task: Task) -> Pool:
        return "train" if task.index < self.num_training else "anchor"

    def score(self, task: Task, completion: str) -> Score:
        return Score.of(0.0)


def same(text: str) -> str:
    """What is equal in all that matters: two draws with this are one task."""
    return " ".join(TOKEN.findall(text.casefold()))


def measure(shape: str, seed: int, threshold: float) -> tuple[dict[str, int], dict[str, int]]:
    """Count held-out tasks of every kind, and those of them that are called leaks."""
    rng = random.Random(seed)
    unique = list({same(text): text for text in SHAPES[shape](seed, NUM_TRAINING + NUM_SIBLINGS + SPARE)}.values())
    training, siblings = unique[:NUM_TRAINING], unique[NUM_TRAINING : NUM_TRAINING + NUM_SIBLINGS]
    known = {same(text) for text in training}
    labelled = [("sibling", text) for text in siblings]
    for change in LEAKS:
        planted = ((text, change(text, rng)) for text in rng.sample(training, NUM_PLANTED))
        labelled += [(change.__name__, text) for before, text in planted if text != before]
    if shape != "grids" and shape != "puzzles":  # there every number is one of many
        changed = (one_number_changed(text, rng) for text in rng.sample(training, NUM_PLANTED))
        labelled += [("near miss", text) for text in changed if same(text) not in known]
    labels = [label for label, _ in labelled]
    found = find_leaks({"labelled": Labelled(training, [text for _, text in labelled])}, threshold)
    called = [labels[leak.held_out.index - len(training)] for leak in found.leaks]
    return {label: labels.count(label) for label in labels}, {label: called.count(label) for label in labels}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threshold", type=float, default=0.8)
    options = parser.parse_args()
    kinds = ("sibling", "near miss", *(change.__name__ for change in LEAKS))
    print(f"{'shape':10s}" + "".join(f"{kind:>13s}" for kind in kinds) + f"{'precision':>13s}{'recall':>9s}")
    for shape in SHAPES:
        there, called = measure(shape, options.seed, options.threshold)
        right = sum(called.get(change.__name__, 0) for change in LEAKS)
        num_leaks = sum(there.get(change.__name__, 0) for change in LEAKS)
        cells = [f"{called[kind]} of {there[kind]}" if kind in there else "-" for kind in kinds]
        precision = right / max(1, sum(called.values()))
        print(f"{shape:10s}" + "".join(f"{cell:>13s}" for cell in cells) + f"{precision:13.2f}{right / num_leaks:9.2f}")


if __name__ == "__main__":
    main()
