"""What a study of bandits over word lengths shows, from its ledger: the words alone, whatever else was among the arms.

    evergreen study examples/study_curricula.yaml --home HOME
    python -m benchmarks.curricula curricula --home HOME

Accuracy is held-out, at temperature 1, averaged over the word lengths: after the last step; over the run (mean of the
boundaries after the first); and of the four longest lengths, out of reach at first. Means over seeds with a 95 %
t-interval, then the differences to one of them (`--against`, uniform), paired by seed, with the p value of the exact
sign-flip test and the one corrected by Holm over all comparisons of the table.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from store.comparing.statistics import holm, sign_flip, t_interval
from store.home import Home
from store.ledger.engine import make_engine
from store.ledger.reading import Reading

WORDS = "words"
LONG = ("7", "8", "9", "10")
MEASURES = ("final", "over the run", "longest", "on the coin")


def of_run(reading: Reading, run: str) -> dict[str, float]:
    """Every measure of one run."""
    cells = [cell for cell in reading.matrix(run, "pass_1") if cell.environment == WORDS and cell.category]
    last = max(cell.after_stage for cell in cells)
    after = {
        stage: {cell.category: cell.value for cell in cells if cell.after_stage == stage}
        for stage in range(last + 1)
    }
    picked = [pick.environment for pick in reading.picks(run)]
    return {
        "final": _mean(after[last].values()),
        "over the run": _mean([_mean(after[stage].values()) for stage in range(1, last + 1)]),
        "longest": _mean([after[last][length] for length in LONG]),
        "on the coin": sum(name != WORDS for name in picked) / len(picked),
        "at first": _mean(after[0].values()),
    }


def _mean(values: Iterable[float | None]) -> float:
    return float(np.mean([value for value in values if value is not None]))


def table(
    scores: Mapping[str, Mapping[int, Mapping[str, float]]], seeds: Sequence[int], against: str
) -> list[str]:
    """Write both tables in Markdown: settings, then differences to one of them."""
    measures = [m for m in MEASURES if any(scores[s][seed][m] for s in scores for seed in seeds)]

    def numbers(setting: str, measure: str) -> np.ndarray:
        return np.array([scores[setting][seed][measure] for seed in seeds])

    lines = [f"| bandit |{''.join(f' {m} |' for m in measures)}", "|---" * (len(measures) + 1) + "|"]
    for setting in scores:
        cells = [_with_interval(numbers(setting, measure), ".3f") for measure in measures]
        lines.append(f"| {setting} | {' | '.join(cells)} |")
    others = [setting for setting in scores if setting != against]
    pairs = [(other, m) for other in others for m in measures if m != "on the coin"]
    differences = [numbers(other, m) - numbers(against, m) for other, m in pairs]
    rng = np.random.default_rng(0)  # not used below 20 seeds: the test is exact
    p = [sign_flip(difference, rng).p for difference in differences]
    corrected = holm(p)
    lines += ["", f"| minus {against} | measure | difference | p | corrected |", "|---|---|---|---|---|"]
    for (other, m), difference, plain, holmed in zip(pairs, differences, p, corrected, strict=True):
        lines.append(f"| {other} | {m} | {_with_interval(difference, '+.3f')} | {plain:.3f} | {holmed:.3f} |")
    return lines


def _with_interval(numbers: np.ndarray, form: str) -> str:
    found = t_interval(numbers)
    return f"{numbers.mean():{form}} ({found.low:{form}} to {found.high:{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study")
    parser.add_argument("--home", default="runs")
    parser.add_argument("--against", default="uniform", help="the bandit that differences are to")
    options = parser.parse_args()
    reading = Reading(make_engine(Home(options.home, create=False).ledger_url))
    members = [member for member in reading.members(options.study) if member.status == "finished"]
    settings = list(dict.fromkeys(member.setting for member in members))
    scores = {
        setting: {m.seed: of_run(reading, m.run) for m in members if m.setting == setting}
        for setting in settings
    }
    seeds = sorted(set.intersection(*(set(own) for own in scores.values())))
    first = [scores[setting][seed]["at first"] for setting in settings for seed in seeds]
    print(
        f"{options.study}: {len(settings)} bandits, paired seeds {seeds}; accuracy at first {np.mean(first):.3f}\n"
    )
    print("\n".join(table(scores, seeds, options.against)))


if __name__ == "__main__":
    main()
