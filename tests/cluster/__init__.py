"""A fleet in a real cluster, from an empty one to the last answer: ``scripts/cluster``. By hand, for it takes minutes
and whatever cluster ``kubectl`` reaches."""
