"""Reading a spec: YAML, overrides, and errors that name key, line and nearest valid word."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from environments.slices.options import KEY as SLICES
from environments.slices.options import SliceOptions
from orchestrator.episode_options import KEY as EPISODES
from orchestrator.episode_options import EpisodeOptions
from orchestrator.errors import SpecError
from orchestrator.registry import config_class, nearest, search_in, type_of
from orchestrator.spec.document import Document, Path_, read, unusable, value_of
from orchestrator.spec.dotted_fields import METHOD_SECTIONS, TWIN, path_of, set_field, without_naming
from orchestrator.spec.echo import cut, listed, shown, without_long_texts
from orchestrator.spec.fields import DEFAULT_TYPES
from orchestrator.spec.model import Spec
from orchestrator.spec.twin import sections_of, settings_of
from policies.objectives.config import SHORT

OUR_OWN = ("spec", "value_error", "unknown_option")  # kinds of error whose words are written for a person
METHODS = {**METHOD_SECTIONS, "selection": "selections", "teacher": "teachers"}  # where a method stands, by key
BESIDE: dict[str, type[BaseModel]] = {SLICES: SliceOptions, EPISODES: EpisodeOptions}  # an environment's options
CHANGEABLE = ("resources", "tracker", "checkpoint")  # on resume

Model = TypeVar("Model", bound=BaseModel)


def load_spec(source: str | Path | Mapping[str, Any] | Spec, overrides: Iterable[str] = ()) -> Spec:
    """Read and check a spec: a file, a mapping, or a Spec; overrides are `a.b=c` with c in YAML.

    Raises SpecError with every problem found, a line each.
    """
    if isinstance(source, Spec):
        if not list(overrides):
            return source
        source = source.model_dump(mode="json", by_alias=True)
    document = read_spec(source)
    for override in overrides:
        _set(document, override)
    return check(Spec, document)


def read_spec(source: str | Path | Mapping[str, Any]) -> Document:
    """Read what a spec says, without checking it; a file gives it a name and a folder to look in."""
    if isinstance(source, Mapping):
        return Document(dict(source), {}, "spec")
    path = Path(source)
    document = read(path, "a map of sections (name, policy, environments, ...)")
    document.raw.setdefault("name", name_from(path))
    look_in(document.raw, path.absolute().parent)
    return document


def check(model: type[Model], document: Document, folder: str | None = None) -> Model:
    """Check a document against a model. Raises SpecError with every problem found, a line each.

    Parts of an objective that a user wrote are imported here, because their options are keys of the spec. Where it does
    not say so itself, files of the user's begin in `folder`.
    """
    _refuse_unusable(document.raw, document)
    resources = document.raw.get("resources")
    given = resources.get("search_path") if isinstance(resources, dict) else None
    folder = given if isinstance(given, str) else folder
    search_in(folder)
    try:
        checked = model.model_validate(document.raw, context={"search_path": folder})
    except ValidationError as error:
        raise SpecError(_explain(error, model, document.raw, document.at)) from error
    dumped = checked.model_dump(mode="json", by_alias=True)
    _refuse_unusable(dumped, document)  # again: a number may be written as text
    if problems := [f"{document.at(path)}{wrong}" for path, wrong in _switches(document.raw, dumped)]:
        raise SpecError(listed(problems))
    if isinstance(checked, Spec) and checked.baseline is not None:
        _check_twin(checked, document, folder)
    return checked


def _check_twin(spec: Spec, document: Document, folder: str | None) -> None:
    """Refuse what the twin's own spec cannot be, by the setting that makes it so, and settings that change nothing."""
    settings = settings_of(spec)

    def place(loc: Path_) -> str:
        """Name a place of the twin's spec by the setting that it is in, where there is one."""
        words = tuple(map(str, loc))
        fields = {key: path_of(without_naming(key)) for key in settings}
        if given := [key for key, path in fields.items() if words[: len(path)] == path]:
            key = max(given, key=lambda one: len(fields[one]))
            return document.at((TWIN, key, *(loc[len(fields[key]) :] if key == without_naming(key) else ())))
        return document.at((TWIN,)) + (f"{'.'.join(words)}: " if words else "")

    raw, problems = sections_of(spec)
    if problems:
        raise SpecError(listed([f"{document.at((TWIN, key))}{why}" for key, why in problems]))
    try:
        twin = Spec.model_validate(raw, context={"search_path": folder})
    except ValidationError as error:
        raise SpecError(_explain(error, Spec, raw, place)) from error
    if switches := [f"{place(path)}{why}" for path, why in _switches(raw, twin.model_dump(mode="json", by_alias=True))]:
        raise SpecError(listed(switches))
    if spec.baseline == type_of(spec.curriculum.bandit):
        remedy = "remove `baseline` (`--set baseline=null`), or change `curriculum.bandit`"
        why = f"{spec.baseline} is the run's own bandit: {remedy}"
    elif twin.model_copy(update={"name": spec.name, TWIN: spec.baseline}) == spec:
        why = "these settings are the run's own: remove `baseline`, or name others"
    else:
        return
    raise SpecError(f"{document.at((TWIN,))}{why}")


def _refuse_unusable(raw: Any, document: Document) -> None:
    if problems := [f"{document.at(path)}{wrong}" for path, wrong in unusable(raw)]:
        raise SpecError(listed(problems))


def _switches(raw: Any, checked: Any, path: Path_ = ()) -> Iterator[tuple[Path_, str]]:
    """Find where `true`, `yes`, `off` or the like stands for a number: pydantic takes them for 1 and 0."""
    if isinstance(raw, bool):
        if isinstance(checked, int | float) and not isinstance(checked, bool):
            words = "true, yes and on" if raw else "false, no and off"
            yield path, f"a number is wanted, not {shown(raw)}, as YAML reads {words}"
    elif isinstance(checked, dict) and _is_short_for_of(raw, checked):
        yield from _switches(raw, checked["of"], path)
    elif isinstance(raw, dict):
        one = checked[0] if isinstance(checked, list) and len(checked) == 1 else checked  # which may stand for its list
        if isinstance(one, dict):
            for key, value in raw.items():
                yield from _switches(value, one.get(key, one.get(SHORT.get(key, key))), (*path, key))
    elif isinstance(raw, list) and isinstance(checked, list) and len(raw) == len(checked):
        for place, value in enumerate(raw):
            yield from _switches(value, checked[place], (*path, place))


def _is_short_for_of(raw: Any, checked: Mapping[str, Any]) -> bool:
    """Whether a list, or its one entry, stands for a section `{of: list}`."""
    is_short = isinstance(raw, list) or (isinstance(raw, dict) and not raw.keys() <= checked.keys())
    return is_short and isinstance(checked.get("of"), list)


def name_from(path: Path) -> str:
    """Name what a file describes after the file."""
    return path.stem.lower().replace(" ", "-")


def look_in(raw: dict[str, Any], folder: Path) -> None:
    """Let a spec's `package.module:factory` and relative paths be found in a folder, unless it names another."""
    resources = raw.setdefault("resources", {})
    if isinstance(resources, dict):
        resources.setdefault("search_path", str(folder))


def change_resources(spec: Spec, overrides: Iterable[str]) -> Spec:
    """Change what may change on resume; everything else belongs to the run for good."""
    for override in overrides:
        section = override.partition("=")[0].partition(".")[0]
        if section not in CHANGEABLE:
            raise SpecError(
                f"--set {cut(override)}: a resumed run keeps its spec; only {', '.join(CHANGEABLE)} may change. "
                "Start a new run with `evergreen run` to change anything else"
            )
    return load_spec(spec, overrides)


def _set(document: Document, override: str) -> None:
    """Apply one `a.b=c`; what is wrong with it is told as its own."""
    key, value = key_and_value(override, "learner.lr=0")
    written = f"--set {cut(override)}"
    try:
        set_field(document.raw, key, value)
    except SpecError as error:
        raise SpecError(f"{written}: {error}") from error
    path = path_of(key)
    document.overrides.pop(path, None)  # the last counts
    document.overrides[path] = written


def key_and_value(override: str, example: str) -> tuple[str, Any]:
    """Read one `a.b=c`, with c in YAML. Raises SpecError."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise SpecError(f"--set wants key=value, for example --set {example}, not {shown(override)}")
    try:
        return key.strip(), value_of(text)
    except SpecError as error:
        raise SpecError(f"--set {cut(override)}: {error}") from error


def _explain(
    error: ValidationError, model: type[BaseModel], raw: Mapping[str, Any], place: Callable[[Path_], str]
) -> str:
    """Say every problem in a line: where it is, as `place` names it, what was expected, what to do."""
    problems: list[tuple[Path_, Mapping[str, Any]]] = []
    for item in error.errors(include_url=False):
        inner = item["ctx"]["inner"] if item["type"] == "nested" else [item]
        outer = item["loc"] if item["type"] == "nested" else ()
        problems += [(_without_noise((*outer, *one["loc"]), one["type"]), one) for one in inner]
    deepest = [  # of the branches of a union, the one that got furthest is the one that was meant
        (loc, item)
        for loc, item in problems
        if not any(len(other) > len(loc) > 0 and other[: len(loc)] == loc for other, _ in problems)
    ]
    lines = [f"{place(loc)}{_problem(loc, item, model, raw)}" for loc, item in deepest]
    return without_long_texts(listed(lines), raw)


def _problem(loc: Path_, item: Mapping[str, Any], model: type[BaseModel], raw: Mapping[str, Any]) -> str:
    message: str = item["msg"]
    if item["type"] == "extra_forbidden":
        fields = _fields(model, loc[:-1], raw)
        known = ", ".join(fields) or "none yet"
        message = "unknown key" + (nearest(str(loc[-1]), fields) or f"; known here: {known}")
        if len(loc) == 3 and loc[0] == "environments" and loc[-1] in EpisodeOptions.model_fields:
            message = f"of its episodes this is said under `{EPISODES}`: `{EPISODES}: {{{loc[-1]}: ...}}`"
    elif item["type"] == "missing":
        message = "is required"
    elif item["type"] not in OUR_OWN:
        message = f"{message[0].lower()}{message[1:]}, not {shown(item['input'])}"
    return message.removeprefix("Value error, ")


def _without_noise(loc: Path_, kind: str) -> Path_:
    """Leave out the names of validators and union branches that pydantic adds; a person did not write those.

    A person wrote the last one where a key is unknown (`kind` is that of the error), whatever it looks like.
    """
    num = len(loc) - (kind == "extra_forbidden")
    return (
        *(p for p in loc[:num] if not (isinstance(p, str) and ("[" in p or "function-" in p))),
        *loc[num:],
    )


def _fields(model: type[BaseModel], loc: Sequence[Any], raw: Any) -> list[str]:
    """List the keys that are valid at a place of the spec."""
    for depth, part in enumerate(loc):
        named = loc[depth - 1] if isinstance(part, int) else part  # an entry of a list is what the list is
        kind = METHODS.get(str(named)) or ("environments" if loc[:depth] == ("environments",) else None)
        kind = "measurements" if named == "of" and loc[0] == "measure" else kind
        section = _entry(raw, part)
        name = section.get("type", DEFAULT_TYPES.get(kind)) if kind and isinstance(section, dict) else None
        if kind and isinstance(name, str):
            model = config_class(kind, name)
        elif part in BESIDE and loc[:1] == ("environments",):
            model = BESIDE[part]
        elif part in model.model_fields:
            model = _model_of(model.model_fields[part].annotation) or model
        raw = section
    beside = [*BESIDE] if len(loc) == 2 and loc[0] == "environments" else []
    return [field.alias or name for name, field in model.model_fields.items()] + beside


def _entry(raw: Any, part: Any) -> Any:
    """Look into a map or a list of the spec; None where there is nothing. One entry may stand for its list."""
    if isinstance(raw, dict):
        return raw if part in (0, "of") and part not in raw else raw.get(part)
    return raw[part] if isinstance(raw, list) and isinstance(part, int) and part < len(raw) else None


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """Find the section model inside an annotation such as `Learner | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_of(arg))), None)
