"""Enhanced multi-frame DICOM objects made by hand: functional groups to volumes (FIDELITY I05)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from converters.conformance import ConverterConformance, convert, sources_in
from converters.dicom_files import (
    AXIAL,
    CONVERTER,
    PLANTED,
    SERIES,
    at,
    cine_dataset,
    code_of,
    converted,
    enhanced_dataset,
    mosaic_dataset,
    one,
    refused,
    rle_frame,
    save,
    stack,
    stored_planes,
    write_series,
)
from harmonize_converters._dicom_kinds import Kind, members
from harmonize_converters.contract import SourceFiles

OBLIQUE = [0.8, 0.6, 0.0, 0.0, 0.0, -1.0]


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
    planted = PLANTED
    corruption_rounds = 40

    @pytest.fixture
    def source_files(self, tmp_path: Path) -> list[SourceFiles]:
        planes = stored_planes(6, 16, 16)
        save(stack(planes[:4], [2, 0, 3, 1]), tmp_path / "enhanced" / "x.dcm")
        compressed = stack(planes[:3], [2, 0, 1])
        frames = [rle_frame(planes[k]) for k in (2, 0, 1)]
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


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_i05_one_volume_as_single_frames_and_as_shuffled_frames(tmp_path, syntax):
    planes = stored_planes(5)
    single = convert(CONVERTER, one(write_series(tmp_path / "single", planes)))
    multi = converted(stack(planes, [3, 1, 4, 0, 2]), tmp_path / "multi", syntax)
    np.testing.assert_array_equal(multi.arrays[0], planes)
    assert multi.description.image == single.description.image
    assert multi.description.acquisition == single.description.acquisition
    assert multi.described.identity.subject == "MRN-4711-PLANTED"


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
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.30"}, "unsupported_sop_class"),
        ({"Rows": 65535, "Columns": 65535}, "implausible_size"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 4}, "unsupported_photometric"),
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
