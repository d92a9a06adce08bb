"""The environments of a spec: built, what of them is trained on and held out, and what `tiny` reads of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from environments import ALL, Admission, Environment, EnvironmentSource, Pool, first_tasks, make_task
from environments.contracts import is_whole
from environments.sources import categories_fault
from environments.user_code import is_user_code
from orchestrator.bandits import ArmInfo
from orchestrator.choosing.choice import Arms
from orchestrator.errors import UserError
from orchestrator.measurements.contracts import HeldOut
from orchestrator.rollout.task_supply import evaluated_categories
from orchestrator.spec import Spec
from policies.config import PolicyConfig
from policies.models.tiny_tokenizer import VocabularySample, prompt_text
from store.files import write_text
from store.identity import SLICES
from store.sentences import listed

VOCABULARY_TASKS = 64  # looked at in every category when `tiny` makes its vocabulary,
MOST_VOCABULARY_TASKS = 64_000  # and in all categories of an environment
ELSEWHERE = "mend it where the category comes from: the spec, its server, or the file of its slices or rows"
REASONS = 10  # named where there is nothing to train on


def build_environments(
    spec: Spec,
    tell: Callable[[str], None] | None = None,
    folder: Path | None = None,
    begun: Collection[str] = (),
    *,
    is_patient: bool = True,
) -> tuple[dict[str, EnvironmentSource], dict[str, Environment]]:
    """Build the environments; the sources build them again in other processes.

    `folder`: of the run that goes on, or of the one it comes from: its slices are taken from there.
    `begun`: those that it was trained on; their categories are as they are, names that none begins with go on.
    `tell`, `is_patient`: see `EnvironmentSource.create`.
    """
    kept = None if folder is None else str(folder / SLICES)
    folder_of_spec = spec.resources.search_path
    sources = {name: section.source(name, folder_of_spec, kept) for name, section in spec.environments.items()}
    environments = {name: source.create(tell, is_patient=is_patient) for name, source in sources.items()}
    for name, environment in environments.items():
        is_own = is_user_code(sources[name].type)
        if (is_own or name not in begun) and (fault := categories_fault(environment)) is not None:
            remedy = ". `evergreen check-env` looks at everything else too" if is_own else f"; {ELSEWHERE}"
            raise UserError(f"environment {name}: {fault}{remedy}")
        # an answer that hits an environment's limit must be scorable
        if environment.seconds >= spec.scoring.timeout_s:
            raise UserError(
                f"scoring.timeout_s is {spec.scoring.timeout_s:g}, but by its own limits a score of {name} may take "
                f"{environment.seconds:g} s: raise the one, or lower the other"
            )
    return sources, environments


def keep_slices(environments: Mapping[str, Environment], folder: Path) -> None:
    """Keep with a run which task is in which slice, so that it goes on with the same ones."""
    from environments.slices.environment import SlicedEnvironment
    from environments.slices.slice_file import text_of

    if split := [one.slices for one in environments.values() if isinstance(one, SlicedEnvironment)]:
        text = text_of(split)
        path = folder / SLICES
        if not path.is_file() or path.read_text("utf-8") != text:
            write_text(path, text)


def train_on_admitted(environments: Mapping[str, Environment], admission: Admission) -> bool:
    """Leave out of training the slices whose tasks the policy cannot read; says whether there are some."""
    from environments.slices.environment import SlicedEnvironment

    split = [one for one in environments.values() if isinstance(one, SlicedEnvironment)]
    found = [one.train_on_admitted(admission) for one in split]
    return any(found)


def trainable(environments: Mapping[str, Environment]) -> Arms:
    """Describe what can be trained on: sizes and numbers of categories. What is only held out is never chosen."""
    categories = {
        name: {
            one.name: ArmInfo.of(environment.size(one.name), one.parameters)
            for one in environment.categories
            if one.trainable
        }
        for name, environment in environments.items()
    }
    if not any(categories.values()):
        raise UserError(_nothing_to_train_on(environments))
    return {name: own for name, own in categories.items() if own}


def _nothing_to_train_on(environments: Mapping[str, Environment]) -> str:
    """Say why, as the environments' remarks have it, and what to do; where they have none, the spec asked for it."""
    found = f"nothing to train on: every category of {', '.join(environments)} is only held out"
    why = [f"{name}: {text}" for name, one in environments.items() for text in (*one.remarks, *map(str, one.flaws))]
    if len(why) > REASONS:
        why[REASONS:] = [f"and {len(why) - REASONS:,} more reasons"]
    remedies = ["give it more rows to train on, or another `holdout` file"] if why else []
    if not all(environment.remarks for environment in environments.values()):
        remedies.append("leave out `trainable: false` for some")
    return f"{found}; {', or '.join(remedies)}" + "".join(f"\n  {line}" for line in why)


def find_held_out(
    environments: Mapping[str, Environment], pool: Pool, num_items: int, admission: Admission = ALL
) -> HeldOut:
    """Find what is evaluated: the first tasks of every category's pool, the same in every run."""
    return {
        name: {
            category: first_tasks(environment, category, pool, num_items, admission)
            for category in evaluated_categories(environment, pool)
        }
        for name, environment in environments.items()
    }


def tokenizer_sample(policy: PolicyConfig, environments: Mapping[str, Environment]) -> VocabularySample | None:
    """Show `tiny` what its tokenizer is made of; None: the policy has one.

    Raises UserError: its vocabulary is closed, and what an environment replies is not in a sample.
    """
    if policy.kind != "tiny":
        return None
    playing = [name for name, one in environments.items() if not one.has_single_turns]
    if policy.vocabulary == "closed" and playing:
        raise UserError(
            f"policy.vocabulary: closed knows only what tasks show, and {listed(playing)} may reply in other words: "
            "say `vocabulary: open`, the default"
        )
    return vocabulary_sample(environments)


def vocabulary_sample(environments: Mapping[str, Environment]) -> VocabularySample:
    """Show `tiny` what its environments look like: prompts, answers and symbols."""
    prompts: dict[str, list[str]] = {}
    answers: list[str] = []
    for name, environment in environments.items():
        categories = environment.categories
        most = max(1, min(VOCABULARY_TASKS, MOST_VOCABULARY_TASKS // len(categories)))
        tasks = [
            make_task(environment, category.name, index)
            for category in categories
            for index in range(min(most, environment.size(category.name) or most))
        ]
        prompts[name] = [prompt_text(task.messages) for task in tasks if is_whole(task.messages)]
        answers += [task.answer for task in tasks if task.answer is not None and is_whole(task.answer)]
    symbols = [symbol for environment in environments.values() for symbol in environment.symbols]
    return VocabularySample(prompts, answers, symbols)
