"""Who retired a version, on whose behalf, and what is not offered again as a matter of course because of that."""

from __future__ import annotations

import json

import catalog_support
import pytest
import redis.asyncio
from catalog_support import put, sha

from blackboard.catalog import Catalog
from blackboard.catalog_records import Behalf, Sharing
from blackboard.trust import Trust

server, client, catalog = catalog_support.server, catalog_support.client, catalog_support.catalog


async def of(catalog: Catalog, text: str) -> tuple[str, str, Behalf | None]:
    """State of a version of ``add``, who retired it, and for whom."""
    version = await catalog.get("add", sha(f"add{text}"))
    assert version is not None
    return version.state, version.retired_by, version.retired_for


async def test_it_is_known_who_retired_a_version_until_it_is_offered_again(catalog: Catalog) -> None:
    await put(catalog, "add", "1")
    await put(catalog, "add", "2")
    assert await of(catalog, "1") == ("retired", "", None), "it was replaced by whoever registered the other"
    await catalog.set_state(
        "add", sha("add1"), "active", decided=("activated", "reflection of ann"), behalf="reflection"
    )
    assert await of(catalog, "2") == ("retired", "reflection of ann", "reflection")
    assert await of(catalog, "1") == ("active", "", None)
    await catalog.set_state("add", None, "retired", decided=("retired", "peer mcp:shop"), behalf="peer")
    assert await of(catalog, "1") == ("retired", "peer mcp:shop", "peer")
    assert (await catalog.set_state("add", sha("add1"), "retired", decided=("retired", "ann"))).changed
    assert await of(catalog, "1") == ("retired", "ann", "person"), "a person's word counts more"
    for late in ("ben", "reflection of ben"):
        behalf: Behalf = "person" if late == "ben" else "reflection"
        call = catalog.set_state("add", sha("add1"), "retired", decided=("retired", late), behalf=behalf)
        assert not (await call).changed
    await put(catalog, "add", "3")
    await catalog.set_state("add", sha("add1"), "canary", canary=Sharing(0.5, (0, 0, 0, 0)))
    assert await of(catalog, "1") == ("canary", "", None)
    await Trust(catalog).revoke_version("add", sha("add3"), by="ann")
    assert await of(catalog, "1") == ("retired", "ann", "person"), "it ended with it"
    assert await of(catalog, "3") == ("retired", "ann", "person")


@pytest.mark.parametrize("how", ["retired", "revoked"])
async def test_a_name_that_a_person_withdrew_is_not_offered_again_unasked_with_any_content(
    catalog: Catalog, how: str
) -> None:
    await put(catalog, "add", "1")
    if how == "retired":
        await catalog.set_state("add", None, "retired", decided=("retired", "ann"))
        assert (await put(catalog, "add", "1", unasked=True)).state == "retired"
    else:
        await Trust(catalog).revoke_version("add", sha("add1"), by="ann")
    assert (await put(catalog, "add", "2", unasked=True)).state == "draft"
    assert (await catalog.pointers()).active == {}
    assert (await put(catalog, "add", "3")).state == "active", "on purpose it is"
    assert (await put(catalog, "add", "4", unasked=True)).state == "active"


@pytest.mark.parametrize("behalf", ["reflection", "peer"])
async def test_what_was_not_retired_by_a_person_comes_back_with_other_content(catalog: Catalog, behalf: Behalf) -> None:
    await put(catalog, "add", "1")
    await catalog.set_state("add", None, "retired", decided=("retired", "it"), behalf=behalf)
    again = await put(catalog, "add", "1", unasked=True)
    assert again.state == {"reflection": "retired", "peer": "active"}[behalf]
    assert (await put(catalog, "add", "2", unasked=True)).state == "active"


async def test_retiring_an_earlier_version_withdraws_it_and_not_the_name(catalog: Catalog) -> None:
    await put(catalog, "add", "1")
    await put(catalog, "add", "2")
    await catalog.set_state("add", sha("add1"), "retired", decided=("retired", "ann"))
    assert (await put(catalog, "add", "1", unasked=True)).state == "retired"
    await catalog.set_state("add", None, "retired", decided=("retired", "peer x"), behalf="peer")
    assert (await put(catalog, "add", "2", unasked=True)).state == "active"


async def test_what_was_retired_before_anybody_wrote_that_down_comes_back_as_it_did(
    catalog: Catalog, client: redis.asyncio.Redis
) -> None:
    await put(catalog, "add", "1")
    await catalog.set_state("add", None, "retired", decided=("retired", "ann"))
    field, key = f"add|{sha('add1')}", "arb:{test/main#reg}:header"
    header = json.loads(str(await client.hget(key, field)))
    kept = {name: value for name, value in header.items() if not name.startswith("retired")}
    await client.hset(key, field, json.dumps(kept))
    await client.delete("arb:{test/main#reg}:withdrawn")
    assert await of(catalog, "1") == ("retired", "", None)
    assert (await put(catalog, "add", "1", unasked=True)).state == "active"
