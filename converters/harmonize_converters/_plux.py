"""Sensors of PLUX devices (biosignalsplux, BITalino): what a sensor's name in OpenSignals files means.

Transfer functions, ``ADC`` of ``n`` bits and VCC in V, as PLUX publishes them:

=============  ==========================================  =======================================================
ECG (mV)       (ADC / 2^n - 1/2) * 3 / 1019 * 1000         support.pluxbiosignals.com, "Transfer Functions"; the
                                                           ECG data sheet of 2015 rounds the gain to 1000
EMG (mV)       (ADC / 2^n - 1/2) * 3 / 1000 * 1000         EMG data sheet
EEG (µV)       (ADC / 2^n - 1/2) * 3 / 40000 * 10^6        EEG data sheet and manual (a nominal gain: biosignals-
                                                           notebooks divides by 41990, 5 % less)
EDA (µS)       ADC / 2^n * 3 / 0.12                        EDA data sheet; BITalino (r)evolution: 3.3 and 0.132
RESP (% of     (ADC / 2^n - 1/2) * 100                     PZT and RIP data sheets
full scale)
=============  ==========================================  =======================================================

All others keep their integers: accelerometers have a calibration each that the file does not hold, a thermistor's
function is not linear, and of light sensors (BVP, SpO2) PLUX publishes currents, no saturation.
"""

from __future__ import annotations

from dataclasses import dataclass

PLUX = frozenset(
    {"bioplux", "bioplux_exp", "biosignalsplux", "biosignalspluxsolo", "channeller", "rachimeter", "swifter"}
)
BITALINO = frozenset({"bitalino", "bitalino_rev", "bitalino_riot"})


@dataclass(frozen=True, slots=True)
class Sensor:
    """Canonical name and type; value in ``unit`` = (ADC / 2^n - ``zero``) * ``span``. Without ``unit`` there is
    no published linear function."""

    name: str
    type: str
    unit: str = ""
    span: float = 1.0
    zero: float = 0.0


_LIGHT = Sensor("PPG", "ppg")
_ACCELERATION = Sensor("Acceleration", "acceleration")
_BREATHING = Sensor("Resp", "resp", "%", 100.0, 0.5)
_ANY = {
    "BVP": _LIGHT, "SPO2": _LIGHT, "HSPO2": _LIGHT, "FSPO2": _LIGHT, "SPO2.HEAD": _LIGHT, "SPO2.FING": _LIGHT,
    "SPO2.ARM": _LIGHT, "XYZ": _ACCELERATION, "ACC": _ACCELERATION, "TEMP": Sensor("Temp", "temperature"),
    "LUX": Sensor("Light", "light"), "ECG": Sensor("ECG", "ecg"), "EMG": Sensor("EMG", "emg"),
    "EEG": Sensor("EEG", "eeg"), "EDA": Sensor("EDA", "eda"), "RESPIRATION": Sensor("Resp", "resp"),
    "PZT": Sensor("Resp", "resp"), "RIP": Sensor("Resp", "resp"),
}  # fmt: skip
_OF_PLUX = {
    "ECG": Sensor("ECG", "ecg", "mV", 3.0 / 1019 * 1e3, 0.5), "EMG": Sensor("EMG", "emg", "mV", 3.0 / 1000 * 1e3, 0.5),
    "EEG": Sensor("EEG", "eeg", "µV", 3.0 / 40000 * 1e6, 0.5), "EDA": Sensor("EDA", "eda", "µS", 3.0 / 0.12),
    "RESPIRATION": _BREATHING, "PZT": _BREATHING, "RIP": _BREATHING,
}  # fmt: skip
_OF_BITALINO = {"EDABITREV": Sensor("EDA", "eda", "µS", 3.3 / 0.132)}


def sensor(name: str, device: str) -> Sensor | None:
    """A sensor by its name in the file ("hSpO2") and the device's; None where it is not known."""
    table = _ANY | (_OF_PLUX if device in PLUX else _OF_BITALINO if device in BITALINO else {})
    return table.get(name.upper())
