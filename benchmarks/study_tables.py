"""Tables of what a study shows, from its ledger: settings, then differences to one of them, paired by seed.

For measures of a study's own, which `evergreen compare` does not know. Means over seeds with a 95 % t-interval, each
for itself; the p value of a difference is the exact sign-flip test's, beside it p times the number of comparisons
shown (Bonferroni), which decides: the intervals only describe.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks.paired import with_interval
from store.comparison.statistics import bonferroni, sign_flip
from store.home import Home
from store.ledger.engine import make_engine
from store.ledger.queries import Reading

OfRun = Callable[[Reading, str], Mapping[str, float]]
Scores = Mapping[str, Mapping[int, Mapping[str, float]]]  # setting -> seed -> measure


def main(about: str | None, of_run: OfRun, measures: Sequence[str], told: Sequence[str], against: str) -> Scores:
    """Be the command: read a study, print both tables, and give what of its runs was measured, of the paired seeds.

    Args:
        about: the module's docstring, for `--help`.
        of_run: every measure of a run, by name.
        measures: which of them are columns, and compared.
        told: columns that are not compared.
        against: the setting that differences are to, unless `--against` says another.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--home", default="runs")
    parser.add_argument("--against", default=against, help=f"the setting that differences are to ({against})")
    options = parser.parse_args()
    reading = Reading(make_engine(Home(options.home, create=False).ledger_url))
    scores = read(reading, options.study, of_run)
    seeds = sorted(set.intersection(*(set(own) for own in scores.values())))
    if len(seeds) < 2:
        parser.error(f"{options.study} has {len(seeds)} seeds that all settings have finished; an interval needs 2")
    print(f"{options.study}: {len(scores)} settings, paired seeds {', '.join(map(str, seeds))}\n")
    print("\n".join(levels(scores, seeds, [*measures, *told])), end="\n\n")
    print("\n".join(differences(scores, seeds, measures, options.against)))
    return {setting: {seed: own[seed] for seed in seeds} for setting, own in scores.items()}


def read(reading: Reading, study: str, of_run: OfRun) -> Scores:
    """Every measure of every finished run of a study."""
    members = [member for member in reading.members(study) if member.status == "finished"]
    settings = dict.fromkeys(member.setting for member in members)
    return {setting: {m.seed: of_run(reading, m.run) for m in members if m.setting == setting} for setting in settings}


def levels(scores: Scores, seeds: Sequence[int], measures: Sequence[str]) -> list[str]:
    """Write a row a setting and a column a measure, in Markdown. A measure that is 0 everywhere is left out."""
    shown = [m for m in measures if any(scores[s][seed][m] for s in scores for seed in seeds)]
    lines = [f"| setting |{''.join(f' {m} |' for m in shown)}", "|---" * (len(shown) + 1) + "|"]
    for setting in scores:
        cells = [with_interval(_numbers(scores, setting, seeds, m), ".3f") for m in shown]
        lines.append(f"| {setting} | {' | '.join(cells)} |")
    return lines


def differences(scores: Scores, seeds: Sequence[int], measures: Sequence[str], against: str) -> list[str]:
    """Write a row a setting and measure: the paired difference to `against`, and how sure it is."""
    pairs = [(setting, m) for setting in scores if setting != against for m in measures]
    found = [_numbers(scores, s, seeds, m) - _numbers(scores, against, seeds, m) for s, m in pairs]
    rng = np.random.default_rng(0)  # not used below 20 seeds: the test is exact
    p = [sign_flip(difference, rng).p for difference in found]
    lines = [f"| minus {against} | measure | difference | p | corrected |", "|---|---|---|---|---|"]
    for (setting, m), difference, plain in zip(pairs, found, p, strict=True):
        interval, corrected = with_interval(difference), bonferroni(plain, len(pairs))
        lines.append(f"| {setting} | {m} | {interval} | {plain:.3f} | {corrected:.3f} |")
    return lines


def _numbers(scores: Scores, setting: str, seeds: Sequence[int], measure: str) -> np.ndarray:
    return np.array([scores[setting][seed][measure] for seed in seeds])
