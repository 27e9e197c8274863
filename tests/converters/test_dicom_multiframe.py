"""Multi-frame DICOM objects made by hand: enhanced (functional groups) and classic (FIDELITY I05, I13)."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    NuclearMedicineImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from converters.conformance import ConverterConformance, Outcome, convert, find, head, sources_in
from converters.dicom_files import (
    AXIAL,
    CONVERTER,
    SERIES,
    at,
    cine_dataset,
    code_of,
    csa_header,
    enhanced_dataset,
    mosaic_dataset,
    one,
    save,
    slice_dataset,
    stored_planes,
    write_series,
)
from harmonize_converters import _dicom_planes
from harmonize_converters._dicom_frames import n_frames
from harmonize_converters._dicom_header import read_dataset
from harmonize_converters._dicom_kinds import Kind, members
from harmonize_converters._dicom_pixels import PixelFormat
from harmonize_converters.contract import ConversionError, SourceFiles

PYDICOM_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
OBLIQUE = [0.8, 0.6, 0.0, 0.0, 0.0, -1.0]


def stack(planes: np.ndarray, order: list[int] | None = None, **changes) -> Dataset:
    """The series of ``write_series`` as one enhanced object, its frames in the order given."""
    order = order or list(range(len(planes)))
    return enhanced_dataset(planes[order], [at([-10.0, -20.0, 100.0 + 2.5 * k]) for k in order], **changes)


def converted(ds: Dataset, folder: Path, syntax: str = ExplicitVRLittleEndian) -> Outcome:
    save(ds, folder / "x.dcm", syntax)
    return convert(CONVERTER, one(folder))


def refused(ds: Dataset, folder: Path) -> str:
    save(ds, folder / "x.dcm")
    return code_of(folder)


def diffusion(b: float, direction: list[float] | None = None, kind: str | None = None) -> dict:
    """The MR Diffusion macro (PS3.3 C.8.13.5.9)."""
    elements = {"DiffusionBValue": float(b), "DiffusionDirectionality": kind or ("DIRECTIONAL" if b else "NONE")}
    if direction:
        item = Dataset()
        item.DiffusionGradientOrientation = direction
        elements["DiffusionGradientDirectionSequence"] = [item]
    return {"MRDiffusionSequence": elements}


class TestConformance(ConverterConformance):
    converter = CONVERTER
    planted = ("Planted", "MRN-4711", "SN-PLANTED", "planted free text", "19300102", "20230405", SERIES)
    corruption_rounds = 40

    @pytest.fixture
    def source_files(self, tmp_path: Path) -> list[SourceFiles]:
        planes = stored_planes(6, 16, 16)
        save(stack(planes[:4], [2, 0, 3, 1]), tmp_path / "enhanced" / "x.dcm")
        compressed = stack(planes[:3], [2, 0, 1])
        frames = [_rle(planes[k]) for k in (2, 0, 1)]
        compressed.PixelData = encapsulate(frames)
        compressed["PixelData"].is_undefined_length = True
        save(compressed, tmp_path / "rle" / "x.dcm", RLELossless)
        two = [at([0, 0, 3.0 * (k // 2)], MREchoSequence={"EffectiveEchoTime": 5.0 + k % 2}) for k in range(6)]
        save(enhanced_dataset(planes, two, SOPClassUID=EnhancedMRImageStorage), tmp_path / "echoes" / "x.dcm")
        save(cine_dataset(planes[:5]), tmp_path / "cine" / "x.dcm")
        save(mosaic_dataset(planes, [1.0, 2.0, 3.0], AXIAL, 4.0), tmp_path / "mosaic" / "x.dcm")
        return [one(tmp_path / name) for name in ("enhanced", "rle", "cine", "mosaic")] + sources_in(
            CONVERTER, tmp_path / "echoes"
        )

    @pytest.fixture
    def large_source(self, tmp_path: Path) -> SourceFiles:
        planes = np.concatenate([stored_planes(10, 256, 256, seed) for seed in range(4)])
        save(stack(planes), tmp_path / "large" / "x.dcm")
        return one(tmp_path / "large")

    def independent(self, source: SourceFiles) -> list[np.ndarray]:
        ds = pydicom.dcmread(source.primary.path)
        if "MOSAIC" in ds.ImageType:
            return [ds.pixel_array.reshape(3, 16, 3, 16).swapaxes(1, 2).reshape(9, 16, 16)[:6]]
        frames = range(int(ds.NumberOfFrames))
        if "PerFrameFunctionalGroupsSequence" in ds:
            per = ds.PerFrameFunctionalGroupsSequence
            if source.member:
                name, _, value = source.member.partition("=")
                assert name == "EchoTime"
                frames = [k for k in frames if str(per[k].MREchoSequence[0].EffectiveEchoTime) == value]
            frames = sorted(frames, key=lambda k: per[k].PlanePositionSequence[0].ImagePositionPatient[2])
        return [ds.pixel_array[list(frames)]]


def _rle(plane: np.ndarray) -> bytes:
    from pydicom.pixels.encoders.base import RLELosslessEncoder

    return RLELosslessEncoder.encode(
        plane.astype("<i2").tobytes(),
        rows=plane.shape[0],
        columns=plane.shape[1],
        samples_per_pixel=1,
        bits_allocated=16,
        bits_stored=12,
        pixel_representation=1,
        photometric_interpretation="MONOCHROME2",
        number_of_frames=1,
        encoding_plugin="pydicom",
    )


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_i05_one_volume_as_single_frames_and_as_shuffled_frames(tmp_path, syntax):
    planes = stored_planes(5)
    single = convert(CONVERTER, one(write_series(tmp_path / "single", planes)))
    multi = converted(stack(planes, [3, 1, 4, 0, 2]), tmp_path / "multi", syntax)
    np.testing.assert_array_equal(multi.arrays[0], planes)
    assert multi.description.image == single.description.image
    assert multi.description.acquisition == single.description.acquisition
    assert multi.described.identity.subject == "MRN-4711-PLANTED"


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
def test_i05_a_bright_voxel_is_found_at_its_place_in_every_order_of_frames(tmp_path, orientation):
    x, y = np.array(orientation[:3], float), np.array(orientation[3:], float)
    normal, origin, target = np.cross(x, y), np.array([5.0, -7.0, 11.0]), (3, 1, 2)  # i, j, k
    planes = np.zeros((4, 6, 5), np.int16)
    planes[target[2], target[1], target[0]] = 1000
    world = origin + target[0] * 0.75 * x + target[1] * 0.5 * y + target[2] * 3.0 * normal
    for number, order in enumerate(itertools.permutations(range(4))):
        frames = [at(origin + 3.0 * k * normal) for k in order]
        shared = {"PlaneOrientationSequence": {"ImageOrientationPatient": orientation}}
        outcome = converted(enhanced_dataset(planes[list(order)], frames, shared), tmp_path / str(number))
        ((k, j, i),) = np.argwhere(outcome.arrays[0] == 1000)
        found = np.array(outcome.description.image.affine) @ [i, j, k, 1]
        np.testing.assert_allclose(found[:3], world * [-1, -1, 1], atol=1e-9)


def test_i05_names_are_read_in_their_character_set(tmp_path):
    changes = {"SpecificCharacterSet": "ISO_IR 144", "PatientName": "Люкceмбypг", "PatientID": None}
    write_series(tmp_path / "single", stored_planes(1), **changes)
    single = CONVERTER.describe(one(tmp_path / "single")).identity
    multi = converted(stack(stored_planes(3), **changes), tmp_path / "multi").described.identity
    assert multi.subject == single.subject == "Люкceмбypг"


def test_i05_a_macro_of_the_frame_stands_for_the_shared_one(tmp_path):
    planes = stored_planes(3)
    frames = [at([0, 0, 2.0 * k]) for k in range(3)]
    for k in (0, 2):
        frames[k]["PixelValueTransformationSequence"] = {"RescaleSlope": str(1 + k), "RescaleIntercept": str(-k)}
    outcome = converted(enhanced_dataset(planes, frames), tmp_path)
    assert outcome.description.image.slopes == (1, 1, 3)
    assert outcome.description.image.intercepts == (0, -1024, -2)


def test_i05_per_frame_rescale_goes_with_its_plane(tmp_path):
    planes = stored_planes(4)
    order = [2, 0, 3, 1]
    frames = [
        at(
            [0, 0, 2.0 * k],
            PixelValueTransformationSequence={"RescaleSlope": str(0.5 + k), "RescaleIntercept": str(-k)},
        )
        for k in order
    ]
    outcome = converted(enhanced_dataset(planes[order], frames), tmp_path)
    assert outcome.description.image.slopes == (0.5, 1.5, 2.5, 3.5)
    assert outcome.description.image.intercepts == (0, -1, -2, -3)
    np.testing.assert_array_equal(outcome.arrays[0], planes)


def test_i05_several_orientations_are_several_volumes(tmp_path):
    planes = stored_planes(6)
    coronal = {"PlaneOrientationSequence": {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}}
    frames = [at([0, 0, 2.0 * k]) for k in range(3)] + [at([0, 2.0 * k, 0], **coronal) for k in range(3)]
    found = {}
    for name, order in {"a": [0, 1, 2, 3, 4, 5], "b": [4, 0, 3, 2, 5, 1]}.items():
        save(enhanced_dataset(planes[order], [frames[k] for k in order]), tmp_path / name / "x.dcm")
        sources = sources_in(CONVERTER, tmp_path / name)
        assert [source.member for source in sources] == ["orientation=1", "orientation=2"]
        assert len({source.key for source in sources}) == 2
        found[name] = [convert(CONVERTER, source) for source in sources]
    assert [outcome.description.image.orientation for outcome in found["a"]] == ["LIP", "LPS"]
    for first, second in zip(found["a"], found["b"], strict=True):
        np.testing.assert_array_equal(first.arrays[0], second.arrays[0])
        assert first.description == second.description
    np.testing.assert_array_equal(found["a"][1].arrays[0], planes[:3])


@pytest.mark.parametrize(
    ("macro", "values", "name"),
    [
        ({"FrameContentSequence": "StackID"}, ["1", "2"], "StackID"),
        ({"MREchoSequence": "EffectiveEchoTime"}, [2.5, 5.0], "EchoTime"),
        ({"MRImageFrameTypeSequence": "FrameType"}, [["ORIGINAL", "M"], ["ORIGINAL", "P"]], "ImageType"),
        ({"MRImageFrameTypeSequence": "ComplexImageComponent"}, ["MAGNITUDE", "PHASE"], "ComplexImageComponent"),
        ({"CTReconstructionSequence": "ConvolutionKernel"}, ["B30", "B70"], "ConvolutionKernel"),
    ],
)
def test_i05_what_no_volume_spans_splits_one_object(tmp_path, macro, values, name):
    planes = stored_planes(6)
    ((sequence, element),) = macro.items()
    frames = [at([0, 0, 2.0 * (k % 3)], **{sequence: {element: values[k // 3]}}) for k in range(6)]
    order = [5, 0, 3, 1, 4, 2]
    save(enhanced_dataset(planes[order], [frames[k] for k in order]), tmp_path / "x.dcm")
    sources = sources_in(CONVERTER, tmp_path)
    texts = ["\\".join(value) if isinstance(value, list) else str(value) for value in values]
    assert [source.member for source in sources] == [f"{name}={text}" for text in texts]
    for source, half in zip(sources, (planes[:3], planes[3:]), strict=True):
        np.testing.assert_array_equal(convert(CONVERTER, source).arrays[0], half)


def test_i05_frames_of_two_objects_of_one_series_are_one_volume(tmp_path):
    planes = stored_planes(6)
    for part, order in enumerate(([4, 0, 2], [1, 5, 3])):
        ds = enhanced_dataset(planes[order], [at([0, 0, 2.0 * k]) for k in order])
        ds.SOPInstanceUID = f"{SERIES}.{part}"
        save(ds, tmp_path / f"{part}.dcm")
    np.testing.assert_array_equal(convert(CONVERTER, one(tmp_path)).arrays[0], planes)


def test_i05_a_concatenation_is_whole_or_refused(tmp_path):
    planes = stored_planes(5)
    for part, order in enumerate(([0, 1, 2], [3, 4])):
        changes = {"ConcatenationUID": "1.2.3", "InConcatenationTotalNumber": 2}
        ds = enhanced_dataset(planes[order], [at([0, 0, 2.0 * k]) for k in order], **changes)
        ds.SOPInstanceUID = f"{SERIES}.{part}"
        save(ds, tmp_path / f"{part}.dcm")
    np.testing.assert_array_equal(convert(CONVERTER, one(tmp_path)).arrays[0], planes)
    (tmp_path / "1.dcm").unlink()
    assert code_of(tmp_path) == "missing_file"


def test_i05_times_are_an_axis(tmp_path):
    planes = stored_planes(6)
    order = [5, 0, 3, 1, 4, 2]
    frames = [at([0, 0, 2.0 * (k % 3)], FrameContentSequence={"TemporalPositionIndex": 1 + k // 3}) for k in order]
    changes = {"MRAcquisitionType": "2D", "EchoPlanarPulseSequence": "YES", "SOPClassUID": EnhancedMRImageStorage}
    shared = {"MRTimingAndRelatedParametersSequence": {"RepetitionTime": 2000.0, "FlipAngle": 70.0}}
    outcome = converted(enhanced_dataset(planes[order], frames, shared, **changes), tmp_path)
    image = outcome.description.image
    assert (image.axes, image.shape, image.time_step_s) == (("t", "z", "y", "x"), (2, 3, 6, 5), 2.0)
    assert outcome.description.acquisition.flip_angle_deg == 70
    np.testing.assert_array_equal(outcome.arrays[0], planes)


def test_i05_times_by_the_clock(tmp_path):
    planes = stored_planes(4)
    when = ["20230405101112.000000", "20230405101114.500000"]
    frames = [
        at([0, 0, 2.0 * (k % 2)], FrameContentSequence={"FrameReferenceDateTime": when[k // 2]}) for k in range(4)
    ]
    image = converted(enhanced_dataset(planes, frames), tmp_path).description.image
    assert (image.shape[0], image.time_step_s) == (2, 2.5)


@pytest.mark.parametrize("indexed", [False, True], ids=["by weighting", "by time"])
def test_i05_diffusion_is_an_axis_with_b_values_and_vectors_in_ras(tmp_path, indexed):
    planes = stored_planes(8)
    weights = [(0, None), (1000, [0.6, 0.8, 0.0]), (1000, [0.0, 0.0, 1.0]), (2000, [0.0, 1.0, 0.0])]
    order = [7, 0, 3, 1, 6, 4, 2, 5]
    frames = []
    for k in order:
        frame = at([0, 0, 2.0 * (k % 2)], **diffusion(*weights[k // 2]))
        if indexed:
            frame["FrameContentSequence"] = {"TemporalPositionIndex": 1 + k // 2}
        frames.append(frame)
    outcome = converted(enhanced_dataset(planes[order], frames, SOPClassUID=EnhancedMRImageStorage), tmp_path)
    image = outcome.description.image
    assert image.shape == (4, 2, 6, 5)
    assert image.b_values_s_mm2 == (0, 1000, 1000, 2000)
    vectors = [(0, 0, 0), (-0.6, -0.8, 0), (0, 0, 1), (0, -1, 0)]
    by_weight = [0, 2, 1, 3]  # sorted by b, then direction
    wanted = list(range(4)) if indexed else by_weight
    assert image.b_vectors_ras == tuple(vectors[k] for k in wanted)
    np.testing.assert_array_equal(outcome.arrays[0], np.concatenate([planes[2 * k : 2 * k + 2] for k in wanted]))


def test_i05_a_time_tag_that_mixes_weightings_tells_no_times(tmp_path):
    planes = stored_planes(4)  # place 0: times 1, 2 have b = 0, 1000; place 1: 1000, 0
    frames = [
        at(
            [0, 0, 2.0 * (k // 2)],
            FrameContentSequence={"TemporalPositionIndex": 1 + k % 2},
            **diffusion((0, 1000, 1000, 0)[k], [1.0, 0, 0]),
        )
        for k in range(4)
    ]
    outcome = converted(enhanced_dataset(planes, frames, SOPClassUID=EnhancedMRImageStorage), tmp_path)
    assert outcome.description.image.b_values_s_mm2 == (0, 1000)
    np.testing.assert_array_equal(outcome.arrays[0], planes[[0, 3, 1, 2]])


@given(order=st.permutations(list(range(4))))
def test_i05_names_of_volumes_do_not_depend_on_the_order_of_frames(order):
    cosines = [(1.0, 0, 0, 0, 1, 0), (1.0, 0.0004, 0, 0, 1, 0), (1.0, 0, 0, 0, 0, -1), (0.0, 1, 0, 0, 0, -1)]
    kinds = [Kind(("",) * 9, orientation, "") for orientation in cosines]
    names = dict(zip(order, members([kinds[k] for k in order]), strict=True))
    assert [names[k] for k in range(4)] == [f"orientation={n}" for n in (3, 3, 2, 1)]


def test_i05_repeated_weightings_are_told_apart_by_time(tmp_path):
    planes = stored_planes(6)
    frames = [
        at(
            [0, 0, 0.0],
            FrameContentSequence={"FrameAcquisitionNumber": 1 + k % 2},
            **diffusion((0, 500, 1000)[k // 2], [1.0, 0, 0]),
        )
        for k in range(6)
    ]
    frames = [
        dict(frame, PixelMeasuresSequence={"PixelSpacing": [1, 1], "SpacingBetweenSlices": 2}) for frame in frames
    ]
    image = converted(enhanced_dataset(planes, frames, SOPClassUID=EnhancedMRImageStorage), tmp_path).description.image
    assert image.b_values_s_mm2 == (0, 500, 1000, 0, 500, 1000)


def test_i05_trace_images_beside_directions_are_their_own_volume(tmp_path):
    planes = stored_planes(3)
    weights = [diffusion(0), diffusion(900, [1.0, 0, 0]), diffusion(900, None, "ISOTROPIC")]
    frames = [at([0, 0, 0.0], **weight) for weight in weights]
    save(enhanced_dataset(planes, frames, SOPClassUID=EnhancedMRImageStorage), tmp_path / "x.dcm")
    directed, trace = (convert(CONVERTER, s).description.image for s in sources_in(CONVERTER, tmp_path))
    assert (directed.b_values_s_mm2, directed.b_vectors_ras) == ((0, 900), ((0, 0, 0), (-1, 0, 0)))
    assert (trace.b_values_s_mm2, trace.b_vectors_ras) == ((900,), None)


def test_i05_a_missing_position_is_refused(tmp_path):
    frames = [at([0, 0, 2.0 * k]) for k in range(3)]
    del frames[1]["PlanePositionSequence"]
    assert refused(enhanced_dataset(stored_planes(3), frames), tmp_path / "a") == "unsupported_geometry"
    top = enhanced_dataset(stored_planes(3), [{}] * 3, ImagePositionPatient=[0, 0, 0])
    assert refused(top, tmp_path / "b") == "unsupported_geometry"


def test_i05_a_missing_frame_is_a_gap(tmp_path):
    frames = [at([0, 0, 2.0 * k]) for k in (0, 1, 3, 4)]
    assert refused(enhanced_dataset(stored_planes(4), frames), tmp_path) == "missing_slices"


def test_i05_frames_at_one_place_without_reason_are_refused(tmp_path):
    frames = [at([0, 0, 2.0 * (k % 2)]) for k in range(4)]
    assert refused(enhanced_dataset(stored_planes(4), frames), tmp_path) == "conflicting_slices"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"NumberOfFrames": 3}, "invalid_header"),
        ({"NumberOfFrames": 0}, "invalid_header"),
        ({"NumberOfFrames": -4}, "invalid_header"),
        ({"PerFrameFunctionalGroupsSequence": None}, "invalid_header"),
        ({"SharedFunctionalGroupsSequence": None}, "unsupported_geometry"),
        ({"PixelData": stored_planes(3).tobytes()}, "truncated"),
        ({"PixelData": stored_planes(5).tobytes()}, "corrupt"),
        ({"BurnedInAnnotation": "YES"}, "quarantined_burned_in"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}, "unsupported_sop_class"),
        ({"Rows": 65535, "Columns": 65535}, "implausible_size"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "unsupported_photometric"),
    ],
)
def test_i05_headers_that_lie_are_refused(tmp_path, changes, code):
    ds = stack(stored_planes(4))
    for name, value in changes.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    assert refused(ds, tmp_path) == code


def test_i05_enhanced_without_functional_groups_is_refused(tmp_path):
    write_series(tmp_path, stored_planes(1), SOPClassUID=EnhancedMRImageStorage)
    assert code_of(tmp_path) == "unsupported_multiframe"


def _j2k(plane: np.ndarray) -> bytes:
    ds = slice_dataset(plane, 1, 0.0)
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    return next(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1))


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
@pytest.mark.parametrize(("count", "step"), [(1, 3.0), (2, 3.0), (4, -3.0), (7, 3.0), (7, -3.0)])
def test_i05_a_bright_voxel_of_a_mosaic_is_found_at_its_place(tmp_path, orientation, count, step):
    x, y = np.array(orientation[:3], float), np.array(orientation[3:], float)
    first = np.array([5.0, -7.0, 11.0])
    planes = np.zeros((count, 6, 5), np.int16)
    planes[count - 1, 1, 3] = 1000
    world = first + 3 * 0.75 * x + 1 * 0.5 * y + (count - 1) * step * np.cross(x, y)
    outcome = converted(mosaic_dataset(planes, first, orientation, step), tmp_path)
    ((k, j, i),) = np.argwhere(outcome.arrays[0] == 1000)
    found = np.array(outcome.description.image.affine) @ [i, j, k, 1]
    np.testing.assert_allclose(found[:3], world * [-1, -1, 1], atol=1e-6)


def test_i05_a_mosaic_numbered_in_reverse_is_refused(tmp_path):
    ds = mosaic_dataset(stored_planes(4), [0, 0, 0], AXIAL, 3.0)
    csa = csa_header(NumberOfImagesInMosaic=[4], SliceNormalVector=[0, 0, 1], ProtocolSliceNumber=[3])
    ds[0x00291010].value = csa
    assert refused(ds, tmp_path) == "unsupported_multiframe"


@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize("table", ["none", "basic", "extended"])
def test_i09_frames_in_fragments_with_and_without_offset_tables(tmp_path, fragments, table):
    planes = stored_planes(4, 32, 32)
    order = [2, 0, 3, 1]
    ds = stack(planes, order)
    frames = [_j2k(planes[k]) for k in order]
    if table == "extended":
        ds.PixelData, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = encapsulate_extended(frames)
    else:
        ds.PixelData = encapsulate(frames, fragments_per_frame=fragments, has_bot=table == "basic")
    ds["PixelData"].is_undefined_length = True
    outcome = converted(ds, tmp_path, JPEG2000Lossless)
    np.testing.assert_array_equal(outcome.arrays[0], planes)


def _fragmented(frames: list[bytes], cut: int, table: list[int] | None) -> bytes:
    """Encapsulated pixel data of two fragments a frame, the first ``cut`` bytes long."""
    data, starts = b"", []
    for frame in frames:
        starts.append(len(data))
        even = frame + b"\0" * (len(frame) % 2)
        for fragment in (even[:cut], even[cut:]):
            data += b"\xfe\xff\x00\xe0" + len(fragment).to_bytes(4, "little") + fragment
    offsets = b"".join(start.to_bytes(4, "little") for start in (starts if table is None else table))
    return b"\xfe\xff\x00\xe0" + len(offsets).to_bytes(4, "little") + offsets + data


@pytest.mark.parametrize(
    ("table", "code"),
    [(None, None), ([], "corrupt"), ([0, 4, 8, 12], "corrupt"), ([0, 0, 0, 0], "corrupt"), ([0], "corrupt")],
    ids=["right", "none", "wrong", "zeros", "short"],
)
def test_i09_the_basic_offset_table_tells_frames_that_nothing_else_does(tmp_path, table, code):
    planes = stored_planes(4, 32, 32)
    ds = stack(planes)  # two bytes of a codestream are no sign of its start
    ds.PixelData = _fragmented([_j2k(plane) for plane in planes], 2, table)
    ds["PixelData"].is_undefined_length = True
    save(ds, tmp_path / "x.dcm", JPEG2000Lossless)
    if code:
        assert code_of(tmp_path) == code
    else:
        np.testing.assert_array_equal(convert(CONVERTER, one(tmp_path)).arrays[0], planes)


def test_i09_run_lengths_without_an_offset_table(tmp_path):
    planes = stored_planes(4, 16, 16)
    ds = stack(planes)
    ds.PixelData = encapsulate([_rle(plane) for plane in planes], has_bot=False)
    ds["PixelData"].is_undefined_length = True
    np.testing.assert_array_equal(converted(ds, tmp_path, RLELossless).arrays[0], planes)


def test_i09_fragments_that_make_no_whole_frames_are_refused(tmp_path):
    planes = stored_planes(4, 32, 32)
    ds = stack(planes)
    ds.PixelData = encapsulate([_j2k(plane) for plane in planes[:3]], has_bot=False)
    ds["PixelData"].is_undefined_length = True
    save(ds, tmp_path / "a" / "x.dcm", JPEG2000Lossless)
    assert code_of(tmp_path / "a") == "corrupt"
    ds.PixelData = encapsulate([_j2k(plane) for plane in planes] + [_j2k(planes[0])])
    ds["PixelData"].is_undefined_length = True
    save(ds, tmp_path / "b" / "x.dcm", JPEG2000Lossless)
    assert code_of(tmp_path / "b") == "corrupt"


def test_i05_few_frames_are_in_memory(tmp_path, monkeypatch):
    """No read takes more bytes than one frame's, however many there are."""
    source = TestConformance.large_source.__wrapped__(TestConformance(), tmp_path)
    sizes: list[int] = []
    read = _dicom_planes.PlaneFile._read

    def counted(self, offset, length):
        sizes.append(length)
        return read(self, offset, length)

    monkeypatch.setattr(_dicom_planes.PlaneFile, "_read", counted)
    outcome = convert(CONVERTER, source, 1)
    assert (outcome.blocks, len(sizes), max(sizes)) == (40, 40, 256 * 256 * 2)


@given(order=st.permutations(list(range(12))))
@settings(max_examples=15, deadline=None)
def test_i05_any_order_of_frames_gives_one_image(tmp_path_factory, order):
    planes = stored_planes(12)
    frames = [
        at(
            [0, 0, 2.0 * (k % 3)],
            FrameContentSequence={"TemporalPositionIndex": 1 + k // 3 % 2, "StackID": str(k // 6)},
        )
        for k in order
    ]
    folder = tmp_path_factory.mktemp("order")
    save(enhanced_dataset(planes[order], frames), folder / "x.dcm")
    first, second = (convert(CONVERTER, source) for source in sources_in(CONVERTER, folder))
    np.testing.assert_array_equal(np.concatenate([first.arrays[0], second.arrays[0]]), planes)


def test_i13_cine_is_an_image_in_time(tmp_path):
    planes = stored_planes(5)
    outcome = converted(cine_dataset(planes), tmp_path)
    image = outcome.description.image
    assert (image.axes, image.shape) == (("t", "y", "x"), planes.shape)
    assert (image.affine, image.affine_source, image.orientation) == (None, "unknown", None)
    assert (image.spacing_mm, image.spacing_source) == (None, "unknown")
    assert image.time_step_s == 0.04
    assert outcome.description.flags == ("geometry_unknown",)
    np.testing.assert_array_equal(outcome.arrays[0], planes)


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({"FrameTime": "0"}, None),
        ({"FrameTime": None, "FrameIncrementPointer": None, "CineRate": "25"}, 0.04),
        ({"FrameTime": None, "FrameIncrementPointer": None}, None),
        ({"FrameIncrementPointer": tag_for_keyword("FrameTimeVector"), "FrameTimeVector": [0, 20, 20]}, 0.02),
        ({"FrameIncrementPointer": tag_for_keyword("FrameTimeVector"), "FrameTimeVector": [0, 20, 30]}, None),
        ({"FrameIncrementPointer": tag_for_keyword("FrameTimeVector"), "FrameTimeVector": [0, 20]}, None),
        ({"FrameIncrementPointer": tag_for_keyword("FrameTimeVector"), "CineRate": "25"}, None),
    ],
)
def test_i13_the_time_step_of_a_cine(tmp_path, changes, step):
    assert converted(cine_dataset(stored_planes(3), **changes), tmp_path).description.image.time_step_s == step


def region(**changes) -> Dataset:
    """An ultrasound region in tissue, 0.2 mm by 0.3 mm (PS3.3 C.8.5.5)."""
    item = Dataset()
    item.RegionSpatialFormat, item.PhysicalUnitsXDirection, item.PhysicalUnitsYDirection = 1, 3, 3
    item.PhysicalDeltaX, item.PhysicalDeltaY = 0.02, -0.03
    for name, value in changes.items():
        setattr(item, name, value)
    return item


@pytest.mark.parametrize(
    ("changes", "spacing", "source"),
    [
        ({"PixelSpacing": [0.5, 0.75]}, (0.75, 0.5), "pixel_spacing"),
        ({"ImagerPixelSpacing": [0.5, 0.75]}, (0.75, 0.5), "imager_pixel_spacing"),
        ({"SequenceOfUltrasoundRegions": [region()]}, (0.2, 0.3), "ultrasound_regions"),
        ({"SequenceOfUltrasoundRegions": [region(), region(RegionSpatialFormat=3)]}, (0.2, 0.3), "ultrasound_regions"),
        ({"SequenceOfUltrasoundRegions": [region(), region(PhysicalDeltaX=0.05)]}, None, "unknown"),
        ({"SequenceOfUltrasoundRegions": [region(PhysicalUnitsXDirection=4)]}, None, "unknown"),
    ],
)
def test_i10_the_spacing_of_a_cine_has_its_source(tmp_path, changes, spacing, source):
    image = converted(cine_dataset(stored_planes(3), **changes), tmp_path).description.image
    assert image.spacing_mm == (None if spacing is None else pytest.approx(spacing))
    assert image.spacing_source == source


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"PixelSpacing": [0, 1]}, "invalid_header"),
        ({"BurnedInAnnotation": None}, "quarantined_burned_in_risk"),
        ({"BurnedInAnnotation": "YES"}, "quarantined_burned_in"),
        ({"SOPClassUID": NuclearMedicineImageStorage, "FrameIncrementPointer": 0x00540080}, "unsupported_multiframe"),
        ({"SOPClassUID": SecondaryCaptureImageStorage, "FrameIncrementPointer": None}, "unsupported_multiframe"),
        ({"FrameIncrementPointer": tag_for_keyword("SliceLocationVector")}, "unsupported_multiframe"),
        ({"ImagePositionPatient": [0, 0, 0]}, "unsupported_multiframe"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "unsupported_photometric"),
    ],
)
def test_i13_frames_that_are_no_times_are_refused(tmp_path, changes, code):
    assert refused(cine_dataset(stored_planes(3), **changes), tmp_path) == code


def test_i13_two_clips_of_one_series_are_two_images(tmp_path):
    for name in ("a", "b"):
        save(cine_dataset(stored_planes(3)), tmp_path / f"{name}.dcm")
    assert [len(source.files) for source in sources_in(CONVERTER, tmp_path)] == [1, 1]


def test_i05_multiframe_files_of_pydicom_are_refused_by_name():
    codes = {}
    for file in find(PYDICOM_FILES):
        if not CONVERTER.recognize(head(file), file.path.name):
            continue
        try:
            if n_frames(read_dataset(file.path, ["NumberOfFrames"])) == 1:
                continue
        except ConversionError:  # test_dicom_real has the damaged ones
            continue
        for source in CONVERTER.group([file], {}):
            try:
                convert(CONVERTER, source)
            except ConversionError as error:
                codes[file.path.name] = error.code
    # All are colour, doses or segmentations; test_dicom_real compares those of one frame.
    assert set(codes.values()) == {"unsupported_photometric", "unsupported_sop_class"}
    assert {"examples_ybr_color.dcm", "SC_rgb_rle_2frame.dcm", "rtdose.dcm"} <= set(codes)


def test_i09_a_frame_number_that_is_not_there(tmp_path):
    save(stack(stored_planes(3)), tmp_path / "x.dcm")
    (file,) = find(tmp_path)
    expected = PixelFormat(6, 5, 16, 12, True, "MONOCHROME2", str(ExplicitVRLittleEndian), False)
    with _dicom_planes.PlaneFiles([file]) as planes, pytest.raises(ConversionError) as caught:
        planes.plane(0, 3, expected)
    assert caught.value.code == "source_changed"
