"""A class for TRL's `environment_factory`."""

from __future__ import annotations

from typing import Any, Literal


class Vault:
    def reset(self, code: str, **row: Any) -> str | None:
        self.code, self.reward = code, 0.0
        return " It has a keypad."

    def hint(self, place: int, form: Literal["digit", "parity"] = "digit", notes: list[str] | None = None) -> str:
        """Tell a digit of the code.

        Args:
            place: Which digit, from 0
                to 2.
            form: What to tell of it.
            notes: What is known.

        Returns:
            The digit.
        """
        return self.code[place] if form == "digit" else str(int(self.code[place]) % 2)

    def enter(self, code: str) -> dict[str, bool]:
        """Enter a code.

        Args:
            code: Three digits.
        """
        if len(code) != 3:
            raise ValueError("three digits, please")
        self.reward = float(code == self.code)
        return {"open": code == self.code}

    def get_reward(self) -> float:
        return self.reward


HEARD: list[tuple[list[dict[str, Any]], float]] = []


def opened(completions: list[list[dict[str, Any]]], environments: list[Vault], **columns: Any) -> list[float]:
    """Keep what a reward function gets, and what it says."""
    rewards = [one.reward for one in environments]
    HEARD.extend(zip(completions, rewards, strict=True))
    return rewards
