"""Segmentations to label images: by hand, and by highdicom of real series, which is the judge (PS3.3 A.51)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from converters.conformance import ConverterConformance, Outcome, convert, find, sources_in
from converters.dicom_files import CONVERTER, converted, one, refused, save
from converters.seg_files import by_highdicom, completed, concept, seg_dataset, segment
from harmonize_converters.contract import ConversionError, SourceFiles
from harmonize_converters.geometry import with_gaps
from harmonize_schemas import CodedConcept
from realdata import DATA, needs_data

PYDICOM_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
SERIES = ("hitachi/anatomical/001", "siemens/anatomical/001", "philips/anatomical/001")
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def bits(*shape: int, seed: int = 0, share: float = 0.4) -> np.ndarray:
    """Random voxels of a segment."""
    return (np.random.default_rng(seed).random(shape) < share).astype(np.uint8)


def apart(count: int = 4, rows: int = 5, columns: int = 7) -> np.ndarray:
    """Labels 0, 1 and 2 (z, y, x), an odd number of voxels a slice."""
    return np.random.default_rng(1).integers(0, 3, (count, rows, columns)).astype(np.uint8)


def frames_of(labels: np.ndarray) -> list[tuple[float, int, np.ndarray]]:
    """A frame for each segment and slice."""
    return [(100 + 2.5 * z, n, (labels[z] == n).astype(np.uint8)) for z in range(len(labels)) for n in (1, 2)]


def check_judged(outcome: Outcome, path: Path, **how: Any) -> None:
    """Every voxel of highdicom's reading lies on one of ours (to 0.001 voxels) and has its value; ours has no others."""
    image = outcome.description.image
    affine = np.array(image.affine)
    stored = outcome.arrays[0].reshape((-1, *image.shape[-3:]))  # a channel each, or labels
    volume = hd.seg.segread(path).get_volume(allow_missing_positions=True, **how)
    judge = volume.array.reshape((*volume.array.shape[:3], -1))  # its axes are z, y, x, segment
    assert judge.shape[3] == len(stored)
    to_ours = np.linalg.inv(affine) @ LPS_TO_RAS @ volume.affine
    for n, ours in enumerate(stored):
        index = np.argwhere(judge[..., n])
        found = index @ to_ours[:3, :3].T + to_ours[:3, 3]
        np.testing.assert_allclose(found, np.rint(found), atol=1e-3)
        expected = np.zeros_like(ours)
        expected[tuple(np.rint(found).astype(int).T[::-1])] = judge[..., n][tuple(index.T)]
        assert len(index) > 0
        np.testing.assert_array_equal(ours, expected)


class TestConformance(ConverterConformance):
    converter = CONVERTER
    planted = ("planted label", "planted description", "planted meaning", "MRN-4711", "20230405")
    corruption_rounds = 40

    @pytest.fixture
    def source_files(self, tmp_path: Path) -> list[SourceFiles]:
        labels = apart()
        frames = frames_of(labels)
        both = [(100.0, 1, bits(5, 7)), (100.0, 2, bits(5, 7, seed=1)), (105.0, 1, bits(5, 7, seed=2))]
        shares = [(z, n, p * np.uint8(150)) for z, n, p in both]
        save(seg_dataset(frames[::-1]), tmp_path / "binary" / "x.dcm")
        save(seg_dataset(both), tmp_path / "overlapping" / "x.dcm")
        save(seg_dataset(shares, "FRACTIONAL"), tmp_path / "fractional" / "x.dcm")
        segments = [segment(n) for n in (1, 2)]
        planes = [(100 + 2.5 * z, 1, plane) for z, plane in enumerate(labels)]
        save(seg_dataset(planes, "LABELMAP", SegmentSequence=segments), tmp_path / "labels" / "x.dcm")
        return [one(tmp_path / name) for name in ("binary", "overlapping", "fractional", "labels")]

    @pytest.fixture
    def large_source(self, tmp_path: Path) -> SourceFiles:
        frames = [(2.5 * z, n, bits(256, 256, seed=n, share=0.1 * n)) for z in range(40) for n in (1, 2)]
        save(seg_dataset(frames, SegmentsOverlap="YES"), tmp_path / "large" / "x.dcm")
        return one(tmp_path / "large")

    def independent(self, source: SourceFiles) -> list[np.ndarray]:
        ds = pydicom.dcmread(source.primary.path)
        places = [item.PlanePositionSequence[0].ImagePositionPatient[2] for item in ds.PerFrameFunctionalGroupsSequence]
        steps = [round((place - min(places)) / 2.5) for place in places]
        if ds.SegmentationType == "LABELMAP":
            return [ds.pixel_array]
        shape = (len(ds.SegmentSequence), max(steps) + 1, ds.Rows, ds.Columns)
        channels = np.zeros(shape, np.uint8)
        for step, item, plane in zip(steps, ds.PerFrameFunctionalGroupsSequence, ds.pixel_array, strict=True):
            channels[item.SegmentIdentificationSequence[0].ReferencedSegmentNumber - 1, step] = plane
        if ds.SegmentationType == "BINARY" and channels.astype(bool).sum(0).max() < 2:
            return [channels[0] + 2 * channels[1]]
        return [channels.reshape(-1, *shape[2:])]


@needs_data
@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_labels_of_a_real_series_lie_where_highdicom_finds_them(tmp_path, name, kind):
    source = [completed(path) for path in sorted((DATA / "dicom" / name).iterdir())]
    labels = np.zeros((len(source), source[0].Rows, source[0].Columns), np.uint8)
    labels[0, 3:9, 5:20], labels[2, 10:14, 11:13], labels[3, 20, 7] = 1, 2, 2  # none in slice 1
    by_highdicom(source, labels, kind).save_as(tmp_path / "x.dcm")
    outcome = convert(CONVERTER, one(tmp_path))
    image = outcome.description.image
    assert (outcome.description.modality, image.axes, image.segment_values) == (
        "segmentation",
        ("z", "y", "x"),
        "label",
    )
    check_judged(outcome, tmp_path / "x.dcm", combine_segments=True)
    # and by the equation of PS3.3 C.7.6.2.1.1
    ds, (row, column) = source[3], (20, 7)
    x, y = np.array(ds.ImageOrientationPatient).reshape(2, 3)
    place = np.array(ds.ImagePositionPatient) + x * ds.PixelSpacing[1] * column + y * ds.PixelSpacing[0] * row
    i, j, k, _ = np.linalg.solve(np.array(image.affine), LPS_TO_RAS @ [*place, 1])
    np.testing.assert_allclose([i, j, k], np.rint([i, j, k]), atol=1e-3)
    assert outcome.arrays[0][round(k), round(j), round(i)] == 2
    assert (i, j) == pytest.approx((column, row), abs=1e-3)
    assert outcome.described.identity.derived_from == (ds.SeriesInstanceUID,)
    assert outcome.described.identity.frame_of_reference == ds.FrameOfReferenceUID


@needs_data
def test_shares_keep_their_stored_values(tmp_path):
    source = [completed(path) for path in sorted((DATA / "dicom" / SERIES[0]).iterdir())]
    shares = np.zeros((4, 64, 64, 2))
    shares[1, 3:9, 5:20, 0], shares[1, 4:6, 5:9, 1], shares[2, 60, 3, 1] = 0.5, 1, 0.2
    by_highdicom(source, shares, "FRACTIONAL", max_fractional_value=100).save_as(tmp_path / "x.dcm")
    outcome = convert(CONVERTER, one(tmp_path))
    image = outcome.description.image
    assert (image.axes, image.segment_values, image.slopes) == (("c", "z", "y", "x"), "probability", (0.01,))
    check_judged(outcome, tmp_path / "x.dcm", rescale_fractional=False)
    assert {50, 100, 20} <= set(outcome.arrays[0].ravel().tolist())


@needs_data
def test_segments_that_overlap_have_a_channel_each(tmp_path):
    source = [completed(path) for path in sorted((DATA / "dicom" / SERIES[0]).iterdir())]
    mask = np.stack([bits(4, 64, 64), bits(4, 64, 64, seed=1)], axis=-1)
    mask[1, ..., 0] = 0
    by_highdicom(source, mask, "BINARY").save_as(tmp_path / "x.dcm")
    outcome = convert(CONVERTER, one(tmp_path))
    assert outcome.description.image.shape == (2, 4, 64, 64)
    assert outcome.description.image.segment_values == "mask"
    check_judged(outcome, tmp_path / "x.dcm")


@needs_data
def test_pixels_of_each_source_slice_are_highdicoms(tmp_path):
    source = [completed(path) for path in sorted((DATA / "dicom" / SERIES[0]).iterdir())]
    labels = np.random.default_rng(0).integers(0, 3, (4, 64, 64)).astype(np.uint8)
    by_highdicom(source, labels, "BINARY").save_as(tmp_path / "x.dcm")
    outcome = convert(CONVERTER, one(tmp_path))
    normal = np.cross(*np.array(source[0].ImageOrientationPatient).reshape(2, 3))
    along = sorted(source, key=lambda ds: np.array(ds.ImagePositionPatient) @ normal)
    judge = hd.seg.segread(tmp_path / "x.dcm")
    expected = judge.get_pixels_by_source_instance([ds.SOPInstanceUID for ds in along], combine_segments=True)
    np.testing.assert_array_equal(outcome.arrays[0], expected)


@needs_data
def test_a_palette_is_for_a_screen(tmp_path):
    source = [completed(path) for path in sorted((DATA / "dicom" / SERIES[0]).iterdir())]
    labels = np.random.default_rng(0).integers(0, 3, (4, 64, 64)).astype(np.uint8)
    palette = hd.PaletteColorLUTTransformation.from_colors(["black", "red", "blue"], palette_color_lut_uid=hd.UID())
    made = by_highdicom(source, labels, "LABELMAP", palette_color_lut_transformation=palette)
    made.save_as(tmp_path / "x.dcm")
    assert made.PhotometricInterpretation == "PALETTE COLOR"
    check_judged(convert(CONVERTER, one(tmp_path)), tmp_path / "x.dcm", combine_segments=True)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_single_bits_of_frames_that_share_bytes(tmp_path, syntax):
    labels = apart()
    outcome = converted(seg_dataset(frames_of(labels)), tmp_path, syntax)
    np.testing.assert_array_equal(outcome.arrays[0], labels)


@needs_data
@pytest.mark.parametrize(("syntax", "kind"), [(RLELossless, "LABELMAP"), (JPEG2000Lossless, "FRACTIONAL")])
def test_compressed_segmentations(tmp_path, syntax, kind):
    source = [completed(path) for path in sorted((DATA / "dicom" / SERIES[0]).iterdir())]
    labels = np.zeros((4, 64, 64), np.uint8)
    labels[:, 5:30, 5:30], labels[:, 40:50, 40:60] = 1, 2
    by_highdicom(source, labels, kind, transfer_syntax_uid=syntax).save_as(tmp_path / "x.dcm")
    outcome = convert(CONVERTER, one(tmp_path))
    values = outcome.arrays[0].reshape(outcome.description.image.shape)
    normal = np.cross(*np.array(source[0].ImageOrientationPatient).reshape(2, 3))
    order = np.argsort([np.array(ds.ImagePositionPatient) @ normal for ds in source])
    expected = labels[order] if kind == "LABELMAP" else np.stack([labels[order] == n for n in (1, 2)]) * 255
    np.testing.assert_array_equal(values, expected)


@given(order=st.permutations(list(range(8))))
@settings(max_examples=10, deadline=None)
def test_any_order_of_frames_gives_one_image(tmp_path_factory, order):
    labels = apart()
    frames = frames_of(labels)
    outcome = converted(seg_dataset([frames[k] for k in order]), tmp_path_factory.mktemp("seg"))
    np.testing.assert_array_equal(outcome.arrays[0], labels)
    np.testing.assert_allclose(np.array(outcome.description.image.affine)[:3, 3], [10, 20, 100], atol=1e-9)


def test_numbers_above_a_byte(tmp_path):
    first, second = bits(5, 7), 1 - bits(5, 7)
    outcome = converted(seg_dataset([(0.0, 3, first), (0.0, 700, second)]), tmp_path)
    assert outcome.description.image.dtype == "uint16"
    assert [one.number for one in outcome.description.image.segments] == [3, 700]
    np.testing.assert_array_equal(outcome.arrays[0][0], first * 3 + second.astype(np.uint16) * 700)


def test_slices_left_out_are_empty(tmp_path):
    frames = [(100.0, 1, bits(5, 7)), (107.5, 1, bits(5, 7, seed=1)), (117.5, 1, bits(5, 7, seed=2))]
    outcome = converted(seg_dataset(frames), tmp_path)
    expected = np.zeros((8, 5, 7), np.uint8)
    expected[[0, 3, 7]] = [plane for _, _, plane in frames]
    np.testing.assert_array_equal(outcome.arrays[0], expected)
    assert outcome.description.image.spacing_mm == (0.75, 0.5, 2.5)
    assert outcome.description.flags == ()


@pytest.mark.parametrize("between", [None, 2.0, 4.0])
def test_i03_slices_left_out_at_an_unknown_step_are_missing(tmp_path, between):
    frames = [(100.0, 1, bits(5, 7)), (107.5, 1, bits(5, 7)), (117.5, 1, bits(5, 7))]
    assert refused(seg_dataset(frames, between=between), tmp_path) == "missing_slices"


def test_i02_positions_come_before_a_spacing_that_they_deny(tmp_path):
    frames = [(100 + 2.5 * z, 1, bits(5, 7)) for z in range(3)]
    outcome = converted(seg_dataset(frames, between=4.0), tmp_path)
    assert outcome.description.flags == ("spacing_mismatch",)
    assert outcome.description.image.spacing_mm == (0.75, 0.5, 2.5)


def test_one_slice_without_a_step_has_no_affine(tmp_path):
    outcome = converted(seg_dataset([(100.0, 1, bits(5, 7))], between=None), tmp_path)
    assert outcome.description.image.affine is None
    assert outcome.description.flags == ("single_slice_spacing",)


@given(
    step=st.floats(0.3, 8),
    tilt=st.floats(-0.5, 0.5),
    kept=st.sets(st.integers(1, 400), min_size=1, max_size=20),
)
@settings(deadline=None)
def test_gaps_are_filled_on_a_line_whatever_was_left_out(step, tilt, kept):
    at = np.array([0, *sorted(kept)])
    normal = np.array([0.0, 0.6, 0.8])
    vector = step * (normal + tilt * np.array([1.0, 0.0, 0.0]))
    points = np.array([5.0, -7.0, 900.0]) + at[:, None] * vector
    line, found = with_gaps(points, normal, round(step, 6))
    assert found == at.tolist()
    np.testing.assert_allclose(line, points[0] + np.arange(at[-1] + 1)[:, None] * vector, atol=1e-9)


def test_overlap_is_looked_for_where_the_header_does_not_say(tmp_path):
    frames = [(100.0, 1, bits(5, 7)), (100.0, 2, bits(5, 7, seed=1))]
    undefined = converted(seg_dataset(frames, SegmentsOverlap="UNDEFINED"), tmp_path / "undefined")
    np.testing.assert_array_equal(undefined.arrays[0], [frames[0][2], frames[1][2]])
    assert undefined.description.image.axes == ("c", "z", "y", "x")
    lie = seg_dataset(frames, SegmentsOverlap="NO")
    assert refused(lie, tmp_path / "lie") == "corrupt"
    there = converted(seg_dataset(frames_of(apart(1)), SegmentsOverlap="YES"), tmp_path / "yes")
    np.testing.assert_array_equal(there.arrays[0], np.stack([apart(1)[0] == n for n in (1, 2)]))


def test_what_segments_are(tmp_path):
    kidney = concept("64033007", "SCT", "planted meaning")
    kidney.SegmentedPropertyTypeModifierCodeSequence = [concept("24028007", "SCT", "")]
    first = segment(
        1,
        SegmentedPropertyTypeCodeSequence=[kidney],
        AnatomicRegionSequence=[concept("T-62000", "SRT", "planted meaning")],
        SegmentAlgorithmType="SEMIAUTOMATIC",
    )
    second = segment(2, SegmentedPropertyTypeCodeSequence=[concept("Doe", "99LOCAL", "Doe")], SegmentAlgorithmType="X")
    third = segment(3, SegmentedPropertyTypeCodeSequence=[concept("Doe", "SCT", "Doe")])
    frames = [(100.0, n, bits(5, 7, share=0)) for n in (1, 2, 3)]
    description = converted(seg_dataset(frames, SegmentSequence=[third, first, second]), tmp_path).description
    one, two, three = description.image.segments
    assert one.type == CodedConcept(code="SCT:64033007", meaning=codes.SCT.Kidney.meaning)
    assert [modifier.meaning for modifier in one.type_modifiers] == ["Right"]
    assert one.region == CodedConcept(code="SRT:T-62000", meaning=codes.SCT.Liver.meaning)
    assert (one.category.code, one.algorithm) == ("SCT:91723000", "SEMIAUTOMATIC")
    assert (two.number, two.type, two.algorithm, three.type) == (2, None, None, None)
    assert set(description.flags) == {"segment_code_withheld", "single_slice_spacing"}


def test_a_segmentation_has_no_start_and_each_file_is_one(tmp_path):
    for name in ("a", "b"):  # of one series
        save(seg_dataset(frames_of(apart())), tmp_path / f"{name}.dcm")
    sources = sources_in(CONVERTER, tmp_path)
    assert len(sources) == 2
    assert {CONVERTER.describe(source).identity.start for source in sources} == {None}


def reference(**changes: Any) -> Dataset:
    return seg_dataset(frames_of(apart()), **changes)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"SegmentationType": None}, "unsupported_segmentation"),
        ({"SegmentationType": "FRACTIONAL"}, "unsupported_segmentation"),
        ({"ConcatenationUID": "1.2.3"}, "unsupported_segmentation"),
        ({"TotalPixelMatrixColumns": 700}, "unsupported_geometry"),
        ({"SharedFunctionalGroupsSequence": None}, "unsupported_geometry"),
        (
            {"SharedFunctionalGroupsSequence": None, "PerFrameFunctionalGroupsSequence": None},
            "unsupported_segmentation",
        ),
        ({"SegmentSequence": None}, "no_data"),
        ({"SegmentSequence": [segment(1)]}, "invalid_header"),
        ({"SegmentSequence": [segment(1), segment(1), segment(2)]}, "invalid_header"),
        ({"SegmentSequence": [segment(0), segment(1), segment(2)]}, "invalid_header"),
        ({"NumberOfFrames": 7}, "invalid_header"),
        ({"BurnedInAnnotation": "YES"}, "quarantined_burned_in"),
        ({"PixelData": bytes(34)}, "truncated"),
    ],
)
def test_what_is_not_handled_is_refused_by_name(tmp_path, changes, code):
    assert refused(reference(**changes), tmp_path) == code


def test_label_maps_and_shares_that_lie_are_refused(tmp_path):
    planes = [(100 + 2.5 * z, 1, plane) for z, plane in enumerate(apart())]
    segments = [segment(n) for n in (1, 2)]
    assert refused(seg_dataset(planes, "LABELMAP"), tmp_path / "unknown") == "corrupt"
    padded = seg_dataset(planes, "LABELMAP", SegmentSequence=segments, PixelPaddingValue=9)
    assert refused(padded, tmp_path / "padded") == "unsupported_segmentation"
    twice = seg_dataset([*planes, planes[0]], "LABELMAP", SegmentSequence=segments)
    assert refused(twice, tmp_path / "twice") == "conflicting_slices"
    above = seg_dataset([(100.0, 1, np.full((5, 7), 201, np.uint8))], "FRACTIONAL")
    assert refused(above, tmp_path / "above") == "corrupt"


def test_more_slices_than_any_scan_has_are_refused(tmp_path):
    frames = [(0.0, 1, bits(5, 7)), (9000.0, 1, bits(5, 7))]
    assert refused(seg_dataset(frames, between=0.01), tmp_path) == "implausible_size"


def test_a_segmentation_that_dcmqi_wrote(tmp_path):
    """One of pydicom's, whose header is of three frames, made whole: the first frame, and its groups alone."""
    ds = pydicom.dcmread(PYDICOM_FILES / "liver_1frame.dcm")
    del ds.PerFrameFunctionalGroupsSequence[1:]
    ds.NumberOfFrames = 1
    ds.save_as(tmp_path / "x.dcm")
    outcome = convert(CONVERTER, one(tmp_path))
    image = outcome.description.image
    np.testing.assert_array_equal(outcome.arrays[0][0], ds.pixel_array)
    assert image.segments[0].type == CodedConcept(code="SRT:T-62000", meaning="Liver")
    assert image.affine == ((-0.810547, 0, 0, 235.2), (0, -0.810547, 0, 226.8), (0, 0, 1, -128.69), (0, 0, 0, 1))
    assert outcome.described.identity.derived_from == (ds.ReferencedSeriesSequence[0].SeriesInstanceUID,)


@pytest.mark.parametrize(
    ("name", "code"), [("liver_1frame.dcm", "invalid_header"), ("liver_expb_1frame.dcm", "unsupported_pixel_data")]
)
def test_three_groups_for_one_frame_are_refused(name, code):
    """The two segmentations in pydicom's wheel have one frame, and the functional groups of three; big-endian bits
    are not handled."""
    (file,) = (file for file in find(PYDICOM_FILES) if file.path.name == name)
    (source,) = CONVERTER.group([file], {})
    with pytest.raises(ConversionError) as caught:
        CONVERTER.describe(source)
    assert caught.value.code == code
