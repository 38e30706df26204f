"""The bridge to AWS: requests from SQS queues, events to EventBridge buses and SQS queues. See ``docs/aws.md``.

``envelopes``  what a message asks for; events as entries of a bus, and back
``receiving``  requests from a queue: deleted once their run is durable, held while the board refuses
``sending``    events of a webhook to a bus or a queue, many at a time

Enters: messages, in the forms that are known. Leaves: CloudEvents. boto3 is loaded when the first client is made.
How queues and buses are named is in :mod:`blackboard.destinations`, clients of boto3 in :mod:`wrapper.aws_clients`, tables of
DynamoDB in :mod:`wrapper.peers.dynamodb`.
"""
