"""What is to be done, beside what it is to be done to: one who wants something listed is not served by what deletes it.

The nouns of a need are rare and find what has to do with them; its verb is common and so weighs little, whether it asks to make
a thing or to destroy it. A capability that does another kind of thing than any that a need speaks of comes after others.
"""

from __future__ import annotations

import re

from registry.matching.documents import Document
from registry.matching.words import stem

_KINDS = {
    "create": "add build create generate insert make new provision register",
    "delete": "cancel clear delete deregister destroy detach drop erase purge remove revoke terminate uninstall unregister",
    "read": "check describe display fetch find get list lookup query read retrieve search show view",
    "update": "adjust change configure edit modify patch rename replace set update",
    "start": "activate enable open restore resume start",
    "stop": "close deactivate disable pause stop suspend",
    "send": "forward post publish send share",
}
_ASKS = "know see tell what which"
"""Words of a need that ask to be told something; in a name they say nothing."""
_NOTHING = frozenset[str]()
_ALONE = {kind: frozenset((kind,)) for kind in _KINDS}
"""One set for all that do one kind of thing: there may be very many."""
_OF_NAMES = {stem(word): kind for kind, words in _KINDS.items() for word in words.split()}
_OF_NEEDS = _OF_NAMES | {stem(word): "read" for word in _ASKS.split()}
_BETWEEN = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[\W_]+")


def does(document: Document) -> frozenset[str]:
    """The kinds of things a capability does: by the first verb in its name, or the one its description begins with, and then
    by the needs it served as well. Nothing where neither of the first two says."""
    first = _words(document.description[:100])[:1]
    own = next((kind for word in (*_words(document.name), *first) if (kind := _OF_NAMES.get(word))), None)
    if own is None:
        return _NOTHING
    return _ALONE[own] | asked(document.served) if document.served else _ALONE[own]


def asked(need: str) -> frozenset[str]:
    """The kinds of things a need speaks of."""
    return frozenset(kind for word in _words(need) if (kind := _OF_NEEDS.get(word)))


def _words(text: str) -> list[str]:
    return [stem(word.lower()) for word in _BETWEEN.split(text) if word]
