"""Where vectors of texts come from: any function, a folder of weights, or Amazon Bedrock.

An encoder takes texts and returns a vector for each. Its ``identity`` says which vectors can be compared: it changes
with the model, and everything encoded by another one is encoded anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from blackboard.errors import BadInput, ModelUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

Vectors = Sequence[Sequence[float]]

_COHERE_AT_ONCE = 96
_CHARACTERS = 2000


class Encoder(Protocol):
    """Makes vectors of texts."""

    identity: str

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """A vector for each text, in order, all of one length."""
        ...


class CallableEncoder:
    """Any function from texts to vectors, under a name of your choice.

    Args:
        function: see :class:`Encoder`.
        identity: names model and version; change it when the function's vectors change.
    """

    def __init__(self, function: Callable[[Sequence[str]], Vectors], identity: str) -> None:
        self._function, self.identity = function, identity

    def __call__(self, texts: Sequence[str]) -> Vectors:
        return self._function(texts)


class BedrockEncoder:
    """Embeddings of Amazon Bedrock: ``amazon.titan-embed-…`` and ``cohere.embed-…``.

    Args:
        model: the model's id.
        client: a boto3 client of ``bedrock-runtime``. Default: a new one, with what boto3 finds for itself.

    Raises:
        BadInput: a model of another family.
        ModelUnavailable: by a call, when Bedrock did not answer it as expected.
    """

    def __init__(self, model: str = "amazon.titan-embed-text-v2:0", client: Any = None) -> None:
        if "titan-embed" not in model and "cohere.embed" not in model:
            raise BadInput("model", model, "Use an id with titan-embed or cohere.embed, or CallableEncoder.")
        if client is None:
            import boto3  # pyright: ignore[reportMissingTypeStubs]

            client = cast(Any, boto3).client("bedrock-runtime")
        self._model, self._client = model, client
        self.identity = f"bedrock:{model}"

    def __call__(self, texts: Sequence[str]) -> Vectors:
        short = [text[:_CHARACTERS] or " " for text in texts]
        if "cohere" not in self._model:
            return [self._ask({"inputText": text})["embedding"] for text in short]
        found: list[Sequence[float]] = []
        for start in range(0, len(short), _COHERE_AT_ONCE):
            body = {"texts": short[start : start + _COHERE_AT_ONCE], "input_type": "search_document"}
            found += self._ask(body)["embeddings"]
        return found

    def _ask(self, body: Mapping[str, Any]) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

        try:
            reply = self._client.invoke_model(modelId=self._model, body=json.dumps(body))
            return cast("dict[str, Any]", json.loads(reply["body"].read()))
        except (BotoCoreError, ClientError, ValueError, KeyError) as error:
            raise ModelUnavailable(f"Bedrock gave no embedding by {self._model}: {error}") from error
