"""Where vectors of texts come from: any function, a folder of weights, or Amazon Bedrock.

An encoder takes texts and returns a vector for each. Its ``identity`` says which vectors can be compared: it changes
with the model, and everything encoded by another one is encoded anew. Where a model makes other vectors of what is looked
for than of what is found, the encoder has another one for needs: see :class:`AsymmetricEncoder`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from blackboard.errors import BadInput, ModelUnavailable
from registry.matching.sentences import SentenceEncoder

if TYPE_CHECKING:
    from collections.abc import Mapping

Vectors = Sequence[Sequence[float]]

CALL_SECONDS = 30.0
"""How long a call of an encoder may take, beside :data:`TEXT_SECONDS` for each text."""
TEXT_SECONDS = 1.0
_LONGEST = 1e18
"""Length of a vector whose square is still a number where vectors are kept in 32 bits."""
_REGION = "us-west-2"
_COHERE_AT_ONCE = 96
_CHARACTERS = 2000


class Encoder(Protocol):
    """Makes vectors of texts."""

    identity: str

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """A vector for each text, in order, all of one length."""
        ...


@runtime_checkable
class AsymmetricEncoder(Encoder, Protocol):
    """Makes vectors of texts that are looked through, to be compared with those that another encoder makes of needs."""

    needs: Encoder
    """Its identity is another one, so that vectors of both kinds of one text are kept apart."""


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


class LimitedEncoder:
    """An encoder that gives vectors, in time, or fails in one way: nothing waits long for it and nothing ranks by what is none.

    It runs in a thread of its own, which cannot be stopped: as long as one hangs, no other is begun. Weights that are run here
    wait for nobody, and need none.

    Args:
        encoder: what makes the vectors.
        seconds: how long a call may take, beside ``per_text`` for each of its texts.

    Raises:
        ModelUnavailable: by a call, when the encoder did not answer in time, still hangs in an earlier one, raised
            something, or gave anything but a vector of finite numbers for each text, all of one length.
    """

    def __init__(self, encoder: Encoder, seconds: float = CALL_SECONDS, per_text: float = TEXT_SECONDS) -> None:
        self._encoder, self._seconds, self._per_text = encoder, seconds, per_text
        self._hung: Thread | None = None
        self.identity = encoder.identity
        needs = encoder.needs if isinstance(encoder, AsymmetricEncoder) else encoder
        self.needs: Encoder = self if needs is encoder else LimitedEncoder(needs, seconds, per_text)
        """Makes the vectors of needs, limited as well."""

    def __call__(self, texts: Sequence[str]) -> Vectors:
        if self._hung is not None and self._hung.is_alive():
            raise ModelUnavailable(f"The encoder {self.identity} still hangs in an earlier call.")
        said: list[Vectors] = []
        failed: list[BaseException] = []

        def work() -> None:
            try:
                said.append(_checked(self._encoder(texts), len(texts)))
            except BaseException as error:
                failed.append(error)

        seconds = self._seconds + self._per_text * len(texts)
        thread: Thread | None = None
        if isinstance(self._encoder, SentenceEncoder):
            work()
        else:
            thread = Thread(target=work, name="encoder", daemon=True)
            thread.start()
            thread.join(seconds)
        if failed:
            if isinstance(failed[0], ModelUnavailable):
                raise failed[0]
            why = f"{type(failed[0]).__name__}: {failed[0]}"
            raise ModelUnavailable(f"The encoder {self.identity} gave no vectors: {why}") from failed[0]
        if not said:
            self._hung = thread
            raise ModelUnavailable(f"The encoder {self.identity} gave no vectors within {seconds:g} s.")
        return said[0]


def _checked(vectors: Vectors, number: int) -> Vectors:
    """Vectors as they are.

    Raises:
        TypeError, ValueError: it is not one for each text, of finite numbers, all of one length.
    """
    found = list(vectors)
    if len(found) != number:
        raise ValueError(f"{len(found)} vectors for {number} texts")
    lengths = {len(vector) for vector in found}
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(f"vectors of {', '.join(map(str, sorted(lengths)))} numbers; all must have one length")
    if not all(math.hypot(*vector) < _LONGEST for vector in found):
        raise ValueError("a vector with what is no finite number in it, or a number above 1e18")
    return found


def _bedrock_client() -> Any:
    import boto3  # pyright: ignore[reportMissingTypeStubs]
    from botocore.exceptions import BotoCoreError  # pyright: ignore[reportMissingTypeStubs]

    try:
        session = cast(Any, boto3).Session(region_name=os.environ.get("AWS_REGION") or None)
        return session.client("bedrock-runtime", region_name=session.region_name or _REGION)
    except (BotoCoreError, ValueError) as error:  # botocore raises a bare ValueError for an address it cannot read
        said = str(error).rstrip(".")
        remedy = "Check AWS_REGION, AWS_PROFILE and AWS_ENDPOINT_URL_BEDROCK_RUNTIME."
        raise ModelUnavailable(f"Bedrock cannot be asked for embeddings: {said}. {remedy}") from error


class BedrockEncoder:
    """Embeddings of Amazon Bedrock: ``amazon.titan-embed-…`` and ``cohere.embed-…``, which embeds needs in a way of their own.

    Args:
        model: the model's id.
        client: a boto3 client of ``bedrock-runtime``. Default: a new one, with the credentials boto3 finds for itself, in the
            region ``AWS_REGION`` names, the profile's, or us-west-2.

    Raises:
        BadInput: a model of another family.
        ModelUnavailable: the AWS configuration is unusable; by a call, when Bedrock did not answer it as expected.
    """

    def __init__(self, model: str = "amazon.titan-embed-text-v2:0", client: Any = None) -> None:
        if "titan-embed" not in model and "cohere.embed" not in model:
            raise BadInput("model", model, "Use an id with titan-embed or cohere.embed, or CallableEncoder.")
        if client is None:
            client = _bedrock_client()
        self._model, self._client = model, client
        self.identity = f"bedrock:{model}"
        self._cohere = "cohere" in model
        self.needs: Encoder = self
        """Makes the vectors of needs."""
        if self._cohere:
            self.needs = CallableEncoder(lambda texts: self._together(texts, "search_query"), f"{self.identity}:needs")

    def __call__(self, texts: Sequence[str]) -> Vectors:
        if self._cohere:
            return self._together(texts, "search_document")
        return [self._ask({"inputText": text}, "embedding") for text in _short(texts)]

    def _together(self, texts: Sequence[str], input_type: str) -> Vectors:
        """What Cohere's models give for texts of a kind: a list of vectors, from the fourth version on one for each type."""
        short = _short(texts)
        found: list[Sequence[float]] = []
        for start in range(0, len(short), _COHERE_AT_ONCE):
            body = {"texts": short[start : start + _COHERE_AT_ONCE], "input_type": input_type}
            vectors = self._ask(body, "embeddings")
            found += cast("dict[str, Any]", vectors)["float"] if isinstance(vectors, dict) else vectors
        return found

    def _ask(self, body: Mapping[str, Any], key: str) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

        try:
            reply = self._client.invoke_model(modelId=self._model, body=json.dumps(body))
            return json.loads(reply["body"].read())[key]
        except (BotoCoreError, ClientError, ValueError, KeyError, TypeError) as error:
            raise ModelUnavailable(f"Bedrock gave no embedding by {self._model}: {error}") from error


def _short(texts: Sequence[str]) -> list[str]:
    """Texts as long as the models take, none empty."""
    return [text[:_CHARACTERS] or " " for text in texts]
