"""Write the investigation's documents: `python examples/investigation/make_data.py FOLDER` (some 250 letters, 3 CSV files).

The files come out byte for byte the same on every Python version and platform: the only source of chance is
`random.Random(SEED).random()`, whose sequence Python promises to keep, dates and money are integers, and lines end in LF.

`build()` also returns the truth: which changes of bank accounts were forged, and which payments went astray. No file says
that; the letters contradict each other about it. What was planted:

* forged letters in the name of a supplier, naming one of the forgers' accounts, which the company then pays to. Most of these
  suppliers later state their real account or send reminders; one does neither, and only the account, which it shares with
  others, gives it away;
* real changes, which the supplier confirms later by thanks or statements: some after a reminder for another reason, two of
  them by sister firms that share an account;
* reminders, statements and thanks of suppliers who changed nothing, and letters about something else.
"""

import csv
import io
import random
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

SEED = 4711
YEAR = date(2024, 1, 1)
COMPANY = "Nordhafen Maschinen AG"

NAMES = (
    "Alster Papier GmbH", "Bergmann Logistik AG", "Birkhoff Werkzeuge KG", "Cordes Elektro GmbH", "Dahlem Optik GmbH",
    "Eder & Söhne OHG", "Falk Metallbau GmbH", "Falk Metall GmbH", "Förde Verpackung KG", "Gerling Chemie AG",
    "Havel Druck GmbH", "Isar Medizintechnik GmbH", "Jansen Agrar KG", "Kranz Büromöbel GmbH", "Lindner Textil AG",
    "Main Kunststoffe GmbH", "Nordlicht Energie AG", "Oder Stahlhandel KG", "Pohl Feinkost GmbH", "Quast Software GmbH",
    "Reuter Glas OHG", "Saale Pumpen GmbH", "Tauber Holz KG", "Uhland Verlag GmbH", "Voss Labortechnik AG",
    "Werra Salz GmbH", "Xanten Keramik KG", "Ysenburg Farben GmbH", "Zander Kältetechnik GmbH", "Zander Kälte GmbH",
)  # fmt: skip

GREETINGS = (
    ("Season's greetings", "We wish you a quiet holiday and a good start into the new year."),
    ("Our price list", "Please find our new price list attached. Orders above 5,000 EUR are delivered free."),
    ("Delivery of your order", "Your order left our house today and should reach you within three working days."),
    ("Works holiday", "Our works are closed for two weeks in summer. Our office can be reached as usual."),
    ("An invitation", "We should be glad to see you at our stand at the fair in Hannover."),
    ("Your enquiry", "Thank you for your enquiry. Our offer follows by separate mail. All prices are net, without transport."),
)  # fmt: skip
CHANGES = (
    "our bank account has changed. From today please pay only to our new account {account}.",
    "we have moved to another bank. Kindly use our new account {account} for all open invoices.",
    "please note our new bank details: account {account}. The old account is being closed.",
)
STATEMENTS = (
    "for your records: our bank account is {account}.",
    "as at the end of the quarter we confirm that payments to us go to account {account}.",
    "the audit asks us to state our bank details. Our account is {account}.",
)
THANKS = (
    "thank you for your payment, which reached our account {account} last week.",
    "we confirm with thanks that your last payment was credited to our account {account}.",
)
REMINDERS = (
    "we miss your payment of the last invoice. Please let us know when we can expect it.",
    "according to our books the last invoice is still open. We ask you for payment within ten days.",
)


@dataclass(frozen=True)
class Letter:
    supplier: int
    day: int
    subject: str
    text: str


@dataclass(frozen=True)
class Truth:
    """What the investigation has to find out."""

    forged: dict[str, str]
    """Supplier to the forgers' account."""
    payments: tuple[str, ...]
    """That went there."""
    cents: int


@dataclass(frozen=True)
class Case:
    """The documents as text, by file name, and the truth about them."""

    files: dict[str, str]
    truth: Truth


@dataclass
class Desk:
    """The correspondence while it is being made."""

    chance: random.Random = field(default_factory=lambda: random.Random(SEED))
    letters: list[Letter] = field(default_factory=list[Letter])
    accounts: list[list[tuple[int, str]]] = field(default_factory=list["list[tuple[int, str]]"])
    """Of each supplier: from which day the company pays to which account."""

    def below(self, n: int) -> int:
        return int(self.chance.random() * n)

    def one(self, choices: tuple[str, ...]) -> str:
        return choices[self.below(len(choices))]

    def account(self) -> str:
        return "DE" + "".join(str(self.below(10)) for _ in range(20))

    def write(self, supplier: int, day: int, subject: str, text: str, account: str = "") -> None:
        spaced = " ".join(account[at : at + 4] for at in range(0, len(account), 4))
        self.letters.append(Letter(supplier, day, subject, text.format(account=spaced)))

    def change(self, supplier: int, account: str) -> int:
        """A letter that names a new account, to which the company pays from then on. Returns its day."""
        day = 60 + self.below(120)
        self.write(supplier, day, "New bank details", self.one(CHANGES), account)
        self.accounts[supplier].append((day + 1, account))
        return day

    def state(self, supplier: int, day: int, account: str) -> None:
        self.write(supplier, day, "Bank details for your records", self.one(STATEMENTS), account)

    def thank(self, supplier: int, day: int, account: str) -> None:
        self.write(supplier, day, "Your payment", self.one(THANKS), account)

    def remind(self, supplier: int, day: int) -> None:
        self.write(supplier, day, "Reminder", self.one(REMINDERS))


FORGED, CHANGED = (2, 6, 11, 16, 21, 27), (0, 4, 7, 9, 13, 18, 23, 29)
"""Suppliers in whose name a change was forged, and those that did change."""


def build(noise: int = 200, *, forged: int = len(FORGED), changed: int = len(CHANGED)) -> Case:
    """Make the case.

    Args:
        noise: how many letters have nothing to do with it.
        forged, changed: how many of the changes there are, for a smaller one.
    """
    desk = Desk()
    desk.accounts = [[(0, desk.account())] for _ in NAMES]
    forgers = (desk.account(), desk.account())
    sisters = desk.account()
    told: dict[int, str] = {}
    for number, supplier in enumerate(FORGED[:forged]):
        real = desk.accounts[supplier][0][1]
        told[supplier] = forgers[number % 2]
        day = desk.change(supplier, told[supplier])
        if number != 5:
            desk.state(supplier, day + 20 + desk.below(60), real)
        if number in (0, 1, 3):
            desk.remind(supplier, day + 30 + desk.below(60))
    for number, supplier in enumerate(CHANGED[:changed]):
        account = sisters if supplier in (7, 29) else desk.account()
        old = desk.accounts[supplier][0][1]
        day = desk.change(supplier, account)
        if number in (1, 4):
            desk.state(supplier, day - 40, old)
        if number in (2, 5):
            desk.remind(supplier, day + 35 + desk.below(20))
        if number % 2 or account == sisters:
            desk.thank(supplier, day + 25 + desk.below(40), account)
        if not number % 2 or account == sisters:
            desk.state(supplier, day + 60 + desk.below(60), account)
    for supplier in (1, 5, 12, 20):
        desk.state(supplier, 80 + desk.below(200), desk.accounts[supplier][0][1])
        desk.thank(supplier, 100 + desk.below(200), desk.accounts[supplier][0][1])
    for supplier in (3, 20):
        desk.remind(supplier, 150 + desk.below(100))
    for _ in range(noise):
        subject, text = GREETINGS[desk.below(len(GREETINGS))]
        desk.write(desk.below(len(NAMES)), desk.below(360), subject, text)
    return _documents(desk, told)


def spelling(name: str, way: int) -> str:
    """A supplier's name as it may stand on a letter; 0 is as in the books."""
    if way == 1:
        return name.upper()
    if way == 2:
        return name.replace("GmbH", "G.m.b.H.").replace("KG", "K.G.").replace(" AG", " A.G.")
    if way == 3:
        return name.rpartition(" ")[0]
    if way == 4:
        plain = name
        for letter, written in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("&", "und")):
            plain = plain.replace(letter, written)
        return plain
    return name


def _documents(desk: Desk, forged: dict[int, str]) -> Case:
    files: dict[str, str] = {}
    for number, letter in enumerate(sorted(desk.letters, key=lambda one: one.day)):
        sender = spelling(NAMES[letter.supplier], desk.below(5))
        files[f"letter-{number:03d}.txt"] = (
            f"From: {sender}\nTo: {COMPANY}, accounts payable\nDate: {_day(letter.day)}\nSubject: {letter.subject}\n\n"
            f"Dear Sir or Madam,\n\n{letter.text[0].upper()}{letter.text[1:]}\n\nYours faithfully\n{sender}\n"
        )
    payments: list[tuple[str, str, str, str, int]] = []
    astray: list[tuple[str, int]] = []
    for supplier in range(len(NAMES)):
        for _ in range(5 + desk.below(4)):
            day, cents = desk.below(360), 20_000 + desk.below(2_000_000)
            account = next(to for since, to in reversed(desk.accounts[supplier]) if since <= day)
            payments.append(("", _day(day), _id(supplier), account, cents))
    numbered = [(f"P{n:04d}", *one[1:]) for n, one in enumerate(sorted(payments, key=lambda one: (one[1], one[2])))]
    for number, _, _, account, cents in numbered:
        if account in forged.values():
            astray.append((number, cents))
    files["suppliers.csv"] = _csv(
        ("supplier_id", "name", "account"),
        ((_id(n), name, desk.accounts[n][0][1]) for n, name in enumerate(NAMES)),
    )
    files["payments.csv"] = _csv(("payment_id", "date", "supplier_id", "account", "amount_cents"), numbered)
    files["contacts.csv"] = _csv(
        ("supplier_id", "city"), ((_id(n), ("Bremen", "Kiel", "Ulm", "Gera")[desk.below(4)]) for n in range(len(NAMES)))
    )
    truth = Truth(
        {_id(supplier): account for supplier, account in forged.items()},
        tuple(number for number, _ in astray), sum(cents for _, cents in astray),
    )  # fmt: skip
    return Case(files, truth)


def _id(supplier: int) -> str:
    return f"s{supplier + 1:03d}"


def _day(day: int) -> str:
    return (YEAR + timedelta(days=day)).isoformat()


def _csv(columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def write(folder: Path, case: Case) -> None:
    """Write the documents of a case into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in case.files.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python examples/investigation/make_data.py FOLDER")
    write(Path(sys.argv[1]), build())
