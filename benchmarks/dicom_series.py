"""Made-up CT series, with as many elements in their headers as scanners write."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

DISTINCT = 8
"""Slices whose pixels differ; they follow each other again and again."""
PRIVATE = 120
"""Private elements, most of them short and one of 30 kB."""


def write_ct(folder: Path, n: int, size: int, syntax: str = ExplicitVRLittleEndian, series: int = 0) -> Path:
    """``n`` slices of ``size`` x ``size`` voxels of 12 bits: a noisy ellipse of tissue in air, 0.5 mm apart.

    Names are not in the order of places. Instance numbers are: dicom2nifti takes other series for several times.
    """
    folder.mkdir(parents=True, exist_ok=True)
    distinct = [_slice(plane, syntax, series) for plane in _planes(min(DISTINCT, n), size)]
    for k in range(n):
        number = (k * 7919 + 3) % n + 1
        ds = distinct[k % len(distinct)]
        ds.InstanceNumber, ds.ImagePositionPatient = k + 1, [-190, -190, 100 + 0.5 * k]
        ds.SliceLocation = 100 + 0.5 * k
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.3680043.8.498.{series + 1}.{k + 1}"
        written = io.BytesIO()
        ds.save_as(written, enforce_file_format=True)
        (folder / f"IM{number:05d}").write_bytes(written.getvalue())
    return folder


def _planes(n: int, size: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size - 0.5
    tissue = np.where(x**2 / 0.16 + y**2 / 0.1 < 1, 40 + 30 * np.sin(20 * x) * np.cos(17 * y), -1000)
    return np.round(tissue + rng.normal(0, 12, (n, size, size))).clip(-1024, 1023).astype("<i2")


def _slice(pixels: np.ndarray, syntax: str, series: int) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.file_meta.ImplementationVersionName = "BENCHMARK"
    ds.SOPInstanceUID = generate_uid()
    ds.SeriesInstanceUID = f"1.2.826.0.1.3680043.8.498.{series + 1}"
    ds.StudyInstanceUID, ds.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.499", "1.2.826.0.1.3680043.8.500"
    ds.SpecificCharacterSet, ds.Modality, ds.ImageType = "ISO_IR 100", "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.PatientName, ds.PatientID, ds.PatientSex, ds.PatientAge = "Benchmark^Ct", f"B{series}", "F", "061Y"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20230405"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "101112.5"
    ds.StudyDescription, ds.SeriesDescription, ds.ProtocolName = "Chest", "Thin", "Routine"
    ds.InstitutionName, ds.StationName, ds.DeviceSerialNumber = "Hospital", "CT1", "12345"
    ds.Manufacturer, ds.ManufacturerModelName, ds.SoftwareVersions = "ACME", "Scan 1", ["v2", "v3"]
    ds.BodyPartExamined, ds.PatientPosition, ds.ConvolutionKernel = "CHEST", "HFS", "B30f"
    ds.KVP, ds.SliceThickness, ds.XRayTubeCurrent, ds.Exposure, ds.ExposureTime = "120", "0.5", 200, 100, 500
    ds.DataCollectionDiameter = ds.ReconstructionDiameter = "380"
    ds.SeriesNumber, ds.AcquisitionNumber, ds.InstanceNumber = 1, 1, 1
    ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 0]
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CTImageStorage, "1.2.826.0.1.3680043.8.501"
    ds.ReferencedImageSequence = [reference] * 3
    ds["ReferencedImageSequence"].is_undefined_length = True
    block = ds.private_block(0x0029, "ACME PRIVATE", create=True)
    for element in range(PRIVATE):
        block.add_new(element, "LO", f"private text {element}")
    block.add_new(PRIVATE, "OB", bytes(30_000))
    ds.Rows, ds.Columns = pixels.shape
    ds.PixelSpacing = [380 / pixels.shape[0]] * 2
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 1
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = "1", "0", "HU"
    ds.WindowCenter, ds.WindowWidth = [40, 300], [400, 1500]
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OW"
    if syntax != ExplicitVRLittleEndian:
        ds.compress(syntax, generate_instance_uid=False)
    return ds
