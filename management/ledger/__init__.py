"""From the messages of the results topic to rows and sums: what is stored, made anew, checked and deleted."""
