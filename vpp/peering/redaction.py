"""Taking secrets out of messages before they are kept. Called by `message_log`, in a thread of its own.

Goal: neither the log nor who searches it ever sees a credential, in JSON, XML, forms, headers or addresses, also
where a body was cut in the middle of one. Method: text patterns, not parsers: they work on broken bodies, too, and
each looks at bounded stretches, so that no body takes long.
"""

import re

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
_HINT = re.compile(r"secret|passw|passphrase|key|token|credential|assertion|authorization|cookie|signature|bearer"
                   r"|basic|://|eyJ", re.IGNORECASE)  # fmt: skip


def redacted(text: str) -> str:
    """Return a text with every value that may be a credential replaced by `***`: rather one too many."""
    if not _HINT.search(text):
        return text
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text
