"""A problem of a class of one's own, as a reader may bring one."""


class Own:
    """What engines ask of the problem `inner`, and nothing else."""

    observes_entries = False

    def __init__(self, inner):
        for name in ("shape", "weight", "parts", "targets", "attainable", "sizes"):
            setattr(self, name, getattr(inner, name))
        self.measure, self.adjoint = inner.measure, inner.adjoint
