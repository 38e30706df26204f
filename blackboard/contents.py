"""Large contents of entries leave the store while others may write the same ones at that moment.

Store and log are two places, so no script can look at one and change the other. Who writes stores before the fact and, where the
scope lasts, once more after it; who removes looks for the fact after the removal. Whichever of the two comes last finds what the
other did and has the content at hand.
"""

from __future__ import annotations

import json

from blackboard import entry_log, events
from blackboard._calling import Calling
from blackboard.blobs import Blob
from blackboard.entry import FACTS
from blackboard.errors import BlobDamaged, BlobMissing


async def remove(board: Calling, owner: str, blob: Blob, after: str) -> bool:
    """Remove a large content to which no fact up to a position refers; whether it is gone by this.

    It is put back where a fact written since refers to it, unless it was damaged when it was looked at. Else only a process that
    dies between the two leaves such a fact without its content, until somebody writes the same content in this scope.

    Args:
        after: the position, as the stream has it, up to which the caller has looked.

    Raises:
        BlobUnavailable: the store cannot be reached or refuses.
    """
    try:
        text = await board.blobs.text(owner, blob)
    except BlobMissing:
        return False
    except BlobDamaged:
        text = None  # nobody can use what is there
    await board.blobs.delete(owner, blob)
    async for page in entry_log.pages(board, owner, f"({after}"):
        for at, fields in page.events:
            if not fields["type"].startswith(FACTS):
                continue
            other = events.apart(events.parse(at, fields, owner, board.source))
            if other is not None and other.digest == blob.digest:
                if text is not None:
                    await board.blobs.keep(owner, text, json.loads(text))
                return False
    return True
