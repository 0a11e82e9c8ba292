"""How a fleet is started, watched and stopped on one machine."""
