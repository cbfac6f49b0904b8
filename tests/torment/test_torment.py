"""A few requests of each kind; `python -m tests.torment` makes as many as one likes."""

from tests.commands import Service
from tests.torment import ask, begin


def test_whatever_the_description_allows_has_a_good_answer(service: Service) -> None:
    begin(service)
    seen = ask(service, 8, is_random=False)
    assert seen.total() > 100
    assert seen[200] > 20
    assert seen[422] > 20
