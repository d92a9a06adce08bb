"""What the answers to a task say: how they spread, and what a draw or a majority of them is worth.

All of it follows from counts, which the ledger keeps: of each answer how often it was given, and how often that was
right. An answer of None stands for none: the sample was cut off, or nothing could be read from it. Definitions and
worked numbers: plasticity reference, 1.4 (entropy; arXiv 2507.14843), 2.1 (pass@k; arXiv 2107.03374) and 2.2 (maj@k).
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from store.records import AnswerCount

KEPT_WHOLE = 40  # characters; of a longer answer its beginning and a hash are kept, so that a ledger stays small
_BEGINNING, _HASH = 24, 12  # characters of each


def normalised(answer: str | None) -> str | None:
    """Make answers that differ in white space alone one, and long ones short; nothing at all is no answer.

    A long answer becomes its first 24 characters, `...` and 12 hex digits of its sha256.
    """
    text = " ".join(answer.split()) if answer is not None else ""
    if len(text) > KEPT_WHOLE:
        text = f"{text[:_BEGINNING]}...{hashlib.sha256(text.encode()).hexdigest()[:_HASH]}"
    return text or None


def counted(answers: Iterable[tuple[str | None, bool]]) -> tuple[AnswerCount, ...]:
    """Count (answer, is it correct): the most frequent first, then by text."""
    num, right = Counter[str | None](), Counter[str | None]()
    for text, is_correct in answers:
        num[text] += 1
        right[text] += is_correct
    order = sorted(num, key=lambda text: (-num[text], text is None, text or ""))
    return tuple(AnswerCount(text, num[text], right[text]) for text in order)


def entropy(counts: Sequence[int]) -> float:
    """Plug-in entropy of the shares, nats, in [0, ln N]: biased low."""
    total = sum(counts)
    # rounding must not make that of unanimous answers negative, as it would of 6
    return max(0.0, math.log(total) - sum(n * math.log(n) for n in counts if n) / total)


def corrected_entropy(counts: Sequence[int]) -> float:
    """The same with Miller's and Madow's correction, (number of different answers - 1) / 2N."""
    return entropy(counts) + (sum(n > 0 for n in counts) - 1) / (2 * sum(counts))


def disagreement(counts: Sequence[int]) -> float | None:
    """Chance that two samples give different answers, without bias; None: there is one sample."""
    total = sum(counts)
    return 1 - sum(n * (n - 1) for n in counts) / (total * (total - 1)) if total > 1 else None


def pass_at_k(n: int, c: int, k: int) -> float:
    """Probability that at least one of k samples is correct, unbiased from c correct of n (arXiv 2107.03374)."""
    if n - c < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))


def maj_at_k(answers: Sequence[AnswerCount], k: int) -> float | None:
    """Chance that the most frequent answer of k samples is correct, over all draws without replacement; exact.

    Ties are broken evenly. No answer counts only where all k have none, and is wrong then. None: there are fewer than
    k samples. An answer that was right in some samples and wrong in others earns the share in which it was right.
    """
    if sum(one.num for one in answers) < k:
        return None
    nothing = sum(one.num for one in answers if one.text is None)
    named = [one for one in answers if one.text is not None]
    value = 0.0
    for place, one in enumerate(named):
        if one.num_correct:
            others = tuple(sorted(other.num for at, other in enumerate(named) if at != place))
            value += one.num_correct / one.num * _chance_to_lead(one.num, others, nothing, k)
    return value


@lru_cache(4096)
def _chance_to_lead(own: int, others: tuple[int, ...], nothing: int, k: int) -> float:
    """Chance that an answer given `own` times is the most frequent of k draws; shared leads count in shares."""
    draws = 0.0
    for top in range(1, min(own, k) + 1):
        ways = {(0, 0): 1}  # of drawing others, none more than `top` times: by how many in all, and how many tie
        for count, of in Counter(others).items():
            for _ in range(1 if count == 1 else of):
                # answers given once are drawn together: so many different ones
                most = min(of if count == 1 else min(count, top), k - top)
                several = of if count == 1 else count
                found: Counter[tuple[int, int]] = Counter()
                for (drawn, tied), num in ways.items():
                    for more in range(min(most, k - top - drawn) + 1):
                        ties = (more if top == 1 else 0) if count == 1 else int(more == top)
                        found[drawn + more, tied + ties] += num * math.comb(several, more)
                ways = dict(found)
        led = sum(num * math.comb(nothing, k - top - drawn) / (tied + 1) for (drawn, tied), num in ways.items())
        draws += math.comb(own, top) * led
    return draws / math.comb(own + sum(others) + nothing, k)
