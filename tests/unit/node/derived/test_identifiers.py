"""Numbers that people sort by: each stack keeps its own, whatever else the study has."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from node.derived.identifiers import PRESENTATION_STATE, REPORT, series_number
from node.identity import MODEL_NAME
from node.payloads import PairRequest, StackRequest

OFFSET = 9000


def pair(series: str, *sop_uids: str, frames: tuple[int, ...] | None = None) -> PairRequest:
    target = StackRequest(series_uid=series, contrast="T2", sop_uids=sop_uids, frames=frames)
    return PairRequest(
        study_uid="1", target=target, reference=StackRequest(series_uid="1.9", contrast="T1", sop_uids=("1.9.1",))
    )


def header(series: str, number: object) -> Dataset:
    ds = Dataset()
    ds.SeriesInstanceUID = series
    ds.add_new("SeriesNumber", "IS", number)
    return ds


def test_the_number_of_the_target_and_the_offset() -> None:
    one = pair("1.5", "a")
    assert series_number(one, [one], [header("1.5", 5)], OFFSET) == 9005
    assert series_number(one, [], [header("1.5", None)], OFFSET) == 9001


def test_a_number_the_study_uses_is_stepped_over_but_not_our_own() -> None:
    one = pair("1.5", "a")
    foreign = [header("1.5", 5), header("1.6", 9005), header("1.7", 10005 + REPORT)]
    assert series_number(one, [one], foreign, OFFSET) == 11005
    ours = [header("1.5", 5), header("2.25.1", 9005)]
    ours[1].ManufacturerModelName = MODEL_NAME
    assert series_number(one, [one], ours, OFFSET) == 9005


def test_two_echoes_of_one_series_and_two_series_of_one_number() -> None:
    pd, t2, other = pair("1.5", "a", "b"), pair("1.5", "c", "d"), pair("1.6", "e")
    headers = [header("1.5", 5), header("1.6", 5)]
    made = [pd, t2, other]
    assert [series_number(o, made, headers, OFFSET) for o in made] == [9005, 10005, 11005]


def test_frames_of_one_instance_are_told_apart() -> None:
    one, two = pair("1.5", "a", "a", frames=(1, 2)), pair("1.5", "a", "a", frames=(3, 4))
    numbers = {series_number(o, [one, two], [header("1.5", 5)], OFFSET) for o in (one, two)}
    assert len(numbers) == 2


def test_late_slices_and_a_rerun_keep_the_number() -> None:
    partial, whole = pair("1.5", "a"), pair("1.5", "a", "b")
    made = [partial, pair("1.6", "e"), whole, whole]
    headers = [header("1.5", 5), header("1.6", 5)]
    assert series_number(whole, made, headers, OFFSET) == series_number(partial, made[:1], headers, OFFSET) == 9005


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 12_000)), min_size=1, max_size=12), st.randoms())
def test_no_two_results_of_a_study_share_a_number(stacks: list[tuple[int, int]], shuffled: random.Random) -> None:
    """Images, reports and presentation states alike; and what comes later changes no number given before."""
    numbers = dict(stacks)
    requests = [pair(f"1.{series}", f"{series}.{n}") for n, (series, _) in enumerate(stacks)]
    headers = [header(f"1.{series}", number) for series, number in numbers.items()]
    backwards = list(headers)
    shuffled.shuffle(backwards)
    given_ = [series_number(o, requests, headers, OFFSET) for o in requests]
    all_ = [n + shift for n in given_ for shift in (0, REPORT, PRESENTATION_STATE)]
    assert len(set(all_)) == len(all_)
    assert not set(all_) & set(numbers.values())
    for n, o in enumerate(requests):
        assert series_number(o, requests[: n + 1], backwards, OFFSET) == given_[n]


@pytest.mark.parametrize("number", ["-3", "0"])
def test_a_series_number_that_is_none_counts_as_1(number: str) -> None:
    one = pair("1.5", "a")
    assert series_number(one, [one], [header("1.5", number)], OFFSET) == 9001
