from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import huggingface_hub.utils
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma3Config,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    T5Config,
)

from policies.config import PolicyConfig
from policies.errors import ModelNotFoundError, NoTokenizerError, PolicyError
from policies.model_facts import Endings
from policies.models.description import describe_size, load_prompt_reader, weights_fault
from policies.models.loader import load_policy
from policies.models.tiny_tokenizer import VocabularySample, build_tokenizer
from policies.policy import Policy
from tests.policies.templates import ALTERNATING, ENDLESS, policy_of

CPU = torch.device("cpu")
TOKENIZER = build_tokenizer(VocabularySample({"words": ["hello there"]}))
SIZE = len(TOKENIZER)
EMBEDDING = "model.embed_tokens.weight"
SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
ARCHITECTURES = {
    "gpt2": GPT2Config(vocab_size=SIZE, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "llama": LlamaConfig(vocab_size=SIZE, num_key_value_heads=2, max_position_embeddings=64, **SMALL),
    "qwen2": Qwen2Config(vocab_size=SIZE, num_key_value_heads=2, max_position_embeddings=64, **SMALL),
}


def save_model(folder: Path, architecture: Any, tokenizer: Any = TOKENIZER) -> PolicyConfig:
    with torch.random.fork_rng(devices=[]):
        AutoModelForCausalLM.from_config(architecture).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return PolicyConfig(model=str(folder))


def load(config: PolicyConfig) -> Policy:
    return load_policy(config, CPU, seed=0)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_folder_of_any_architecture_loads(name: str, tmp_path: Path) -> None:
    config = save_model(tmp_path, ARCHITECTURES[name])
    before = torch.get_rng_state()
    policy = load(config)
    assert torch.equal(torch.get_rng_state(), before)
    assert policy.context == 64
    assert not policy.model.training
    assert policy.dtype == torch.float32
    assert describe_size(config).num_parameters == policy.num_parameters


def test_weights_come_in_the_dtype_asked_for(tmp_path: Path) -> None:
    config = save_model(tmp_path, ARCHITECTURES["llama"]).model_copy(update={"dtype": "bfloat16"})
    assert load(config).dtype == torch.bfloat16


def test_stop_ids_unite_generation_config_tokenizer_and_template(tmp_path: Path) -> None:
    config = save_model(tmp_path, ARCHITECTURES["llama"])
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    model.generation_config.eos_token_id = [7, 9]
    model.save_pretrained(tmp_path)
    policy = load(config)
    assert policy.end_id == TOKENIZER.eos_token_id
    assert policy.stop_ids == tuple(sorted({7, 9, TOKENIZER.eos_token_id}))


def test_the_end_of_turn_is_the_templates_not_the_end_of_text(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(VocabularySample({"words": ["hello there"]}))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|answer|>", "<turn>", "</turn>"]})
    tokenizer.chat_template = (
        "{% for m in messages %}<turn>{{ m['role'] }}\n{{ m['content'] }}</turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
    )
    architecture = LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=2, **SMALL)
    policy = load(save_model(tmp_path, architecture, tokenizer))
    assert policy.tokenizer.decode([policy.end_id]) == "</turn>"
    assert set(policy.stop_ids) >= {policy.end_id, tokenizer.eos_token_id}


def test_without_a_template_the_remedy_is_named_and_works(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(VocabularySample({"words": ["hello there"]}))
    tokenizer.chat_template = None
    config = save_model(tmp_path, ARCHITECTURES["llama"], tokenizer)
    with pytest.raises(PolicyError, match=r"has no chat template.*`template: none`"):
        load(config)
    policy = load(config.model_copy(update={"template": "none"}))
    ids = policy.encode([{"role": "system", "content": "S"}, {"role": "user", "content": "hello"}])
    assert policy.tokenizer.decode(ids) == "S\n\nhello"


def test_a_missing_folder_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFoundError, match=rf"'./mine' does not exist \(looked in {tmp_path}: .*\)\. Give a"):
        load(PolicyConfig(model="./mine"))


def test_an_incomplete_folder_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ModelNotFoundError, match=r"has no config.json; it holds notes.txt. Expected"):
        load(PolicyConfig(model=str(tmp_path)))
    save_model(tmp_path, ARCHITECTURES["llama"])
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match=r"cannot be read: .*model\.safetensors"):
        load(PolicyConfig(model=str(tmp_path)))


UP = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: without(file, UP), f"has no weights for {re.escape(UP)}, which its configuration asks for"),
        (lambda file: without(file, UP, "model.norm.weight"), r"has no weights for .* and 1 more, which"),
        (lambda file: file.write_bytes(file.read_bytes()[:5000]), "a file of weights is damaged"),
        (lambda file: file.write_bytes(b""), "a file of weights is damaged"),
        (lambda file: resized(file, UP), rf"{re.escape(UP)} is \(40, 32\) in its files and \(48, 32\) by its config"),
    ],
)
def test_weights_that_are_not_the_models_are_refused_and_never_drawn_at_random(
    tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    config = save_model(tmp_path, ARCHITECTURES["llama"])
    damage(tmp_path / "model.safetensors")
    with pytest.raises(PolicyError, match=said):
        load(config)


def without(file: Path, *names: str) -> None:
    tensors = load_file(file)
    save_file({name: one for name, one in tensors.items() if name not in names}, file, metadata={"format": "pt"})


def resized(file: Path, name: str) -> None:
    tensors = load_file(file)
    save_file(tensors | {name: tensors[name][:40].clone()}, file, metadata={"format": "pt"})


@pytest.mark.parametrize("is_sharded", [False, True])
def test_what_is_wrong_with_files_of_weights_is_told_without_reading_them(tmp_path: Path, is_sharded: bool) -> None:
    config = save_model(tmp_path, ARCHITECTURES["llama"])
    if is_sharded:
        model = AutoModelForCausalLM.from_pretrained(tmp_path)
        (tmp_path / "model.safetensors").unlink()
        model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert weights_fault(config) is None
    last = sorted(tmp_path.glob("*.safetensors"))[-1]
    last.write_bytes(last.read_bytes()[:-1])
    assert f"{last} is damaged (" in str(weights_fault(config))
    last.unlink()
    lacks = f"{config.model} lacks {last.name}, which its index names"
    assert (lacks if is_sharded else "holds no weights, which a run needs") in str(weights_fault(config))
    with pytest.raises(ModelNotFoundError):
        load(config)


@pytest.mark.parametrize("is_tied", [True, False])
def test_a_head_that_is_the_embedding_need_not_be_in_the_files(tmp_path: Path, is_tied: bool) -> None:
    architecture = copy.deepcopy(ARCHITECTURES["llama"])
    architecture.tie_word_embeddings = is_tied
    config = save_model(tmp_path, architecture)
    without(tmp_path / "model.safetensors", "lm_head.weight")
    if is_tied:
        assert torch.equal(load(config).model.lm_head.weight, load_file(tmp_path / "model.safetensors")[EMBEDDING])
    else:
        with pytest.raises(PolicyError, match=r"has no weights for lm_head\.weight"):
            load(config)


def test_a_hub_name_that_cannot_be_had_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    message = r"'nobody/nothing' is no folder here, .*neither in the local cache nor could it be\s+fetched"
    for read in (load, describe_size):
        with pytest.raises(ModelNotFoundError, match=message):
            read(PolicyConfig(model="nobody/nothing"))


def test_what_the_hubs_client_says_of_every_try_is_left_to_the_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def retried(*args: object, **options: object) -> None:
        huggingface_hub.utils.logging.get_logger("huggingface_hub.utils._http").warning("Retrying in 1s [Retry 1/5].")
        raise OSError("couldn't find them in the cached files..\nCheck your internet connection.")

    monkeypatch.setattr(AutoConfig, "from_pretrained", retried)
    before = huggingface_hub.utils.logging.get_verbosity()
    with pytest.raises(ModelNotFoundError, match=r"in the cached files\. Check the name and the network"):
        load(PolicyConfig(model="nobody/nothing"))
    assert "Retrying" not in capfd.readouterr().err
    assert huggingface_hub.utils.logging.get_verbosity() == before


def test_an_encoder_decoder_is_refused_as_what_it_is(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    small = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
    T5Config(vocab_size=SIZE, **small).save_pretrained(tmp_path)
    config = PolicyConfig(model=str(tmp_path))
    for read in (describe_size, load):
        with pytest.raises(PolicyError, match=r"is no causal language model.*T5 is none. \(Unrecognized"):
            read(config)


@pytest.mark.parametrize(
    ("file", "name", "value", "says"),
    [
        ("tokenizer.json", "model", {"type": "XYZ"}, "Exception: data did not match"),
        ("tokenizer.json", "added_tokens", None, "TypeError"),
        ("config.json", "hidden_size", "abc", "expected int, got str"),
        ("config.json", "num_attention_heads", 5, "not a multiple of the number of attention heads"),
        ("config.json", "hidden_act", "foo", "KeyError: 'foo'"),
    ],
)
def test_what_the_library_does_not_expect_in_files_is_told_in_words(
    tmp_path: Path, file: str, name: str, value: object, says: str
) -> None:
    config = save_model(tmp_path, ARCHITECTURES["llama"])
    path = tmp_path / file
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    reads = (load_prompt_reader, load) if file == "tokenizer.json" else (describe_size, load)
    for read in reads:
        with pytest.raises(PolicyError, match=f"transformers cannot read it .*{re.escape(says)}"):
            read(config)


def test_a_model_without_a_key_value_cache_is_refused(tmp_path: Path) -> None:
    architecture = MambaConfig(vocab_size=SIZE, hidden_size=16, num_hidden_layers=1, state_size=4)
    with torch.random.fork_rng(devices=[]):
        MambaForCausalLM(architecture).save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    with pytest.raises(PolicyError, match="keeps no key-value cache"):
        load(PolicyConfig(model=str(tmp_path)))


def test_gpt2_is_among_the_models_that_generate(tmp_path: Path) -> None:
    assert isinstance(load(save_model(tmp_path, ARCHITECTURES["gpt2"])).model, GPT2LMHeadModel)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_prompts_are_read_without_weights_as_the_policy_reads_them(name: str, tmp_path: Path) -> None:
    config = save_model(tmp_path, ARCHITECTURES[name])
    policy = load(config)
    (tmp_path / "model.safetensors").unlink()
    reader = load_prompt_reader(config)
    assert reader is not None
    messages = [{"role": "user", "content": "hello there"}]
    assert (reader.encoder.encode(messages), reader.context) == (policy.encode(messages), 64)
    assert reader.endings == policy.endings


@pytest.mark.parametrize("has_file", [True, False])
def test_what_ends_answers_is_known_without_weights(has_file: bool, tmp_path: Path) -> None:
    architecture = LlamaConfig(vocab_size=SIZE, num_key_value_heads=2, eos_token_id=[7, 9], **SMALL)
    config = save_model(tmp_path, architecture)
    if not has_file:
        (tmp_path / "generation_config.json").unlink()
    reader = load_prompt_reader(config)
    assert reader is not None
    assert reader.endings == load(config).endings
    assert reader.endings.stop_ids == (TOKENIZER.eos_token_id, 7, 9)


def test_without_an_end_an_answer_cannot_be_taught_and_the_remedy_works() -> None:
    policy = policy_of(ENDLESS, "none")
    policy.tokenizer.eos_token = None
    policy.__post_init__()
    assert policy.endings == Endings(None, ())
    assert policy.encode_answer("7", ends=False)
    with pytest.raises(PolicyError, match=r"nor tokenizer has a token that ends .* Set `tokenizer.eos_token`"):
        policy.encode_answer("7")
    policy.tokenizer.eos_token = "<|end|>"
    policy.__post_init__()
    assert policy.tokenizer.decode(policy.encode_answer("7")) == "7<|end|>"


def test_a_template_that_takes_no_answers_is_told_in_words() -> None:
    template = "{% if messages[1:] %}{{ raise_exception('one message') }}{% endif %}{{ messages[0]['content'] }}"
    with pytest.raises(PolicyError, match=r"family/model: its chat template does not take .*: one message\. Save"):
        policy_of(template)


def test_prompts_are_not_read_where_that_would_mean_fetching_or_a_template_is_missing(tmp_path: Path) -> None:
    assert load_prompt_reader(PolicyConfig(model="nobody/nothing")) is None
    tokenizer = build_tokenizer(VocabularySample({}))
    tokenizer.chat_template = None
    config = save_model(tmp_path, ARCHITECTURES["llama"], tokenizer)
    with pytest.raises(PolicyError, match="has no chat template"):
        load_prompt_reader(config)
    with pytest.raises(ModelNotFoundError, match="does not exist"):
        load_prompt_reader(PolicyConfig(model="./not/there"))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_folder_without_a_tokenizer_is_refused_and_planned(name: str, tmp_path: Path) -> None:
    """Of some architectures the library makes a tokenizer of special tokens alone."""
    config = PolicyConfig(model=str(tmp_path))
    ARCHITECTURES[name].save_pretrained(tmp_path)
    for read in (load, load_prompt_reader):
        with pytest.raises(NoTokenizerError, match=r"has no tokenizer; it holds config\.json\. Save the model's own"):
            read(config)
    assert load_prompt_reader(config, is_needed=False) is None


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_tokenizer_larger_than_the_embedding_is_refused_with_the_remedy(name: str, tmp_path: Path) -> None:
    architecture = copy.deepcopy(ARCHITECTURES[name])
    architecture.vocab_size = SIZE - 12
    config = save_model(tmp_path, architecture)
    last = SIZE if name == "qwen2" else SIZE - 1  # the library adds an unknown token
    message = (
        rf"^{re.escape(str(tmp_path))}: its tokenizer gives token ids up to {last}, but its embedding has "
        rf"{SIZE - 12} rows.*`model\.resize_token_embeddings\(len\(tokenizer\)\)`, then save both again"
    )
    for read in (load, load_prompt_reader):
        with pytest.raises(PolicyError, match=message):
            read(config)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    model.resize_token_embeddings(SIZE)
    model.save_pretrained(tmp_path)
    assert load(config).encode([{"role": "user", "content": "hello there"}])


def tokenizer_with(*special: str) -> Any:
    tokenizer = build_tokenizer(VocabularySample({"words": ["hello there"]}))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|answer|>", *special]})
    return tokenizer


def test_special_tokens_beyond_the_embedding_are_refused_only_where_prompts_get_them(tmp_path: Path) -> None:
    unused, asked, padding = (tokenizer_with("<image>") for _ in range(3))
    asked.chat_template = "<image>" + asked.chat_template
    padding.pad_token = "<image>"
    assert unused.convert_tokens_to_ids("<image>") == SIZE
    assert load(save_model(tmp_path, ARCHITECTURES["llama"], unused)).tokenizer.get_vocab()["<image>"] == SIZE
    for tokenizer in (asked, padding):
        with pytest.raises(PolicyError, match=rf"token ids up to {SIZE}, but its embedding has {SIZE} rows"):
            load(save_model(tmp_path, ARCHITECTURES["llama"], tokenizer))
    asked.save_pretrained(tmp_path)
    assert load(PolicyConfig(model=str(tmp_path), template="none"))


def test_ids_count_not_their_number(tmp_path: Path) -> None:
    words = {"hello": 0, "there": SIZE + 7}
    backend = Tokenizer(WordLevel(words, unk_token="hello"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="hello")
    config = save_model(tmp_path, ARCHITECTURES["llama"], tokenizer).model_copy(update={"template": "none"})
    with pytest.raises(PolicyError, match=rf"up to {SIZE + 7}, .*resize_token_embeddings\({SIZE + 8}\)"):
        load(config)


def test_an_embedding_larger_than_the_tokenizer_is_usual(tmp_path: Path) -> None:
    architecture = LlamaConfig(vocab_size=SIZE + 50, num_key_value_heads=2, **SMALL)
    config = save_model(tmp_path, architecture)
    assert load(config).context == architecture.max_position_embeddings
    assert load_prompt_reader(config) is not None


def test_rows_are_those_of_the_text_model(tmp_path: Path) -> None:
    text = {"vocab_size": SIZE, "head_dim": 8, "num_key_value_heads": 2, **SMALL}
    Gemma3Config(text_config=text).save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    assert load_prompt_reader(PolicyConfig(model=str(tmp_path))) is not None
    Gemma3Config(text_config={**text, "vocab_size": SIZE - 1}).save_pretrained(tmp_path)
    with pytest.raises(PolicyError, match=f"its embedding has {SIZE - 1} rows"):
        load_prompt_reader(PolicyConfig(model=str(tmp_path)))


def test_a_template_that_refuses_a_conversation_is_told_in_words() -> None:
    policy = policy_of(ALTERNATING)
    with pytest.raises(PolicyError, match=r"refuses a conversation of system, user: only user and assistant; leave"):
        policy.encode([{"role": "system", "content": "S"}, {"role": "user", "content": "hello"}])


@pytest.mark.parametrize(("long_s", "draws"), [(10.0, False), (0.0, True)])
def test_weights_that_are_read_at_once_draw_no_progress_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], long_s: float, draws: bool
) -> None:
    config = save_model(tmp_path, ARCHITECTURES["llama"])
    monkeypatch.setattr("policies.policy.LONG_S", long_s)
    capsys.readouterr()
    load(config)
    assert ("Loading weights" in capsys.readouterr().err) is draws
