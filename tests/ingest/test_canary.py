"""Unique strings planted where identities hide; then every byte of store and log is searched for them."""

import hashlib
import os
import subprocess
import sys

import nibabel
import numpy as np
import pydicom
import pyedflib
import zarr

import harmonize as hz
from harmonize.report.demo_cohort import _ct, _ecg

DICOM_FIELDS = [
    "PatientName", "PatientID", "PatientAddress", "OtherPatientNames", "InstitutionName", "InstitutionAddress",
    "ReferringPhysicianName", "OperatorsName", "StudyDescription", "SeriesDescription", "ProtocolName", "AccessionNumber",
    "StudyID", "DeviceSerialNumber", "StationName", "PatientComments", "ImageComments", "PerformedProcedureStepDescription",
]  # fmt: skip


def plant(folder, rng) -> list[str]:
    """Files of four formats with a canary in every field that can identify; returns the canaries."""
    planted: list[str] = []

    def canary(where: str) -> str:
        planted.append(f"Qz{len(planted):02d}{where.replace('_', '')}"[:16])
        return planted[-1]

    edf = folder / canary("dir") / f"{canary('file')}.edf"
    edf.parent.mkdir(parents=True)
    with pyedflib.EdfWriter(str(edf), 1, file_type=pyedflib.FILETYPE_EDFPLUS) as writer:
        writer.setPatientName(canary("name"))
        writer.setPatientCode(canary("code"))
        writer.setPatientAdditional(canary("padd"))
        writer.setAdmincode(canary("admin"))
        writer.setTechnician(canary("tech"))
        writer.setEquipment(canary("equip"))
        writer.setRecordingAdditional(canary("radd"))
        writer.setSignalHeaders(
            [{"label": "EEG C3", "dimension": "uV", "sample_frequency": 100, "physical_min": -100, "physical_max": 100,
              "digital_min": -32768, "digital_max": 32767, "prefilter": canary("prefilt"), "transducer": canary("transd")}]
        )  # fmt: skip
        writer.writeSamples([rng.normal(size=500)])
        writer.writeAnnotation(1.0, 1.0, canary("note"))
    _ecg(folder / canary("ecgdir"), rng, 1000.0)
    with (folder / planted[-1] / "ecg.hea").open("a") as header:
        header.write(f"# {canary('comment')}\n# Name: {canary('hname')}\n")
    ct = folder / canary("ctdir")
    _ct(ct, rng, "M", "m", 1.5)
    values = {field: canary(field) for field in DICOM_FIELDS}
    nested, private = canary("nested"), canary("private")
    for file in ct.iterdir():
        ds = pydicom.dcmread(file)
        for field, value in values.items():
            setattr(ds, field, value)
        item = pydicom.Dataset()
        item.CodeMeaning = nested
        ds.RequestAttributesSequence = [item]
        ds.private_block(0x0011, "CREATOR", create=True).add_new(1, "LO", private)
        ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = "19830217"
        ds.save_as(file)
    planted += [
        str(ds.SeriesInstanceUID),
        str(ds.StudyInstanceUID),
        str(ds.FrameOfReferenceUID),
        "19830217",
        "1983-02-17",
    ]
    image = nibabel.Nifti1Image(rng.integers(0, 99, (9, 9, 9)).astype(np.int16), np.eye(4))
    for field, size in (("descrip", 80), ("aux_file", 24), ("db_name", 18), ("intent_name", 16)):
        image.header[field] = canary(field)[:size]
    nibabel.save(image, folder / f"{canary('nifti')}.nii.gz")
    (folder / f"{canary('broken')}.edf").write_text(canary("content"))
    return planted


def everything(store: hz.Store) -> bytes:
    """Every file as it is, every table and document decoded, every attribute."""
    pieces = [file.read_bytes() for file in store.path.rglob("*") if file.is_file()]
    pieces += [str(file.relative_to(store.path)).encode() for file in store.path.rglob("*")]
    for frame in (store.recordings, store.streams, store.annotations, store.failures):
        pieces.append(frame.write_json().encode())
    for name in store.recordings["recording_id"]:
        pieces.append(store[name].meta.model_dump_json().encode())
    for file in store.path.rglob("zarr.json"):
        node = zarr.open(file.parent, mode="r")
        if isinstance(node, zarr.Array):
            pieces.append(
                np.asarray(node[...]).tobytes() if node.dtype.kind != "T" else str(node[...].tolist()).encode()
            )
    return b"\0".join(pieces)


def test_no_canary_reaches_store_log_or_error(tmp_path) -> None:
    planted = plant(tmp_path / "in", np.random.default_rng(0))
    command = [
        sys.executable,
        "-m",
        "harmonize",
        "convert",
        str(tmp_path / "in"),
        "--into",
        str(tmp_path / "s.zarr"),
        "--workers",
        "1",
    ]
    done = subprocess.run(
        command, capture_output=True, check=False, env=os.environ | {"XDG_CONFIG_HOME": str(tmp_path / "c")}
    )
    store = hz.open(tmp_path / "s.zarr")
    assert sorted(store.recordings["format"].str.to_lowercase()) == ["dicom", "edf+c", "nifti-1", "wfdb"]
    assert store.failures["code"].to_list() == ["format_mismatch"]
    assert len(store.recordings["age"].drop_nulls()) == 1, "typed comments do pass"
    haystack = everything(store) + done.stdout + done.stderr
    assert b"C3" in haystack, "the search sees what is there"
    found = [one for one in planted if one.encode() in haystack]
    hashed = [
        one
        for one in planted
        for algorithm in ("sha256", "md5", "sha1")
        if hashlib.new(algorithm, one.encode()).hexdigest()[:16].encode() in haystack
    ]
    assert (found, hashed) == ([], [])
