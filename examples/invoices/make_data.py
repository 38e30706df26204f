"""Write the invoice example's three CSV files: `python examples/invoices/make_data.py [FOLDER]` (default: this folder).

The files come out byte for byte the same on every Python version and platform: the only source of chance is
`random.Random(SEED).random()`, whose sequence Python promises to keep (the other methods of `random` carry no such
promise), dates and money are integers, and lines end in LF.

`build()` also returns what was planted: for every document the exceptions it was made to have under RULES.md. The CSV
files do not carry that; the tests compare it with what is found in them.
"""

import csv
import io
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path

SEED = 20240917
YEAR = date(2024, 1, 1)
RATES = {"S": 1900, "R": 700, "Z": 0}

VENDORS = (
    "Alster Papier GmbH", "Bergmann Logistik AG", "Birkhoff Werkzeuge KG", "Cordes Elektro GmbH", "Dahlem Optik GmbH",
    "Eder & Söhne OHG", "Falk Metallbau GmbH", "Förde Verpackung KG", "Gerling Chemie AG", "Havel Druck GmbH",
    "Isar Medizintechnik GmbH", "Jansen Agrar KG", "Kranz Büromöbel GmbH", "Lindner Textil AG", "Main Kunststoffe GmbH",
    "Nordlicht Energie AG", "Oder Stahlhandel KG", "Pohl Feinkost GmbH", "Quast Software GmbH", "Reuter Glas OHG",
    "Saale Pumpen GmbH", "Tauber Holz KG", "Uhland Verlag GmbH", "Voss Labortechnik AG", "Werra Salz GmbH",
    "Xanten Keramik KG", "Ysenburg Farben GmbH", "Zander Kältetechnik GmbH", "Ahrens Service GmbH", "Brix Sensorik AG",
)  # fmt: skip

ITEMS = (
    ("Copy paper A4, box of 5 reams", 1890, "S"), ("Pallet transport, domestic", 8400, "S"),
    ("Cordless drill 18 V", 12990, "S"), ("Network cable Cat 6, 305 m", 14250, "S"), ("Safety glasses", 745, "S"),
    ("Steel profile 40 x 40 mm, 6 m", 5260, "S"), ("Folding carton 400 x 300", 118, "S"),
    ("Isopropanol 99 %, 5 l", 2375, "S"), ("Trade magazine, yearly", 9600, "R"), ("Specialist book", 4490, "R"),
    ("Coffee beans, 1 kg", 1345, "R"), ("Drinking water, crate", 687, "R"), ("Seed potatoes, 25 kg", 3120, "R"),
    ("Office chair, adjustable", 24900, "S"), ("Work trousers", 5999, "S"), ("PP granulate, 25 kg", 6130, "S"),
    ("Float glass 4 mm, m2", 3415, "S"), ("Submersible pump", 18750, "S"), ("Spruce beam 80 x 80 mm, 4 m", 1465, "S"),
    ("Pipette tips, 1000 pieces", 2733, "S"), ("De-icing salt, 25 kg", 913, "S"), ("Wall paint white, 10 l", 3849, "S"),
    ("Temperature sensor PT100", 2215, "S"), ("Export pallet, treated", 2890, "Z"), ("Freight to abroad", 31200, "Z"),
)  # fmt: skip

INVOICE_COLUMNS = (
    "document_id", "vendor_id", "vendor_name", "invoice_number", "po_number", "invoice_date", "received_date",
    "quantity", "unit_price_cents", "net_cents", "tax_code", "tax_cents", "total_cents",
)  # fmt: skip
ORDER_COLUMNS = ("po_number", "vendor_id", "order_date", "item", "quantity", "unit_price_cents")
RECEIPT_COLUMNS = ("receipt_number", "po_number", "receipt_date", "quantity")


@dataclass(frozen=True)
class Order:
    number: str
    vendor: int
    day: int
    item: str
    tax_code: str
    quantity: int
    price: int


@dataclass(frozen=True)
class Receipt:
    order: str
    day: int
    quantity: int


@dataclass(frozen=True)
class Invoice:
    vendor: int
    number: str
    order: str
    day: int
    received: int
    quantity: int
    price: int
    tax_code: str
    tax: int
    planted: frozenset[str] = frozenset()

    @property
    def net(self) -> int:
        return self.quantity * self.price


@dataclass(frozen=True)
class Data:
    """The three files as text, by file name, and per document id the exceptions it was made to have."""

    files: dict[str, str]
    planted: dict[str, frozenset[str]]


def tax_on(net: int, code: str) -> int:
    return (net * RATES[code] + 5000) // 10000


@dataclass
class Ledger:
    """The books while they are being made. Every planting method adds one story and nothing else."""

    chance: random.Random = field(default_factory=lambda: random.Random(SEED))
    orders: list[Order] = field(default_factory=list[Order])
    receipts: list[Receipt] = field(default_factory=list[Receipt])
    invoices: list[Invoice] = field(default_factory=list[Invoice])
    issued: dict[int, int] = field(default_factory=dict[int, int])

    def below(self, n: int) -> int:
        return int(self.chance.random() * n)

    def between(self, low: int, high: int) -> int:
        return low + self.below(high - low + 1)

    def new_number(self, vendor: int) -> str:
        """The vendor's next invoice number, in the one of five styles the vendor keeps to."""
        serial = self.issued[vendor] = self.issued.get(vendor, 100 + self.below(800)) + 1
        return (
            f"INV-2024-{serial:05d}",
            f"2024/{serial:06d}",
            f"RE {serial}",
            f"F{serial:07d}",
            f"{1000 + vendor}-{serial:04d}",
        )[vendor % 5]

    def order(self, quantity: int | None = None, *, price: int | None = None) -> Order:
        item, usual, tax_code = ITEMS[self.below(len(ITEMS))]
        new = Order(
            number=f"PO-45{len(self.orders) * 7 + 1013:06d}",
            vendor=self.below(len(VENDORS)),
            day=self.below(200),
            item=item,
            tax_code=tax_code,
            quantity=quantity or self.between(2, 40) * 5,
            price=price or usual + self.below(usual // 10 + 1),
        )
        self.orders.append(new)
        return new

    def receive(self, order: Order, quantity: int, *, after: int | None = None) -> Receipt:
        receipt = Receipt(order.number, order.day + (self.between(5, 25) if after is None else after), quantity)
        self.receipts.append(receipt)
        return receipt

    def bill(
        self, order: Order, receipt: Receipt | None, *kinds: str, quantity: int | None = None, price: int | None = None
    ) -> Invoice:
        """A correct invoice for what `receipt` brought, but for what the caller says is different about it."""
        if quantity is None:
            quantity = receipt.quantity if receipt else order.quantity
        day = (receipt.day if receipt else order.day + 10) + self.below(6)
        net = quantity * (price or order.price)
        return Invoice(
            vendor=order.vendor,
            number=self.new_number(order.vendor),
            order=order.number,
            day=day,
            received=day + self.between(1, 14),
            quantity=quantity,
            price=price or order.price,
            tax_code=order.tax_code,
            tax=tax_on(net, order.tax_code),
            planted=frozenset(kinds),
        )

    def delivered(self, quantity: int | None = None) -> tuple[Order, Receipt]:
        order = self.order(quantity)
        return order, self.receive(order, order.quantity)

    def add(self, invoice: Invoice, *kinds: str) -> Invoice:
        invoice = replace(invoice, planted=invoice.planted | frozenset(kinds))
        self.invoices.append(invoice)
        return invoice

    # --- the ordinary ---------------------------------------------------------------------------------------------

    def clean(self) -> None:
        """An order delivered and billed in one to three parts; sometimes part of it is still outstanding."""
        order = self.order()
        parts = 1 + self.below(3)
        for part in range(parts):
            quantity = order.quantity // parts + (order.quantity % parts if part == 0 else 0)
            if part and self.below(6) == 0:
                continue
            receipt = self.receive(order, quantity, after=8 + part * 20 + self.below(10))
            self.add(self.bill(order, receipt))

    def at_the_edge(self, which: int) -> None:
        """Exactly at a tolerance, or alike without being the same: none of these is an exception."""
        if which == 0:
            order = self.order(40, price=2000)
            self.add(self.bill(order, self.receive(order, 40), price=2030))
        elif which == 1:
            order = self.order(60)
            self.add(self.bill(order, self.receive(order, 38), quantity=40))
        elif which == 2:
            order = self.order(100, price=1500)
            self.add(self.bill(order, self.receive(order, 101), quantity=102))
        elif which == 3:
            bill = self.bill(*self.delivered())
            self.add(replace(bill, tax=bill.tax + 1 - 2 * self.below(2)))
        elif which == 4:
            bill = self.bill(*self.delivered())
            self.add(replace(bill, received=bill.day + 60))
        elif which == 5:
            order, receipt = self.delivered()
            self.add(replace(self.bill(order, receipt), day=receipt.day))
        elif which == 6:
            mine, theirs = self.delivered(), self.delivered()
            bill = self.add(self.bill(*mine))
            other = self.bill(*theirs)
            if other.vendor != bill.vendor:
                other = replace(other, number=bill.number)
            self.add(other)
        else:
            order = self.order(80)
            first = self.add(self.bill(order, self.receive(order, 50)))
            self.add(replace(self.bill(order, self.receive(order, 30)), number=first.number))

    # --- one exception each ---------------------------------------------------------------------------------------

    def duplicate(self, altered: bool) -> None:
        bill = self.add(self.bill(*self.delivered()))
        self.add(self.again(bill, altered))

    def again(self, bill: Invoice, altered: bool) -> Invoice:
        received = bill.received + self.between(3, 35)
        number = bill.number
        if altered:
            plain = "".join(sign for sign in number if sign.isalnum())
            spellings = (number.lower(), plain, number.replace("-", " ").replace("/", "-"), f"{number}.")
            different = [spelling for spelling in spellings if spelling != number]
            number = different[self.below(len(different))]
        kind = "duplicate_altered" if altered else "duplicate_exact"
        day = max(bill.day, received - 40)
        return replace(bill, number=number, day=day, received=received, planted=bill.planted | {kind})

    def duplicate_without_zeros(self) -> None:
        """The vendor retypes the number and drops the zeros in front of its serial."""
        bill = self.bill(*self.delivered())
        while bill.vendor % 5 != 3:
            bill = self.bill(*self.delivered())
        self.add(bill)
        retyped = f"F-{int(bill.number[1:])}"
        self.add(replace(bill, number=retyped, received=bill.received + 9), "duplicate_altered")

    def missing_order(self) -> None:
        bill = self.bill(*self.delivered())
        self.add(replace(bill, order="" if self.below(4) else "  "), "missing_po")

    def unknown_order(self) -> None:
        bill = self.bill(*self.delivered())
        self.add(replace(bill, order=bill.order.replace("PO-45", "PO-54")), "unknown_po")

    def wrong_vendor(self) -> None:
        bill = self.bill(*self.delivered())
        vendor = (bill.vendor + self.between(1, len(VENDORS) - 1)) % len(VENDORS)
        self.add(replace(bill, vendor=vendor, number=self.new_number(vendor)), "vendor_mismatch")

    def wrong_price(self) -> None:
        """Too dear on an order with plenty left to bill, or too cheap."""
        order = self.order(120)
        receipt = self.receive(order, 60)
        off = order.price * self.between(3, 12) // 100 + 1
        price = order.price + off if self.below(3) else order.price - off
        self.add(self.bill(order, receipt, price=price), "price_mismatch")

    def short_delivery(self) -> None:
        """More units billed than received, though not more than ordered."""
        order = self.order()
        missing = self.between(3, order.quantity // 2)
        receipt = self.receive(order, order.quantity - missing)
        self.add(self.bill(order, receipt, quantity=order.quantity), "quantity_mismatch")

    def exhausted(self, over_delivered: bool) -> None:
        """The order is delivered and billed in full; then one more invoice comes for it."""
        order = self.order()
        first = order.quantity * 3 // 5
        one = self.add(self.bill(order, self.receive(order, first, after=8)))
        two = self.bill(order, self.receive(order, order.quantity - first, after=16))
        two = self.add(replace(two, received=max(two.received, one.received + 1)))
        extra = max(3, order.quantity // self.between(4, 8))
        if over_delivered:
            bill = self.bill(order, self.receive(order, extra, after=30))
            kinds = ("po_exhausted",)
        else:
            bill = self.bill(order, Receipt(order.number, order.day + 40, 0), quantity=extra)
            kinds = ("quantity_mismatch", "po_exhausted")
        self.add(replace(bill, received=max(bill.received, two.received + 1)), *kinds)

    def wrong_tax(self) -> None:
        bill = self.bill(*self.delivered())
        other = {"S": "R", "R": "S", "Z": "S"}[bill.tax_code]
        if self.below(3) == 0:
            bill = replace(bill, tax=bill.tax + self.between(2, 90))
        elif self.below(4) == 0:
            bill = replace(bill, tax_code="N")
        else:
            bill = replace(bill, tax=tax_on(bill.net, other))
        self.add(bill, "wrong_tax")

    def late(self) -> None:
        bill = self.bill(*self.delivered())
        self.add(replace(bill, received=bill.day + 61 + self.below(60)), "late_invoice")

    def early(self) -> None:
        order, receipt = self.delivered()
        bill = self.bill(order, receipt)
        day = receipt.day - self.between(1, 8)
        self.add(replace(bill, day=day, received=day + 3), "early_invoice")

    def never_received(self) -> None:
        order = self.order()
        self.add(self.bill(order, None), "early_invoice", "quantity_mismatch")

    # --- several at once ------------------------------------------------------------------------------------------

    def tangled(self, which: int) -> None:
        if which == 0:
            bill = self.bill(*self.delivered())
            bill = replace(bill, tax=bill.tax + 37, received=bill.day + 75)
            self.add(bill, "wrong_tax", "late_invoice")
        elif which == 1:
            bill = self.bill(*self.delivered())
            bill = self.add(replace(bill, tax=bill.tax + 250), "wrong_tax")
            self.add(self.again(bill, altered=False))
        elif which == 2:
            bill = self.bill(*self.delivered())
            self.add(replace(bill, order="", received=bill.day + 90), "missing_po", "late_invoice")
        elif which == 3:
            bill = self.bill(*self.delivered())
            vendor = (bill.vendor + 1) % len(VENDORS)
            bill = replace(bill, vendor=vendor, number=self.new_number(vendor), tax=bill.tax + 99)
            self.add(bill, "vendor_mismatch", "wrong_tax")
        elif which == 4:
            order, receipt = self.delivered()
            bill = self.bill(order, receipt, price=order.price + order.price // 12 + 1)
            day = receipt.day - 2
            self.add(replace(bill, day=day, received=day + 4), "price_mismatch", "po_exhausted", "early_invoice")
        else:
            bill = self.bill(*self.delivered())
            self.add(replace(bill, order=""), "missing_po")
            self.add(self.again(self.invoices[-1], altered=True))


def tell(ledger: Ledger) -> None:
    """Every story the example has, in a fixed order; documents are numbered by arrival afterwards."""
    for _ in range(170):
        ledger.clean()
    for which in range(8):
        for _ in range(3):
            ledger.at_the_edge(which)
    for altered in (False, True):
        for _ in range(9):
            ledger.duplicate(altered)
    for _ in range(3):
        ledger.duplicate_without_zeros()
    for story, times in (
        (ledger.missing_order, 11),
        (ledger.unknown_order, 6),
        (ledger.wrong_vendor, 7),
        (ledger.wrong_price, 13),
        (ledger.short_delivery, 10),
        (ledger.wrong_tax, 14),
        (ledger.late, 11),
        (ledger.early, 9),
        (ledger.never_received, 4),
    ):
        for _ in range(times):
            story()
    for over_delivered in (True, False):
        for _ in range(6):
            ledger.exhausted(over_delivered)
    for which in range(6):
        for _ in range(2):
            ledger.tangled(which)


def build() -> Data:
    """Make the data. Returns the text of the three files and what was planted in them."""
    ledger = Ledger()
    tell(ledger)
    by_arrival = sorted(enumerate(ledger.invoices), key=lambda numbered: (numbered[1].received, numbered[0]))
    documents = {f"AP-{24000 + place}": invoice for place, (_, invoice) in enumerate(by_arrival, start=1)}
    receipts = sorted(enumerate(ledger.receipts), key=lambda numbered: (numbered[1].day, numbered[0]))
    files = {
        "invoices.csv": _csv(
            INVOICE_COLUMNS,
            [
                (
                    document, _vendor_id(each.vendor), VENDORS[each.vendor], each.number, each.order, _day(each.day),
                    _day(each.received), each.quantity, each.price, each.net, each.tax_code, each.tax,
                    each.net + each.tax,
                )
                for document, each in documents.items()
            ],
        ),
        "purchase_orders.csv": _csv(
            ORDER_COLUMNS,
            [
                (each.number, _vendor_id(each.vendor), _day(each.day), each.item, each.quantity, each.price)
                for each in ledger.orders
            ],
        ),
        "goods_receipts.csv": _csv(
            RECEIPT_COLUMNS,
            [
                (f"GR-{80000 + place}", each.order, _day(each.day), each.quantity)
                for place, (_, each) in enumerate(receipts, start=1)
            ],
        ),
    }  # fmt: skip
    return Data(files, {document: each.planted for document, each in documents.items() if each.planted})


def write(folder: Path) -> list[Path]:
    """Write the three files into `folder`, replacing what is there. Returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for name, text in build().files.items():
        paths.append(folder / name)
        paths[-1].write_bytes(text.encode("utf-8"))
    return paths


def _vendor_id(vendor: int) -> str:
    return f"V-{101 + vendor}"


def _day(day: int) -> str:
    return (YEAR + timedelta(days=day)).isoformat()


def _csv(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


if __name__ == "__main__":
    for path in write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent):
        print(path)
