"""A few lines of YAML for every section of the spec, as somebody would write them; tests read each in a whole spec."""

EXAMPLES = {
    "": """\
name: words-first     # the folder is runs/words-first
seed: 3
baseline: {objective: grpo}     # then the same again with this; `uniform`: with the uniform bandit
""",
    "policy": """\
policy: {model: Qwen/Qwen2.5-3B, dtype: bfloat16}
""",
    "policy.adapter": """\
policy: {model: Qwen/Qwen2.5-7B, dtype: bfloat16, adapter: {rank: 32, boundary: merge}}
""",
    "warm_start": """\
warm_start: {environments: [words], batches: 200}
""",
    "warm_start.environments.NAME": """\
warm_start:
  environments:
    words: {batches: 200}
    book: {batches: 20, decay: 1}
""",
    "environments": """\
environments:
  words:                   # puzzles with verifiers, made as they are needed
    type: reasoning_gym
    dataset: spell_backward
    categories:
      short: {min_word_len: 3, max_word_len: 4}
      long: {min_word_len: 5, max_word_len: 8}
  sums: {type: rows, train: sums.csv, category: digits, reward: numeric}
  letters: {type: "./letters.py:create", lengths: [3, 4, 5]}   # your own
""",
    "curriculum": """\
curriculum:
  stages: 8
  scheduler: round_robin
  bandit: sec
  stage: {steps: 50, replay: 0.25}
""",
    "curriculum.scheduler": """\
curriculum:
  scheduler: {type: discounted_ucb, reward: total_gain, min_share: 0.05}
""",
    "curriculum.bandit": """\
curriculum:
  bandit: {type: sec, learning_rate: 0.5, floor: 0.2}
""",
    "curriculum.selection": """\
curriculum:
  selection: plr            # tasks with a strong signal come again sooner
""",
    "curriculum.teacher": """\
curriculum:
  teacher: alp_gmm         # inside the `parameters` of an environment
""",
    "curriculum.stage": """\
curriculum:
  stage: {steps: 60, replay: 0.2, from: all, stop: [mastery, plateau]}
""",
    "curriculum.stage.replay": """\
curriculum:
  stage: {replay: {share: 0.2, rule: due, from: all}}     # what was lost, before it is too late
""",
    "curriculum.stage.stop": """\
curriculum:
  stage: {steps: 100, stop: [mastery, {type: plateau}, "./rules.py:enough"]}
""",
    "curriculum.boundary": """\
curriculum:
  boundary: {optimizer: reset}
""",
    "curriculum.boundary.interventions": """\
curriculum:
  boundary:
    interventions:
      - {type: redo, tau: 0.05, when: every 2 stages}
      - {type: base_fusion, alpha: 0.7, when: pass_1 on words < .2}
environments: {words: {type: reasoning_gym, dataset: spell_backward}}
""",
    "curriculum.quarantine": """\
curriculum:
  quarantine: {after: 5, steps: 50}
""",
    "step": """\
step: {groups: 16, group_size: 8}     # 128 episodes
""",
    "objective": """\
objective:
  preset: repo_r           # left out: repo_adaptive
  clip_high: 0.3           # an option of one of its parts
  controller: {type: geometric_signed, target: 0.4}
""",
    "objective.controllers": """\
objective:
  preset: repo_r
  controller: {target: 0.4}    # the preset's own, with another target
""",
    "learner": """\
learner: {lr: 1.0e-6, warmup: 20, activation_checkpointing: true}
""",
    "learner.schedule": """\
learner:
  schedule: {type: cosine, over: stage, end: 0.1}     # in every stage to a tenth of lr
""",
    "sampler": """\
sampler: {type: vllm, max_tokens: 2048}
""",
    "evaluate": """\
evaluate: {items: 32, samples: 8, greedy: true, every: 20}     # and every 20 steps inside a stage
""",
    "checkpoint": """\
checkpoint: {every_steps: 0, every_minutes: 30, keep: 1, copy_to: "file:///backup/runs"}
""",
    "scoring": """\
scoring: {timeout_s: 10, workers: 4, env: [GRADER_URL]}
""",
    "measure": """\
measure:
  share: 0.05
  of: ["./lengths.py:create"]     # a file beside the spec
""",
    "measure.of": """\
measure: ["./lengths.py:create"]     # a list stands for the section
""",
    "guards.of": """\
guards:
  - {when: "grad_norm > 20 x median", action: skip}
  - {when: "entropy_token < .05", steps: 10, action: stop}
  - {when: "response_len > 3 x start", action: lower, factor: 0.5}
""",
    "tracker": """\
tracker: {uri: "http://localhost:5000", experiment: words, also: [tensorboard]}
""",
    "ledger": """\
ledger: {url: "postgresql+psycopg://evergreen@db/evergreen", patience: 30}
""",
    "resources": """\
resources: {threads: 8, device: cuda}
""",
}
