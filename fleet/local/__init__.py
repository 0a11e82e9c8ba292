"""``fleet local``, which ``./local.sh`` runs: prepares a machine for a local model."""
