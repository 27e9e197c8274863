"""Files that need a recipe, with a unique string in every field that can identify: bare arrays, Empatica E4 sessions,
BIDS trees. As in ``canaries``."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import h5py
import nibabel
import numpy as np
import yaml

from converters.edf_bytes import Signal, edf_bytes
from converters.test_empatica import session
from ingest.canaries import Canaries

E4_START = "1361182272"
"""Of an E4 session, in s since 1970 (the wristband is younger than the canaries' date). It must be nowhere, as must
the wristband's number."""
E4_DEVICE = "DECAF5"


def plant_by_recipe(folder: Path, made: Canaries) -> dict[str, str]:
    """Plants below ``folder``; the recipe (a file, or a name) of each folder in it."""
    folder.mkdir()
    return {kind: plants(folder / kind, made) for kind, plants in KINDS.items()}


def arrays(folder: Path, made: Canaries) -> str:
    """HDF5, NPZ, NPY and a pickle whose arrays, records, attributes and strings are all called by a canary."""
    new, values = made.new, np.arange(60, dtype="i2").reshape(2, 10, 3)
    names = {kind: new(f"{kind}: name of the samples") for kind in ("HDF5 arrays", "NPZ", "pickle")}
    ids = {kind: new(f"{kind}: name of the ids") for kind in ("HDF5 arrays", "NPZ")}
    files = {
        kind: folder / new(f"{kind}: folder") / f"{new(f'{kind}: file name')}{end}"
        for kind, end in {"HDF5 arrays": ".hdf5", "NPZ": ".npz", "NPY": ".npy", "pickle": ".pkl"}.items()
    }
    for file in files.values():
        file.parent.mkdir(parents=True)
    with h5py.File(files["HDF5 arrays"], "w") as root:
        root.attrs[new("HDF5 arrays: attribute's name")] = new("HDF5 arrays: attribute of the file")
        root[names["HDF5 arrays"]] = values
        root[names["HDF5 arrays"]].attrs["patient"] = new("HDF5 arrays: attribute of the samples")
        root[ids["HDF5 arrays"]] = np.array([new("HDF5 arrays: id of a record").encode() for _ in range(2)])
        group = root.create_group(new("HDF5 arrays: group nobody names"))
        group[new("HDF5 arrays: data set nobody names")] = np.array([new("HDF5 arrays: text nobody names").encode()])
    np.savez(files["NPZ"], **{
        names["NPZ"]: values,
        ids["NPZ"]: np.array([new("NPZ: id of a record").encode() for _ in range(2)]),
        new("NPZ: array nobody names"): np.array([new("NPZ: text nobody names").encode()]),
    })  # fmt: skip
    np.save(files["NPY"], values[0])
    tree = {
        names["pickle"]: {"signal": values[0], new("pickle: array nobody names"): values[0]},
        "subject": new("pickle: text"),
        new("pickle: key"): [new("pickle: text in a list")],
    }
    files["pickle"].write_bytes(pickle.dumps(tree))
    stream = {"rate_hz": 10, "channels": ["I", "II", "V1"], "unit": "mV"}
    of_records = {"axes": ["record", "time", "channel"], **stream}
    alone = {"axes": ["time", "channel"], **stream}
    recipe = {
        "dataset": "arrays",
        "arrays": [
            {"files": "**/*.hdf5", "ids": ids["HDF5 arrays"], "streams": [{"samples": names["HDF5 arrays"], **of_records}]},
            {"files": "**/*.npz", "ids": ids["NPZ"], "streams": [{"samples": names["NPZ"], **of_records}]},
            {"files": "**/*.npy", "streams": [{"samples": "", **alone}]},
            {"files": "**/*.pkl", "streams": [{"samples": f"{names['pickle']}/signal", **alone}]},
        ],
        "fields": {"subject": {"path": "member"}, "session": {"path": "folder"}},
    }  # fmt: skip
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(recipe))
    return str(file)


def empatica(folder: Path, made: Canaries) -> str:
    """A session of a person: folder names, the wristband's number, start, and texts beside it."""
    at = folder / made.new("E4: folder of a person") / f"{E4_START}_{E4_DEVICE}"
    late = {name: str(int(E4_START) + later) for name, later in (("EDA", 1), ("HR", 10))}
    session(
        at,
        ACC=f"{E4_START}.00, {E4_START}.00, {E4_START}.00\r\n32.000000, 32.000000, 32.000000\r\n1,2,3\r\n",
        BVP=f"{E4_START}.00\n64.000000\n-0.00\n12.34\n",
        EDA=f"{late['EDA']}.50\n4.000000\n0.000000\n0.123456\n",
        TEMP=f"{E4_START}.00\n4.000000\n31.27\n31.29\n",
        HR=f"{late['HR']}.00\n1.000000\n70.00\n",
        IBI=f"{E4_START}.000000, IBI\n2.500000,0.750000\n",
        tags=f"{int(E4_START) + 2}.25\n",
        info=made.new("E4: info.txt"),
    )
    (at / f"{made.new('E4: file nobody names')}.csv").write_text(made.new("E4: text nobody names"))
    return "empatica"


def bids(folder: Path, made: Canaries) -> str:
    """A tree of one person with EEG and an image; every table has columns and texts of nobody's."""
    new = made.new
    subject, visit = new("BIDS: sub"), new("BIDS: ses")
    base, stem = folder / f"sub-{subject}/ses-{visit}", f"sub-{subject}_ses-{visit}"
    eeg, anat = base / "eeg", base / "anat"
    eeg.mkdir(parents=True)
    anat.mkdir()
    about = {
        name: new(f"BIDS dataset_description: {name}") for name in ("Name", "Acknowledgements", "HowToAcknowledge")
    }
    document(folder / "dataset_description.json", about | {"Authors": [new("BIDS dataset_description: Authors")]})
    (folder / "README").write_text(new("BIDS: README"))
    table(folder / "participants.tsv",
          participant_id=f"sub-{subject}", age="44", sex="F", site=new("BIDS participants.tsv: site"),
          name=new("BIDS participants.tsv: name"), birth_date="1983-02-17", **{new("BIDS participants.tsv: column"): "x"})  # fmt: skip
    document(folder / "participants.json", {"name": {"Description": new("BIDS participants.json: Description")}})
    table(folder / f"sub-{subject}/sub-{subject}_sessions.tsv",
          session_id=f"ses-{visit}", acq_time="1983-02-17T10:11:12", pathology=new("BIDS sessions.tsv: pathology"))  # fmt: skip
    table(base / f"{stem}_scans.tsv",
          filename=f"eeg/{stem}_task-rest_eeg.edf", acq_time="1983-02-17T10:11:12",
          operator=new("BIDS scans.tsv: operator"))  # fmt: skip
    for suffix, where in (("eeg", eeg / f"{stem}_task-rest_eeg.json"), ("T1w", folder / "T1w.json")):
        named = ("InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "DeviceSerialNumber",
                 "StationName", "TaskDescription", "Instructions", "EEGReference", "EEGGround", "HardwareFilters",
                 "SubjectArtefactDescription", "ProtocolName", "PatientName", "PatientID", "SeriesDescription")  # fmt: skip
        said = {name: new(f"BIDS {suffix}.json: {name}") for name in named}
        document(where, said | {new(f"BIDS {suffix}.json: key"): 1, "AcquisitionDateTime": "1983-02-17T10:11:12"})
    table(eeg / f"{stem}_task-rest_channels.tsv",
          name="EEG C3", type="EEG", units="uV", description=new("BIDS channels.tsv: description"),
          status="bad", status_description=new("BIDS channels.tsv: status_description"),
          reference=new("BIDS channels.tsv: reference"), group=new("BIDS channels.tsv: group"))  # fmt: skip
    table(eeg / f"{stem}_electrodes.tsv",
          name="EEG C3", x="1", y="2", z="3", material=new("BIDS electrodes.tsv: material"),
          type=new("BIDS electrodes.tsv: type"))  # fmt: skip
    document(eeg / f"{stem}_coordsystem.json",
             {"EEGCoordinateSystem": "CapTrak", "EEGCoordinateUnits": "mm",
              "EEGCoordinateSystemDescription": new("BIDS coordsystem.json: description")})  # fmt: skip
    table(eeg / f"{stem}_task-rest_events.tsv",
          onset="0.5", duration="0.1", trial_type=new("BIDS events.tsv: trial_type"), value=new("BIDS events.tsv: value"),
          stim_file=new("BIDS events.tsv: stim_file"), comment=new("BIDS events.tsv: free text"))  # fmt: skip
    document(eeg / f"{stem}_task-rest_events.json", {"comment": {"Description": new("BIDS events.json: Description")}})
    patient = f"{new('BIDS EDF: patient code')} F 17-FEB-1983 {new('BIDS EDF: patient name')}"
    raw = edf_bytes([Signal("EEG C3", np.arange(16))], n_records=2, patient=patient)
    (eeg / f"{stem}_task-rest_eeg.edf").write_bytes(raw)
    image = nibabel.Nifti1Image(np.arange(729, dtype=np.int16).reshape(9, 9, 9), np.eye(4))
    image.header["descrip"] = new("BIDS NIfTI: descrip")
    nibabel.save(image, anat / f"{stem}_T1w.nii.gz")
    return "bids"


def document(file: Path, content: object) -> None:
    file.write_text(json.dumps(content))


def table(file: Path, **row: str) -> None:
    file.write_text("\t".join(row) + "\n" + "\t".join(row.values()) + "\n")


KINDS = {"arrays": arrays, "e4": empatica, "bids": bids}
