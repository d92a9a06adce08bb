"""Long values beside a JSON file come back as they were, to the bit."""

from __future__ import annotations

import json
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import checkpoints
from store.checkpoints import json_component
from store.errors import CheckpointError
from store.long_values import INDEX, LEAST, LongValues, put_back

NUMBERS = st.one_of(st.integers(), st.floats(), st.none(), st.booleans())
LEAVES = st.one_of(
    NUMBERS,
    st.text(),
    st.lists(st.floats(), max_size=8),
    st.lists(st.integers(-(2**63), 2**64), max_size=8),
    st.lists(st.text(), max_size=8),
    st.lists(NUMBERS, max_size=8),
    st.dictionaries(st.text(), st.floats(), max_size=8),
    st.dictionaries(st.text(), st.integers(), max_size=8),
    st.dictionaries(st.integers(), st.floats(), max_size=8),
)
DATA = st.recursive(LEAVES, lambda one: st.lists(one, max_size=4) | st.dictionaries(st.text(), one, max_size=4))


def exact(data: Any) -> Any:
    """Data to compare by type and bits: 1 is not 1.0, -0.0 not 0.0, NaN is NaN."""
    if isinstance(data, float):
        return "float", "nan" if data != data else struct.pack("<d", data)
    if isinstance(data, dict):
        return {key: exact(one) for key, one in data.items()}
    return [exact(one) for one in data] if isinstance(data, list) else (type(data), data)


def through(data: Any, folder: Path, long: int) -> Any:
    """Write and read data."""
    taken = LongValues()
    text = json.dumps(taken.take(data, long), sort_keys=True)
    taken.write(folder)
    return put_back(json.loads(text), folder)


@given(DATA, st.integers(0, 4))
def test_whatever_is_long_comes_back_as_json_alone_would_give_it(data: Any, long: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert exact(through(data, Path(folder), long)) == exact(json.loads(json.dumps(data, sort_keys=True)))


def test_a_short_state_is_one_file_with_the_bytes_it_always_had(tmp_path: Path) -> None:
    data = {"values": [0.1] * LEAST, "names": {"b": 1, "a": (2, None)}}
    component = json_component("choice", 1, data)
    assert component.version == 1
    component.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [checkpoints.STATE]
    assert (tmp_path / checkpoints.STATE).read_text() == json.dumps(data, sort_keys=True, indent=1)


def test_a_long_state_is_verified_and_read_from_a_checkpoint(tmp_path: Path) -> None:
    arms = [f"arm{k}" for k in range(LEAST + 1)]
    data = {"arms": sorted(arms), "mean": {arm: k / 7 for k, arm in enumerate(arms)}, "clock": 3}
    component = json_component("choice", 1, data)
    expected = json.loads(json.dumps(data))
    data["mean"].clear()  # type: ignore[attr-defined]
    saved = checkpoints.save(tmp_path, "step-1", [component])
    folder = tmp_path / saved.folder
    checkpoints.verify(folder, saved.sha256)
    assert checkpoints.open_checkpoint(folder, {"choice": 1}).read_json("choice") == expected
    held = {path.name for path in (folder / "choice").glob("long-*")}
    assert held == {"long-str.json", "long-float.npy"}
    assert len(json.loads((folder / "choice" / "long-str.json").read_text())) == len(arms), "the names stand once"
    (folder / "choice" / INDEX).write_text("[]")
    with pytest.raises(CheckpointError, match=r"long\.json has changed"):
        checkpoints.verify(folder, saved.sha256)


def test_many_lists_that_are_long_together_are_arrays_too(tmp_path: Path) -> None:
    data = {f"bandit{k}": {"mean": dict.fromkeys(map(str, range(2000)), k / 3)} for k in range(LEAST // 2000)}
    saved = checkpoints.save(tmp_path, "step-1", [json_component("choice", 1, data)])
    folder = tmp_path / saved.folder
    assert (folder / "choice" / INDEX).is_file()
    assert checkpoints.open_checkpoint(folder, {"choice": 1}).read_json("choice") == data


def test_with_arrays_a_component_has_a_version_that_others_refuse_in_words(tmp_path: Path) -> None:
    saved = checkpoints.save(tmp_path, "step-1", [json_component("choice", 1, [0.5] * (LEAST + 1))])
    folder = tmp_path / saved.folder
    checkpoints.open_checkpoint(folder, {"choice": 1})
    for other in (2, 101 + checkpoints.ARRAYS):
        with pytest.raises(CheckpointError, match=f"choice has version 101, expected {other}.*Resume with the version"):
            checkpoints.open_checkpoint(folder, {"choice": other})


def test_arrays_come_back_as_arrays_of_their_shape_and_short_ones_as_lists_of_json(tmp_path: Path) -> None:
    few = {"x": np.array([[1.5, np.pi], [-0.0, 1e300]]), "n": np.array([1, 2**62])}
    data = few | {"long": np.arange(LEAST + 1), "none": np.empty((0, 3)), "beside": [np.zeros(2), "text"]}
    data["read_only"] = np.arange(6.0).reshape(2, 3)
    data["read_only"].setflags(write=False)
    component = json_component("choice", 1, data)
    expected = np.array(few["x"])
    few["x"][:] = 7.0  # in place, before it is written
    saved = checkpoints.save(tmp_path, "step-1", [component, json_component("few", 1, {"n": few["n"]})])
    opened = checkpoints.open_checkpoint(tmp_path / saved.folder, {"choice": 1, "few": 1})
    read = opened.read_json("choice")
    assert read["x"].tobytes() == expected.tobytes()
    assert read["x"].shape == (2, 2)
    assert read["read_only"].tolist() == data["read_only"].tolist()
    assert read["n"].dtype == read["long"].dtype == np.int64
    assert read["none"].shape == (0, 3)
    assert (read["long"][-1], read["beside"][0].tolist(), read["beside"][1]) == (LEAST, [0.0, 0.0], "text")
    assert opened.read_json("few") == {"n": [1, 2**62]}


def test_an_array_that_would_not_come_back_exactly_is_refused() -> None:
    with pytest.raises(TypeError, match=r"float32 at .*'bandits', 0"):
        json_component("choice", 1, {"bandits": [np.zeros(3, np.float32)]})
    with pytest.raises(TypeError, match="set"):
        json_component("choice", 1, {"bandits": {1}})
