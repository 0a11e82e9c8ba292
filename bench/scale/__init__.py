"""How the fleet behaves with much of something: streams, chunks, gateways, nodes, models, a backlog, time."""
