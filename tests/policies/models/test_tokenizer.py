from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from policies.errors import VocabularyError
from policies.models.tiny_tokenizer import (
    ANSWER,
    END,
    PAD,
    VocabularySample,
    build_tokenizer,
    prompt_text,
    require_known,
)

WORDS = [f"Spell this word backward (example: sun -> nus): {word}" for word in ("cat", "dog", "fish", "über")]
SUMS = ["1 + 2 =", "3 + 4 =", "the sum of 5"]
SAMPLE = VocabularySample({"words": WORDS, "sums": SUMS}, ["tac", "7"], ["<go>", "go north"])
OPEN, CLOSED = build_tokenizer(SAMPLE), build_tokenizer(SAMPLE, closed=True)


def tokens(text: str) -> list[str]:
    return [OPEN.decode([token]) for token in OPEN(text).input_ids]


def test_words_that_half_of_an_environments_prompts_share_are_one_token() -> None:
    assert tokens(WORDS[0]) == [
        "Spell",
        " this",
        " word",
        " backward",
        " (example:",
        " sun",
        " ->",
        " nus):",
        *" cat",
    ]
    assert tokens("3 + 4 = sum") == [*"3", " +", *" 4", " =", *" sum"]


def test_a_word_inside_another_is_spelled() -> None:
    assert tokens(" this thistle") == [" this", *" thistle"]


def test_symbols_are_one_token_wherever_they_stand() -> None:
    assert tokens("a<go>b <go>") == ["a", "<go>", "b", " ", "<go>"]
    assert tokens("go northgo south") == ["go north", *"go south"]


@settings(max_examples=200)
@given(st.text(max_size=40))
def test_an_open_vocabulary_reads_every_text_and_gives_it_back(text: str) -> None:
    assert OPEN.decode(OPEN(text).input_ids) == text


def test_the_order_of_tokens_does_not_depend_on_the_order_of_environments() -> None:
    turned = VocabularySample({"sums": SUMS, "words": WORDS}, SAMPLE.answers, SAMPLE.symbols)
    assert build_tokenizer(turned).get_vocab() == OPEN.get_vocab()
    assert OPEN.convert_tokens_to_ids([PAD, END, ANSWER]) == [0, 1, 2]


def test_a_closed_vocabulary_holds_what_it_saw_and_nothing_else() -> None:
    seen = {c for text in [*WORDS, *SUMS, "tac", "7"] for c in text.encode()}
    words = len(OPEN) - 3 - 256 - 2
    assert len(CLOSED) == 3 + len(seen) + 2 + words
    for text in (*WORDS, *SUMS, "tac", "7", "go north<go>"):
        require_known(CLOSED, text)
        assert CLOSED.decode(CLOSED(text).input_ids) == text


@pytest.mark.parametrize(("text", "unknown"), [("tac!", "!"), ("Spell this qat", "q"), ("a§", "§")])
def test_a_closed_vocabulary_names_the_character_it_cannot_spell(text: str, unknown: str) -> None:
    with pytest.raises(VocabularyError, match=rf"no token for '{unknown}'.*vocabulary: open"):
        require_known(CLOSED, text)


def test_characters_seen_only_in_symbols_get_no_token() -> None:
    tokenizer = build_tokenizer(VocabularySample({"book": ["<k1> <k2>"]}, ["<a9>"], ["<k1>", "<k2>", "<a9>"]), True)
    assert len(tokenizer) == 3 + 1 + 3  # special, the space, the symbols


def test_the_template_puts_contents_one_after_the_other() -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "cat"}]
    assert prompt_text(turns) == "Be brief.\ncat"
    rendered = OPEN.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert rendered == f"Be brief.\ncat{ANSWER}"
    more = [*turns, {"role": "assistant", "content": "tac"}, {"role": "user", "content": "dog"}]
    assert OPEN.apply_chat_template(more, tokenize=False) == f"Be brief.\ncat{ANSWER}tac{END}dog"


def test_a_saved_tokenizer_reads_the_same(tmp_path: object) -> None:
    OPEN.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in (*WORDS, "a<go>bé\n  c"):
        assert loaded(text).input_ids == OPEN(text).input_ids
    assert loaded.chat_template == OPEN.chat_template
    assert (loaded.eos_token_id, loaded.pad_token_id) == (1, 0)
