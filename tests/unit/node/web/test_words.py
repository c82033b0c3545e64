"""Words of the pages and lists."""

from node.web.words import detail


def test_a_detail_of_the_audit_trail_is_words() -> None:
    assert (detail(True), detail(False), detail(3), detail(None)) == ("yes", "no", "3", "None")
    assert detail(["receive", "match"]) == "receive, match"
    assert detail("a\x1bb") == "a\N{REPLACEMENT CHARACTER}b"
