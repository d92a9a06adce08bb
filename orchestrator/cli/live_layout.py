"""The live view as lines of text: one function of a snapshot and a size, nothing else.

Wide terminals get two columns. What does not fit into the height is counted ("and 22 more"), and left out last
things first; no line is wider than asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from rich.text import Text

from orchestrator.cli.console import plain
from orchestrator.cli.run_state import ArmState, RunState
from store.sentences import num, number, percent, signed

MOST_ARMS = 8
WIDE = 90  # columns from which there are two blocks beside each other
GAP = 4  # columns between them
SCALES = (0.1, 0.25, 0.5, 1.0)  # probabilities that a whole bar may stand for: few, so that bars do not jump
NOTABLE = 0.005  # a change of accuracy that is written with two decimals
OWN_TASKS = "* on the tasks that it trains on"  # of what is to be learnt by heart
FULL, EMPTY = "━", "─"


@dataclass(frozen=True)
class Block:
    """A title and its rows; `hidden` more are only counted. `ranks`: which rows stay longest, 0 first."""

    title: Text
    rows: Sequence[Text]
    ranks: Sequence[int]
    hidden: int = 0
    remark: Text | None = None  # below the rows, where there is room for all of them

    @property
    def height(self) -> int:
        """Lines that it wants."""
        return 1 + len(self.rows) + (self.hidden > 0) + (self.remark is not None)

    def lines(self, height: int) -> list[Text]:
        """Draw it into so many lines, at least two."""
        if self.remark is not None:
            without = replace(self, remark=None)
            return [*without.lines(min(height, without.height)), *[self.remark][: height >= self.height]]
        most = len(self.rows) if self.height <= height else height - 2
        shown = [row for row, rank in zip(self.rows, self.ranks, strict=True) if rank < most]
        hidden = self.hidden + len(self.rows) - len(shown)
        return [self.title, *shown, *([Text.assemble((f"  and {hidden} more", "dim"))] if hidden else [])]


def draw(snapshot: RunState, width: int, height: int, note: str | None = None) -> list[Text]:
    """Draw a moment into at most `height` lines of at most `width` columns; `note` is what only the drawer knows."""
    head, foot = _head(snapshot, width), _foot(snapshot, note)
    room = max(0, height - len(head) - len(foot))
    blocks = _blocks(snapshot, width, room)
    airy = [Text()] if room >= len(blocks) + 3 else []
    lines = [*airy, *head, *airy, *blocks, *(airy if blocks else []), *foot][:height]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


def clock(seconds: float) -> str:
    """Write a duration: 0:07, 12:05, 2:04:00."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _head(shot: RunState, width: int) -> list[Text]:
    """Where the run stands: name and stage, time left on the right, and bars of the stage's and the run's steps."""
    outline = shot.outline
    if shot.stage:
        where = f"stage {shot.stage} of {outline.num_stages}: {plain(shot.environment or 'all environments')}"
    else:
        where = f"before training; {outline.num_stages} stages to come"
    title, bound = Text.assemble((plain(shot.name), "bold"), "  ", where), "at most " * outline.may_end_early
    if shot.left_s is not None:
        left = f"  {bound}{clock(shot.left_s)} left"
        if len(shot.name) + len(left) < width:
            title.truncate(width - len(left), overflow="ellipsis", pad=True)
            title.append(left)
    num_steps, per_stage = shot.step + shot.steps_left, outline.steps_per_stage
    run = _bar("run", shot.step, num_steps, f"step {shot.step} of {bound}{num_steps}", width)
    if shot.phase is None:
        words = f"step {shot.stage_step} of {bound}{per_stage}"
        return [title, _bar("stage", shot.stage_step, per_stage, words, width), run]
    if not shot.phase.total:
        return [title, Text(plain(shot.phase.text), "cyan"), run]
    words = f"{shot.phase.done} of {shot.phase.total}  {plain(shot.phase.text)}"
    return [title, _bar("now", shot.phase.done, shot.phase.total, words, width), run]


def _bar(label: str, done: int, total: int, words: str, width: int) -> Text:
    room = max(8, min(48, width - 44))
    full = room * done // total if total else 0
    return Text.assemble(f"{label:<5}  ", (FULL * full, "cyan"), (EMPTY * (room - full), "dim"), f"  {words}")


def _blocks(shot: RunState, width: int, room: int) -> list[Text]:
    """Arms, standings and the scheduler's arms: beside each other if there is room, else below."""
    is_wide = width >= WIDE
    each = (width - GAP) // 2 if is_wide else width
    arms = _arms(f"categories of {shot.environment or 'all environments'}", shot.arms, each)
    schedule, learnt = _arms("next environment", shot.schedule, each), _learnt(shot, each)
    if not is_wide:
        return _stacked([arms, learnt, schedule], room)
    lines = []
    for left, right in zip_longest(_stacked([arms, schedule], room), _stacked([learnt], room)):
        line = left.copy() if left else Text()
        line.truncate(each, overflow="ellipsis", pad=True)
        lines.append(line.append(" " * GAP).append_text(right or Text()))
    return lines


def _stacked(blocks: Sequence[Block | None], room: int) -> list[Text]:
    """Put blocks below each other; the tallest give way first, then the last."""
    shown = [block for block in blocks if block is not None]
    least = 3  # title, a row, "and n more"
    while shown and sum(min(block.height, least) for block in shown) > room:
        shown.pop()
    heights = [block.height for block in shown]
    while sum(heights) > room:
        heights[heights.index(max(heights))] -= 1
    airy = sum(heights) + len(shown) + 2 <= room
    lines: list[Text] = []
    for block, height in zip(shown, heights, strict=True):
        lines += [Text()] if lines and airy else []
        lines += block.lines(height)
    return lines


def _arms(title: str, arms: Sequence[ArmState], width: int) -> Block | None:
    """Draw probabilities as bars; of many arms the likeliest, in the order of their probability."""
    if not arms:
        return None
    likeliest = sorted(arms, key=lambda arm: -arm.probability)
    shown = list(arms) if len(arms) <= MOST_ARMS else likeliest[:MOST_ARMS]
    names = _column([arm.name for arm in shown], width // 2)
    room = max(4, min(40, width - names[0].cell_len - 9))
    scale = next((s for s in SCALES if s >= max(arm.probability for arm in shown)), 1.0)
    rows = []
    for name, arm in zip(names, shown, strict=True):
        full = round(room * min(1.0, arm.probability / scale))
        bar = (FULL * full, "green"), " " * (room - full)
        rows.append(Text.assemble("  ", name, "  ", *bar, f" {number(arm.probability):>4}"))
    title, of_scale = f"{plain(title)}, probability", f" (full bar: {number(scale)})" if scale < 1 else ""
    ranks = [likeliest.index(arm) for arm in shown]
    return Block(Text.assemble((title, "bold"), (of_scale, "dim")), rows, ranks, len(arms) - len(shown))


def _learnt(shot: RunState, width: int) -> Block | None:
    """What is known of held-out tasks: accuracy with its change, entropy with the share of it that is left."""
    if not shot.standings:
        return None
    when = f"after stage {shot.after_stage}" if shot.after_stage else "before training"
    labels = [
        one.environment + " *" * one.closed + (f", step {one.step}" if one.step else "") for one in shot.standings
    ]
    rows = []
    for name, one in zip(_column(labels, width - 27), shot.standings, strict=True):
        change, style = one.change, "dim"
        if change is not None and abs(change) >= NOTABLE:
            style = "green" if change > 0 else "yellow"
        moved = "" if change is None else signed(change)
        left = "" if one.left is None else percent(one.left)
        entropy = (f"{number(one.entropy):>6}", ""), (f"{left:>6}", "dim")
        rows.append(Text.assemble("  ", name, f"  {number(one.accuracy):>4} ", (f"{moved:>5}", style), *entropy))
    has_left = any(one.left is not None for one in shot.standings)
    title = f"held-out {when}: accuracy; entropy{', left' if has_left else ''}"
    remark = Text(f"  {OWN_TASKS}", style="dim") if any(one.closed for one in shot.standings) else None
    return Block(Text.assemble((title, "bold")), rows, range(len(rows)), remark=remark)


def _column(names: Sequence[str], most: int) -> list[Text]:
    texts = [Text(plain(name)) for name in names]
    width = min(most, max(text.cell_len for text in texts))
    for text in texts:
        text.truncate(max(1, width), overflow="ellipsis", pad=True)
    return texts


def _foot(shot: RunState, note: str | None) -> list[Text]:
    """How it goes: reward and entropy in training, speed and where the time goes, what was said last."""
    lines = []
    if shot.step_s is not None:
        shares = ", ".join(f"{part} {share:.0%}" for part, share in shot.shares if share >= NOTABLE)
        last = f"last {num(shot.num_recent, 'step')}" if shot.num_recent > 1 else "last step"
        lines = [
            Text.assemble(
                *(plain(shot.environment or "all environments"), ": reward ", (number(shot.reward), "bold")),
                *("   entropy ", (number(shot.entropy), "bold"), " nats a token"),
                (f"   in training, {last}", "dim"),
            ),
            Text.assemble((f"{number(shot.step_s)} s", "bold"), " a step: ", shares),
        ]
    event = f"! {plain(shot.event)}" if shot.event else ""
    said = ((plain(shot.decision or ""), "dim"), (event, "yellow"), (plain(note or ""), "bold"))
    return [*lines, *(Text(text, style) for text, style in said if text)]
