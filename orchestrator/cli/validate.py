"""validate: what a spec means, said before anything runs; and held-out tasks that are all but training tasks."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from environments.leaks import Leak, Leaks, find_leaks
from orchestrator.cli.console import err, every_few_seconds, leaving, out, plain, print_json
from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home, Set, SpecFile
from orchestrator.cli.tables import WHOLE_WORDS, name_cell, table
from orchestrator.errors import UserError
from orchestrator.locations import refuse_plain_secrets
from orchestrator.runs.catalog import refuse_run
from orchestrator.runs.dry_run import DryRun, make_plan
from orchestrator.runs.kept_spec import as_yaml
from orchestrator.spec import Spec, load_spec
from policies.errors import ModelNotFoundError
from store.sentences import listed, short, size_in_words

if TYPE_CHECKING:
    from orchestrator.measurements.budget import LookingPlan
    from orchestrator.runs.gpu_plan import GpuPlan
    from orchestrator.runs.task_pools import EnvironmentPools

WORST = 10  # leaks that are printed
SHOWN_CATEGORIES = 6  # of an environment; the rest is counted
WRAPPED = re.compile(r"(plan|trains|looks|costs|aside|disk|note|warning): |      (?=\d)")  # lines of sentences
ELLIPSIS = "\u2026"
CONTEXT, SHOWN = 30, 110  # characters of a text: before its first difference, and in all


def validate(
    spec: SpecFile,
    overrides: Set = None,
    home: Home = DEFAULT_HOME,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Refuse data with rows that cannot be used, and leaks if looked for."),
    ] = False,
    leaks: Annotated[
        bool, typer.Option("--leaks", help="Look for held-out tasks that are all but training tasks.")
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option(min=0.1, max=1.0, help="Similarity from which --leaks counts a pair; default .8."),
    ] = None,
    show_all: Annotated[
        bool, typer.Option("--all", help="Before that, every field of the spec with the value that it has.")
    ] = False,
    plan_gpu: Annotated[
        bool,
        typer.Option("--plan", help="What a GPU's memory will hold, part by part; exit code 2 if it cannot."),
    ] = False,
    gpu: Annotated[
        str | None, typer.Option(help="Of --plan: h100, h200, a100, ...; the one that is here, else h100.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a spec and print what it means: its environments and tasks, the plan, the disk it will take.

    Nothing is trained and no weights are read. Rows that cannot be used are listed; with --strict the exit code is 2
    if there are any. With --leaks, tasks of all environments are compared, held out against to train on: docs/leaks.md.
    With --plan it also says what one GPU holds and how fast it can be at most: docs/scale.md.
    """
    if threshold is not None and not leaks:
        raise UserError("--threshold is of --leaks: say both, or leave it out")
    refuse_run(spec, home)
    checked = load_spec(spec, overrides or [])
    refuse_plain_secrets(checked.model_dump(mode="json", by_alias=True))
    plans_gpu = plan_gpu or gpu is not None
    plan = make_plan(checked, home, lambda text: err.print(text, markup=False), reads_prompts=not plans_gpu)
    found = look_for_leaks(checked, threshold or 0.8) if leaks else None
    on_gpu = plan_on(checked, gpu, plan.looking) if plans_gpu else None
    if as_json:
        more = {"leaks": asdict(found)} if found else {}
        more |= {"gpu": _gpu_plan_as_json(on_gpu)} if on_gpu else {}
        print_json({"spec": checked.kept(), "plan": asdict(plan), **more})
    else:
        if show_all:
            out.print(f"{as_yaml(checked).rstrip()}\n", markup=False)
        print_plan(out, checked.name, plan)
        if on_gpu:
            print_gpu_plan(out, checked, on_gpu)
        is_refused = bool(strict and (plan.left_out or (found and found.num_leaks)))
        is_refused |= on_gpu is not None and not on_gpu.fits
        if not show_all and not is_refused:
            out.print(Text(f"{spec} is valid. Every field with its value: --all", style="dim"))
        for line in leak_lines(found, bool(plan.left_out)) if found else ():
            out.print(Text(plain(line)))
    if strict and plan.left_out:
        where = ", ".join(one.environment for one in plan.left_out)
        why = "".join(f"\n  {line}" for one in plan.left_out for line in one.told)
        raise UserError(f"--strict: there are rows of {where} that cannot be used; mend or remove them:{why}")
    if strict and found and found.num_leaks:
        raise UserError(f"--strict: {summary(found)}; remove them on one side")
    if on_gpu and not on_gpu.fits:
        raise UserError(f"--plan: {checked.name} {on_gpu.verdict}")


def print_plan(console: Console, name: str, plan: DryRun) -> None:
    """Print a plan for a screen: the environments with their tasks, then the rest in sentences."""
    made = table(f"{name}: the tasks of its environments", "environment", "categories", "to train on", "held out")
    made.columns[1].justify = "left"
    for one in plan.environments:
        trained = [category.train for category in one.categories if category.trainable]
        held_out = "the same tasks" if one.closed else _sum([category.held_out for category in one.categories])
        about = "about " if any(category.estimated for category in one.categories) else ""
        cells = (name_cell(one.name), _categories(one), about + _sum(trained), held_out)
        made.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))
    console.print(made)
    wraps = console.is_terminal
    for line in plan.lines():
        label = WRAPPED.match(line)
        text = textwrap.fill(line, console.width, subsequent_indent=" " * 6, **WHOLE_WORDS) if label and wraps else line
        console.print(Text(text, style="yellow" if line.startswith("warning: ") else ""))


def plan_on(spec: Spec, name: str | None, looking: LookingPlan) -> GpuPlan:
    """Plan a run that looks at so much on a GPU of this name; None: on the one that is here, else on an h100."""
    import torch

    from orchestrator.rollout.task_supply import PromptLimits
    from orchestrator.runs.environments import build_environments, tokenizer_sample
    from orchestrator.runs.first_prompts import PromptLengths, prompt_lengths
    from orchestrator.runs.gpu_memory import gpu_here, gpu_named
    from orchestrator.runs.gpu_plan import plan_gpu
    from policies.models.description import load_prompt_reader
    from policies.models.memory import describe_memory

    if name is None and torch.cuda.is_available():
        here = torch.cuda.get_device_properties(0)
        gpu = gpu_here(here.name, here.total_memory)
    else:
        gpu = gpu_named(name or "h100")
    _, environments = build_environments(spec, is_patient=False)
    sample = tokenizer_sample(spec.policy, environments)
    reader, prompts = load_prompt_reader(spec.policy, sample, is_needed=False), dict[str, PromptLengths]()
    if reader is not None:
        limits = PromptLimits(reader.encoder, reader.context, environments, spec.budgets).limits
        prompts = prompt_lengths(environments, reader.encoder, limits)
    try:
        return plan_gpu(spec, environments, partial(describe_memory, sample=sample), gpu, looking, prompts)
    except ModelNotFoundError as missing:
        raise UserError(f"--plan needs the model's configuration, a file of a few kB: {missing}") from missing


def _gpu_plan_as_json(plan: GpuPlan) -> dict[str, Any]:
    host = {**asdict(plan.host), "peak": plan.host.peak}
    return {**asdict(plan), "host": host, "peak": plan.held.peak, "fits": plan.fits}


def print_gpu_plan(console: Console, spec: Spec, plan: GpuPlan) -> None:
    """Print what the memory of a GPU and of its host holds, part by part, and what follows."""
    from orchestrator.runs.gpu_memory import ALWAYS

    on_gpu = table(f"{spec.name}: the memory of one {plan.held.gpu.name}", "part", "size", "when")
    on_host = table(f"{spec.name}: the memory of its host, beside programs and data", "part", "size", "when")
    for part in plan.held.parts:
        when = "always" if part.moments == ALWAYS else ", ".join(part.moments)
        on_gpu.add_row(part.name, size_in_words(part.num_bytes), when)
    for one in plan.host.parts:
        on_host.add_row(one.name, size_in_words(one.num_bytes), ", ".join(one.moments))
    for made in (on_gpu, on_host):
        made.columns[2].justify = "left"
        console.print(made)
    said = {"memory": plan.verdict, "host": plan.host.in_words, "speed": plan.rates.in_words}
    for line in (*(f"{key}: {text}" for key, text in said.items()), *(f"note: {text}" for text in plan.notes)):
        console.print(Text(plain(line)))
    console.print(Text("arithmetic; of memory 26 % above to 2 % below what was measured on an H200", style="dim"))


def _sum(nums: Sequence[int | None]) -> str:
    """Add up tasks: endless if one category is."""
    return "endless" if None in nums else f"{sum(num or 0 for num in nums):,}"


def _categories(one: EnvironmentPools) -> Text:
    """Name the categories, those that are only held out as such."""
    names = [short(c.name) + ("" if c.trainable else " (held out only)") for c in one.categories]
    return Text(plain(listed(names, SHOWN_CATEGORIES)))


def look_for_leaks(spec: Spec, threshold: float) -> Leaks:
    """Search the environments of a spec, saying how far it is."""
    from orchestrator.runs.environments import build_environments

    tell = every_few_seconds("leaks: ")
    with leaving("stopped while looking for leaks"):
        _, environments = build_environments(spec, tell, is_patient=False)
        return find_leaks(environments, threshold, tell)


def leak_lines(found: Leaks, leaves_out: bool) -> Iterator[str]:
    """Say how many there are, by environment where there are several, what was not looked at, and the worst."""
    yield summary(found)
    if leaves_out:
        yield "  tasks that the policy cannot read, too long for instance, were looked at too"
    if len(found.by_environment) > 1:
        yield from (f"  {name}: {num:,} of {looked:,}" for name, (num, looked) in found.by_environment.items())
    yield from (f"  {name} is evaluated on the tasks that it trains on: not looked at" for name in found.closed)
    for one in found.looked:
        num, name = one.num_training + one.num_held_out, f"{one.environment}.{one.category}"
        if one.size is None:
            yield f"  {name} never ends: {num:,} different tasks of its first ones were looked at"
        elif one.is_part:
            yield f"  {name} has {one.size:,} tasks: {num:,} of them were looked at"
    for leak in found.leaks[:WORST]:
        yield f"  {math.floor(100 * leak.similarity) / 100:.2f}  {leak.how}"  # 1.00 is said of 1 only
        yield from (f"        {line}" for line in both_sides(leak))
    if found.num_leaks > WORST:
        yield f"  and {found.num_leaks - WORST:,} more; --json tells all"


def summary(found: Leaks) -> str:
    """Say in a sentence what was found."""
    if not found.num_held_out or not found.num_training:
        return "leaks: there is nothing to compare: no task to train on, or none held out"
    sides = f"{found.num_held_out:,} different held-out tasks looked at, {found.num_training:,} to train on"
    if not found.num_leaks:
        return f"leaks: none ({sides}; similarity {found.threshold:g})"
    kinds = ", ".join(f"{num:,} {how}" for how, num in found.by_how.items())
    tasks = "one held-out task has" if found.num_leaks == 1 else f"{found.num_leaks:,} held-out tasks have"
    return (
        f"leaks: {tasks} a near-duplicate among training tasks: {kinds} ({sides}; similarity from {found.threshold:g})"
    )


def both_sides(leak: Leak) -> Iterator[str]:
    """Show both texts from shortly before they differ."""
    sides = (leak.held_out, leak.training)
    texts = [" ".join(side.text.split()) for side in sides]
    pairs = enumerate(zip(*texts, strict=False))
    alike = next((place for place, (a, b) in pairs if a != b), min(map(len, texts)))
    start = max(0, alike - CONTEXT) if texts[0] != texts[1] else 0
    for side, text in zip(sides, texts, strict=True):
        file = f", {side.where}" if side.where else ""
        before, after = ELLIPSIS if start else "", ELLIPSIS if len(text) > start + SHOWN else ""
        place = f"{side.environment}.{side.category} {side.index} ({side.pool}{file})"
        yield f"{place}  {before}{text[start : start + SHOWN]}{after}"
