"""``fleet doctor``: looks at what a fleet needs and says, for each thing, how it is and what to do about it."""

from fleet.doctor.examination import doctor

__all__ = ["doctor"]
