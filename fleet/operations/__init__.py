"""``fleet pause``, ``resume``, ``drain`` and ``cancel``: what operators do through management, which writes it down."""
