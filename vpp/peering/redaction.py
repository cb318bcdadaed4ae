"""Taking secrets out of messages before they are kept. Called by `message_log`, in a thread of its own.

Goal: neither the log nor who searches it ever sees a credential, in JSON, XML, forms, headers or addresses, also
where a body was cut in the middle of one. Method: text patterns, not parsers: they work on broken bodies, too, and
each looks at bounded stretches, so that no body takes long.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

MASK = "***"
_TELLING = (
    r"(?:client[_-]?secret|secret|password|passwd|passphrase|api[_-]?key|private[_-]?key|credentials?|assertion"
    r"|authorization|cookie|signature(?:value)?|(?:access|refresh|id|bearer|auth|csrf)?[_-]?token"
    r"(?!_?-?(?:type|url|endpoint|name)))"
)
_KEY = rf"[\w.:-]{{0,40}}?{_TELLING}[\w.:-]{{0,20}}"
_PEM = r"[A-Z ]{0,30}PRIVATE KEY"
_PREFIX = r"(?:[\w.-]{1,40}:)?"
_FLAGS = re.IGNORECASE | re.DOTALL

_PATTERNS = (
    # a private key wherever it stands
    (re.compile(rf"-----BEGIN {_PEM}-----.*?(?:-----END {_PEM}-----|$)", _FLAGS), MASK),
    # JSON: "client_secret": "…", also inside a text that is itself JSON, and as Python writes it
    (
        re.compile(
            rf"(\\{{0,3}}[\"']{_KEY}\\{{0,3}}[\"']\s{{0,20}}:\s{{0,20}})"
            r"(?:\"(?:[^\"\\]|\\.)*(?:\"|\\?$)|'[^']*(?:'|$)|\\+\"[^\"\\]*(?:\\+\"|\\*$)|\[[^\]]*(?:\]|$)"
            r"|[^\s,}\]\"'\\\[{]+)",
            _FLAGS,
        ),
        rf'\1"{MASK}"',
    ),
    # XML: <password>…</password>, keys and signatures; CDATA included
    (re.compile(rf"(<{_PREFIX}KeyInfo\b[^>]{{0,500}}>).*?(?=</{_PREFIX}KeyInfo|$)", _FLAGS), rf"\1{MASK}"),
    (
        re.compile(
            rf"(<{_KEY}(?:\s[^<>]{{0,500}})?(?<!/)>)(?:<!\[CDATA\[.*?(?:\]\]>|$)|\s{{0,200}}[^<\s][^<]*)+", _FLAGS
        ),
        rf"\1{MASK}",
    ),
    # attributes: password="…"
    (re.compile(rf"(?<![\w.:-])({_KEY}\s{{0,5}}=\s{{0,5}})(?:\"[^\"]*(?:\"|$)|'[^']*(?:'|$))", _FLAGS), rf'\1"{MASK}"'),
    # headers, and whatever looks like one: Authorization: Bearer …
    (re.compile(r"((?:proxy-)?authorization\s{0,5}[:=]\s{0,5})[^\r\n\"'<>]+", _FLAGS), rf"\1{MASK}"),
    (re.compile(r"((?:set-)?cookie\s{0,5}:\s{0,5})[^\r\n\"'<>]+", _FLAGS), rf"\1{MASK}"),
    (re.compile(rf"((?:^|[\s;,]){_KEY}\s{{0,5}}:\s{{0,5}})[^\s\"'<>{{}}\[\],]+", _FLAGS), rf"\1{MASK}"),
    (re.compile(r"\b(Bearer|Basic)\s{1,5}[A-Za-z0-9._~+/=-]{4,}", _FLAGS), rf"\1 {MASK}"),
    # forms and queries: client_secret=…&
    (re.compile(rf"((?:^|[?&\s;,])(?:{_KEY})=)[^&\s\"'<>;,]+", _FLAGS), rf"\1{MASK}"),
    # https://name:password@host
    (re.compile(r"(://)[^/\s:@\"'<>]{0,200}:[^/\s@\"'<>]{0,500}@", _FLAGS), rf"\1{MASK}@"),
    # a signed token wherever it stands
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*)?"), MASK),
)  # fmt: skip
_JSON, _ELEMENT, _ATTRIBUTE, _HEADER, _FORM = 1, 3, 4, 7, 9
"""Where in `_PATTERNS` those stand that look for a telling name."""
_WORDS = (("private key",), (), ("keyinfo",), (), (), ("authorization",), ("cookie",), (), ("bearer", "basic"), (),
          ("://",), ("eyj",))  # fmt: skip
"""For each of the others, in small letters: without any of these in the text it matches nothing."""
_STEMS = ("secret", "passw", "passphrase", "key", "token", "credential", "assertion", "authorization", "cookie",
          "signature")  # fmt: skip
"""One of these is in every telling name."""
_ALL_WORDS = frozenset(_STEMS).union(*_WORDS)
_PART, _PARTS_KEPT = 2048, 128
_OVERLAP = max(map(len, _ALL_WORDS)) - 1
_SIGNATURE_END = re.compile(rf"</{_PREFIX}Signature>")
_RUN = re.compile(r"([\w.:-]++)\s{0,5}+([=:]?)")
_JSON_COLON = re.compile(r"[\"']\s{0,20}:")


def redacted(text: str) -> str:
    """Return a text with every value that may be a credential replaced by `***`: rather one too many."""
    if not text.isascii():  # letters that only look alike are beyond `lower`
        return _masked(text, _PATTERNS)
    end = _SIGNATURE_END.search(text) if "Signature>" in text or "signature>" in text.lower() else None
    if end is None:
        return _masked_where_needed(text)
    # What is signed is long and mostly tells nothing. A mask that reached the end of the signature might have gone
    # on behind it, so then the text is taken as one.
    at = end.end() - 1  # what is signed begins with the ">", as a name at the very beginning of a text is masked sooner
    signature, signed = _masked_where_needed(text[:at]), _masked_where_needed(text[at:])
    return signature + signed if signature.endswith(end[0][:-1]) else _masked_where_needed(text)


def _masked_where_needed(text: str) -> str:
    """Return an ASCII text, masked: most patterns have nothing to find in most texts, and finding that is cheap."""
    small = text.lower()
    there: set[str] = set()
    for start in range(0, len(small), _PART):
        there |= _words_in(small[start : start + _PART + _OVERLAP])
    needed = {at for at, words in enumerate(_WORDS) if not there.isdisjoint(words)}
    stems = [stem for stem in _STEMS if stem in there]
    if stems:
        needed |= _by_name(small, stems)
    return _masked(text, [_PATTERNS[at] for at in sorted(needed)])


@lru_cache(maxsize=_PARTS_KEPT)
def _words_in(part: str) -> frozenset[str]:
    """Return which telling words are in a part of a text: an event told to thousands is the same in most parts."""
    return frozenset(word for word in _ALL_WORDS if word in part)


def _by_name(small: str, stems: Sequence[str]) -> set[int]:
    """Return the patterns that may find a telling name, by what stands behind such names."""
    needed = {_ELEMENT}
    if _JSON_COLON.search(small):
        needed.add(_JSON)
    for run, behind in _RUN.findall(small):
        starts = [at for at in map(run.find, stems) if at >= 0]
        if starts and behind == "=":
            needed |= {_ATTRIBUTE, _FORM}
        if starts and (behind == ":" or ":" in run[min(starts) :]):
            needed.add(_HEADER)
    return needed


def _masked(text: str, patterns: Iterable[tuple[re.Pattern[str], str]]) -> str:
    for pattern, replacement in patterns:
        text = pattern.sub(replacement, text)
    return text
