"""The tokenizer of `tiny`, made on the spot from the texts of a spec's environments. Torch is not imported here.

Beside the special tokens: given symbols,
words (a chunk between white space, with its leading space) that at least half of one environment's prompts share, and
single bytes for everything else. So the fixed text of a prompt costs few tokens, what differs between tasks is spelled
by character, and an `open` vocabulary can read environments added later. There are no merges: a text has one reading.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from policies.errors import VocabularyError
from policies.tool_prompts import told

CONTEXT = 4096  # tokens of a row of `tiny`; positions are rotary, so this costs nothing
PAD, END, ANSWER = SPECIAL = ("<|pad|>", "<|end|>", "<|answer|>")

TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}" + ANSWER + "{{ message['content'] }}" + END + "{% else %}"
    "{% if loop.previtem is defined and loop.previtem['role'] != 'assistant' %}{{ '\\n' }}{% endif %}"
    "{{ message['content'] }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}" + ANSWER + "{% endif %}"
)


@dataclass(frozen=True)
class VocabularySample:
    """What the spec's environments look like, for making a vocabulary."""

    prompts_by_environment: Mapping[str, Sequence[str]]  # some prompts of each, as `prompt_text` renders them
    answers: Sequence[str] = ()  # some answers; only a closed vocabulary reads them
    symbols: Sequence[str] = ()  # strings that get one token each, also glued to other text

    @property
    def texts(self) -> list[str]:
        """All prompts and answers."""
        return [*(p for prompts in self.prompts_by_environment.values() for p in prompts), *self.answers]


def prompt_text(messages: Sequence[Mapping[str, str]]) -> str:
    """Render a first prompt as the chat template of `tiny` does, without its special tokens."""
    return "\n".join(message["content"] for message in told(messages))


def build_tokenizer(sample: VocabularySample, closed: bool = False) -> Any:
    """Make the tokenizer; the same sample gives the same token ids."""
    symbols = list(dict.fromkeys(sample.symbols))
    spelled = [_spell(symbol) for symbol in symbols]
    splitter = _splitter(symbols)
    words: set[str] = set()
    for prompts in sample.prompts_by_environment.values():
        counts = Counter(piece for prompt in prompts for piece in set(_pieces(splitter, prompt)))
        words.update(word for word, count in counts.items() if 2 * count >= len(prompts) and len(word) > 1)
    characters = _BYTES
    if closed:
        pieces = [piece for text in sample.texts for piece in _pieces(splitter, text) if piece not in spelled]
        seen = {character for piece in pieces for character in piece}
        characters = [character for character in _BYTES if character in seen]
    tokens = [*SPECIAL, *characters, *spelled, *sorted(words)]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    backend.pre_tokenizer = splitter
    backend.decoder = decoders.ByteLevel()
    return _wrap(backend)


def read_tokenizer(folder: Path) -> Any:
    """Read the tokenizer that `build_tokenizer` made and `save_pretrained` wrote: saved again, it is the same bytes."""
    return _wrap(Tokenizer.from_file(str(folder / "tokenizer.json")))


def require_known(tokenizer: Any, text: str) -> None:
    """Raise VocabularyError if a closed vocabulary cannot spell a text."""
    backend = tokenizer.backend_tokenizer
    for piece, (start, end) in backend.pre_tokenizer.pre_tokenize_str(text):
        if backend.token_to_id(piece) is None and any(backend.token_to_id(c) is None for c in piece):
            chunk = text[start:end]
            unknown = next(c for c in chunk if any(backend.token_to_id(b) is None for b in _spell(c)))
            raise VocabularyError(
                f"the closed vocabulary has no token for {unknown!r} (in {chunk!r}): it knows only what it saw in "
                "sampled prompts and answers. Say `vocabulary: open` in the policy section"
            )


# One printable character for each byte, in byte order: the byte-level alphabet of GPT-2.
_PRINTABLE = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
_OTHERS = iter(range(256, 512))
_BYTES = [chr(byte) if byte in _PRINTABLE else chr(next(_OTHERS)) for byte in range(256)]


def _spell(text: str) -> str:
    """Spell a text in the byte-level alphabet."""
    return "".join(_BYTES[byte] for byte in text.encode())


def _splitter(symbols: Sequence[str]) -> Any:
    """Cut a text into symbols, words with their leading space, and single white space."""
    # quoted for the tokenizer's regular expressions; `re.escape` is for another dialect
    either = "|".join(
        "".join(c if c.isalnum() or ord(c) > 127 else f"\\x{ord(c):02x}" for c in symbol)
        for symbol in sorted(symbols, key=len, reverse=True)
    )
    pattern = rf"{either}|\s?(?:(?!{either})\S)+|\s" if symbols else r"\s?\S+|\s"
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _pieces(splitter: Any, text: str) -> list[str]:
    return [piece for piece, _ in splitter.pre_tokenize_str(text)]


def _wrap(backend: Tokenizer) -> Any:
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[ANSWER],
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
