"""What a spec says beside an environment's type: by what its tasks are split into categories."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from environments.options import Options

KEY = "slices"  # beside an environment's type and options

Method = Literal["file", "pass_rate", "length", "column", "clusters", "tree"]


class SliceOptions(Options):
    """An environment split into categories afterwards (docs/slices.md). A text alone is a file that says them."""

    by: Method = "file"
    """`file`: as `evergreen profile` wrote it; `pass_rate`: by the pass rates in such a file; `length`: of the prompt,
    in characters; `column`: a number of every row; `clusters`: of the prompts' TF-IDF; `tree`: the same, split in two
    again and again."""
    file: str | None = None
    """The file of `file` and `pass_rate`, relative to the spec's folder."""
    column: str | None = None
    """The number of `column`: a column of rows, or any other expression of them."""
    count: int = Field(default=4, ge=2, le=256)
    """Most slices; fewer where tasks are too few or too alike. Of `file`: as many as it says."""
    terms: int = Field(default=2, ge=0, le=5)
    """Words in the name of a slice of `clusters` and `tree`: the heaviest."""
    tasks: int = Field(default=10_000, ge=2, le=1_000_000)
    """Most tasks that are read, of all categories together; others are in no slice, and are not played."""

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        needs_file = self.by in ("file", "pass_rate")
        if needs_file != (self.file is not None):
            raise ValueError(
                f"`by: {self.by}` needs `file`: one that `evergreen profile` wrote"
                if needs_file
                else f"`by: {self.by}` reads no file: leave `file` out, or say `by: file` or `by: pass_rate`"
            )
        if (self.by == "column") != (self.column is not None):
            raise ValueError(
                "`by: column` needs `column`: the name of a number of every row"
                if self.column is None
                else f"`column` is of `by: column`, and this is `by: {self.by}`"
            )
        return self


class SlicedEnvironment(Options):
    """What stands beside the options of any environment."""

    slices: SliceOptions | str | None = None
    """By what its tasks are split into categories afterwards; a text names a file (docs/slices.md)."""


def read_options(raw: Any) -> SliceOptions:
    """Read what a spec says; a text alone names a file. Raises pydantic.ValidationError."""
    return SliceOptions.model_validate({"file": raw} if isinstance(raw, str) else raw)
