"""Why another library could not load a model, in one line for a message of ours."""

from __future__ import annotations

from ..errors import first_line

_ADVICE = "weights_only"
"""torch's message on a pickle that holds more than tensors advises to read it in a way that runs its code."""
_ELSEWHERE = ("stacktrace above", "stack trace above")


def reason(error: BaseException | None) -> str:
    """The first useful line of an error; if the error only refers to another one, that one's line."""
    while error is not None and any(text in str(error) for text in _ELSEWHERE):
        error = error.__cause__ or error.__context__
    chain, one = [str(error)], error
    while one is not None and (one := one.__cause__ or one.__context__):
        chain.append(str(one))
    if any(_ADVICE in text for text in chain):
        return "a file holds more than tensors, which is not read, since that can run code"
    return first_line(error)
