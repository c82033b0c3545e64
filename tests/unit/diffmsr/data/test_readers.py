"""Readers: what lies on disk becomes slices on one grid, and one clear line for what cannot."""

from pathlib import Path

import h5py
import nibabel
import numpy as np
import pydicom
import pytest
import scipy.io
from PIL import Image

from diffmsr.data import DataError, read_slices
from tests.unit.diffmsr.data.images import phantom, write_nifti


@pytest.fixture
def lgg(tmp_path: Path) -> Path:
    rows = ["file,subject,site,slice,has_t1post"]
    for name, site, post in (("a", "CS", 1), ("b", "DU", 0), ("c", "HT", 1)):
        pixels = np.stack([255 * phantom(64, 64, seed) / 2 for seed in range(3)], axis=-1).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.webp", lossless=True)
        rows.append(f"{name}.webp,patient-{name},{site},3,{post}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_lgg_is_split_by_site(lgg: Path) -> None:
    slices = read_slices("lgg", lgg)
    assert {(piece.subject, piece.held_out) for piece in slices} == {
        ("patient-a", True),
        ("patient-b", False),
        ("patient-c", False),
    }
    assert set(slices[0].images) == {"T1", "T2-FLAIR", "T1-POST"}
    assert set(slices[1].images) == {"T1", "T2-FLAIR"}
    with Image.open(lgg / "a.webp") as image:
        assert np.array_equal(slices[0].images["T2-FLAIR"], np.asarray(image)[..., 1])


def test_lgg_bad_data_gives_one_line(lgg: Path, tmp_path: Path) -> None:
    (lgg / "b.webp").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"not a readable LGG folder: .*b\.webp") as caught:
        read_slices("lgg", lgg)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"manifest\.csv"):
        read_slices("lgg", tmp_path / "nowhere")
    (lgg / "manifest.csv").write_bytes(b"\xff\xfe,")
    for dataset in ("lgg", "fastmri"):
        with pytest.raises(DataError, match=r"manifest\.csv: not a readable table"):
            read_slices(dataset, lgg)


@pytest.fixture
def open_ms(tmp_path: Path) -> Path:
    """A T2 of 48 x 62 x 3 voxels, and a T1 and FLAIR of the same ramp on coarser, shifted grids."""
    for patient in ("patient01", "patient04"):
        (tmp_path / patient).mkdir()
        for name, spacing, shape, origin in (
            ("T2W", 1.0, (48, 62, 3), 0.0),
            ("T1W", 2.0, (34, 41, 5), -8.0),
            ("FLAIR", 1.0, (48, 62, 3), 0.0),
        ):
            affine = np.diag([spacing, spacing, 1.0, 1.0])
            affine[:3, 3] = origin, origin, -1.0 if name == "T1W" else 0.0
            x = origin + spacing * np.arange(shape[0])[:, None, None]
            volume = np.broadcast_to(50 + x, shape).astype(np.float32)
            nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / patient / f"study1_{name}.nii.gz")
    return tmp_path


def test_open_ms_is_on_the_grid_of_the_t2(open_ms: Path) -> None:
    slices = read_slices("open_ms", open_ms)
    assert [(piece.subject, piece.held_out) for piece in slices] == [("patient01", False)] * 3 + [
        ("patient04", True)
    ] * 3
    images = slices[0].images
    assert {image.shape for image in images.values()} == {(48, 60)}
    inside = np.s_[4:-4, 4:-4]
    assert np.allclose(images["T1"][inside], images["T2"][inside], atol=0.1)
    path = open_ms / "patient01" / "study1_T2W.nii.gz"
    volume = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(1000 * volume.get_fdata(), volume.affine), path)
    assert read_slices("open_ms", open_ms)[0].images["T2"].max() > 90_000


def test_skull_stripped_open_ms_is_a_data_set_of_its_own(open_ms: Path) -> None:
    (open_ms / "patient04").rename(open_ms / "patient19")
    slices = read_slices("open_ms_mni", open_ms)
    assert {(piece.dataset, piece.subject, piece.part) for piece in slices} == {
        ("open_ms_mni", "patient01", "train"),
        ("open_ms_mni", "patient19", "validation"),
    }


def test_open_ms_bad_data_gives_one_line(open_ms: Path, tmp_path: Path) -> None:
    (open_ms / "patient01" / "study1_T1W.nii.gz").write_bytes(b"\x1f\x8bnonsense")
    with pytest.raises(DataError, match=r"study1_T1W\.nii\.gz: not a readable NIfTI volume"):
        read_slices("open_ms", open_ms)
    with pytest.raises(DataError, match="no patient"):
        read_slices("open_ms", tmp_path / "nowhere")


def test_lgg_missing_columns_and_nothing(lgg: Path) -> None:
    manifest = (lgg / "manifest.csv").read_text()
    (lgg / "manifest.csv").write_text(manifest.replace("subject", "patient"))
    with pytest.raises(DataError, match=r"manifest\.csv, line 2: missing subject"):
        read_slices("lgg", lgg)
    (lgg / "manifest.csv").write_text(manifest.splitlines()[0] + "\n")
    with pytest.raises(DataError, match="contains no slices"):
        read_slices("lgg", lgg)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sites with a patient each: T2 of 3 mm slices, T1 of 1.5 mm voxels, the same ramp across both."""
    for site in ("here", "there"):
        x = np.arange(50.0)[:, None, None]
        write_nifti(tmp_path / site / "p1" / "T2.nii.gz", np.broadcast_to(50 + x, (50, 42, 4)))
        fine = np.arange(-6, 60, 1.5)[:, None, None] + np.zeros((44, 44, 12))
        path = tmp_path / site / "p1" / "T1.nii.gz"
        affine = np.diag([1.5, 1.5, 1.5, 1.0])
        affine[:3, 3] = -6, -6, -3
        nibabel.save(nibabel.Nifti1Image((50 + fine).astype(np.float32), affine), path)
    return tmp_path


def test_folder_of_nifti_is_on_the_grid_of_the_target(folder: Path) -> None:
    slices = read_slices("folder", folder)
    assert {(piece.subject, piece.site) for piece in slices} == {("here/p1", "here"), ("there/p1", "there")}
    assert len(slices) == 8
    images = slices[1].images
    assert {image.shape for image in images.values()} == {(40, 48)}
    inside = np.s_[4:-4, 4:-4]
    assert np.allclose(images["T1"][inside], images["T2"][inside], atol=0.5)


def test_folder_of_dicom(shared_data: Path, tmp_path: Path) -> None:
    """A Siemens dual-echo series, sorted into folders by its echo, as vendors' exports come."""
    for path in sorted((shared_data / "vendor_dicom" / "Siemens_Prisma_PD_T2_dualecho").glob("*.dcm")):
        echo = pydicom.dcmread(path, stop_before_pixels=True).EchoTime
        place = tmp_path / "phantom" / ("PD" if echo < 50 else "T2")
        place.mkdir(parents=True, exist_ok=True)
        (place / path.name).symlink_to(path)
    slices = read_slices("folder", tmp_path)
    assert set(slices[0].images) == {"PD", "T2"} and len(slices) > 20
    dataset = pydicom.dcmread(next((tmp_path / "phantom" / "T2").iterdir()))
    middle = slices[len(slices) // 2].images
    assert middle["T2"].shape == middle["PD"].shape == (dataset.Rows // 4 * 4, dataset.Columns // 4 * 4)
    assert np.corrcoef(middle["T2"].ravel(), middle["PD"].ravel())[0, 1] > 0.8


def test_folder_bad_data_gives_one_line(folder: Path, tmp_path: Path) -> None:
    t1 = folder / "here" / "p1" / "T1.nii.gz"
    write_nifti(t1, np.full((50, 42, 4), np.nan))
    with pytest.raises(DataError, match=r"T1\.nii\.gz: holds values that are not finite"):
        read_slices("folder", folder)[0].images["T1"]
    t1.unlink()
    with pytest.raises(DataError, match="here/p1: only T2; a pair needs two contrasts"):
        read_slices("folder", folder)
    (folder / "here" / "p1" / "T2.nii.gz").write_bytes(b"nonsense")
    write_nifti(t1, np.ones((50, 42, 4)))
    with pytest.raises(DataError, match=r"T2\.nii\.gz: not a readable volume") as caught:
        read_slices("folder", folder)
    assert "\n" not in str(caught.value)
    (folder / "here" / "p1" / "T2.nii.gz").unlink()
    write_nifti(folder / "here" / "p1" / "T2.nii.gz", np.ones((3, 42, 4)))
    with pytest.raises(DataError, match=r"T2\.nii\.gz: images of 42 x 3 pixels are too small"):
        read_slices("folder", folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no SUBJECT/CONTRAST"):
        read_slices("folder", tmp_path / "empty")


def centred_kspace(images: np.ndarray) -> np.ndarray:
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images, axes), norm="ortho"), axes).astype(np.complex64)


@pytest.fixture
def complex_pair() -> dict[str, np.ndarray]:
    """Images (3, 64, 48) with a phase."""
    rng = np.random.default_rng(0)
    phase = np.exp(1j * np.linspace(0, 2, 48))
    return {name: (rng.random((3, 64, 48)) * phase).astype(np.complex64) for name in ("PD", "PD-FS")}


def test_fastmri_kspace_and_mat(complex_pair: dict[str, np.ndarray], tmp_path: Path) -> None:
    with h5py.File(tmp_path / "knee_1_PD.h5", "w") as file:  # read out twice as wide as the field of view
        wide = np.pad(complex_pair["PD"], ((0, 0), (32, 32), (0, 0)))
        file["kspace"] = centred_kspace(wide)
        file["reconstruction_esc"] = np.abs(complex_pair["PD"])
    scipy.io.savemat(tmp_path / "knee_1_PD-FS.mat", {"image": complex_pair["PD-FS"]})
    slices = read_slices("fastmri", tmp_path)
    assert [(piece.subject, piece.index) for piece in slices] == [("knee_1", 0), ("knee_1", 1), ("knee_1", 2)]
    for name, images in complex_pair.items():
        assert np.allclose(slices[2].images[name], images[2], atol=1e-5)


def test_fastmri_of_several_coils_with_a_manifest(complex_pair: dict[str, np.ndarray], tmp_path: Path) -> None:
    for name, images in complex_pair.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["kspace"] = centred_kspace(np.stack([0.6 * images, 0.8j * images], axis=1))
    (tmp_path / "manifest.csv").write_text("file,subject,contrast,site\nPD.h5,a,PD,north\nPD-FS.h5,a,PD-FS,north\n")
    slices = read_slices("fastmri", tmp_path)
    assert {piece.site for piece in slices} == {"north"}
    assert np.allclose(slices[0].images["PD"], np.abs(complex_pair["PD"][0]), atol=1e-5)


def test_fastmri_bad_data_gives_one_line(complex_pair: dict[str, np.ndarray], tmp_path: Path) -> None:
    def write(name: str, **arrays: np.ndarray) -> None:
        with h5py.File(tmp_path / name, "w") as file:
            for key, array in arrays.items():
                file[key] = array

    write("a_PD.h5", image=complex_pair["PD"])
    with pytest.raises(DataError, match=r"a_PD\.h5: the only contrast of its subject"):
        read_slices("fastmri", tmp_path)
    write("a_PD-FS.h5", image=complex_pair["PD-FS"][:, :32])
    with pytest.raises(DataError, match="the contrasts of a subject must have one shape"):
        read_slices("fastmri", tmp_path)
    write("a_PD-FS.h5", picture=complex_pair["PD"])
    with pytest.raises(DataError, match="holds neither `kspace` nor `image`"):
        read_slices("fastmri", tmp_path)
    write("a_PD-FS.h5", image=complex_pair["PD"] * np.nan)
    with pytest.raises(DataError, match="not finite"):
        read_slices("fastmri", tmp_path)[0].images["PD-FS"]
    with h5py.File(tmp_path / "a_PD-FS.h5", "w") as file:
        file.create_dataset("image", data=complex_pair["PD-FS"], chunks=True, compression="gzip")
        chunk = file["image"].id.get_chunk_info(0)
    content = bytearray((tmp_path / "a_PD-FS.h5").read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    (tmp_path / "a_PD-FS.h5").write_bytes(content)
    with pytest.raises(DataError, match=r"a_PD-FS\.h5: slice 0 cannot be read"):
        read_slices("fastmri", tmp_path)[0].images["PD-FS"]
    (tmp_path / "a_PD-FS.h5").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"a_PD-FS\.h5: not a readable file"):
        read_slices("fastmri", tmp_path)
    (tmp_path / "a_PD-FS.h5").rename(tmp_path / "a_PD-FS.mat")
    with pytest.raises(DataError, match=r"a_PD-FS\.mat: not a readable file"):
        read_slices("fastmri", tmp_path)
    (tmp_path / "a_PD-FS.mat").write_bytes(b"")
    with pytest.raises(DataError, match=r"a_PD-FS\.mat: not a readable file"):
        read_slices("fastmri", tmp_path)
