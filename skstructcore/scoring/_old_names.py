"""Fitted attributes under the names that they had in earlier releases."""

from sklearn.utils import deprecated


class OldNames:
    """Mixin of `StructCoreScorer`: each old name leads to the new one, with a warning."""

    @property
    @deprecated("Use location_.")
    def mu_(self):
        return self.location_

    @property
    @deprecated("Use calibration_.paper_location.")
    def phi_location_(self):
        return self.calibration_.paper_location

    @property
    @deprecated("Use calibration_.paper_scale.")
    def phi_scale_(self):
        return self.calibration_.paper_scale
