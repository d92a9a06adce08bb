"""A run's numbers as sentences, for `show` and the report. One function a sentence; each is true to two decimals.

Sentences read the facts of `store.run_summary` and nothing else. They compare what they print: a change that is
written as +.10 counts as .10.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from store.carryover import ENTROPY_FLOOR, NOTHING_LEARNT, NUM_ERRORS, OUTCOMES, geometric_mean, ratio
from store.records import GUARD, QUARANTINE

if TYPE_CHECKING:
    from store.records import Gaps, Span

GAINED, LOST = 0.10, -0.03  # changes of accuracy that are worth a name
APART = 0.10  # accuracies of a run and its twin that are
STEADY = 0.03  # a ratio this near to 1 is no change
COLLAPSED = 0.05  # nats a token
LONG_NAME = 40  # characters of a name in a sentence
NAMED = 4  # names in a list, before the rest is counted

Facts = Mapping[str, Any]


def in_words(facts: Facts) -> dict[str, str]:
    """Say what was kept, learnt, what it cost in entropy, who chose, and what of it taught, each by its title.

    What was kept is said of a run with a twin, how it began of one with a warm start, and first of all where held-out
    tasks have changed.
    """
    some = {"Tasks": which_tasks_changed(facts), "Kept": what_was_kept(facts), "Start": how_it_began(facts)}
    return {
        **{title: sentence for title, sentence in some.items() if sentence is not None},
        "Learnt": what_was_learnt(facts),
        "Entropy": what_it_cost(facts),
        "Choice": what_was_chosen(facts),
        "Signal": what_taught(facts),
    }


def which_tasks_changed(facts: Facts) -> str | None:
    """Say of which environments numbers are no course, as other tasks are behind them; None: of none."""
    return other_tasks(facts["changed_tasks"]) if facts["changed_tasks"] else None


def other_tasks(changed: Mapping[str, Sequence[int]]) -> str:
    """Say after which stages environments were first measured on other tasks, and what that makes of changes."""
    places = [
        f"{short(name)} (first after stage {listed(list(map(str, at)), len(at))})" for name, at in changed.items()
    ]
    return (
        f"Other held-out tasks than before were measured of {listed(places)}: changes of accuracy and entropy across "
        "that, forgetting and carry-over tell of the tasks as well as of the policy."
    )


def what_was_kept(facts: Facts) -> str | None:
    """Say how much of the last environment that was new to it a run and its twin learnt, and whether it still learns.

    `store.kept` says when it does. Where the two are not `APART` neither that nor its contrary is said.
    """
    kept = facts["kept"]
    if kept is None:
        return None
    twin, after = kept["twin"], num(kept["num_environments"], "environment")
    gap = round(round(kept["accuracy"], 2) - round(twin["accuracy"], 2), 2)
    if abs(gap) < APART:
        so = " the policy does as its twin does:"
    elif kept["learns"] is None:
        so = ","
    elif kept["learns"]:
        so = " the policy still learns" + (", less than its twin:" if gap < 0 else ":")
    else:
        so = " the policy no longer learns:"
    places = [f" on {short(one['environment'])} after its stage ({one['stage']})" for one in (kept, twin)]
    elsewhere = "" if places[0] == places[1] else places[1]
    who = f"{short(twin['name'])}, the same run with {facts['baseline']['settings_in_words']}"
    return (
        f"After {after}{so} accuracy{places[0]} is {number(kept['accuracy'])}, "
        f"{number(twin['accuracy'])}{elsewhere} in {who}."
    )


def how_it_began(facts: Facts) -> str | None:
    """Say what a warm start taught: held-out accuracy before the first step, where it could be scored.

    None: there was no warm start, or it goes on, or nothing could be scored.
    """
    warm, before = facts["warm_start"], facts["matrices"]["pass_1"].get("0", {})
    rates = [f"{number(value)} on {short(name)}" for name, value in before.items() if value is not None]
    if not warm or not rates:
        return None
    batches, where = f"{warm['num_batches']:,} supervised batches", listed(list(map(short, warm["environments"])))
    return f"After the warm start ({batches} on {where}), before the first step, held-out accuracy was {listed(rates)}."


def what_was_learnt(facts: Facts) -> str:
    """Count the environments whose held-out accuracy rose and name those where it fell; what may be chance, apart.

    Both are since before training. Where more was lost since an environment's best, that is said too; and which have
    no accuracy since.
    """
    measured = {name: of for name, of in facts["environments"].items() if of["accuracy_change"] is not None}
    changes = {name: round(of["accuracy_change"], 2) for name, of in measured.items()}
    if facts["num_boundaries"] < 2:
        return _none_yet(facts, "No finished stage", "No stage is finished yet.")
    if not changes:
        return "Nothing has a held-out accuracy from before training and from after a stage."
    moved = sorted(
        (name for name, change in changes.items() if change >= GAINED or change < LOST), key=lambda n: changes[n]
    )
    sure = [name for name in moved if _is_sure(measured[name], "accuracy_change")]
    up = sorted((name for name in sure if changes[name] > 0), key=lambda n: -changes[n])
    down = [name for name in sure if changes[name] < 0]
    gained = f"{len(up)} of {num(len(changes), 'environment')} gained {number(GAINED)} of accuracy or more"
    who_lost = _with(down, changes) if down else "none"
    lost = f"{who_lost} lost more than {number(-LOST)} since before training{_lost_since_best(measured, changes)}"
    chance = [name for name in moved if name not in sure]
    apart = f"; within two standard errors, so perhaps chance: {_with(chance, changes)}" if chance else ""
    unknown = [
        short(n) for n, of in facts["environments"].items() if n not in measured and of["accuracy_start"] is not None
    ]
    rest = f"; not known of {listed(unknown)}" if unknown else ""
    return f"{gained}{f' ({_with(up, changes)})' if up else ''}; {lost}{apart}{rest}."


def _none_yet(facts: Facts, what: str, not_yet: str) -> str:
    """Say that there is nothing yet; where a ledger was lost, that nothing is on record."""
    if facts.get("missing") is None:
        return not_yet
    return f"{what} is {'' if what.startswith('No ') else 'not '}on record."


def _lost_since_best(measured: Facts, changes: Mapping[str, float]) -> str:
    """Name the environments that lost more since their best than since before training."""
    falls = {name: round(of["accuracy_since_best"] or 0.0, 2) for name, of in measured.items()}
    fallen = [name for name, fall in falls.items() if fall < min(LOST, changes[name])]
    sure = [name for name in sorted(fallen, key=lambda n: falls[n]) if _is_sure(measured[name], "accuracy_since_best")]
    return f"; since {'its' if len(sure) == 1 else 'their'} best {_with(sure, falls)}" if sure else ""


def _is_sure(of: Facts, change: str) -> bool:
    """Whether a change of accuracy is beyond its standard errors, as far as they are known."""
    return bool(abs(of[change]) >= NUM_ERRORS * (of[f"{change}_stderr"] or 0.0))


def what_it_cost(facts: Facts) -> str:
    """Compare the policy's entropy at the end with that at the start, by environment."""
    if facts["num_boundaries"] < 2:
        return _none_yet(facts, "What it cost in entropy", "What it costs in entropy is known after the first stage.")
    pairs = {n: (f["entropy_start"], f["entropy_end"]) for n, f in facts["environments"].items()}
    left = {n: r for n, (start, end) in pairs.items() if (r := ratio(end, start, ENTROPY_FLOOR)) is not None}
    mean = geometric_mean(left.values())
    if mean is None:
        return "Entropy cannot be compared: at the start it is not on record, or next to nothing."
    verb = "fell to" if mean < 1 else "rose to"
    moved = f"{'stayed at' if abs(mean - 1) <= STEADY else verb} {mean:.0%}"
    least, most = min(left, key=lambda n: left[n]), max(left, key=lambda n: left[n])
    if len(left) == 1:
        return f"Entropy {moved} of its start on {short(least)} ({_path(pairs[least])}){_collapsed(pairs)}."
    known = num(len(pairs), "environment") if len(left) == len(pairs) else f"{len(left)} of {len(pairs)} environments"
    over = f"Entropy {moved} of its start (geometric mean of {known})"
    if f"{left[least]:.0%}" == f"{left[most]:.0%}":
        return f"{over}, alike on all of them{_collapsed(pairs)}."
    ends = [f"{short(name)}, {left[name]:.0%} ({_path(pairs[name])})" for name in (least, most)]
    return f"{over}: least is left on {ends[0]}, most on {ends[1]}{_collapsed(pairs)}."


def what_was_chosen(facts: Facts) -> str:
    """Say which environments got the stages and which arm's probability moved most."""
    if not facts["stages"]:
        return _none_yet(facts, "No stage", "No stage has begun.")
    given = Counter(stage["environment"] for stage in facts["stages"] if stage["environment"] is not None)
    if not given:
        return f"One bandit chose among all categories; {_arms_moved(facts)}."
    if len(given) == len(facts["stages"]) > 1:
        return f"Each of {len(given)} environments had one stage, so that none was chosen again; {_arms_moved(facts)}."
    shares = [f"{short(name)} {count}" for name, count in given.most_common()]
    stages = num(sum(given.values()), "stage")
    return f"Of {stages} the {facts['scheduler']} scheduler gave {listed(shares)}; {_arms_moved(facts)}."


def what_taught(facts: Facts) -> str:
    """Count the groups with a signal, in which there was anything to compare, by environment; the least comes first."""
    rows = facts["taught"]
    total, taught = (sum(row[key] for row in rows) for key in ("num_groups", "num_taught"))
    if not total:
        return _none_yet(facts, "No group", "No group was played yet.")
    samples, scored = (sum(row[key] for row in facts["allocation"]) for key in ("num_samples", "num_scored"))
    if samples and not scored:
        return f"No sample of {num(total, 'group')} could be scored, so none had a signal."
    played = dict.fromkeys(row["environment"] for row in rows)
    shares = {name: share for name in played if (share := share_taught(rows, name)) is not None}
    order = sorted(shares, key=lambda name: shares[name])
    own = [f"{short(name)} {percent(shares[name])}" for name in order]
    whose = f" ({listed(own)})" if len(own) > 1 else ""
    why = "earned the same" if scored == samples else "that were scored earned the same, or none was"
    rest = "" if taught == total else f"; in the others all samples {why}"
    return f"Of {num(total, 'group')} {percent(taught / total)} had a signal{whose}{rest}."


def what_carried(facts: Facts) -> dict[str, str]:
    """Say how trainable the policy is, how much entropy it brought along and what it lost, each by its title.

    What was not measured, or has too little behind it, has no sentence.
    """
    found = facts["plasticity"]
    made = {
        "Trainability": how_trainable(found["trainability"]),
        "Carried": _how_much_entropy(found["entropy_carried"], facts["baseline"]),
        "Turnover": what_was_lost(found["turnover"]),
    }
    return {title: sentence for title, sentence in made.items() if sentence is not None}


def how_trainable(rows: Sequence[Facts]) -> str | None:
    """Compare what probes gain at the last boundary that has them with the base's gain; with the level they start at.

    A lower start makes a gain larger, so neither is told alone.
    """
    told = [row for row in rows if row["gain_ratio"] is not None or (row["after_stage"] and row["num_diverged"])]
    if not told:
        return None
    last = max(row["after_stage"] for row in told)
    texts = [_probe(row) for row in told if row["after_stage"] == last]
    return f"After stage {last} a copy of the policy gains, where the base gains 1: {'; '.join(texts)}."


def _probe(row: Facts) -> str:
    if row["gain_ratio"] is None:
        return f"not known on {probe_name(row)}, {row['num_diverged']} diverged"
    diverged = f", {row['num_diverged']} diverged" if row["num_diverged"] else ""
    seeds, start = (
        num(row["num_seeds"], "seed") + diverged,
        "starts at a loss of" if row["metric"].endswith("loss") else "starts at",
    )
    ends = (
        f"{seeds}, no interval" if row["interval"] is None else f"{' to '.join(map(number, row['interval']))}, {seeds}"
    )
    level = f"{start} {number(row['level'])}, the base at {number(row['base_level'])}"
    at_end = " at the end" if row["is_at_end"] else ""
    return f"{number(row['gain_ratio'])}{at_end} on {probe_name(row)} ({ends}; {level})"


def probe_name(row: Facts) -> str:
    """Name a probe by its kind and what it was trained on."""
    return f"{row['kind'].replace('_', ' ')} {short(row['task'])}"


def _how_much_entropy(carried: Facts | None, twin: Facts | None) -> str | None:
    """Say how much entropy environments had when their stage began; None where the stages are too few for a spread.

    Beside it stands what its twin carried, where that was read on the same kind of answers.
    """
    if carried is None or carried["interval"] is None:
        return None
    low, high = carried["interval"]
    interval = f"95 % interval {low:.0%} to {high:.0%}"
    where = "the same frozen answers" if carried["metric"] == "entropy_fixed" else "what the policy then wrote"
    beside = ""
    if twin and (other := twin["entropy_carried"]) and other["metric"] == carried["metric"]:
        beside = f"; {other['mean']:.0%} in {short(twin['name'])}"
    return (
        f"When its stage began, an environment had {carried['mean']:.0%} of its entropy at the start, on {where} "
        f"(geometric mean of {num(carried['num_stages'], 'stage')} after the first; {interval}){beside}."
    )


def what_was_lost(turnover: Sequence[Facts]) -> str | None:
    """Count the solved tasks that the next look found lost, beside what luck alone loses; None: none was solved."""
    solved, lost = (sum(row[key] for row in turnover) for key in ("solved_before", "lost"))
    if not solved:
        return None
    from store.intervals import wilson  # loads numpy and scipy, which `ls` does without

    luck, repaired = (sum(row[key] for row in turnover) for key in ("lost_by_luck", "repaired"))
    ends = wilson(lost, solved)
    return (
        f"Of {num(solved, 'time')} that a held-out task was solved, the next look found it lost {num(lost, 'time')} "
        f"({percent(lost / solved)}, {percent(ends.low)} to {percent(ends.high)}; luck alone: about {luck:,.0f}); "
        f"{num(repaired, 'time') if repaired else 'not once'} a lost one was solved again."
    )


def share_taught(rows: Sequence[Facts], environment: str, category: str | None = None) -> float | None:
    """Share of an environment's groups with a signal, or of a category's; None: none was played."""
    own = [row for row in rows if row["environment"] == environment and category in (None, row["category"])]
    total = sum(row["num_groups"] for row in own)
    return sum(row["num_taught"] for row in own) / total if total else None


def what_is_lost(facts: Facts) -> str | None:
    """Say what the record lacks, as a sentence; None where it is whole."""
    return f"Mind that {facts['missing']}." if facts["missing"] else None


def beside_the_baseline(facts: Facts) -> str | None:
    """Say how accurate the run is beside its twin, where both measured the same tasks; None without a twin.

    One pair proves nothing.
    """
    twin = facts["baseline"]
    if twin is None:
        return None
    changes = {name: change for name, change in twin["accuracy_change"].items() if change is not None}
    who = f"{twin['name']}, the same run with {twin['settings_in_words']}"
    other = listed(list(map(short, twin["other_tasks"])))
    if not (changes or other) or not twin["after_stage"]:
        return f"Nothing to compare yet with {who}."
    order = sorted(changes, key=lambda name: -abs(changes[name]))
    after = num(int(twin["after_stage"]), "stage")
    if not changes:
        return f"After {after}, accuracy cannot be compared with {who}: other held-out tasks were measured of {other}."
    left_out = f"; not of {other}, where other held-out tasks were measured" if other else ""
    return f"After {after}, accuracy beside {who}: {_with(order, changes)}{left_out}. One pair of runs proves nothing."


def what_went_wrong(facts: Facts) -> str:
    """Count samples without a score, updates left out and alarms."""
    total = sum(row["num_samples"] for row in facts["allocation"])
    unscored = total - sum(row["num_scored"] for row in facts["allocation"])
    skipped = [event["step"] for event in facts["events"] if event["kind"] == "skipped update"]
    if not total:
        return "No sample was trained on yet."
    scored = (
        f"{unscored:,} of {num(total, 'training sample')} ({unscored / total:.1%}) could not be scored"
        if unscored
        else f"All {num(total, 'training sample')} were scored"
    )
    alarms = [event["step"] for event in facts["events"] if event["kind"] == "alarm"]
    raised = f" Alarms raised: {len(alarms)}, last in step {alarms[-1]:,}." if alarms else ""
    guarded = [event["step"] for event in facts["events"] if event["kind"] == GUARD]
    raised += f" Guards met: {len(guarded)}, last in step {guarded[-1]:,}." if guarded else ""
    aside = [event["step"] for event in facts["events"] if event["kind"] == QUARANTINE]
    raised += f" Went into quarantine or came out of it: {len(aside)}, last in step {aside[-1]:,}." if aside else ""
    if not skipped:
        return f"{scored}; every update was applied.{raised}"
    return f"{scored}; updates were skipped in {num(len(skipped), 'step')}, last in step {skipped[-1]:,}.{raised}"


def what_is_missing(gaps: Gaps) -> str | None:
    """Say what a run's record lacks; None where it is whole."""
    if not gaps:
        return None
    lost = [*_spans("step", "steps", gaps.steps), *_spans("boundary", "boundaries", gaps.boundaries)]
    return (
        f"the record lacks {' and '.join(lost)}, which were lost with a ledger: tables, curves and exports are without "
        "them, and the run has no digest"
    )


def _spans(one: str, several: str, spans: Sequence[Span]) -> list[str]:
    texts = [f"{first:,}" if first == last else f"{first:,} to {last:,}" for first, last in spans]
    is_one = len(spans) == 1 and spans[0][0] == spans[0][1]
    return [f"{one if is_one else several} {listed(texts)}"] if texts else []


def where_time_went(facts: Facts) -> str:
    """Say how long steps took, by part, and evaluation; the ledger holds no other time."""
    steps = {part: seconds for part, seconds in facts["seconds"].items() if part != "evaluate"}
    total = sum(steps.values())
    shares = ", ".join(f"{part} {percent(seconds / total)}" for part, seconds in steps.items() if seconds)
    inside = f"{duration(total)} in steps{f' ({shares})' if shares else ''}"
    evaluating = duration(facts["seconds"]["evaluate"])
    return f"{inside}, {evaluating} in evaluation; start-up and warm start are not counted"


def looking_rows(looking: Facts) -> list[tuple[str, str, str, str, str, str]]:
    """What training and looking took: part, looks, passes as planned, their share of training's, seconds, theirs."""
    training = looking["training"]

    def row(name: str, looks: str, of: Facts) -> tuple[str, str, str, str, str, str]:
        shares = [percent(of[unit] / training[unit]) if training[unit] else "-" for unit in ("passes", "seconds")]
        return name, looks, f"{of['passes']:,.0f}", shares[0], duration(of["seconds"]), shares[1]

    parts = [row(name, f"{of['looks']:,}", of) for name, of in looking["parts"].items()]
    whole = {unit: sum(of[unit] for of in looking["parts"].values()) for unit in ("passes", "seconds")}
    total = [row("all looking", "", whole)] if len(parts) > 1 else []
    return [row("training", "", training), *parts, *total]


LOOKING = ("looks", "passes", "of training's", "time", "of training's")  # columns of `looking_rows`


def how_it_stands(facts: Facts) -> str:
    """Say how far the run is; one whose last boundary is measured is finished, whoever still holds it."""
    if facts["num_boundaries"] == facts["planned_stages"] + 1 and facts["status"] == "running":
        return "finished"
    return str(facts["status"])


def outcomes_as_text(numbers: Mapping[str, float | None], has_gaps: bool = False) -> dict[str, str]:
    """Write the numbers of carry-over that are defined, and where forgetting has nothing to be a share of.

    The latter is not known where the record has gaps.
    """
    written = {
        one.name: signed(value) if one.kind == "change" else number(value)
        for one in OUTCOMES
        if (value := numbers[one.name]) is not None
    }
    if "forgetting" in written and not has_gaps:
        written.setdefault("relative_forgetting", NOTHING_LEARNT)
    return {one.name: written[one.name] for one in OUTCOMES if one.name in written}


def how_much_of(partly: Mapping[str, Sequence[int]], name: str) -> str:
    """Say that not all terms of a mean are known: boundaries left environments out, or there was no entropy left."""
    num_known, num_all = partly.get(name, (0, 0))
    return f"of {num_known} of {num_all}" if name in partly else ""


def number(value: float | None, digits: int = 2) -> str:
    """Write a number the way all tables do: .37, -.05, 1.07; a missing one is a dash."""
    if value is None:
        return "-"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")  # -0.00 is a rounding, not a loss
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def signed(value: float | None, digits: int = 2) -> str:
    """Write a change, with its sign; one that rounds to nothing has none."""
    text = number(value, digits)
    return f"+{text}" if value is not None and float(text) > 0 else text


def percent(share: float | None) -> str:
    """Write a share; what is not quite nothing or not quite all is not rounded to it. A missing one is a dash."""
    if share is None:
        return "-"
    if 0 < share < 0.01:
        return "<1%"
    return ">99%" if 0.99 < share < 1 else f"{share:.0%}"


def duration(seconds: float) -> str:
    """Write a time as people say it: 48 s, 2 min 50 s, 3 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def as_of(end_stage: int, newest: int) -> str:
    """Say behind a name which boundary measured it last, where the newest left it out."""
    return "" if end_stage == newest else f" ({when(end_stage)})"


def when(after_stage: int) -> str:
    """Name a boundary."""
    return "before training" if after_stage == 0 else f"after stage {after_stage}"


def num(count: int, what: str) -> str:
    """Count things: 1 stage, 8 stages."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def size_in_words(num_bytes: float) -> str:
    """Write a size for a person."""
    for unit in ("B", "KB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if num_bytes >= 10 or unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def listed(names: Sequence[str], most: int = NAMED) -> str:
    """Join names as a sentence does; beyond `most` the rest is counted, unless it is a single one."""
    shown = list(names if len(names) == most + 1 else names[:most])
    if len(names) > len(shown):
        shown.append(f"{len(names) - len(shown)} more")
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def short(name: str, limit: int = LONG_NAME) -> str:
    """Shorten a name in its middle: names of one kind often differ at their ends."""
    if len(name) <= limit:
        return name
    end = max(1, (limit - 1) // 3)
    return f"{name[: limit - 1 - end]}\u2026{name[-end:]}"


def arm_name(arm: Mapping[str, Any]) -> str:
    """Name an arm with its environment; an arm of a bandit over everything has it in its name."""
    return str(arm["arm"]) if arm["bandit"] == "*" else f"{arm['bandit']}.{arm['arm']}"


def _with(names: Sequence[str], changes: Mapping[str, float]) -> str:
    return listed([f"{short(name)} {signed(changes[name])}" for name in names])


def _path(pair: tuple[float | None, float | None]) -> str:
    return f"{number(pair[0])} to {number(pair[1])} nats a token"


def _collapsed(pairs: Mapping[str, tuple[float | None, float | None]]) -> str:
    names = [short(name) for name, (_, end) in pairs.items() if end is not None and end < COLLAPSED]
    return f"; it has collapsed on {listed(names)} (below {number(COLLAPSED)})" if names else ""


def _arms_moved(facts: Facts) -> str:
    arms = [arm for arm in facts["arms"] if not arm["is_scheduler"]]
    if not arms:
        return "how the bandits' probabilities moved was not kept"
    moved = max(arms, key=lambda arm: float(arm["probability_max"] - arm["probability_min"]))
    least, most = number(moved["probability_min"]), number(moved["probability_max"])
    if least == most:
        return "the bandits' probabilities did not move"
    who = "it" if moved["bandit"] == "*" else "the bandits"
    name = short(arm_name(moved))
    return f"{who} moved most on {name}, whose probability went between {least} and {most}"
