"""NIfTI: written by nibabel or by hand, from nibabel's own files, and real ones."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from converters.conformance import ConverterConformance, code_of_refusal, convert, find, head, only_source, sources_in
from harmonize_converters.contract import ConversionError, FoundFile, SourceFiles
from harmonize_converters.nifti import NiftiConverter
from realdata import DATA, needs_data, real_files

CONVERTER = NiftiConverter()
NIBABEL_FILES = Path(nib.__file__).parent / "tests" / "data"
AFFINE = np.array([[0.0, -2, 0, 30], [1.5, 0, 0, -40], [0, 0, 3, 10], [0, 0, 0, 1]])
RANDOM = np.random.default_rng(3)


def volume(shape=(7, 5, 4), dtype="int16") -> np.ndarray:
    return RANDOM.integers(0, 200, shape).astype(dtype)


def save(path: Path, data: np.ndarray, affine=AFFINE, kind=nib.Nifti1Image, edit=None, order="<") -> Path:
    """Write an image; ``edit`` changes the header's fields afterwards, in the file, whatever they mean."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = kind.header_class(endianness=order)
    image = kind(data, affine, header=header)
    image.set_data_dtype(data.dtype.newbyteorder(order))
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"planted text"
    if edit:
        image.update_header()
    raw = bytearray(image.to_bytes())
    if edit:
        patched = kind.header_class(bytes(raw[: kind.header_class.sizeof_hdr]), endianness=order, check=False)
        edit(patched)
        raw[: kind.header_class.sizeof_hdr] = patched.binaryblock
    path.write_bytes(gzip.compress(bytes(raw), mtime=0) if path.suffix == ".gz" else raw)
    return path


one = partial(only_source, CONVERTER)
code_of = partial(code_of_refusal, CONVERTER)


def equal_to_nibabel(source: SourceFiles, judge=None) -> None:
    outcome = convert(CONVERTER, source)
    image = outcome.description.image
    judge = judge or nib.load(source.primary.path)
    ours = outcome.arrays[0].reshape(image.shape).T.astype(np.float64) * image.slopes[0] + image.intercepts[0]
    theirs = judge.get_fdata()
    while theirs.ndim > 3 and theirs.shape[-1] == 1:
        theirs = theirs[..., 0]
    np.testing.assert_array_equal(ours, theirs.reshape(ours.shape))
    if image.affine is not None:
        np.testing.assert_array_equal(np.array(image.affine), judge.affine)
        assert image.orientation == "".join(nib.aff2axcodes(judge.affine))


class TestConformance(ConverterConformance):
    converter = CONVERTER
    corruption_rounds = 100
    planted = ("planted text", "Planted Hospital", "SN-PLANTED")

    @pytest.fixture
    def source_files(self, tmp_path: Path) -> list[SourceFiles]:
        save(tmp_path / "plain" / "a.nii", volume())
        save(tmp_path / "zipped" / "b.nii.gz", volume((6, 5, 4, 3), "uint8"))
        save(tmp_path / "big" / "c.nii", volume((6, 5, 4), "float32"), kind=nib.Nifti2Image, order=">")
        beside = {"InstitutionName": "Planted Hospital", "DeviceSerialNumber": "SN-PLANTED", "EchoTime": 0.03}
        (tmp_path / "plain" / "a.json").write_text(json.dumps(beside))
        (tmp_path / "zipped" / "b.bval").write_text("0 1000 1000\n")
        return [one(tmp_path / name) for name in ("plain", "zipped", "big")]

    @pytest.fixture
    def large_source(self, tmp_path: Path) -> SourceFiles:
        save(tmp_path / "large" / "a.nii.gz", volume((64, 64, 300)))
        return one(tmp_path / "large")

    def independent(self, source: SourceFiles) -> list[np.ndarray]:
        raw = np.asanyarray(nib.load(source.primary.path).dataobj)
        return [raw.T.reshape(-1, raw.shape[1], raw.shape[0])]

    def truncation_points(self, file: FoundFile, role: str) -> list[int]:
        # "0 1000 100" is as good a list of b-values as "0 1000 1000".
        return [0, 3] if role == "bval" else super().truncation_points(file, role)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "b"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_recognises_by_bytes(tmp_path, name, order, kind):
    data = save(tmp_path / name, volume(), kind=kind, order=order).read_bytes()
    equal_to_nibabel(one(tmp_path), kind.from_bytes(gzip.decompress(data) if name.endswith("gz") else data))


@pytest.mark.parametrize(
    "dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64"]
)
@pytest.mark.parametrize("order", "<>")
def test_i12_data_types_and_byte_orders(tmp_path, dtype, order):
    save(tmp_path / "a.nii", volume(dtype=dtype), order=order)
    equal_to_nibabel(one(tmp_path))
    assert convert(CONVERTER, one(tmp_path)).description.image.dtype == dtype


def test_i12_axes(tmp_path):
    for name, shape, axes, expected in [
        ("2d", (7, 5), "zyx", (1, 5, 7)),
        ("3d", (7, 5, 4), "zyx", (4, 5, 7)),
        ("4d", (7, 5, 4, 3), "tzyx", (3, 4, 5, 7)),
        ("one-time", (7, 5, 4, 1, 1), "zyx", (4, 5, 7)),
        ("one-slice", (7, 5, 1, 3), "tzyx", (3, 1, 5, 7)),
    ]:
        save(tmp_path / name / "a.nii", volume(shape))
        image = convert(CONVERTER, one(tmp_path / name)).description.image
        assert ("".join(image.axes), image.shape) == (axes, expected)
        equal_to_nibabel(one(tmp_path / name))


def test_i12_scaling(tmp_path):
    def scaled(slope, inter):
        def edit(header):
            header["scl_slope"], header["scl_inter"] = slope, inter

        return edit

    save(tmp_path / "a" / "a.nii", volume(), edit=scaled(0.25, -7))
    image = convert(CONVERTER, one(tmp_path / "a")).description.image
    assert (image.slopes, image.intercepts) == ((0.25,), (-7.0,))
    equal_to_nibabel(one(tmp_path / "a"))
    for slope in (0, np.nan, np.inf):
        save(tmp_path / "b" / "a.nii", volume(), edit=scaled(slope, 5))
        image = convert(CONVERTER, one(tmp_path / "b")).description.image
        assert (image.slopes, image.intercepts) == ((1.0,), (0.0,))
        equal_to_nibabel(one(tmp_path / "b"))
    save(tmp_path / "c" / "a.nii", volume(), edit=scaled(2, np.nan))
    assert code_of(tmp_path / "c") == "invalid_header"


def forms(sform, qform):
    def edit(header):
        header.set_sform(sform, code=0 if sform is None else 1)
        header.set_qform(qform, code=0 if qform is None else 1)

    return edit


def test_i11_sform_then_qform_then_unknown(tmp_path):
    other = AFFINE.copy()
    other[:3, 3] += 1
    cases = {
        "sform": (AFFINE, None, "sform", None, ()),
        "qform": (None, AFFINE, "qform", None, ()),
        "same": (AFFINE, AFFINE, "sform", None, ()),
        "differ": (AFFINE, other, "sform", "qform", ("sform_qform_differ",)),
        "none": (None, None, "unknown", None, ("geometry_unknown",)),
    }
    for name, (sform, qform, source, alternative, flags) in cases.items():
        save(tmp_path / name / "a.nii", volume(), edit=forms(sform, qform))
        description = convert(CONVERTER, one(tmp_path / name)).description
        image = description.image
        assert (image.affine_source, image.alternative_affine_source, description.flags) == (source, alternative, flags)
        if source != "unknown":
            np.testing.assert_allclose(np.array(image.affine), AFFINE, atol=1e-5)  # float32 quaternions
            equal_to_nibabel(one(tmp_path / name))
        if alternative:
            np.testing.assert_allclose(np.array(image.alternative_affine), other, atol=1e-5)
    assert convert(CONVERTER, one(tmp_path / "none")).description.image.spacing_source == "pixdim"


@pytest.mark.parametrize("qfac", [0.0, 1.0, -1.0])
def test_i11_pixdim_0_of_zero_means_one(tmp_path, qfac):
    def edit(header):
        header.set_sform(None, code=0)
        header.set_qform(np.diag([1.0, 2, 3, 1]), code=1)
        header["pixdim"][0] = qfac

    save(tmp_path / "a.nii", volume(), edit=edit)
    image = convert(CONVERTER, one(tmp_path)).description.image
    assert image.affine[2][2] == (-3 if qfac == -1 else 3)


def test_i11_pixdim_that_disagrees_is_flagged(tmp_path):
    def edit(header):
        header["pixdim"][2] = 9

    save(tmp_path / "a.nii", volume(), edit=edit)
    description = convert(CONVERTER, one(tmp_path)).description
    assert description.flags == ("spacing_mismatch",)
    np.testing.assert_allclose(description.image.spacing_mm, (1.5, 2, 3), rtol=1e-6)


def test_i11_shear_is_flagged(tmp_path):
    sheared = AFFINE.copy()
    sheared[0, 2] = 0.5
    save(tmp_path / "a.nii", volume(), sheared, edit=lambda header: header.set_qform(None, code=0))
    assert "sheared" in convert(CONVERTER, one(tmp_path)).description.flags


@pytest.mark.parametrize(("units", "mm"), [(0, 1.0), (1, 1000.0), (2, 1.0), (3, 0.001)])
def test_i11_space_units(tmp_path, units, mm):
    save(tmp_path / "a.nii", volume(), edit=lambda header: header.__setitem__("xyzt_units", units))
    image = convert(CONVERTER, one(tmp_path)).description.image
    np.testing.assert_allclose(np.array(image.affine)[:3], AFFINE[:3] * mm, rtol=1e-6)
    np.testing.assert_allclose(image.spacing_mm, np.array([1.5, 2, 3]) * mm, rtol=1e-6)


@pytest.mark.parametrize(
    ("units", "pixdim", "step"),
    [(8, 2.5, 2.5), (16, 2500, 2.5), (24, 2.5e6, 2.5), (0, 2.5, None), (8, 0, None), (8, 2000, None)],
)
def test_i12_time_step(tmp_path, units, pixdim, step):
    def edit(header):
        header["xyzt_units"] = 2 | units
        header["pixdim"][4] = pixdim

    save(tmp_path / "a.nii", volume((5, 4, 3, 2)), edit=edit)
    assert convert(CONVERTER, one(tmp_path)).description.image.time_step_s == step


def setting(name, value):
    def edit(header):
        header[name] = value

    return edit


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("magic", b"ni1", "unsupported_nifti"),
        ("datatype", 128, "unsupported_dtype"),
        ("datatype", 32, "unsupported_dtype"),
        ("datatype", 1536, "unsupported_dtype"),
        ("datatype", 1, "unsupported_dtype"),
        ("datatype", 4711, "unsupported_dtype"),
        ("bitpix", 8, "invalid_header"),
        ("dim", [5, 7, 5, 2, 1, 2, 1, 1], "unsupported_nifti"),
        ("dim", [4, 7, 5, -4, 1, 1, 1, 1], "invalid_header"),
        ("dim", [0, 7, 5, 4, 1, 1, 1, 1], "invalid_header"),
        ("dim", [1, 140, 1, 1, 1, 1, 1, 1], "unsupported_nifti"),
        ("dim", [3, 7, 5, 5, 1, 1, 1, 1], "truncated"),
        ("dim", [4, 30000, 30000, 30000, 30000, 1, 1, 1], "implausible_size"),
        ("vox_offset", 0, "invalid_header"),
        ("vox_offset", 352.5, "invalid_header"),
        ("vox_offset", np.nan, "invalid_header"),
        ("srow_x", [0, 0, 0, 0], "invalid_header"),
        ("srow_x", [np.nan, 0, 0, 0], "invalid_header"),
    ],
)
@pytest.mark.parametrize("file", ["a.nii", "a.nii.gz"])
def test_what_is_not_handled_is_refused_by_name(tmp_path, name, value, code, file):
    save(tmp_path / file, volume(), edit=setting(name, value))
    assert code_of(tmp_path) == code


def test_a_spectrum_is_no_time_series(tmp_path):
    save(tmp_path / "a.nii", volume((5, 4, 3, 2)), edit=setting("xyzt_units", 2 | 40))
    assert code_of(tmp_path) == "unsupported_nifti"


def test_analyze_is_refused_by_name():
    file = next(f for f in find(NIBABEL_FILES) if f.path.name == "analyze.hdr")
    assert CONVERTER.recognize(head(file), file.path.name)
    with pytest.raises(ConversionError, match="unsupported_nifti"):
        CONVERTER.describe(SourceFiles("nifti", file.key, (file,), ("image",)))


def test_trailing_bytes_are_flagged(tmp_path):
    raw = save(tmp_path / "a.nii", volume()).read_bytes() + b"more"
    (tmp_path / "a.nii").write_bytes(raw)
    assert convert(CONVERTER, one(tmp_path)).description.flags == ("trailing_bytes",)
    (tmp_path / "a.nii").unlink()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(raw))
    assert convert(CONVERTER, one(tmp_path)).description.flags == ("trailing_bytes",)


def test_gzip_of_many_members(tmp_path):
    raw = save(tmp_path / "a.nii", volume()).read_bytes()
    (tmp_path / "a.nii").unlink()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(raw[:500]) + gzip.compress(raw[500:]))
    equal_to_nibabel(one(tmp_path))
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(raw) + gzip.compress(b"more"))
    assert code_of(tmp_path) == "corrupt"


def test_gzip_checksum_is_verified(tmp_path):
    path = save(tmp_path / "a.nii.gz", volume())
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)
    assert code_of(tmp_path) == "corrupt"


def test_a_bomb_behind_the_image_is_not_inflated(tmp_path):
    raw = save(tmp_path / "a.nii", volume()).read_bytes()
    (tmp_path / "a.nii").unlink()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(raw + bytes(100_000_000)))
    assert code_of(tmp_path) == "corrupt"


def test_i12_sidecar(tmp_path):
    save(tmp_path / "sub-01_bold.nii.gz", volume((5, 4, 3, 2)))
    fields = {
        "Modality": "MR",
        "Manufacturer": "ACME",
        "ManufacturersModelName": "Scan 1",
        "MagneticFieldStrength": 3,
        "RepetitionTime": 2.0,
        "EchoTime": 0.03,
        "FlipAngle": "ninety",
        "InstitutionName": "Hospital",
        "PatientName": "Doe",
        "ProtocolName": "free text",
    }
    (tmp_path / "sub-01_bold.json").write_text(json.dumps(fields))
    source = one(tmp_path)
    assert source.roles == ("image", "sidecar")
    described = CONVERTER.describe(source)
    found = described.description.acquisition
    assert (found.device_maker, found.device_model, found.field_strength_t) == ("ACME", "Scan 1", 3.0)
    assert (found.repetition_time_s, found.echo_time_s, found.flip_angle_deg) == (2.0, 0.03, None)
    assert described.description.modality == "mr"
    assert described.identity.site == "Hospital"
    assert not {"Doe", "free text", "Hospital"} & set(repr(described.description).split("'"))
    (tmp_path / "sub-01_bold.json").write_text("{")
    assert code_of(tmp_path) == "corrupt"


def test_i12_b_values_and_vectors(tmp_path):
    save(tmp_path / "a.nii.gz", volume((5, 4, 3, 3)))
    (tmp_path / "a.bval").write_text("0 1000 1000\n")
    (tmp_path / "a.bvec").write_text("0 1 0\n0 0 0\n0 0 1\n")
    image = convert(CONVERTER, one(tmp_path)).description.image
    assert image.b_values_s_mm2 == (0, 1000, 1000)
    # the affine's determinant is positive, so x counts against i, which runs to +y here
    assert image.b_vectors_ras == ((0, 0, 0), (0, -1, 0), (0, 0, 1))
    (tmp_path / "a.bval").write_text("0 1000\n")
    assert code_of(tmp_path) == "corrupt"


def test_i12_b_vectors_do_not_depend_on_storage_order(tmp_path):
    """The same volume stored right to left has other b-vectors in the file, and the same in RAS."""
    flipped = AFFINE @ np.diag([-1, 1, 1, 1])
    found = []
    for name, affine in (("a", AFFINE), ("b", flipped)):
        save(tmp_path / name / "a.nii", volume((5, 4, 3, 2)), affine)
        # FSL: the x of a radiological volume (determinant below zero) is the storage axis itself,
        # that of a neurological one is reversed; either way it is the same direction in space.
        (tmp_path / name / "a.bvec").write_text("0 0.6\n0 0.8\n0 0\n")
        found.append(convert(CONVERTER, one(tmp_path / name)).description.image.b_vectors_ras)
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_a_file_that_changed_between_describe_and_read(tmp_path):
    source = one(save(tmp_path / "a.nii", volume()).parent)
    description = CONVERTER.describe(source).description
    image = description.image.model_copy(update={"slopes": (2.0,)})
    with pytest.raises(ConversionError, match="source_changed"):
        list(CONVERTER.read(source, replace(description, image=image), 1000))


@needs_data
@pytest.mark.parametrize("path", real_files("nifti", ".gz"), ids=lambda path: path.name)
def test_i11_i12_real_files_equal_nibabel(path):
    file = next(f for f in find(path.parent) if f.path == path)
    (source,) = CONVERTER.group([file], {})
    equal_to_nibabel(source)


def test_every_file_of_nibabel_equals_it_or_is_refused():
    refused = []
    for source in sources_in(CONVERTER, NIBABEL_FILES):
        try:
            equal_to_nibabel(source)
        except ConversionError as error:
            refused.append((source.primary.path.name, error.code))
    assert refused == [
        (name, "unsupported_nifti") for name in ("analyze.hdr", "nifti1.hdr", "nifti2.hdr", "row_major.dconn.nii")
    ]


@needs_data
def test_every_nifti_beside_dicom_equals_nibabel_or_is_refused():
    refused = []
    for source in sources_in(CONVERTER, DATA / "dicom"):
        try:
            equal_to_nibabel(source)
        except ConversionError as error:
            refused.append(error.code)
    assert refused == ["unsupported_dtype"] * 2
