"""Why two models differ: named faults, replayed on the right one until one of them gives what the wrong one gives."""

from parity.diagnosis.diagnosing import diagnose
from parity.diagnosis.diagnosis import Diagnosis, Evidence
from parity.diagnosis.fault import Fault, Place

__all__ = ["Diagnosis", "Evidence", "Fault", "Place", "diagnose"]
