"""Calling peers: systems elsewhere whose tools are capabilities here.

* :mod:`wrapper.peers.peer`: what a peer is to the rest: something that can be opened, and an open one.
* :mod:`wrapper.peers.mcp`, :mod:`wrapper.peers.a2a`: MCP servers and A2A agents. Their libraries load when one is opened.
* :mod:`wrapper.peers.follower`: keeps one connection, registers what is offered, and says whether the peer answers.
* :mod:`wrapper.peers.following`: all the peers that one process serves.
* :mod:`wrapper.peers.settings`: peers from a file.
"""

from wrapper.peers.peer import Peer, Session

__all__ = ["Peer", "Session"]
