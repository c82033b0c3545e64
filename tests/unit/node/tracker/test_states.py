from node.tracker.states import CLAIMABLE, CLAIMED_AS, FINISHED, LEASED, TRANSITIONS, State, allowed


def test_every_state_has_its_transitions() -> None:
    assert set(TRANSITIONS) == set(State)


def test_a_state_is_claimable_leased_held_or_finished() -> None:
    groups = [CLAIMABLE, LEASED, FINISHED, frozenset({State.HELD})]
    assert sorted(s for group in groups for s in group) == sorted(State)


def test_whatever_is_claimable_can_be_claimed_and_whatever_is_leased_can_be_rescued() -> None:
    for state in CLAIMABLE:
        assert any(allowed(state, claimed) for claimed in CLAIMED_AS.values()), state
    for state in LEASED:
        assert allowed(state, State.READY)
        assert allowed(state, State.CANCELLED), "a superseded job must be stoppable while it runs"


def test_no_state_is_a_dead_end_for_an_administrator() -> None:
    """From every finished state but `done` a job can be retried."""
    for state in FINISHED - {State.DONE}:
        assert allowed(state, State.READY)
    assert TRANSITIONS[State.DONE] == {State.RECEIVING, State.READY}, (
        "a done match reopens; what was made is made or sent again"
    )
