"""A spec that cannot work is refused before anything is loaded, in words that name key, line and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import SpecError
from orchestrator.spec import load_spec

TEXT = """\
name: mine
seed: 0
warm_start: {environments: [words]}
environments:
  words:
    type: reasoning_gym
    dataset: spell_backward
    categories:
      "3": {min_word_len: 3, max_word_len: 3}
  book: {type: codebook}
curriculum:
  stages: 2
  scheduler: round_robin
  bandit: {type: sec, temperature: 0.1}
  stage: {steps: 3, replay: 0.2}
step: {groups: 4}
objective: {preset: repo_r, clip_high: 0.3}
"""

UNKNOWN = {  # what is misspelt: (how, the message)
    "a section": ("step:", "stepp:", "line 16: stepp: unknown key. Did you mean 'step'?"),
    "a field": ("groups", "gruops", "line 16: step.gruops: unknown key. Did you mean 'groups'?"),
    "a field of a section's section": (
        "replay",
        "repaly",
        "line 15: curriculum.stage.repaly: unknown key. Did you mean",
    ),
    "an option of a bandit": (
        "temperature",
        "temprature",
        "line 14: curriculum.bandit.temprature: unknown key. Did you mean 'temperature'?",
    ),
    "an option of an environment": (
        "dataset",
        "datset",
        "line 7: environments.words.datset: unknown key. Did you mean 'dataset'?",
    ),
    "an option of a category": (
        "max_word_len",
        "max_word_lenght",
        "line 8: environments.words.categories: category '3': spell_backward has no option 'max_word_lenght'; "
        "did you mean max_word_len?",
    ),
    "an option of the objective": (
        "clip_high",
        "clip_hihg",
        "line 17: objective.clip_hihg: there is no key `clip_hihg`;",
    ),
    "an option of the warm start": (
        "{environments: [words]}",
        "{environments: {words: {bathces: 3}}}",
        "line 3: warm_start.environments.words.bathces: unknown key. Did you mean 'batches'?",
    ),
    "a data set": (
        "spell_backward",
        "spell_bakward",
        "line 7: environments.words.dataset: reasoning_gym has no data set 'spell_bakward'; "
        "did you mean spell_backward?",
    ),
    "a bandit": (
        "type: sec",
        "type: sek",
        "line 14: curriculum.bandit: 'sek' is not one of the bandits: beta_thompson, beta_thompson_tree, "
        "change_point, ",
    ),
    "a scheduler": (
        "round_robin",
        "round_robbin",
        "line 13: curriculum.scheduler: 'round_robbin' is not one of the schedulers: boltzmann, discounted_ucb, "
        "gaussian_thompson, headroom, round_robin, sequence, uniform. Did you mean 'round_robin'?",
    ),
    "a stop rule": (
        "steps: 3, replay: 0.2",
        "steps: 100, stop: [plateau, mastry]",
        "line 15: curriculum.stage.stop.1: 'mastry' is not one of the stop_rules: dead_signal, mastery, plateau. "
        "Did you mean 'mastery'?",
    ),
    "a stop rule's option": (
        "steps: 3, replay: 0.2",
        "steps: 100, stop: [{type: mastery, goal: .9}]",
        "line 15: curriculum.stage.stop.0.goal: unknown key; known here: type, target",
    ),
    "a stop rule that never gets a turn": (
        "steps: 3, replay: 0.2",
        "steps: 30, stop: mastery",
        "stop rules are first asked after 30 steps, and a stage has 30: raise `steps`",
    ),
    "a reward that is not there": (
        "round_robin",
        "{type: boltzmann, reward: gains}",
        "curriculum.scheduler.reward: input should be 'advantage', 'gain', 'total_gain' or 'retention', not 'gains'",
    ),
    "an environment's type": (
        "type: codebook",
        "type: codebok",
        "line 10: environments.book: 'codebok' is not one of the environments: codebook, gymnasium, http, "
        "reasoning_gym, rows, textarena, trl, verifiers",
    ),
    "a preset": ("preset: repo_r", "preset: repor", "line 17: objective.preset: there is no preset `repor`;"),
    "a sampler": (
        "seed: 0",
        "sampler: vlm",
        "line 2: sampler: 'vlm' is not one of the samplers: transformers, vllm",
    ),
}

WRONG = {
    "a number in words": ("seed: 0", "seed: none", "line 2: seed: input should be a valid integer"),
    "a number too small": (
        "groups: 4",
        "groups: 0",
        "line 16: step.groups: input should be greater than or equal to 1",
    ),
    "a section that is no map": ("{groups: 4}", "4", "line 16: step: input should be a valid dictionary"),
    "a method that is no map": (
        "{type: sec, temperature: 0.1}",
        "7",
        "line 14: curriculum.bandit: expected a map",
    ),
    "a name that is no slug": (
        "name: mine",
        "name: My Run",
        "line 1: name: a run's name has lower-case letters",
    ),
    "an environment's name with a dot": (
        "  words:",
        "  my.words:",
        "environments: an environment's name has no dot, which stands between it and its category, as in "
        "`environment.category`: say my-words instead of my.words",
    ),
    "a scheduler in flat mode": (
        "stages: 2",
        "mode: flat",
        "line 11: curriculum: flat mode has no scheduler: remove `scheduler`, or set `mode: staged`",
    ),
    "replay in flat mode": (
        "scheduler: round_robin",
        "mode: flat",
        "line 11: curriculum: flat mode has no replay: remove `stage.replay`, or set `mode: staged`",
    ),
    "replay by rule in flat mode": (
        "scheduler: round_robin\n  bandit: {type: sec, temperature: 0.1}\n  stage: {steps: 3, replay: 0.2}",
        "mode: flat\n  stage: {steps: 3, replay: {share: 0.2, rule: due}}",
        "flat mode has no replay: remove `stage.replay`, or set `mode: staged`",
    ),
    "a rule of replay without a share": (
        "replay: 0.2",
        "replay: {share: 0, rule: due}",
        "line 15: curriculum.stage: replay.rule: due: nothing is replayed: raise `replay.share` above 0",
    ),
    "a rule of replay that is none": (
        "replay: 0.2",
        "replay: {share: 0.2, rule: weekest}",
        "line 15: curriculum.stage.replay.rule: ",
    ),
    "two words on where replay comes from": (
        "replay: 0.2",
        "from: all, replay: {share: 0.2, rule: due, from: visited}",
        "`from: all` and `replay.from: visited` say different things: leave out one of them",
    ),
    "a rule of replay with too small a share": (
        "replay: 0.2",
        "replay: {share: 0.001, rule: weakest}",
        "curriculum.stage.replay.rule: weakest has nothing to give: `share` 0.001 of ",
    ),
    "more samples drawn than there are": (
        "seed: 0",
        "measure: {of: [{type: samples, k: [4, 16]}]}",
        "measure.of.samples.k: 16 samples cannot be drawn of the 8 that are evaluated: raise `evaluate.samples`",
    ),
    "samples twice": (
        "seed: 0",
        "measure: [samples, {type: samples, k: [4]}]",
        "measure: samples stands in `of` twice",
    ),
    "a warm start on an unknown environment": (
        "environments: [words]",
        "environments: [word]",
        "warm_start.environments names 'word', but the environments are words, book. Did you mean 'words'?",
    ),
    "a sequence with an unknown environment": (
        "scheduler: round_robin",
        "scheduler: {type: sequence, order: [words, books]}",
        "curriculum.scheduler.order names 'books', but the environments are words, book. Did you mean 'book'?",
    ),
    "a reserved section that is filled": (
        "seed: 0",
        "guards: {nan: stop}",
        "line 2: guards.nan: unknown key",
    ),
    "replicas that ranks cannot form": (
        "seed: 0",
        "resources: {ranks: 4, replicas: 3}",
        "line 2: resources.replicas: 4 ranks cannot be 3 replicas of equally many: say 1 or 2 or 4, or `ranks` as a "
        "multiple of 3",
    ),
    "replicas of one process": (
        "seed: 0",
        "resources: {replicas: 2}",
        "line 2: resources.replicas: 1 rank cannot be 2 replicas of equally many: say 1, or `ranks` as a multiple of 2",
    ),
    "a tracker that is not there": (
        "seed: 0",
        "tracker: comet",
        "line 2: tracker.type: input should be 'mlflow', 'wandb', 'tensorboard' or 'none', not 'comet'",
    ),
    "a tracking folder, which MLflow has given up": (
        "seed: 0",
        "tracker: {uri: ./mlruns}",
        "line 2: tracker.uri: an MLflow server or database is wanted",
    ),
    "a tracker's password that looks like the end of its URL": (
        "seed: 0",
        'tracker: {uri: "oracle://me:it\'s-me@host/x"}',
        "sqlite:////data/mlflow.db, not 'oracle://***@host/x'",
    ),
    "a switch for a number": (
        "clip_high: 0.3",
        "clip_high: yes",
        "line 17: objective.clip_high: a number is wanted, not True, as YAML reads true, yes and on",
    ),
    "a switch for a number in a list that stands for a section": (
        "seed: 0",
        'guards: [{when: "loss > 1", steps: on}]',
        "line 2: guards.0.steps: a number is wanted, not True",
    ),
    "a switch for a number in the one entry of such a list": (
        "seed: 0",
        "measure: {type: samples, distinct_tokens: on}",
        "line 2: measure.distinct_tokens: a number is wanted, not True",
    ),
    "a switch for a number in a short form": (
        "{preset: repo_r, clip_high: 0.3}",
        "{preset: repo_adaptive, controller: {type: band, high: on}}",
        "line 17: objective.controller.high: a number is wanted, not True",
    ),
}


@pytest.mark.parametrize("case", [*UNKNOWN, *WRONG])
def test_a_message_names_key_line_and_remedy(tmp_path: Path, case: str) -> None:
    before, after, message = (UNKNOWN | WRONG)[case]
    assert before in TEXT
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT.replace(before, after, 1))
    with pytest.raises(SpecError) as refused:
        load_spec(path)
    (line,) = [line for line in str(refused.value).splitlines() if "is required" not in line]
    assert line.startswith(str(path))
    assert message in line


def test_the_spec_that_the_messages_are_about_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT)
    assert load_spec(path).name == "mine"


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT.replace("groups", "group").replace("seed: 0", "seed: -1"))
    with pytest.raises(SpecError) as refused:
        load_spec(path)
    assert len(str(refused.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read the spec"),
        ("step: {groups: [", "is not valid YAML"),
        ("- words", "must hold a map of sections"),
        ("seed: 1", "environments: is required"),
    ],
)
def test_a_file_that_is_no_spec_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SpecError, match=message):
        load_spec(path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learner.rate=1", "learner.rate: unknown key"),
        ("lerner.lr=1", "lerner: unknown key. Did you mean 'learner'?"),
        ("environments.book.key=3", "environments.book.key: unknown key. Did you mean 'keys'?"),
        (
            "curriculum.bandit.temprature=1",
            "curriculum.bandit.temprature: unknown key. Did you mean 'temperature'?",
        ),
        ("measure={type: probe, kindd: sft}", "measure.of.0.kindd: unknown key. Did you mean 'kind'?"),
        ("curriculum.selection={type: mopps, candidats: 3}", "unknown key. Did you mean 'candidates'?"),
        ("curriculum.teacher={type: riac, cutz: 3}", "curriculum.teacher.cutz: unknown key. Did you mean 'cuts'?"),
        ("sampler.temprature=1", "sampler.temprature: unknown key. Did you mean 'temperature'?"),
        ("learner.lr", "--set wants key=value"),
        ("step.groups=[", "the value is not valid YAML"),
        ("step.groups.most=3", "'groups' is not a section"),
    ],
)
def test_an_override_is_checked_by_the_same_model(tmp_path: Path, override: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT)
    with pytest.raises(SpecError) as refused:
        load_spec(path, [override])
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective=gvm", "sampler.ahead=1"], "gvm looks at gradients while it plays"),
        (["objective={preset: gvm, gvm_pilot: 8}"], "gvm plays a pilot and a floor of 9 samples a task"),
        (["objective={preset: aepo, mismatch: none}"], "nothing weighs the difference: give `mismatch: tis`"),
        (["objective={preset: rloo, plans: [dynamic_smapling]}"], "did you mean `dynamic_sampling`?"),
        (["objective={preset: rloo, mismatch: none}", "sampler.ahead=1"], "weights one version behind"),
    ],
)
def test_an_objective_that_the_rest_of_the_spec_cannot_serve_is_refused(
    tmp_path: Path, overrides: list[str], message: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT)
    with pytest.raises(SpecError) as refused:
        load_spec(path, overrides)
    assert message in str(refused.value)


MASK = "sampler.cut_off=mask"


@pytest.mark.parametrize("preset", ["dapo", "ares", "pear", "hapo", "{preset: grpo, reward_maps: kl_reward}"])
def test_what_reads_the_tokens_of_answers_is_refused_where_those_cut_off_have_none(tmp_path: Path, preset: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT)
    own = ["environments.words.episodes={cut_off: mask}", "environments.book.episodes={cut_off: score}"]
    for overrides, key in (([MASK], "sampler"), (own, "environments.words.episodes")):
        with pytest.raises(SpecError) as refused:
            load_spec(path, [f"objective={preset}", *overrides])
        assert f"{key}.cut_off: mask leaves those" in str(refused.value)
    load_spec(path, [f"objective={preset}", "environments.words.episodes={cut_off: score}"])


def test_the_message_about_masked_answers_names_both_keys_and_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT)
    with pytest.raises(SpecError) as refused:
        load_spec(path, ["objective={preset: grpo, by: {words: dapo}}", MASK])
    message = (
        "objective.by.words.reward_maps: overlong reads the tokens of answers, and sampler.cut_off: mask leaves those "
        "that were cut off none, though their scores count: say `cut_off: score`, or leave overlong out of "
        "`objective.by.words.reward_maps`"
    )
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "objective",
    [
        "{preset: dapo, reward_maps: none}",
        "{preset: grpo, by: {book: dapo}}",
        "{preset: grpo, reward_maps: kl_reward, kl_reward: 0}",
        *("disco", "drpo", "rloo", "constrained"),
    ],
)
def test_what_reads_scores_alone_goes_with_masked_answers(tmp_path: Path, objective: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT)
    load_spec(path, [f"objective={objective}", "environments.words.episodes={cut_off: mask}"])


def test_parts_that_idle_at_the_learners_number_of_updates_are_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT)
    assert load_spec(path, ["objective=gspo", "learner.updates=4"]).warnings() == []
    (warning,) = load_spec(path, ["objective=gspo", "learner.updates=1"]).warnings()
    assert "does nothing with one update a step" in warning


def test_a_length_far_above_the_answers_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT)
    (warning,) = load_spec(path, ["objective=dr_grpo", "sampler.max_tokens=8"]).warnings()
    assert "Say `max_length: 8`" in warning
    fitting = ["objective={preset: dr_grpo, max_length: 8}", "sampler.max_tokens=8"]
    assert load_spec(path, fitting).warnings() == []


def test_a_constraint_on_a_number_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT)
    section = "objective={preset: rloo, kl: 0.1, controller: {type: dual_ascent, metric: METRIC}}"
    load_spec(path, [section.replace("METRIC", "kl_ref")])
    with pytest.raises(SpecError, match=r"'kl_reff' is no number of a step.*Did you mean 'kl_ref'"):
        load_spec(path, [section.replace("METRIC", "kl_reff")])


OVERRIDES = {  # what was given, and how the message begins
    "a value": (["learner.lr=much"], "--set learner.lr=much: learner.lr: input should be a valid number"),
    "in the place of a line": (
        ["step.groups=none"],
        "--set step.groups=none: step.groups: input should be a valid integer",
    ),
    "twice": (["step.groups=none", "step.groups=many"], "--set step.groups=many: step.groups: input should be"),
    "a whole section": (["step={groups: 4, gruops: 4}"], "--set step={groups: 4, gruops: 4}: step.gruops: unknown key"),
    "an unknown key": (["learner.lrr=1"], "--set learner.lrr=1: learner.lrr: unknown key. Did you mean 'lr'?"),
    "a short form": (["objective=repo_x"], "--set objective=repo_x: "),
}


@pytest.mark.parametrize("kind", OVERRIDES)
def test_a_mistake_in_an_override_quotes_the_override(kind: str, tmp_path: Path) -> None:
    overrides, words = OVERRIDES[kind]
    path = tmp_path / "spec.yaml"
    path.write_text(TEXT)
    with pytest.raises(SpecError) as refused:
        load_spec(path, overrides)
    assert str(refused.value).startswith(words)


def test_a_mistake_that_an_override_is_no_part_of_quotes_its_line(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(TEXT.replace("groups: 4", "gruops: 4"))
    with pytest.raises(SpecError) as refused:
        load_spec(path, ["learner.lr=much"])
    assert sorted(str(refused.value).splitlines())[1].startswith(f"{path}, line 16: step.gruops: unknown key")


def test_replicas_of_a_file_are_refused_where_an_override_says_other_ranks(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(TEXT.replace("seed: 0", "resources: {ranks: 4, replicas: 2}"))
    assert load_spec(path, ["resources.ranks=2"]).resources.num_shards == 1
    with pytest.raises(SpecError, match=r"line 2: resources.replicas: 3 ranks cannot be 2 replicas .* say 1 or 3"):
        load_spec(path, ["resources.ranks=3"])


def test_a_section_that_an_override_broke_names_both(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(TEXT)
    with pytest.raises(SpecError, match=r"line 14, with --set curriculum.bandit.type=sek: curriculum.bandit: 'sek' is"):
        load_spec(path, ["curriculum.bandit.type=sek"])


def test_kernels_for_a_gpu_are_refused_on_a_cpu(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(TEXT + "policy: {kernels: liger}\nresources: {device: cpu}\n")
    with pytest.raises(SpecError, match=r"policy\.kernels: liger: its kernels run on a GPU.*say `kernels: torch`"):
        load_spec(path)
    load_spec(path, ["resources.device=auto"])


def test_a_warm_start_of_no_environment_is_warned_of() -> None:
    spec = {"environments": {"book": "codebook"}, "policy": "x/y"}
    (said,) = load_spec({**spec, "warm_start": {"batches": 60}}).warnings()
    assert said.startswith("`warm_start` names no `environments`, so there is none")
    assert load_spec({**spec, "warm_start": {"environments": ["book"]}}).warnings() == load_spec(spec).warnings() == []
