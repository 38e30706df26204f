"""The kitchen's existing capabilities: it fries potatoes, reads any recipe on its books, and writes receipts.

Nothing here makes a cheesecake. An order that asks for one makes the Arbiter request that capability; the generated
code has no access to these files, so the recipe reaches it as an argument, from `read_recipe`.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from typing_extensions import TypedDict

from registry import capability

KITCHEN = Path(__file__).resolve().parent


class Ingredient(TypedDict):
    name: str
    quantity: int
    unit: str
    allergen: str


class Portion(TypedDict):
    name: str
    quantity: int
    unit: str


class Step(TypedDict):
    number: int
    instruction: str
    minutes: int
    attended: bool


class Recipe(TypedDict):
    item: str
    size: str
    portion_grams: int
    price_cents: int
    yield_grams: int
    ingredients: list[Ingredient]
    steps: list[Step]


class FriesTicket(TypedDict):
    order_id: str
    item: str
    size: str
    portion_grams: int
    ingredients: list[Portion]
    steps: list[Step]
    hands_on_minutes: int
    total_minutes: int
    allergens: list[str]
    price_cents: int
    price: str


class ReceiptLine(TypedDict):
    item: str
    size: str
    portions: int
    price_cents: int
    total_minutes: int
    allergens: list[str]


class Receipt(TypedDict):
    order_id: str
    customer_id: str
    total_cents: int
    ready_in_minutes: int
    allergens: list[str]
    text: str


@capability(effects="reads")
def read_recipe(item: str, size: str) -> Recipe:
    """Look up one item on the menu: its recipe with ingredients and steps, the weight and the price of a portion.

    Args:
        item: Name of the item as the menu spells it, for example "cheesecake".
        size: Size as the menu spells it, for example "slice", "whole", "large".

    Returns:
        The recipe for one batch: yield_grams, ingredients (quantity for one batch; allergen is empty if there is none)
        and steps (minutes; attended tells whether a cook is busy meanwhile); and for one portion of that size:
        portion_grams and price_cents.
    """
    return _recipe(item, size)


@capability(effects="reads")
def fries(order_id: str, size: Literal["small", "regular", "large"]) -> FriesTicket:
    """Prepare one portion of fries for an order: what to take, what to do, how long it takes, and what it costs.

    Args:
        order_id: The order the portion belongs to.
        size: Portion size on the menu.

    Returns:
        The kitchen ticket: ingredients for this portion (rounded up to whole units), steps in order, minutes at the
        stove and in all, allergens in alphabetical order, and the price in cents and as a decimal string.
    """
    recipe = _recipe("fries", size)
    grams, batch = recipe["portion_grams"], recipe["yield_grams"]
    return {
        "order_id": order_id,
        "item": "fries",
        "size": size,
        "portion_grams": grams,
        "ingredients": [
            {"name": each["name"], "quantity": -(-each["quantity"] * grams // batch), "unit": each["unit"]}
            for each in recipe["ingredients"]
        ],
        "steps": recipe["steps"],
        "hands_on_minutes": sum(step["minutes"] for step in recipe["steps"] if step["attended"]),
        "total_minutes": sum(step["minutes"] for step in recipe["steps"]),
        "allergens": sorted({each["allergen"] for each in recipe["ingredients"] if each["allergen"]}),
        "price_cents": recipe["price_cents"],
        "price": _decimal(recipe["price_cents"]),
    }


@capability(effects="pure")
def receipt(order_id: str, customer_id: str, lines: list[ReceiptLine]) -> Receipt:
    """Add up the tickets of one order and write its receipt.

    Args:
        order_id: The order.
        customer_id: The customer who placed it.
        lines: One entry per ticket: item, size, portions, price_cents (of all its portions), total_minutes, allergens.

    Returns:
        The sum in cents, the minutes until everything is ready when all of it is made at the same time, the allergens
        of the whole order in alphabetical order, and the receipt as text.
    """
    total = sum(line["price_cents"] for line in lines)
    minutes = max((line["total_minutes"] for line in lines), default=0)
    allergens = sorted({allergen for line in lines for allergen in line["allergens"]})
    printed = [
        f"{line['portions']} x {line['item']}, {line['size']}: {_decimal(line['price_cents'])}" for line in lines
    ]
    printed.append(f"Total: {_decimal(total)}")
    printed.append(
        f"Ready in {minutes // 60} h {minutes % 60:02d} min. Contains: {', '.join(allergens) or 'nothing listed'}."
    )
    return {
        "order_id": order_id,
        "customer_id": customer_id,
        "total_cents": total,
        "ready_in_minutes": minutes,
        "allergens": allergens,
        "text": "\n".join(printed),
    }


def _recipe(item: str, size: str) -> Recipe:
    portion = next((row for row in _rows("menu.csv", item) if row["size"] == size), None)
    if portion is None:
        offered = ", ".join(f"{row['item']} ({row['size']})" for row in _rows("menu.csv"))
        raise ValueError(f"item {item!r} in size {size!r} is not on the menu; it has: {offered}")
    batch = next(_rows("recipes.csv", item), None)
    if batch is None:
        raise ValueError(f"item {item!r} has no recipe; add it to {KITCHEN / 'recipes.csv'}")
    return {
        "item": item,
        "size": size,
        "portion_grams": int(portion["portion_grams"]),
        "price_cents": int(portion["price_cents"]),
        "yield_grams": int(batch["yield_grams"]),
        "ingredients": [
            {
                "name": row["ingredient"],
                "quantity": int(row["quantity"]),
                "unit": row["unit"],
                "allergen": row["allergen"],
            }
            for row in _rows("ingredients.csv", item)
        ],
        "steps": [
            {
                "number": int(row["number"]),
                "instruction": row["instruction"],
                "minutes": int(row["minutes"]),
                "attended": row["attended"] == "yes",
            }
            for row in _rows("steps.csv", item)
        ],
    }


def _rows(file: str, item: str | None = None) -> Iterator[dict[str, str]]:
    with (KITCHEN / file).open(encoding="utf-8", newline="") as lines:
        yield from (row for row in csv.DictReader(lines) if item in (None, row["item"]))


def _decimal(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


CAPABILITIES = [read_recipe, fries, receipt]
