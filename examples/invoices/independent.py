"""The expected answer, computed another way: the three CSV files in an in-memory SQLite database, RULES.md as SQL.

    python examples/invoices/independent.py [FOLDER]

prints the answer as JSON. Nothing here is used by the demo; the tests and a doubting reader compare with it. The code
shares nothing with the fabricated checker: set operations and window functions here, dictionaries and loops there.
"""

import csv
import json
import re
import signal
import sqlite3
import sys
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

KINDS = (
    "duplicate_exact",
    "duplicate_altered",
    "missing_po",
    "unknown_po",
    "vendor_mismatch",
    "price_mismatch",
    "quantity_mismatch",
    "po_exhausted",
    "wrong_tax",
    "early_invoice",
    "late_invoice",
)

SCHEMA = """
CREATE TABLE invoices (document_id TEXT PRIMARY KEY, vendor_id TEXT, vendor_name TEXT, invoice_number TEXT,
    po_number TEXT, invoice_date TEXT, received_date TEXT, quantity INTEGER, unit_price_cents INTEGER,
    net_cents INTEGER, tax_code TEXT, tax_cents INTEGER, total_cents INTEGER);
CREATE TABLE purchase_orders (po_number TEXT PRIMARY KEY, vendor_id TEXT, order_date TEXT, item TEXT,
    quantity INTEGER, unit_price_cents INTEGER);
CREATE TABLE goods_receipts (receipt_number TEXT, po_number TEXT, receipt_date TEXT, quantity INTEGER);
CREATE TABLE rules (name TEXT PRIMARY KEY, value INTEGER);
CREATE TABLE tax_rates (tax_code TEXT PRIMARY KEY, rate_bp INTEGER);
"""

QUERY = """
WITH
arrived AS (
    SELECT *, row_number() OVER (ORDER BY received_date, document_id) AS place, plain(invoice_number) AS plain_number
    FROM invoices
),
exact AS (
    SELECT later.document_id FROM arrived AS later WHERE EXISTS (
        SELECT 1 FROM arrived AS earlier WHERE earlier.place < later.place AND earlier.vendor_id = later.vendor_id
            AND earlier.total_cents = later.total_cents AND earlier.invoice_number = later.invoice_number)
),
altered AS (
    SELECT later.document_id FROM arrived AS later WHERE later.document_id NOT IN exact AND EXISTS (
        SELECT 1 FROM arrived AS earlier WHERE earlier.place < later.place AND earlier.vendor_id = later.vendor_id
            AND earlier.total_cents = later.total_cents AND earlier.plain_number = later.plain_number)
),
received AS (
    SELECT po_number, sum(quantity) AS units, min(receipt_date) AS first_date FROM goods_receipts GROUP BY po_number
),
matched AS (
    SELECT i.*, o.unit_price_cents AS order_price, o.quantity * o.unit_price_cents AS ordered_value,
        coalesce(r.units, 0) AS received_units, r.first_date,
        i.document_id NOT IN (SELECT * FROM exact UNION SELECT * FROM altered) AS counts
    FROM arrived AS i JOIN purchase_orders AS o ON o.po_number = i.po_number AND o.vendor_id = i.vendor_id
    LEFT JOIN received AS r ON r.po_number = i.po_number
),
billed AS (
    SELECT *, sum(quantity) OVER so_far AS billed_units, sum(net_cents) OVER so_far AS billed_net
    FROM matched WHERE counts
    WINDOW so_far AS (PARTITION BY po_number ORDER BY place ROWS UNBOUNDED PRECEDING)
)
SELECT document_id, 'duplicate_exact' AS kind FROM exact
UNION ALL SELECT document_id, 'duplicate_altered' FROM altered
UNION ALL SELECT document_id, 'missing_po' FROM invoices WHERE trim(po_number) = ''
UNION ALL SELECT document_id, 'unknown_po' FROM invoices
    WHERE trim(po_number) <> '' AND po_number NOT IN (SELECT po_number FROM purchase_orders)
UNION ALL SELECT i.document_id, 'vendor_mismatch' FROM invoices AS i JOIN purchase_orders AS o USING (po_number)
    WHERE o.vendor_id <> i.vendor_id
UNION ALL SELECT document_id, 'price_mismatch' FROM matched
    WHERE 10000 * abs(unit_price_cents - order_price) > order_price * rule('price_tolerance_bp')
UNION ALL SELECT document_id, 'quantity_mismatch' FROM billed
    WHERE billed_units - received_units > rule('quantity_tolerance_units')
UNION ALL SELECT document_id, 'po_exhausted' FROM billed
    WHERE 10000 * (billed_net - ordered_value) > ordered_value * rule('order_tolerance_bp')
UNION ALL SELECT document_id, 'wrong_tax' FROM invoices LEFT JOIN tax_rates USING (tax_code)
    WHERE rate_bp IS NULL OR abs(tax_cents - tax(net_cents, rate_bp)) > rule('tax_tolerance_cents')
UNION ALL SELECT document_id, 'early_invoice' FROM matched WHERE first_date IS NULL OR first_date > invoice_date
UNION ALL SELECT document_id, 'late_invoice' FROM invoices
    WHERE julianday(received_date) - julianday(invoice_date) > rule('submission_window_days')
"""

Rows = Iterable[Mapping[str, Any]]


def expected_exceptions(
    invoices: Rows, purchase_orders: Rows, goods_receipts: Rows, rules: Mapping[str, Any]
) -> dict[str, list[str]]:
    """Find the exceptions. Values may be text (as in the files) or numbers; SQLite's column types convert them.

    Returns:
        document id → its kinds in report order, only for invoices that have any, in order of document id.
    """
    board = sqlite3.connect(":memory:")
    board.executescript(SCHEMA)
    for table, rows in (
        ("invoices", invoices),
        ("purchase_orders", purchase_orders),
        ("goods_receipts", goods_receipts),
    ):
        for row in rows:
            places = ", ".join("?" * len(row))
            board.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", tuple(row.values()))
    board.executemany("INSERT INTO tax_rates VALUES (?, ?)", rules["tax_rates_bp"].items())
    board.create_function("plain", 1, _plain_number)
    board.create_function("tax", 2, _tax)
    board.create_function("rule", 1, rules.__getitem__)
    found: dict[str, list[str]] = {}
    for document, kind in board.execute(QUERY).fetchall():
        found.setdefault(document, []).append(kind)
    board.close()
    return {document: sorted(found[document], key=KINDS.index) for document in sorted(found)}


def expected_answer(folder: Path) -> dict[str, Any]:
    """The whole answer for the CSV files and the rules.json in `folder`.

    Returns:
        invoices_checked, invoices_with_exceptions, amount_at_risk_cents,
        kinds (kind → {"count", "amount_cents"}), exceptions (document id → kinds).
    """
    invoices = _read(folder / "invoices.csv")
    exceptions = expected_exceptions(
        invoices,
        _read(folder / "purchase_orders.csv"),
        _read(folder / "goods_receipts.csv"),
        json.loads((folder / "rules.json").read_text(encoding="utf-8")),
    )
    euros = {row["document_id"]: Decimal(row["total_cents"]) / 100 for row in invoices}

    def cents(documents: Iterable[str]) -> int:
        return int(sum((euros[document] for document in documents), Decimal(0)) * 100)

    having = {kind: [document for document, kinds in exceptions.items() if kind in kinds] for kind in KINDS}
    return {
        "invoices_checked": len(invoices),
        "invoices_with_exceptions": len(exceptions),
        "amount_at_risk_cents": cents(exceptions),
        "kinds": {
            kind: {"count": len(documents), "amount_cents": cents(documents)} for kind, documents in having.items()
        },
        "exceptions": exceptions,
    }


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _plain_number(number: str) -> str:
    return re.sub(r"(?<!\d)0+", "", re.sub(r"[^A-Z0-9]", "", number.upper()))


def _tax(net_cents: int, rate_bp: int) -> int:
    return int((Decimal(net_cents) * Decimal(rate_bp) / 10000).quantize(Decimal(1), rounding=ROUND_HALF_UP))


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader that has seen enough is no error
    here = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent
    print(json.dumps(expected_answer(here), indent=1))
