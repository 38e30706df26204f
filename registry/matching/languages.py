"""Which language a text is in, by its commonest words: words of one language say little about capabilities described in another.

Only as much as that is worth: texts of a few words are often in none that can be told, and so are all in languages that are not
listed here. Scripts are told apart in :mod:`registry.matching.scripts`.
"""

from __future__ import annotations

import re
from collections import Counter

ENGLISH = "en"
_COMMON = {
    ENGLISH: """
the of and to a in is for on with that this it i you my me please what how which who when where from at are be as by
or an all if can do does has have not show find get
""",
    "de": """
der die das und ist ein eine einen einer eines dem den des zu zum zur mit für auf von im ich mir mich mein meine
meinen bitte wie was welche wer wann wo aus bei sind alle wenn nicht kann es dass als nach über oder morgen heute
""",
    "fr": """
le la les l un une des du de d et est à au aux en pour sur avec que qui quel quelle je j me m moi mon ma mes il dans
ce cette ces sont tous tout toutes par ou où comment quand plaît ne pas demain
""",
    "es": """
el la los las un una unos unas de del y es a al en para por con que qué cuál cómo me mi mis yo lo se su sus este esta
son todos todas cuando dónde no o favor mañana hoy
""",
    "it": """
il lo la i gli le un una uno di del della dei delle dello e è a al alla in nel nella per con che chi quale come mi mio
mia miei io questo questa sono tutti tutte da dal dalla su quando dove non o domani oggi
""",
    "pt": """
o a os as um uma uns umas de do da dos das e é ao à em no na nos nas para por com que qual como me meu minha meus
minhas eu este esta isso são todos todas quando onde não ou amanhã hoje
""",
    "nl": """
de het een en is van in op voor met dat die ik mij me mijn wat hoe welke wie wanneer waar uit bij zijn alle als niet
kan naar of aan alsjeblieft morgen vandaag
""",
    "sv": """
den det en ett och är av i på för med att som jag mig min mitt mina vad hur vilka vem när var från till alla om inte
kan eller imorgon idag snälla
""",
    "pl": """
i w we z ze na do od dla się jest są to co jak jaki jaka jakie kto kiedy gdzie mi mnie mój moja moje mam proszę
wszystkie nie czy oraz lub po przez jutro dziś
""",
    "tr": """
ve bir bu şu için ile de da ne nasıl hangi kim nerede bana benim beni lütfen tüm bütün mi mı mu mü değil var yok veya
göre kadar yarın bugün
""",
}
_OF: dict[str, list[str]] = {}
for _language, _words in _COMMON.items():
    for _word in _words.split():
        _OF.setdefault(_word, []).append(_language)
_ENGLISH = (ENGLISH,)
_READ = 4000
_LEAST = 2
_WORD = re.compile(r"[^\W\d_]+")


def languages(text: str) -> tuple[str, ...]:
    """The languages a text may be in, by their two letters: mostly one, several where its words belong to each; none where too
    few of its words tell."""
    found = Counter[str]()
    for word in set(_WORD.findall(text[:_READ].lower())) & _OF.keys():
        found.update(_OF[word])
    most = max(found.values(), default=0)
    if most < _LEAST:
        return ()
    return _ENGLISH if found[ENGLISH] == most else tuple(sorted(each for each, times in found.items() if times == most))
