"""URLs of workers over HTTP: plain ones only, and only those that an operator has named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.definitions.urls import MAX_URL, AllowedUrls, problem_of_url

GOOD = [
    "https://workers.example.com",
    "https://workers.example.com/",
    "https://Workers.example.com:8443/a/b-c_d/~e",
    "http://127.0.0.1:9000/tasks",
    "http://[::1]:9000/tasks",
]


@pytest.mark.parametrize("url", GOOD)
def test_a_plain_url_is_one(url: str) -> None:
    assert problem_of_url(url) is None


@pytest.mark.parametrize(
    "url",
    [
        7,
        "",
        "workers.example.com",
        "ftp://workers.example.com/",
        "file:///etc/passwd",
        "https://",
        "https:///path",
        "https://user@workers.example.com/",
        "https://user:secret@workers.example.com/",
        "https://workers.example.com\\@evil.example.com/",
        "https://workers.example.com/a?b=c",
        "https://workers.example.com/a#b",
        "https://workers.example.com/a%2e%2e/b",
        "https://workers.example.com/a/../b",
        "https://workers.example.com/a/./b",
        "https://workers.example.com:0/",
        "https://workers.example.com:99999/",
        "https://workers.example.com:port/",
        "https://[::1/",
        "https://workers.example.com/å",
        "https://workers.example.com/ b",
        "https://workers.example.com/\n",
        "https://workers.example.com/" + "a" * MAX_URL,
    ],
)
def test_what_two_parsers_might_read_in_two_ways_is_none(url: object) -> None:
    problem = problem_of_url(url)
    assert problem is not None
    assert all(problem)


def test_nothing_is_allowed_by_default() -> None:
    problem = AllowedUrls().problem(GOOD[0])
    assert problem is not None
    assert "nothing is allowed" in problem[0]
    assert "SPRINGLINE_HTTP_WORKERS" in problem[1]


@pytest.mark.parametrize(
    ("allowed", "url", "is_allowed"),
    [
        ("https://a.example.com", "https://a.example.com/any/path", True),
        ("https://a.example.com", "https://A.EXAMPLE.com/any", True),
        ("https://a.example.com", "https://a.example.com:443/any", True),
        ("https://a.example.com", "https://a.example.com:444/any", False),
        ("https://a.example.com", "http://a.example.com/any", False),
        ("https://a.example.com", "https://b.example.com/any", False),
        ("https://a.example.com", "https://a.example.com.evil.com/any", False),
        ("https://a.example.com/x", "https://a.example.com/x", True),
        ("https://a.example.com/x", "https://a.example.com/x/y", True),
        ("https://a.example.com/x/", "https://a.example.com/x", True),
        ("https://a.example.com/x", "https://a.example.com/xy", False),
        ("https://a.example.com/x", "https://a.example.com/", False),
        ("http://127.0.0.1:*", "http://127.0.0.1:9000/x", True),
        ("http://127.0.0.1:*", "http://127.0.0.1/x", True),
        ("http://127.0.0.1:*/x", "http://127.0.0.1:9000/x/y", True),
        ("http://127.0.0.1:*/x", "http://127.0.0.1:9000/y", False),
        ("http://10.0.0.5:9000, https://a.example.com", "http://10.0.0.5:9000/x", True),
        ("http://127.0.0.1:*", "http://127.0.0.1:9000/x?y", False),
    ],
)
def test_a_beginning_allows_what_lies_below_it(allowed: str, url: str, is_allowed: bool) -> None:
    assert (AllowedUrls.parsed(allowed).problem(url) is None) is is_allowed


@pytest.mark.parametrize(
    "text", ["workers.example.com", "https://*.example.com", "https://a.example.com/?x", "ftp://a"]
)
def test_a_list_that_holds_something_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="names"):
        AllowedUrls.parsed(f"https://good.example.com,{text}")


_URLS = st.builds(
    "{}://{}{}/{}".format,
    st.sampled_from(["http", "https"]),
    st.sampled_from(["a.example.com", "b.example.com", "127.0.0.1"]),
    st.sampled_from(["", ":80", ":443", ":9000"]),
    st.lists(st.sampled_from(["x", "y", "xy"]), max_size=3).map("/".join),
)


@given(_URLS, _URLS)
def test_a_url_allows_itself_and_more_is_never_allowed_by_less(allowed: str, url: str) -> None:
    beginnings = AllowedUrls([allowed])
    assert beginnings.problem(allowed) is None
    if beginnings.problem(url) is None:
        assert AllowedUrls([allowed, "https://c.example.com"]).problem(url) is None
        assert url.split("://", maxsplit=1)[0] == allowed.split("://", maxsplit=1)[0]
