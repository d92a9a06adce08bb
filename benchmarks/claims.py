"""What is claimed, as its studies found it: the tables of docs/results/claims.md.

    for study in examples/claims/*.yaml; do evergreen study $study --home HOME; done
    python -m benchmarks.claims --home HOME [STUDY ...]

A study registers what it compares with what, and on which metric, before its first run; its first line is the claim. A
row of the table is a setting beside the study's baseline: the mean difference over seeds with the interval that
`evergreen compare` gives, which holds for all settings of a study together. The claim of a row

    holds           the interval lies on the claim's side of its bound, which is 0 but for the studies named in SIDES
    does not hold   it lies on the other side
    cannot tell     it does neither

Minutes are those from the first run's start to the last one's end, on the machine on which the study ran.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from store.comparison import Comparison, ComparisonRequest, compare, sentences
from store.comparison.scores import Pair
from store.home import Home
from store.ledger import Reading
from store.ledger.engine import make_engine

STUDIES = Path(__file__).parents[1] / "examples" / "claims"
NAME = "claim_"  # before a file's name: the study's


@dataclass(frozen=True)
class Side:
    """Where a setting's difference to the baseline lies, if the claim holds: on one side of a bound."""

    bound: float = 0.0
    above: bool = True


# What a study claims of its settings, or of STUDY/SETTING, beside its baseline, where that is not that they have more;
# None: nothing, the row is there to compare.
SIDES: dict[str, Side | None] = {
    "band_books": Side(-0.01),  # a loss that is none
    "band_mixed": Side(0.5, above=False),  # nats: where an alarm begins
    "band_mixed/quarter, one strength": None,
    "band_words/rloo": None,
    "bandit_books": Side(-0.01),  # a loss that is none
    "controller": Side(0.03, above=False),  # the baseline is what is claimed to need no tuning
    "controller_rows": Side(0.03, above=False),
    "controller_size": Side(0.03, above=False),
    "forgetting": Side(above=False),
    "interventions/repo_adaptive": None,
    "learning_rates": Side(above=False),  # the baseline is what is claimed to be better
    "mixed_signal": Side(0.5, above=False),  # nats: where an alarm begins
    "mixed_signal/quarter, grpo": None,
    "mixed_signal/quarter, one strength": None,
    "per_environment": Side(-0.01),  # a loss that is none
    "predictors": None,  # the claim is judged by `benchmarks.foretelling`
    "rises_books": Side(-0.01),  # a loss that is none
    "rises_noise": Side(-0.01),
    "rises_tides/uniform": None,
    "samples": Side(above=False),
    "schedulers": Side(-0.01),
    "stage_length/100": Side(above=False),  # the one that is longer than the baseline
    "tiny_defaults": Side(0.01, above=False),
    "tiny_words": Side(-0.01),  # a loss that is none
}


def verdict(pair: Pair, side: Side | None) -> str:
    """Say whether the claim of one row holds."""
    if side is None:
        return "no claim"
    if pair.interval is None or pair.interval.low <= side.bound <= pair.interval.high:
        return "cannot tell"
    return "holds" if (pair.interval.low > side.bound) == side.above else "does not hold"


def claim_of(path: Path) -> str:
    """The first line of a study's file, without its full stop."""
    return path.read_text().partition("\n")[0].lstrip("# ").rstrip(".")


def rows(study: str, found: Comparison) -> Iterator[str]:
    """Write a row for each setting beside the baseline, in Markdown."""
    levels = {setting.label: setting.mean for setting in found.settings}
    for pair in found.pairs:
        side = SIDES.get(f"{study}/{pair.setting}", SIDES.get(study, Side()))
        effect = f"{sentences.change(pair.mean, pair.is_ratio)} ({sentences.changes(pair.interval, pair.is_ratio)})"
        yield (
            f"| `{pair.setting}` beside `{pair.baseline}` | {verdict(pair, side)} "
            f"| {levels[pair.setting]:.3f}, {levels[pair.baseline]:.3f} | {effect} | {in_short(pair.seeds)} |"
        )


def in_short(seeds: Iterable[int]) -> str:
    """Write seeds that follow each other as a range."""
    found = sorted(seeds)
    is_range = len(found) > 2 and found[-1] - found[0] == len(found) - 1
    return f"{found[0]}-{found[-1]}" if is_range else ", ".join(map(str, found))


def minutes_of(reading: Reading, study: str) -> float:
    """Minutes from the first start to the last end of a study's finished runs."""
    runs = [reading.run(member.run) for member in reading.members(study) if member.status == "finished"]
    starts = [datetime.fromisoformat(run.created_at) for run in runs]
    ends = [datetime.fromisoformat(run.ended_at) for run in runs if run.ended_at is not None]
    return (max(ends) - min(starts)).total_seconds() / 60


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "studies", nargs="*", metavar="STUDY", help="files of examples/claims without .yaml; default: all"
    )
    parser.add_argument("--home", default="runs")
    options = parser.parse_args()
    home = Home(options.home, create=False)
    reading = Reading(make_engine(home.ledger_url))
    there = {study.name for study in reading.studies()}
    for path in sorted(STUDIES.glob("*.yaml")):
        if options.studies and path.stem not in options.studies:
            continue
        print(f"\n## {claim_of(path)}\n")
        if NAME + path.stem not in there:
            print(f"Not run: `evergreen study examples/claims/{path.name}`.")
            continue
        found = compare(reading, home, ComparisonRequest([NAME + path.stem]))
        minutes = minutes_of(reading, NAME + path.stem)
        print(f"`evergreen study examples/claims/{path.name}`, {minutes:.0f} minutes; {found.title}.\n")
        print("| setting | verdict | its mean, the baseline's | difference | seeds |")
        print("|---|---|---|---|---|")
        print("\n".join(rows(path.stem, found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
