"""The HTTP API of a daemon: ``arbiter serve --http 127.0.0.1:8300``. Off unless it is asked for.

``server``       where it listens and who may reach it; time-outs of slow clients
``access``       which Host and Origin, which token, which scope; refusals on record
``local_token``  the token of this machine's user, in the data folder
``application``  the routes, and what all of them share
``described``    what a route takes and gives, said where it is answered
``answers``      what is answered, as models
``openapi``      the routes as an OpenAPI document
``bodies``       what may come in: text, JSON, CloudEvents in structured and binary mode, options
``runs``         submitting, looking, following as Server-Sent Events, stopping
``operating``    dead letters, capabilities, approvals, budgets, quotas, audit
``approvals``    tasks that wait for a person
``permits``      requests that would carry a secret
``console``      the page for people, and under which policy browsers run it; its files are in ``page``
``metrics``      what Prometheus reads
``problems``     errors as RFC 9457 problem details

Enters: HTTP/1.1 requests with a bearer token. Leaves: JSON. Needs ``pip install 'arbiter[http]'``.
"""
