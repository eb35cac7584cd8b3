"""The codec of trial.json: what it writes it reads, and damage of any kind reads as nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.install.trial import STATE_LIMIT, ProgramId, Start, Trial, TrialState, decode_state, encode_state
from pypatcher.version import Version

numbers = st.integers(0, 9999)
hashes = st.binary(min_size=64, max_size=64)
texts = st.text(max_size=40)
versions = st.builds(Version, numbers, numbers, numbers)
programs = st.builds(ProgramId, hashes, versions)
starts = st.builds(Start, texts, texts, numbers, numbers, st.sampled_from(["guard", "run", "spawn"]), st.booleans())
trials = st.builds(Trial, programs, numbers, numbers, st.none() | starts)
states = st.builds(
    TrialState, programs, versions, st.lists(hashes, max_size=5, unique=True).map(tuple), st.none() | trials
)
STATE = TrialState(
    ProgramId(bytes(64), Version(1, 0, 0)), Version(1, 0, 0), trial=Trial(ProgramId(bytes(64), Version(2, 0, 0)))
)


@given(states)
def test_what_is_written_is_read(state: TrialState) -> None:
    assert decode_state(encode_state(state)) == state


@given(states, st.data())
def test_a_truncated_file_reads_as_nothing(state: TrialState, data: st.DataObject) -> None:
    encoded = encode_state(state)
    length = data.draw(st.integers(0, len(encoded) - 3))
    assert decode_state(encoded[:length]) is None


@given(st.binary(max_size=300))
def test_noise_reads_as_nothing(noise: bytes) -> None:
    assert decode_state(noise) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    )
)
def test_any_other_json_reads_as_nothing(value: object) -> None:
    assert decode_state(json.dumps(value).encode()) is None


@pytest.mark.parametrize("field", ["confirmed", "newest", "refused", "trial", "format"])
@pytest.mark.parametrize("value", [None, 7, "x", [1], {"a": 1}, [[]], False])
def test_a_field_of_another_kind_reads_as_nothing(field: str, value: object) -> None:
    document = json.loads(encode_state(STATE))
    document[field] = value
    decoded = decode_state(json.dumps(document).encode())
    assert decoded is None or (field == "trial" and value is None)


@pytest.mark.parametrize("value", [-1, 1.0, True, "1", None, 1 << 80])
def test_counts_are_whole_numbers_that_are_not_negative(value: object) -> None:
    document = json.loads(encode_state(STATE))
    document["trial"]["failed"] = value
    assert decode_state(json.dumps(document).encode()) is None


def test_a_file_without_notes_is_read() -> None:
    document = json.loads(encode_state(STATE))
    del document["notes"]
    assert decode_state(json.dumps(document).encode()) == STATE


def test_a_huge_or_deep_file_reads_as_nothing() -> None:
    assert decode_state(encode_state(STATE) + b" " * STATE_LIMIT) is None
    assert decode_state(b"[" * STATE_LIMIT) is None


def test_the_latest_refusals_are_kept_when_there_are_too_many() -> None:
    state = STATE
    for number in range(400):
        state = state.refusing(number.to_bytes(64, "big"), "it failed")
    decoded = decode_state(encode_state(state))
    assert decoded is not None
    assert len(decoded.refused) == 256
    assert (399).to_bytes(64, "big") in decoded.refused
    assert len(encode_state(state)) < STATE_LIMIT


def test_what_is_accepted_is_refused_no_more() -> None:
    state = STATE.refusing(b"a" * 64, "failed").refusing(b"b" * 64, "failed").accepting(b"a" * 64)
    assert state.refused == (b"b" * 64,)
    assert dict(state.notes) == {b"b" * 64: "failed"}
