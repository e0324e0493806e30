"""Whether a result says that something failed, and which class of failure it is."""

import re

from hitl_graph.stuck.words import clip, template

__all__ = ["failure_of", "is_nothing", "says_no"]

_NOTHING = frozenset({"", "false", "no", "none", "null", "nil", "nan", "0", "[]", "{}", "()", "''", '""', "undefined"})
_TAG = re.compile(r"</?\w[^<>]{0,40}>")
_CODE = re.compile(r"\b(?:return|exit)(?:ed)?[\s_-]*(?:with[\s_-]+)?(?:code|status)\W{0,12}(?:was\W+)?(-?\d+)\b", re.I)
_QUOTED_ERROR = re.compile(  # {"error": "..."}, {'errors': [...]}
    r"""["'](?:errors?|error_message)["']\s*:\s*(?:"((?:[^"\\]|\\.){2,300})"|'([^']{2,300})'|[{\[]\s*["'{])""", re.I
)
# How a failure begins, in whatever text.
_STRONG = re.compile(
    r"\A\W*(?:could not|couldn't|cannot|can't|unable to|no (?:such|results?|match)|not found|invalid|unknown|sorry)\b"
    r"|^\W{0,4}(?:errors?|fatal|failed|failure|exception|panic|err!)\b"
    r"|^(?:E +)?(?:[\w.]+\.)?\w*(?:Error|Exception)\b(?::|$)|^traceback \(most recent"
    r"|[\"'](?:success|ok)[\"']\s*:\s*false"
    r"|^\S{1,60}: (?:line \d+: )?.{0,80}(?:not found|no such|denied|invalid|cannot|unrecognized)",
    re.I | re.M,
)
# How a short answer says that it did not work.
_WEAK = re.compile(
    r"\b(?:errors?|exception|fail(?:ed|ure|ing|s)|unexpected|unable|unknown|unavailable|unauthori[sz]ed|unrecogni[sz]ed"
    r"|could not|couldn't|cannot|can't|does not|doesn't|(?:do|did) ?n[o']t (?:exist|match|pass|work)"
    r"|not (?:pass|found|correct|registered|available|supported|allowed|permitted|recogni[sz]ed|valid|implemented)"
    r"|no (?:such|results?|match(?:es)?|records?|entries|data)|missing|invalid|incorrect|wrong|denied|forbidden"
    r"|nothing (?:found|happen(?:s|ed))|refused|rejected|timed out|timeout(?!\s*[=:])|try again)\b",
    re.I,
)
_NONE_FAILED = re.compile(
    r"\b(?:no|0|zero|without) (?:errors?|fail\w+)\b|\b(?:errors?|fail\w+)\W{1,3}0\b", re.I
)  # all went well
_RAISED = re.compile(r"[A-Za-z_][\w.]*(?::|$)")
_SHORT = 300
_EDGE = 1000


def is_nothing(result: str) -> bool:
    """Whether a result is empty or says no more than `False`, `None`, `[]`, `0`."""
    return len(result) < 200 and _bare(result) in _NOTHING


def says_no(result: str) -> bool:
    """Whether a result is an explicit no, such as `False`, `None`, `[]`. Silence is none, nor is an exit code."""
    return len(result) < 200 and _bare(result) in _NOTHING - {"", "0"}


def _bare(result: str) -> str:
    return _TAG.sub(" ", result).strip(" \t\r\n.\"'`").lower()


def failure_of(result: str, said: frozenset[str], error: bool = False) -> frozenset[str] | None:
    """The words that name the failure, without what is particular to this call; None if nothing failed.

    `said` are the words of the call: an error that repeats them is still of the same class.
    """
    text = clip(result, 2 * _EDGE)
    codes = {int(code) for code in _CODE.findall(result[:300] + "\n" + result[-300:])}
    failed = error or bool(codes - {0})
    if not failed and not codes:
        text = _NONE_FAILED.sub(" ", text)
        failed = bool(
            (len(result) <= _SHORT and _WEAK.search(text)) or _STRONG.search(text) or _QUOTED_ERROR.search(text)
        )
    if not failed:
        return None
    return template(_telling(text), said) or frozenset({"failed"})


def _telling(text: str) -> str:
    """The line that says what is wrong: of a traceback the last one, else the first that sounds like it."""
    if quoted := _QUOTED_ERROR.search(text):
        return (quoted[1] or quoted[2] or quoted[0]).replace("'", " ").replace('\\"', " ")
    lines = [line.strip() for line in _TAG.sub("\n", text).splitlines() if line.strip()]
    if "traceback (most recent" in text.lower():
        for line in reversed(lines):
            if _RAISED.match(line):
                return line
    for line in lines:
        if _STRONG.search(line) or _WEAK.search(line):
            return line
    return lines[-1] if lines else ""
