"""The investigation's knowledge sources. None knows of another one: each waits for something on the board, and writes what it
makes of it.

The one that tells whose name stands on a letter does not exist. `ask_for_names` requests it from whoever can, nobody can, and the
Fabricator writes it. Finding contradictions and weighing evidence are sources of `arbiter.critique`.
"""

import csv
import re
from pathlib import Path
from typing import Any

from arbiter import Capability, Grants, Missing, OpenRequest, Query, TopicGrants, Trigger, capability
from arbiter.critique import find_contradictions, weigh_evidence
from wrapper import sdk

BATCH = 25
"""Letters that are read in one go."""
CONFIDENCE = {"master": 0.9, "change": 0.6, "statement": 0.8, "thanks": 0.9, "reminder": 0.5}
"""How sure what such a document says is."""
_ACCOUNT = re.compile(r"DE\d\d(?: ?\d{4}){4} ?\d\d")
_KINDS = (
    ("change", re.compile(r"account has changed|moved to another bank|new bank details", re.I)),
    ("thanks", re.compile(r"thank you for your payment|with thanks", re.I)),
    ("reminder", re.compile(r"last invoice", re.I)),
    ("statement", re.compile(r"account is DE|go to account DE", re.I)),
)


def grants(read: str, write: str) -> Grants:
    """Topics that are read or linked to, and topics that are written on."""
    return Grants(topics=TopicGrants(read=tuple(read.split()), write=tuple(write.split())))


def every(pattern: str, where: str = "", **more: Any) -> list[dict[str, Any]]:
    """All entries that fit."""
    found: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        page = sdk.query(pattern, where, after=after, **more)
        found += page["entries"]
        if (after := page["after"]) is None:
            return found


# ---- level 1: documents ----------------------------------------------------------------------------------------------


@capability(
    effects="writes", grants=grants("case.folder", "files.>"),
    triggers=[Trigger(topic="case.folder", bind={"folder": "content.folder", "case": "id"})],
)  # fmt: skip
def list_folder(folder: str, case: str) -> int:
    """List the documents of a folder: each CSV file, and the letters in batches."""
    there = sorted(one.name for one in Path(folder).iterdir())
    tables = [name for name in there if name.endswith(".csv")]
    letters = [name for name in there if name.endswith(".txt")]
    for name in tables:
        content = {"folder": folder, "name": name}
        sdk.post(f"files.table.{name.partition('.')[0]}", content, links=[("derived_from", case)])
    for at in range(0, len(letters), BATCH):
        content = {"folder": folder, "names": [*letters[at : at + BATCH]]}
        sdk.post(f"files.letters.{at // BATCH}", content, links=[("derived_from", case)])
    return len(there)


@capability(
    effects="writes", grants=grants("files.>", "books.> claims.account.*"),
    triggers=[Trigger(topic="files.table.suppliers", bind={"place": "content", "file": "id"})],
)  # fmt: skip
def read_suppliers(place: dict[str, str], file: str) -> int:
    """Read the suppliers and the accounts that the books know."""
    rows = _rows(place)
    known = [{"supplier_id": row["supplier_id"], "name": row["name"]} for row in rows]
    sdk.post("books.suppliers", known, links=[("derived_from", file)])
    for row in rows:
        supplier = row["supplier_id"]
        content = {"supplier": supplier, "account": row["account"], "day": "2024-01-01", "kind": "master"}
        topic = f"claims.account.{supplier}"
        sdk.post(topic, content, confidence=CONFIDENCE["master"], links=[("derived_from", file)])
    return len(rows)


@capability(
    effects="writes", grants=grants("files.>", "books.>"),
    triggers=[Trigger(topic="files.table.payments", bind={"place": "content", "file": "id"})],
)  # fmt: skip
def read_payments(place: dict[str, str], file: str) -> int:
    """Read what was paid to whom and where."""
    paid: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(place):
        one = {
            "payment": row["payment_id"],
            "day": row["date"],
            "account": row["account"],
            "cents": int(row["amount_cents"]),
        }
        paid.setdefault(row["supplier_id"], []).append(one)
    for supplier, payments in paid.items():
        sdk.post(f"books.payments.{supplier}", payments, links=[("derived_from", file)])
    return len(paid)


@capability(
    effects="writes", grants=grants("files.>", "letters.>"), sources=("letters:inbox",),
    triggers=[Trigger(topic="files.letters.*", bind={"place": "content", "file": "id"}, priority=6)],
)  # fmt: skip
def read_letters(place: dict[str, Any], file: str) -> int:
    """Read letters, and note those that have to do with accounts or payments."""
    noted = 0
    for name in place["names"]:
        said = read_letter((Path(place["folder"]) / name).read_text(encoding="utf-8"))
        if said is not None:
            kind = said.pop("kind")
            content = {**said, "document": name}
            sdk.post(
                f"letters.{kind}.{name[7:10]}", content, confidence=CONFIDENCE[kind], links=[("derived_from", file)]
            )
            noted += 1
    return noted


def read_letter(text: str) -> dict[str, Any] | None:
    """What a letter says, if it has to do with accounts or payments: kind, sender, day and account."""
    head, _, body = text.partition("\n\n")
    fields = dict(line.split(": ", 1) for line in head.splitlines())
    kind = next((kind for kind, pattern in _KINDS if pattern.search(body)), None)
    if kind is None:
        return None
    account = _ACCOUNT.search(body)
    said = {"kind": kind, "sender": fields["From"], "day": fields["Date"]}
    return {**said, "account": account.group().replace(" ", "")} if account else said


# ---- level 2: claims -------------------------------------------------------------------------------------------------

NEED = (
    "Tell which supplier each name on a letter means. Takes names, as they stand on the letters, and suppliers with supplier_id "
    "and name as in the books. Returns matches: for each name, in the order given, name and supplier_id, or null for the "
    "supplier_id where no supplier has that name. Two names are the same when they differ only in case, in how the legal form "
    "(GmbH, AG, KG, OHG) is written or whether it is there, in ae/oe/ue for umlauts, in 'und' for '&', or in punctuation and "
    "spaces."
)


@capability(
    effects="writes", grants=grants("letters.> books.suppliers", "requests.senders"),
    triggers=[Trigger(topic="control.quiet", unless=Query(topic="requests.senders"))],
)  # fmt: skip
def ask_for_names(entry: dict[str, Any]) -> int:
    """When all is read, ask whoever can tell whose names stand on the letters."""
    suppliers = every("books.suppliers")
    letters = every("letters.>")
    if not suppliers or not letters:
        return 0
    names = sorted({one["content"]["sender"] for one in letters})
    request = OpenRequest(
        question="Who can tell which supplier each name on these letters means?",
        input={"names": [*names], "suppliers": suppliers[0]["content"]},
        seconds=1, otherwise="fabricate", missing=Missing(name="match_supplier_names", need=NEED),
    )  # fmt: skip
    sdk.post("requests.senders", request.content(), links=[("derived_from", suppliers[0]["id"])], expect_topic=0)
    return len(names)


@capability(
    effects="writes", grants=grants("letters.> answers.senders", "claims.> complaints.>"),
    triggers=[Trigger(topic="answers.senders", bind={"matches": "content.matches", "answer": "id"})],
)  # fmt: skip
def attribute_letters(matches: list[dict[str, Any]], answer: str) -> int:
    """Say of each noted letter which supplier's it is."""
    whose = {one["name"]: one["supplier_id"] for one in matches}
    for letter in every("letters.>"):
        kind, said = letter["topic"].split(".")[1], letter["content"]
        supplier = whose.get(said["sender"])
        if supplier is None:
            continue
        content = {"supplier": supplier, "day": said["day"], "kind": kind, "document": said["document"]}
        topic = f"complaints.{supplier}"
        if "account" in said:
            content["account"] = said["account"]
            topic = f"claims.account.{supplier}"
        links = [("derived_from", letter["id"]), ("derived_from", answer)]
        sdk.post(topic, content, confidence=CONFIDENCE[kind], links=links)
    return len(whose)


# ---- level 3: hypotheses and evidence --------------------------------------------------------------------------------


@capability(
    effects="writes", grants=grants("claims.> contradictions.>", "hypotheses.*"),
    triggers=[Trigger(topic="contradictions.claims.account.*.*", bind={"pair": "content.entries", "found": "id"})],
)  # fmt: skip
def suppose_forgery(pair: list[str], found: str) -> bool:
    """Where a change of account contradicts something else, suppose that the change was forged."""
    claims = [one for one in map(sdk.read, pair) if one is not None]
    changes = [one for one in claims if one["content"]["kind"] == "change"]
    if not changes:
        return False
    change = changes[0]["content"]
    supplier = change["supplier"]
    content = {"supplier": supplier, "account": change["account"], "since": change["day"]}
    links = [("answers", found), *(("derived_from", one["id"]) for one in changes)]
    return post_once(f"hypotheses.{supplier}", content, confidence=0.5, links=links)


READS = "claims.> complaints.> books.> hypotheses.*"
OF = {"supplier": "content.supplier"}


@capability(
    effects="writes", grants=grants(READS, "evidence.>"),
    triggers=[Trigger(topic="hypotheses.*", bind=OF), Trigger(topic="claims.account.*", where="kind!=master", bind=OF)],
)  # fmt: skip
def compare_later_letters(supplier: str) -> None:
    """What a supplier said of its account after a change speaks for its forgery or against it."""
    for supposed in every(f"hypotheses.{supplier}"):
        for one in every(f"claims.account.{supplier}", f"day>{supposed['content']['since']}"):
            same = one["content"]["account"] == supposed["content"]["account"]
            because = f"{one['content']['document']} names {'the same' if same else 'another'} account"
            links = [("contradicts" if same else "supports", supposed["id"]), ("derived_from", one["id"])]
            topic = f"evidence.letter.{supplier}.{plain(one['content']['document'])}"
            post_once(topic, {"because": because}, confidence=one["confidence"], links=links)


@capability(
    effects="writes", grants=grants(READS, "evidence.>"),
    triggers=[Trigger(topic="hypotheses.*", bind=OF), Trigger(topic="complaints.*", bind=OF)],
)  # fmt: skip
def hear_complaints(supplier: str) -> None:
    """That a supplier misses a payment although it was made speaks for a forgery."""
    for supposed in every(f"hypotheses.{supplier}"):
        account, since = supposed["content"]["account"], supposed["content"]["since"]
        paid = [
            one["day"] for entry in every(f"books.payments.{supplier}") for one in entry["content"] if one["account"] == account
        ]  # fmt: skip
        for one in every(f"complaints.{supplier}", f"day>{since}"):
            if any(day <= one["content"]["day"] for day in paid):
                because = f"{one['content']['document']} misses a payment that was made"
                links = [("supports", supposed["id"]), ("derived_from", one["id"])]
                topic = f"evidence.complaint.{supplier}.{plain(one['content']['document'])}"
                post_once(topic, {"because": because}, confidence=one["confidence"], links=links)


@capability(
    effects="writes", grants=grants(READS, "evidence.>"),
    triggers=[
        Trigger(topic="hypotheses.*", bind={"account": "content.account"}),
        Trigger(topic="claims.account.*", where="kind=change", bind={"account": "content.account"}),
    ],
)  # fmt: skip
def notice_shared_account(account: str) -> None:
    """That several suppliers changed to the same account speaks for forgeries."""
    changes = every("claims.account.*", f"account={account} kind=change")
    for supposed in every("hypotheses.*", f"account={account}"):
        supplier = supposed["content"]["supplier"]
        others = [one for one in changes if one["content"]["supplier"] != supplier]
        if others:
            links = [("supports", supposed["id"]), ("derived_from", others[0]["id"])]
            what = {"because": "another supplier changed to this account"}
            post_once(f"evidence.shared.{supplier}", what, confidence=0.7, links=links)


# ---- the answer ------------------------------------------------------------------------------------------------------


@capability(
    effects="writes", grants=grants("answers.> hypotheses.* credibility.* books.>", "report"),
    triggers=[Trigger(topic="control.quiet", unless=Query(topic="report"), priority=1)],
)  # fmt: skip
def report(entry: dict[str, Any]) -> bool:
    """When nobody has anything to add, say which changes were forged and which payments went astray."""
    if not every("answers.senders"):
        return False
    credible = {one["content"]["entry"]: one["confidence"] for one in every("credibility.*", "topic~hypotheses.")}
    guilty = [one for one in every("hypotheses.*") if credible.get(one["id"], 0.5) > 0.5]
    forged = {one["content"]["supplier"]: one["content"]["account"] for one in guilty}
    astray = sorted(
        (one["payment"], one["cents"]) for supplier, account in forged.items()
        for entry in every(f"books.payments.{supplier}") for one in entry["content"] if one["account"] == account
    )  # fmt: skip
    found = {"forged": forged, "payments": [name for name, _ in astray], "cents": sum(cents for _, cents in astray)}
    links = [("derived_from", one["id"]) for one in guilty[:32]]
    return post_once(
        "report", found, confidence=round(min((credible[one["id"]] for one in guilty), default=1.0), 6), links=links
    )


def plain(document: str) -> str:
    """The name of a document as a word of a topic."""
    return document.partition(".")[0]


def post_once(topic: str, content: object, **how: Any) -> bool:
    """Write on a topic on which nothing was written; False where something was."""
    try:
        return bool(sdk.post(topic, content, expect_topic=0, **how)["new"])
    except sdk.CallError as error:
        if error.type != "stale":
            raise
        return False


def _rows(place: dict[str, str]) -> list[dict[str, str]]:
    with (Path(place["folder"]) / place["name"]).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


CAPABILITIES: tuple[Capability[..., Any], ...] = (
    list_folder, read_suppliers, read_payments, read_letters, ask_for_names, attribute_letters,
    find_contradictions("claims.account.*", "account"), suppose_forgery, compare_later_letters, hear_complaints,
    notice_shared_account, weigh_evidence("evidence.>"), report,
)  # fmt: skip
