"""Why a judge and harmonize differ, and who is right by the specification: data of ``docs/judges.md``.

Each explanation names the files and judges it is for. One that no difference needs is an error, and so is a
difference without one (``results.explained``).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from judging.compare import Aspect

EDF = "https://www.edfplus.info/specs/edf.html"
EDF_PLUS = "https://www.edfplus.info/specs/edfplus.html"
TRIGGERS = "https://www.biosemi.com/faq/trigger_signals.htm"
ANNOT = "https://physionet.org/physiotools/wag/annot-5.htm"
HEADER = "https://physionet.org/physiotools/wag/header-5.htm"


@dataclass(frozen=True, slots=True)
class Explanation:
    """``right`` is who is right by the specification: "harmonize", a judge's name, or "both"."""

    title: str
    files: tuple[str, ...]
    judges: tuple[str, ...]
    aspects: tuple[Aspect, ...]
    right: str
    why: str

    def places(self) -> set[tuple[str, str, Aspect]]:
        """All (file, judge, aspect) that it explains."""
        return set(product(self.files, self.judges, self.aspects))


EXPLANATIONS = (
    Explanation(
        "MNE has one rate for all signals",
        (
            "edf/mne/test_uneven_samp.edf",
            "edf/pyedflib/test_generator.bdf",
            "edf/pyedflib/test_generator_datarec_generator_0_5.bdf",
            "edf/pyedflib/test_generator_datarec_generator_2.bdf",
        ),
        ("MNE",),
        ("signals",),
        "harmonize",
        f"By [EDF]({EDF}) every signal has its own number of samples in a data record, hence its own rate. harmonize "
        "stores one stream for each rate; MNE resamples what is slower than the fastest signal (mne#10635). The fastest "
        "signals are compared, and identical.",
    ),
    Explanation(
        "The start is a fraction of a second after the header's",
        ("edf/pyedflib/test_subsecond.edf", "edf/pyedflib/test_utf8.edf"),
        ("pyedflib", "edfio", "MNE"),
        ("annotations",),
        "both",
        f"By [EDF+ 2.2.2]({EDF_PLUS}) onsets count from the header's start date and time, and so harmonize keeps them; "
        "the first data record begins that fraction later, and so does harmonize's first segment. The judges move all "
        "onsets to the first sample. Annotations lie at the same samples either way.",
    ),
    Explanation(
        "Annotations in a file that does not say it is EDF+",
        ("edf/pyedflib/test_legacy.edf",),
        ("pyedflib",),
        ("signals", "annotations"),
        "pyedflib by the letter",
        f"'EDF Annotations' has its meaning in [EDF+]({EDF_PLUS}), and the reserved field of this file does not say "
        "EDF+, so pyEDFlib gives one more signal, of numbers that are pairs of letters. Its bytes are annotation lists "
        "of the form of EDF+, and harmonize, edfio and MNE read them as such; no sample of another signal is touched.",
    ),
    Explanation(
        "A number with blanks in front",
        ("edf/mne/test.bdf",),
        ("pyedflib",),
        ("file",),
        "pyedflib by the letter",
        f"[EDF]({EDF}) wants texts left-justified, and this header says '  1     ' data records, which pyEDFlib "
        "refuses. The number can be read in one way only and agrees with the file's size; harmonize, edfio and MNE read "
        "the file.",
    ),
    Explanation(
        "A degree sign in the header",
        ("wfdb/test_generator_2.edf",),
        ("pyedflib",),
        ("file",),
        "pyedflib by the letter",
        f"[EDF+ 2.1.3]({EDF_PLUS}) allows printable US-ASCII only, and the unit of two signals is the byte 0xB0, the degree sign of "
        "Latin-1. harmonize reads the samples and keeps the unit as found, flagged `unit_unknown`; edfio and MNE read "
        "the file too.",
    ),
    Explanation(
        "The Status channel of BDF is bits",
        ("edf/mne/test_bdf_stim_channel.bdf",),
        ("raw bytes", "pyedflib", "edfio"),
        ("values",),
        "harmonize",
        f"Bits 0 to 15 of [Status]({TRIGGERS}) are trigger inputs, those above tell of the system, so its values are its "
        "integers. The judges put them on the line from digital to physical range, which this header gives in uV, as "
        "they do with all signals. The samples are identical.",
    ),
    Explanation(
        "MNE keeps 17 bits of a trigger channel of BDF",
        ("edf/mne/test.bdf", "edf/mne/test_bdf_stim_channel.bdf"),
        ("MNE",),
        ("values",),
        "harmonize",
        f"[Status]({TRIGGERS}) has 24 bits. MNE keeps the lower 17, which is enough for the triggers (they are identical) "
        "and drops what the system says: speed mode, CMS in range, low battery. harmonize keeps all.",
    ),
    Explanation(
        "MNE makes 17-bit integers of a trigger channel of EDF",
        ("edf/mne/test_stim_channel.edf",),
        ("MNE",),
        ("values",),
        "harmonize",
        f"By [EDF]({EDF}) values lie on the line from digital to physical range, for channels named STATUS and TRIGGER "
        "too, and here this gives fractions, up to 1,000,000. MNE cuts them to integers of 17 bits. raw bytes, pyEDFlib "
        "and edfio agree with harmonize.",
    ),
    Explanation(
        "A note at time 0",
        ("wfdb/03700181", "wfdb/100"),
        ("wfdb",),
        ("annotations",),
        "harmonize",
        f"By [annot(5)]({ANNOT}) a note is an annotation like any other; those at time 0 that begin with '##', and what "
        "they enclose, define things. The first note of these .qrs, .gqrsh and .gqrsl files is the command that wrote "
        "them, and harmonize keeps it. wfdb-python drops every note at time 0 (wfdb's C library, too, where it is the "
        "file's first annotation).",
    ),
    Explanation(
        "A record of a gap alone",
        ("wfdb/multi-segment/s00001/s00001-2896-10-09-01-56",),
        ("wfdb",),
        ("file",),
        "both",
        f"By [header(5)]({HEADER}) '~' is a null segment, and this record has no other. There is nothing to convert, so "
        "harmonize names it in the failure table; wfdb gives the four signals of the layout with NaN for every value.",
    ),
)
