"""The two invoice capabilities that exist: reading the books, and writing up what was found.

The step between them, finding the exceptions, does not exist. The Arbiter requests it, the Fabricator writes it, and it
gets the books as arguments: fabricated code has no files, no network and no credentials.
"""

import csv
import json
from pathlib import Path

from typing_extensions import TypedDict

from registry import capability

EXAMPLES = Path(__file__).resolve().parent.parent

MEANING = {
    "duplicate_exact": "Duplicate, same number",
    "duplicate_altered": "Duplicate, number written differently",
    "missing_po": "No order number",
    "unknown_po": "Unknown order number",
    "vendor_mismatch": "Order of another vendor",
    "price_mismatch": "Price differs from the order",
    "quantity_mismatch": "More billed than received",
    "po_exhausted": "Order exhausted",
    "wrong_tax": "Wrong tax",
    "early_invoice": "Invoiced before the goods came",
    "late_invoice": "Submitted too late",
}


class Invoice(TypedDict):
    document_id: str
    vendor_id: str
    vendor_name: str
    invoice_number: str
    po_number: str
    invoice_date: str
    received_date: str
    quantity: int
    unit_price_cents: int
    net_cents: int
    tax_code: str
    tax_cents: int
    total_cents: int


class PurchaseOrder(TypedDict):
    po_number: str
    vendor_id: str
    order_date: str
    item: str
    quantity: int
    unit_price_cents: int


class GoodsReceipt(TypedDict):
    receipt_number: str
    po_number: str
    receipt_date: str
    quantity: int


class Rules(TypedDict):
    price_tolerance_bp: int
    order_tolerance_bp: int
    quantity_tolerance_units: int
    tax_tolerance_cents: int
    submission_window_days: int
    tax_rates_bp: dict[str, int]


class Books(TypedDict):
    invoices: list[Invoice]
    purchase_orders: list[PurchaseOrder]
    goods_receipts: list[GoodsReceipt]
    rules: Rules


class InvoiceException(TypedDict):
    document_id: str
    invoice_number: str
    vendor_id: str
    total_cents: int
    kinds: list[str]


class KindTotal(TypedDict):
    kind: str
    count: int
    amount_cents: int


class Summary(TypedDict):
    invoices_checked: int
    invoices_with_exceptions: int
    amount_at_risk_cents: int
    kinds: list[KindTotal]
    text: str


@capability(effects="reads")
def load_invoices(folder: str) -> Books:
    """Read the supplier invoices, purchase orders, goods receipts and checking rules kept in one folder.

    Args:
        folder: Folder with invoices.csv, purchase_orders.csv, goods_receipts.csv and rules.json, relative to the
            examples, for example "invoices".

    Returns:
        The rows of the three files and the rules. Amounts are integer cents, rates integer basis points, dates ISO
        (YYYY-MM-DD); an invoice without an order number has an empty po_number.
    """
    place = (EXAMPLES / folder).resolve()
    if not place.is_relative_to(EXAMPLES) or not (place / "invoices.csv").is_file():
        raise ValueError(f"folder: {folder!r} was refused. Name a folder below {EXAMPLES} that holds invoices.csv.")
    return {
        "invoices": [
            {
                "document_id": row["document_id"],
                "vendor_id": row["vendor_id"],
                "vendor_name": row["vendor_name"],
                "invoice_number": row["invoice_number"],
                "po_number": row["po_number"].strip(),
                "invoice_date": row["invoice_date"],
                "received_date": row["received_date"],
                "quantity": int(row["quantity"]),
                "unit_price_cents": int(row["unit_price_cents"]),
                "net_cents": int(row["net_cents"]),
                "tax_code": row["tax_code"],
                "tax_cents": int(row["tax_cents"]),
                "total_cents": int(row["total_cents"]),
            }
            for row in _rows(place / "invoices.csv")
        ],
        "purchase_orders": [
            {
                "po_number": row["po_number"],
                "vendor_id": row["vendor_id"],
                "order_date": row["order_date"],
                "item": row["item"],
                "quantity": int(row["quantity"]),
                "unit_price_cents": int(row["unit_price_cents"]),
            }
            for row in _rows(place / "purchase_orders.csv")
        ],
        "goods_receipts": [
            {
                "receipt_number": row["receipt_number"],
                "po_number": row["po_number"],
                "receipt_date": row["receipt_date"],
                "quantity": int(row["quantity"]),
            }
            for row in _rows(place / "goods_receipts.csv")
        ],
        "rules": json.loads((place / "rules.json").read_text(encoding="utf-8")),
    }


@capability(effects="pure")
def summarise_exceptions(invoices_checked: int, exceptions: list[InvoiceException]) -> Summary:
    """Total the invoice exceptions that were found and write the report on them.

    Args:
        invoices_checked: How many invoices were looked at.
        exceptions: The invoices that must not be paid yet, each once, with every kind of exception it has.

    Returns:
        How many invoices have exceptions, the amount at risk (their totals with tax, each invoice once), per kind the
        count and amount (an invoice with two kinds is in both), and all of it as a text that names every invoice.
    """
    order = [*MEANING, *sorted({kind for each in exceptions for kind in each["kinds"]} - set(MEANING))]
    having = {kind: [each for each in exceptions if kind in each["kinds"]] for kind in order}
    at_risk = sum(each["total_cents"] for each in exceptions)
    kinds: list[KindTotal] = [
        {"kind": kind, "count": len(found), "amount_cents": sum(each["total_cents"] for each in found)}
        for kind, found in having.items()
        if found
    ]
    several = [each for each in exceptions if len(each["kinds"]) > 1]
    lines = [
        f"{len(exceptions)} of {invoices_checked} invoices have exceptions; {_euros(at_risk)} EUR are at risk.",
        "",
        *(f"{_label(each['kind']):<38}{each['count']:>4} {_euros(each['amount_cents']):>14} EUR" for each in kinds),
        "",
        f"{len(several)} invoices have more than one exception and are counted in each row.",
    ]
    for total in kinds:
        documents = ", ".join(each["document_id"] for each in having[total["kind"]])
        lines += ["", f"{_label(total['kind'])} ({total['kind']}): {documents}"]
    return {
        "invoices_checked": invoices_checked,
        "invoices_with_exceptions": len(exceptions),
        "amount_at_risk_cents": at_risk,
        "kinds": kinds,
        "text": "\n".join(lines),
    }


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _label(kind: str) -> str:
    return MEANING.get(kind, kind)


def _euros(cents: int) -> str:
    return f"{cents // 100:,}.{cents % 100:02d}"


CAPABILITIES = [load_invoices, summarise_exceptions]
