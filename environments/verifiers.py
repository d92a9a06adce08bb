"""Task sets of verifiers (0.4, `verifiers.v1`) without a harness: their tasks asked once, scored by their own rewards.

`taskset: ./mine.py:MyTaskset`, or the id of an installed one. A reply is scored by the task's `@vf.reward` methods, as
they weigh, and its `@vf.metric` methods are components. What only works inside a harness (tools, containers, judges, an
`Env` of its own, users that are simulated) is refused by name. See docs/environments.md.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import sys
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from environments.contracts import ROLES, Category, Environment, EnvironmentFault, Message, Score, Task
from environments.display import Tell
from environments.games import RewardRange, scaled
from environments.options import Options
from environments.plugins import ENVIRONMENTS
from environments.registry import function_of
from environments.surroundings import OwnRandomState, import_apart
from environments.tables.row_file import InvalidRow
from environments.tables.row_parser import Expression
from environments.user_code import code_digest, is_user_code, raised

SOURCE = "https://github.com/PrimeIntellect-ai/verifiers"

ADAPTER_VERSION = "1"
ALL = "all"  # the one category of tasks that are not told apart
GIVEN = {"task", "trace", "runtime"}  # what methods that score may ask for; the last is in a harness alone
PREPARING = ("setup", "finalize", "stage_verifier")  # methods of a task that work on a runtime

Fields = Annotated[str, AfterValidator(lambda text: Expression(text).text)]


class Config(Options):
    """Options of a task set of verifiers."""

    taskset: str
    """Its class, as ./file.py:Class or package.module:Class, or the id of an installed task set."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Fields of its `TasksetConfig`."""
    size: int | None = Field(default=None, ge=1)
    """Most tasks that are loaded; null: all. One that never ends needs it."""
    category: Fields | None = None
    """Expression of the category over the fields of a task's data, as `rows` has it; null: one, `all`."""
    reference: Fields | None = None
    """Expression of a reply that is worth 1, for warm starts; null: none."""
    reward_range: RewardRange = (0.0, 1.0)
    """Lowest and highest weighted sum of rewards, which become 0 and 1. Beyond them: unscorable."""
    correct_at: Annotated[float, Field(ge=0, le=1)] = 1.0
    """A value (on the scale of [0, 1]) from which on a reply counts as correct."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Reply budget in tokens; null: the sampler's."""
    max_prompt_tokens: int | None = Field(default=None, ge=1)
    """Tasks with longer prompts are left out; null: the sampler's, or what the policy's context leaves."""


class Verifiers(Environment):
    """The tasks of a task set, in its order; a task carries its data, from which any process makes it again."""

    def __init__(self, name: str, config: Config) -> None:
        self.name, self._config = name, config
        self.max_tokens, self.max_prompt_tokens = config.max_tokens, config.max_prompt_tokens
        vf, own = library(), [config.taskset] if is_user_code(config.taskset) else []
        self._class = self._taskset_class(vf)
        self._require_alone(vf)
        self._settings = self._made_settings(vf)
        self._task_class = self._class.task_type()
        if why := next(reasons(self._task_class, self._class, self._settings), None):
            raise self._needs_harness(why)
        for one in scoring_methods(self._task_class, self._settings):
            if not inspect.iscoroutinefunction(one):
                raise self._fault(f"{self._task_class.__name__}.{one.__name__} is awaited: write it as `async def`")
        code = f"+{code_digest(own, config.folder)}" if own else ""
        self.version = f"{ADAPTER_VERSION}+verifiers-{version('verifiers')}{code}"

    def open(self, tell: Tell) -> None:
        tell(f"{self.name}: the tasks of {self._config.taskset} are loaded")
        _ = self._tasks

    @property
    def categories(self) -> list[Category]:
        return [Category(name) for name in self._tasks]

    def size(self, category: str) -> int:
        return len(self._of(category))

    def task(self, category: str, index: int) -> Task:
        tasks = self._of(category)
        if not 0 <= index < len(tasks):
            raise EnvironmentFault(f"{self.name}: category {category!r} has no task {index}, only {len(tasks)}")
        messages, answer, data = tasks[index]
        return Task(self.name, category, index, messages, answer, {"task": data})

    def score(self, task: Task, completion: str) -> Score:
        vf = library()
        made = self._task_class(self._task_class.data_type().model_validate(task.data["task"]), self._settings.task)
        trace = trace_of(vf, made, task, completion)
        with OwnRandomState(0).lent():
            finish(made.score(trace))
        unscored = [name for name, reward in trace.rewards.items() if reward is None]
        if unscored or not trace.rewards:
            return Score.unscorable(f"no reward of {', '.join(unscored) or self._task_class.__name__}")
        parts = {name: reward.score for name, reward in trace.rewards.items()} | trace.metrics
        components = {name: float(part) for name, part in parts.items() if part is not None and math.isfinite(part)}
        return scaled(trace.reward, self._config.reward_range, self._config.correct_at, components)

    def _of(self, category: str) -> list[tuple[tuple[Message, ...], str | None, dict[str, Any]]]:
        if category not in self._tasks:
            raise EnvironmentFault(f"{self.name} has no category {category!r}; it has: {', '.join(self._tasks)}")
        return self._tasks[category]

    @cached_property
    def _tasks(self) -> dict[str, list[tuple[tuple[Message, ...], str | None, dict[str, Any]]]]:
        """All tasks by category, each with its conversation, a reply that is right if there is one, and its data."""
        category = None if self._config.category is None else Expression(self._config.category, "category")
        reference = None if self._config.reference is None else Expression(self._config.reference, "reference")
        found: dict[str, list[tuple[tuple[Message, ...], str | None, dict[str, Any]]]] = {}
        try:
            with OwnRandomState(0).lent():
                tasks = list(islice(self._class(self._settings), self._config.size))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # foreign code; whoever chose the task set can do something about it
            raise self._fault(f"its tasks cannot be loaded: {raised(error)}") from error
        for task in tasks:
            self._require_usable(task)
            data = task.data.model_dump(mode="json")
            try:
                name = ALL if category is None else str(category(data))
                answer = None if reference is None else str(reference(data))
            except InvalidRow as invalid:
                raise self._fault(f"task {task.data.idx}: {invalid}") from invalid
            found.setdefault(name, []).append((conversation(task.data), answer, data))
        if not found:
            raise self._fault("it has no tasks")
        return found

    def _require_usable(self, task: Any) -> None:
        at = f"task {task.data.idx}: "
        if type(task) is not self._task_class or set(vars(task)) != {"data", "config"}:
            words = f"a {type(task).__name__} with {', '.join(vars(task))} cannot be made again from its data"
            raise self._fault(f"{at}{words}; expected {self._task_class.__name__} with data and config alone")
        if task.config != self._settings.task:
            raise self._fault(f"{at}it has a config of its own; expected the task set's `self.config.task`")
        if why := next(data_reasons(task.data), None):
            raise self._needs_harness(at + why)

    def _taskset_class(self, vf: Any) -> Any:
        name = self._config.taskset
        if name.endswith(".py"):
            place = name if "/" in name else f"./{name}"
            raise self._fault(f"it names a file, and no class in it: write {place}:MyTaskset")
        if is_user_code(name):
            found: Any = function_of(ENVIRONMENTS, name, self._config.folder, "MyTaskset(config)")
            if not inspect.isclass(found) or not issubclass(found, vf.Taskset):
                older = " (`load_environment` is of verifiers before 0.4)" if name.endswith(":load_environment") else ""
                raise self._fault(f"it is no class derived from verifiers.v1.Taskset{older}")
            return found
        loaders = import_apart("verifiers.v1.utils.loaders", "verifiers", "verifiers")
        try:
            return loaders.taskset_class(name)
        except (ModuleNotFoundError, AttributeError, TypeError, ValueError) as error:
            module = sys.modules.get(name.rpartition("/")[2].partition("@")[0].replace("-", "_").lower())
            older = (
                "; it has `load_environment`, of verifiers before 0.4" if hasattr(module, "load_environment") else ""
            )
            raise self._fault(f"{error}{older}") from error

    def _require_alone(self, vf: Any) -> None:
        """Refuse a package that plays its tasks by an `Env` of its own."""
        module = sys.modules[self._class.__module__]
        exported = [getattr(module, name, None) for name in getattr(module, "__all__", None) or dir(module)]
        for one in exported:
            if inspect.isclass(one) and issubclass(one, vf.Env) and one.__module__ == module.__name__:
                raise self._needs_harness(f"its tasks are played by {one.__name__}, an Env of its own")

    def _made_settings(self, vf: Any) -> Any:
        generic = import_apart("verifiers.v1.utils.generic", "verifiers", "verifiers")
        class_ = generic.concrete_type(self._class, vf.TasksetConfig, origin=vf.Taskset) or vf.TasksetConfig
        try:
            made = class_.model_validate(self._config.config)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise self._fault(f"`config` is no {class_.__name__}: {wrong}") from error
        if self._class.INFINITE and self._config.size is None:
            raise self._fault("it never ends: say how many of its tasks are used, `size: 1000`")
        return made

    def _needs_harness(self, why: str) -> EnvironmentFault:
        remedy = "run it in prime-rl, or write its task as an environment of your own (docs/environment.md)"
        return self._fault(f"it needs a harness, and there is none here: {why}; {remedy}")

    def _fault(self, words: str) -> EnvironmentFault:
        return EnvironmentFault(f"environment {self.name}: task set {self._config.taskset}: {words}")


def create(name: str, config: Config) -> Verifiers:
    return Verifiers(name, config)


def library() -> Any:
    """Import `verifiers.v1`; raises EnvironmentFault if it is not installed."""
    return import_apart("verifiers.v1", "verifiers>=0.4", "verifiers")


def scoring_methods(task: Any, settings: Any, kinds: Sequence[str] = ("reward", "metric")) -> list[Any]:
    """Give the methods and functions that score a task of a class."""
    made = task(task.data_type().model_construct(), settings.task)
    return [one for kind in kinds for one in made.hooks(kind)]


def reasons(task: Any, taskset: Any, settings: Any) -> Iterator[str]:
    """Say why the tasks of a class need a harness."""
    if task.NEEDS_CONTAINER:
        yield f"{task.__name__} runs in a container (NEEDS_CONTAINER)"
    if tools := [*taskset.toolsets(settings), *task.toolsets(settings.task)]:
        yield f"{task.__name__} has tools, {', '.join(type(one).__name__ for one in tools)}"
    if judges := settings.task.judges:
        yield f"it is judged by a model, {', '.join(str(one.id) for one in judges)}"
    for name in PREPARING:
        if getattr(task, name) is not getattr(library().Task, name):
            yield f"{task.__name__}.{name} works on a runtime"
    for name in dir(task):
        if hasattr(inspect.getattr_static(task, name), "intercept"):
            yield f"{task.__name__}.{name} rewrites what a model is asked (@vf.intercept)"
    for one in scoring_methods(task, settings):
        required = {
            name
            for name, parameter in inspect.signature(one).parameters.items()
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        }
        if "runtime" in required:
            yield f"{task.__name__}.{one.__name__} works on a runtime"
        if asked := sorted(required - GIVEN):
            yield f"{task.__name__}.{one.__name__} asks for {', '.join(asked)}, which is not here"
    if not scoring_methods(task, settings, ("reward",)):
        yield f"{task.__name__} has no @vf.reward, so something else scores it"


def data_reasons(data: Any) -> Iterator[str]:
    """Say why a task needs a harness, as its data tells."""
    if data.prompt is None:
        yield "it has no prompt: a user opens the conversation"
    elif data.image is not None:
        yield f"it runs in a container, {data.image}"
    elif data.skills or data.artifacts:
        yield "it installs skills or collects artifacts"
    elif not isinstance(data.prompt, str):
        for message in data.prompt:
            if message.role not in ROLES:
                yield f"its prompt has a message of the role {message.role}"
            elif not isinstance(message.content, str):
                yield f"its prompt has a message of {type(message.content).__name__}, no text"


def conversation(data: Any) -> tuple[Message, ...]:
    """Write what a task asks as a conversation."""
    system: list[Message] = [{"role": "system", "content": data.system_prompt}] if data.system_prompt else []
    if isinstance(data.prompt, str):
        return (*system, {"role": "user", "content": data.prompt})
    return (*system, *({"role": message.role, "content": message.content} for message in data.prompt))


def trace_of(vf: Any, made: Any, task: Task, completion: str) -> Any:
    """Write a reply down as a harness would: the conversation, and one message behind it that was sampled."""
    kinds = {"system": vf.SystemMessage, "user": vf.UserMessage, "assistant": vf.AssistantMessage}
    nodes = [
        vf.MessageNode(parent=place - 1 if place else None, message=kinds[one["role"]](content=one["content"]))
        for place, one in enumerate(task.messages)
    ]
    reply = vf.AssistantMessage(content=completion)
    nodes.append(vf.MessageNode(parent=len(nodes) - 1, message=reply, sampled=True))
    state = import_apart("verifiers.v1.state", "verifiers", "verifiers").state_cls(type(made))()
    about = vf.TraceTask(type=type(made).__name__, data=made.data, key=made.key, hash=made.hash)
    agent = vf.AgentInfo(config=vf.AgentConfig())
    return vf.Trace(task=about, agent=agent, nodes=nodes, state=state, is_completed=True, ok=True)


def finish(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end, in a thread where this one has an event loop that runs."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work)
        return
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()
