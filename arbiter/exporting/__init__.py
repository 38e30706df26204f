"""What this board can do, offered to others in their protocols: as an MCP server, as an A2A agent.

* :mod:`arbiter.exporting.carrying`: a call from outside, carried out as a run of the board, watched, and stopped when the
  caller goes.
* :mod:`arbiter.exporting.mcp`, :mod:`arbiter.exporting.a2a`: the two protocols. Their libraries load when they are used.
"""
