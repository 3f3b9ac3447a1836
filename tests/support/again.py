"""Another try for tests of how fast something goes on: a machine that stands still for a moment is no fault of it."""

import functools

TRIES = 3


def again_where_it_fails(test):
    """The test; what fails in it must fail in each of TRIES tries."""

    @functools.wraps(test)
    def tried(*arguments, **named):
        for _ in range(TRIES - 1):
            try:
                return test(*arguments, **named)
            except AssertionError:
                continue
        return test(*arguments, **named)

    return tried
